// Answers -> elements. Names are set as text, never as markup.

import { counted, mean, percent } from "./slices.js";

export const $ = (id) => document.getElementById(id);

/** Return an element with attributes and children; a text among them stays text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return a list item for each class: its name, a bar, the share; the highest first of all. */
export function bars(classes, probabilities) {
  const best = probabilities.indexOf(Math.max(...probabilities));
  return classes.map(({ words }, at) => {
    const bar = element("div", { class: "bar" });
    bar.style.setProperty("--share", probabilities[at]);
    bar.style.setProperty("--colour", colour(at));
    return element("li", at === best ? { class: "first-of-all" } : {}, element("span", {}, words),
      element("div", { class: "track" }, bar), element("span", { class: "figure" }, percent(probabilities[at])));
  });
}

const colour = (at) => `var(--class-${at % 8})`;

const KINDS = {
  byte: "the same file as", copy: "a copy of", mirrored: "a mirror image of", rotated: "a turned copy of",
  alike: "by descriptors alone a copy of",
};

/** Return what must be known before an answer is believed, as list items. */
export function remarks({ empty, unlike, copy_of: copy, copy_kind: kind }) {
  const said = [];
  if (empty) said.push("There is nothing in this picture: its answer means nothing.");
  if (copy) said.push(`This is ${KINDS[kind]} a training image. The network has seen it: its answer is memory.`);
  if (unlike && !empty) said.push("Unlike the training images: the network has seen nothing of the kind, and its answer says little.");
  return said.map((text) => element("li", {}, text));
}

/** Return a summary of slices that belong together: the mean, and a strip along the stack to jump in. */
export function summary(title, slices, classes, jump) {
  const found = mean(slices);
  const made = element("div", {}, element("h2", {}, title));
  if (!found) {
    made.append(element("p", {}, "There is nothing in any of these pictures."));
    return made;
  }
  const list = element("ul", { class: "bars" });
  list.append(...bars(classes, found.probabilities));
  const best = classes[found.probabilities.indexOf(Math.max(...found.probabilities))].words;
  made.append(element("p", {}, `Mean over ${counted(found.count, "slice")}: `, element("strong", {}, best)), list);
  const left = slices.length - found.count;
  const odd = [left ? `${counted(left, "empty slice")} left out` : "", found.unlike ? `${found.unlike} unlike the training images` : ""];
  if (odd.some(Boolean)) made.append(element("p", { class: "soft small" }, odd.filter(Boolean).join("; ")));
  if (jump && slices.length > 2)
    made.append(strip(slices, classes, jump), element("p", { class: "soft small" }, "A column a slice, from the first to the last."));
  return made;
}

/** Return a picture of all classes' probabilities along a stack; a click goes to the slice. */
function strip(slices, classes, jump) {
  const made = element("div", { class: "strip", "aria-hidden": "true" });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${slices.length} 1`);
  svg.setAttribute("preserveAspectRatio", "none");
  const under = slices.map(() => 0);
  classes.forEach((_, which) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const steps = slices.map((slice, at) => {
      const [from, high] = [under[at], slice.empty ? 0 : slice.probabilities[which]];
      under[at] += high;
      return `M${at} ${1 - from}v${-high}h1v${high}z`;
    });
    path.setAttribute("d", steps.join(""));
    path.style.setProperty("fill", colour(which));
    svg.append(path);
  });
  made.append(svg, element("div", { class: "here", hidden: "" }));
  made.addEventListener("click", (event) => {
    const box = made.getBoundingClientRect();
    jump(Math.min(slices.length - 1, Math.floor((slices.length * (event.clientX - box.left)) / box.width)));
  });
  return made;
}

/** Return a row of the table for an answer. */
export function row(slice, classes, go) {
  const button = element("button", { type: "button" }, named(slice));
  button.addEventListener("click", go);
  const best = classes.findIndex(({ name }) => name === slice.predicted);
  return element("tr", { "data-id": slice.id }, element("td", { class: "name" }, button),
    element("td", {}, classes[best].words), element("td", { class: "figure" }, percent(slice.probabilities[best])),
    element("td", { class: "figure" }, slice.likeness.toFixed(2)), element("td", {}, slice.remarks.join("; ")));
}

export const named = ({ path, frame }) => (frame ? `${path}, ${frame}` : path);
