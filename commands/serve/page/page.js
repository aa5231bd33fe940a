// Puts the page together: files in, questions out, answers shown.

import { ask, example, requests, study as about } from "./ask.js";
import { chosen, dropped, looked } from "./files.js";
import { ALONE, counted, csv, groups, patients } from "./slices.js";
import { $, element, row, summary } from "./show.js";
import { Viewer } from "./viewer.js";

const ROWS = 500; // of the table, in the page; the CSV has all

const state = { slices: [], groups: [], unreadable: [], group: null, moved: false, asking: null, examples: 0, ids: 0 };
let study = null;
let viewer = null;
const ready = about().then(know, (error) => say(`The server does not answer: ${error.message}`));

function know(found) {
  study = found;
  viewer = new Viewer(study);
  document.title = `${study.title} · brainmri`;
  const tested = study.clean_accuracy === null ? "" : ` · right on ${(100 * study.clean_accuracy).toFixed(1)} % of test images without a copy in training`;
  const many = study.networks > 1 ? ` · each answer is the mean of ${study.networks} networks` : "";
  $("study").textContent = `${study.title}${tested}${many}`;
  $("example").hidden = !study.examples;
  return true;
}

function say(text) { $("status").textContent = text; }

/** Ask for files, one request after another, and show answers as they come. */
async function answer(files) {
  if (!(await ready)) return; // somebody may be faster than the first answer
  if (!files.length) return say("No file in there.");
  state.asking?.abort();
  const asking = (state.asking = new AbortController());
  busy(true);
  const known = new Map(files.map(({ name }) => [name, 0]));
  try {
    const [readable, closed] = await looked(files);
    for (const { name, reason } of closed) {
      take({ path: name, reason });
      known.set(name, 1);
    }
    for (const some of requests(readable, study.limits)) {
      for await (const found of ask(some, asking.signal)) {
        take(found);
        known.set(found.path, 1);
        progress([...known.values()].filter(Boolean).length, known.size);
      }
    }
    said(files.length);
  } catch (error) {
    say(asking.signal.aborted ? "Stopped." : `Not answered: ${error.message}`);
  }
  if (state.asking === asking) busy(false);
  draw();
}

function take(found) {
  if ("reason" in found) state.unreadable.push(found);
  else state.slices.push({ ...found, id: (state.ids += 1), url: picture(found.shown), shown: null });
  later();
}

function picture(text) {
  const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}

function progress(done, all) {
  $("progress").max = all;
  $("progress").value = done;
  say(`${done.toLocaleString("en")} of ${counted(all, "file")} answered`);
}

function said(files) {
  const [slice] = state.slices.slice(-1);
  const what = slice && state.slices.length === 1 ? `: ${study.classes.find(({ name }) => name === slice.predicted).words}` : "";
  say(`${counted(state.slices.length, "picture")} answered${what}.`);
  if (!state.slices.length) say(`None of ${counted(files, "file")} could be read.`);
}

function busy(is) {
  $("progress").hidden = $("stop").hidden = !is;
  for (const id of ["choose", "choose-folder", "example"]) $(id).disabled = is;
  if (is) progress(0, 1);
  if (is) say("Asking …");
}

let drawing = 0;
function later() { // hundreds of answers may come within one frame of the screen
  if (!drawing) drawing = setTimeout(() => { drawing = 0; draw(); }, 100);
}

function draw() {
  state.groups = groups(state.slices);
  const any = state.slices.length > 0;
  $("answers").hidden = !any;
  $("clear").hidden = !any && !state.unreadable.length;
  $("drop").classList.toggle("asked", any);
  $("unreadable").hidden = !state.unreadable.length;
  $("unreadable").querySelector("summary").textContent = `${counted(state.unreadable.length, "file")} could not be read`;
  $("unreadable").querySelector("ul").replaceChildren(
    ...state.unreadable.slice(0, ROWS).map(({ path, reason }) => element("li", {}, `${path}: ${reason}`)));
  if (!any) return;
  const first = !state.groups.some(({ key }) => key === state.group);
  if (first) state.group = state.groups[0].key;
  $("group").replaceChildren(...state.groups.map(({ key, title }) => new Option(title, key, false, key === state.group)));
  $("group-row").hidden = state.groups.length < 2;
  drawSummaries();
  drawTable();
  go(state.moved && !first ? Math.max(0, members().indexOf(viewer.slice)) : middle(members()));
}

