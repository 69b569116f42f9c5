// A text that grows: what commands write, as text and nothing else. Its oldest parts are left out when it gets long.

import { el, onceAFrame } from "./ui.js";

/** How many characters are kept, and in how many parts at most. */
const MOST = 1_000_000;
const MOST_PARTS = 12_000;
/** A part of the text that is one node gets no longer than this. */
const PART = 16_000;

// What terminals take as colours and moves of the cursor, and other characters that are not to be seen.
const CONTROLS = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

export class Terminal {
  #element;
  #length = 0;
  #waiting = [];
  #isCut = false;
  #follows = true;
  #flush = onceAFrame(() => this.#write());

  constructor(element) {
    this.#element = element;
  }

  set follows(follows) {
    this.#follows = follows;
    this.#flush();
  }

  get isEmpty() {
    return this.#length === 0 && this.#waiting.length === 0;
  }

  clear() {
    this.#element.replaceChildren();
    this.#waiting = [];
    this.#length = 0;
    this.#isCut = false;
  }

  /** Adds a text of this kind: `stdout`, `stderr`, `who` or `note`. */
  add(text, kind) {
    const clean = text.replace(/\r\n/g, "\n").replace(CONTROLS, "");
    if (clean === "") return;
    this.#waiting.push([clean, kind]);
    this.#flush();
  }

  #write() {
    for (const [text, kind] of this.#waiting) {
      const last = this.#element.lastElementChild;
      if (last?.className === kind && last.firstChild.length < PART) last.firstChild.appendData(text);
      else this.#element.append(el("span", { className: kind }, text));
      this.#length += text.length;
    }
    this.#waiting = [];
    this.#trim();
    if (this.#follows) this.#element.scrollTop = this.#element.scrollHeight;
  }

  #trim() {
    const first = () => this.#element.children[this.#isCut ? 1 : 0];
    const isLong = () => this.#length > MOST || this.#element.childElementCount > MOST_PARTS;
    while (isLong() && first() !== undefined && first() !== this.#element.lastElementChild) {
      this.#length -= first().textContent.length;
      first().remove();
      if (!this.#isCut) this.#element.prepend(el("span", { className: "note" }, "… what came before is not shown here\n"));
      this.#isCut = true;
    }
  }
}
