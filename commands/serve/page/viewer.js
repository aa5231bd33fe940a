// One slice at a time: its picture, heat map, answer, and the training image nearest to it.

import { heat } from "./ask.js";
import { $, bars, named, remarks } from "./show.js";
import { percent } from "./slices.js";

const PATIENCE = 150; // ms before a heat map is asked for, while somebody slides
const KEPT = 64; // heat maps

export class Viewer {
  constructor(study) {
    this.study = study;
    this.heats = new Map();
    this.slice = null;
    $("heat-class").replaceChildren(new Option("for the answer", ""),
      ...study.classes.map(({ name, words }) => new Option(`for ${words}`, name)));
    $("heat-class").addEventListener("change", () => this.look());
    $("strength").value = String(Math.round(100 * study.strength));
    $("strength").addEventListener("input", () => this.strengthen());
    this.strengthen();
    $("nearest").addEventListener("error", () => this.withoutNearest());
  }

  show(slice) {
    if (slice === this.slice) return;
    this.slice = slice;
    const best = this.study.classes.findIndex(({ name }) => name === slice.predicted);
    $("slice").src = $("mine").src = slice.url;
    $("slice").alt = `${named(slice)}, as the network sees it`;
    $("mine").alt = "your picture";
    $("name").textContent = named(slice);
    $("brief").textContent = `${this.study.classes[best].words}, ${percent(slice.probabilities[best])}`;
    $("predicted").textContent = this.study.classes[best].words;
    $("bars").replaceChildren(...bars(this.study.classes, slice.probabilities));
    $("remarks").replaceChildren(...remarks(slice));
    this.showLikeness(slice);
    this.showNearest(slice);
    this.look();
  }

  showLikeness({ likeness }) {
    const { lowest } = this.study;
    $("likeness-bar").style.setProperty("--share", Math.max(0, likeness));
    $("likeness-usual").hidden = lowest === null;
    $("likeness-usual").style.setProperty("--share", lowest ?? 0);
    const usual = lowest === null ? "" : `; 99 of 100 validation images reach ${lowest.toFixed(2)}, where the line stands`;
    $("likeness-said").textContent = `${likeness.toFixed(2)} of 1${usual}.`;
  }

  showNearest({ nearest, copy_of: copy }) {
    const path = copy || nearest;
    $("nearest-title").textContent = copy ? "The training image that it copies" : "Nearest training image";
    $("nearest-figure").hidden = !path;
    $("nearest-path").textContent = path || "none: there is nothing in this picture";
    $("nearest-said").textContent = "in training";
    $("nearest").hidden = false;
    $("nearest").alt = path ? `training image ${path}` : "";
    if (path) $("nearest").src = `/training?path=${encodeURIComponent(path)}`;
  }

  withoutNearest() {
    $("nearest").hidden = true;
    $("nearest-said").textContent = "not to be seen: its file is not in data/raw here";
  }

  strengthen() {
    const share = Number($("strength").value);
    $("strength-said").textContent = `${share} %`;
    $("heat").style.setProperty("--strength", share / 100);
    if (share && this.slice) this.look();
  }

  /** Lay the heat map over the picture; none is asked for while it would not be seen. */
  look() {
    const slice = this.slice;
    const name = $("heat-class").value || slice.predicted;
    const key = `${slice.id} ${name}`;
    if (this.shown === key) return;
    this.shown = null;
    $("heat").hidden = true;
    clearTimeout(this.timer);
    this.asking?.abort();
    if (slice.empty) return;
    if (this.heats.has(key)) this.lay(key);
    else if (Number($("strength").value)) this.timer = setTimeout(() => this.ask(slice, name, key), PATIENCE);
  }

  async ask(slice, name, key) {
    this.asking = new AbortController();
    try {
      const picture = await heat(slice.seen, name, this.asking.signal);
      this.heats.set(key, URL.createObjectURL(picture));
    } catch {
      return; // somebody slid on; or the server is gone, which the next question tells
    }
    for (const old of [...this.heats.keys()].slice(0, -KEPT)) {
      URL.revokeObjectURL(this.heats.get(old));
      this.heats.delete(old);
    }
    if (slice === this.slice) this.lay(key);
  }

  lay(key) {
    this.shown = key;
    $("heat").src = this.heats.get(key);
    $("heat").hidden = false;
  }

  forget() {
    for (const url of this.heats.values()) URL.revokeObjectURL(url);
    this.heats.clear();
    this.slice = this.shown = null;
  }
}