/** Return where to begin: in the middle of a stack, whose ends are mostly empty. */
const middle = (slices) => (state.group === ALONE ? 0 : Math.floor(slices.length / 2));

const members = () => state.groups.find(({ key }) => key === state.group).slices;

function drawSummaries() {
  const several = state.groups.filter(({ slices }) => slices.length > 1);
  const made = several.map(({ key, title, slices }) => {
    const found = summary(key === ALONE ? `${title}, if they are of one head` : title, slices, study.classes,
      (place) => move(key, place));
    found.dataset.group = key;
    return found;
  });
  for (const { slices, series } of patients(state.groups))
    made.push(summary(`One patient (${series} series, ${counted(slices.length, "slice")})`, slices, study.classes));
  $("summaries").replaceChildren(...made);
  $("summaries").hidden = !made.length;
}

function drawTable() {
  const all = state.groups.flatMap(({ key, slices }) => slices.map((slice, place) => [slice, key, place]));
  $("rows").replaceChildren(...all.slice(0, ROWS).map(([slice, key, place]) =>
    row(slice, study.classes, () => move(key, place))));
  $("more").hidden = all.length <= ROWS;
  $("more").textContent = `${counted(all.length - ROWS, "more row")} in the CSV.`;
}

/** Go where somebody wants to; from then on new answers move nothing. */
function move(key, place) {
  state.moved = true;
  state.group = $("group").value = key;
  go(place);
}

/** Show a slice of the group, from 0. */
function go(place) {
  const slices = members();
  $("slices").hidden = slices.length < 2;
  $("at").max = slices.length;
  $("at").value = place + 1;
  $("at-word").textContent = state.group === ALONE ? "Picture" : "Slice";
  $("at-said").textContent = `${place + 1} of ${slices.length}`;
  $("previous").disabled = place === 0;
  $("next").disabled = place === slices.length - 1;
  viewer.show(slices[place]);
  for (const each of $("rows").children)
    each.toggleAttribute("aria-current", each.dataset.id === String(slices[place].id));
  for (const here of document.querySelectorAll(".here")) {
    here.hidden = here.closest("[data-group]").dataset.group !== state.group;
    here.style.setProperty("--share", (place + 0.5) / slices.length);
  }
}

function clear() {
  state.asking?.abort();
  for (const { url } of state.slices) URL.revokeObjectURL(url);
  viewer.forget();
  Object.assign(state, { slices: [], unreadable: [], group: null, moved: false });
  say("");
  draw();
  $("choose").focus();
}

function download() {
  const ordered = [...state.slices].sort((a, b) => a.id - b.id);
  const url = URL.createObjectURL(new Blob([csv(study.heading, ordered)], { type: "text/csv" }));
  const link = element("a", { href: url, download: "answers.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function tryExample() {
  try {
    await answer([await example(state.examples++)]);
  } catch (error) {
    say(`Not answered: ${error.message}`);
  }
}

function wire() {
  for (const [button, input] of [["choose", "files"], ["choose-folder", "folder"]]) {
    $(button).addEventListener("click", () => $(input).click());
    $(input).addEventListener("change", () => {
      const files = chosen($(input).files);
      $(input).value = ""; // the same file may be chosen again
      answer(files);
    });
  }
  $("example").addEventListener("click", tryExample);
  $("stop").addEventListener("click", () => state.asking?.abort());
  $("clear").addEventListener("click", clear);
  $("csv").addEventListener("click", download);
  $("group").addEventListener("change", () => {
    state.group = $("group").value;
    move(state.group, middle(members()));
  });
  $("at").addEventListener("input", () => move(state.group, Number($("at").value) - 1));
  $("previous").addEventListener("click", () => move(state.group, Number($("at").value) - 2));
  $("next").addEventListener("click", () => move(state.group, Number($("at").value)));
  const over = (is) => $("drop").classList.toggle("over", is);
  document.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    over(false);
    answer(await dropped(event.dataTransfer));
  });
}

wire();
