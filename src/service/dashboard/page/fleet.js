// The workspaces, which of them are shown, and which are selected.

import { onceAFrame, Signal } from "./ui.js";

/** The states, the best first, with whatever the service may say one day at the end. */
export const STATES = ["ready", "connecting", "degraded", "unreachable", "gone", "stopped"];

export class Fleet {
  /** All, by name. */
  all = new Map();
  /** Those that the filter lets through, in the order in which they are shown. */
  shown = [];
  /** The names of those that are selected, whether they are shown or not. */
  selected = new Set();
  /** How many are in each state, of those that the text lets through. */
  counts = new Map();
  /** How many commands of the service run on a workspace. */
  busy = new Map();
  /** What is shown has changed. */
  changed = new Signal();
  /** What is selected has changed. */
  picked = new Signal();
  #text = "";
  #states = new Set();
  #refresh = onceAFrame(() => this.#filter());
  #redraw = onceAFrame(() => this.changed.tell());

  /** Takes what the service has now. */
  load(workspaces) {
    this.all = new Map(workspaces.map((workspace) => [workspace.name, workspace]));
    this.#forgetGone();
    this.#refresh();
  }

  /** Takes what has changed. */
  apply({ added = [], changed = [], removed = [] }) {
    for (const workspace of added) this.all.set(workspace.name, workspace);
    for (const { name, health } of changed) {
      const workspace = this.all.get(name);
      if (workspace) workspace.health = health;
    }
    for (const name of removed) this.all.delete(name);
    if (removed.length > 0) this.#forgetGone();
    this.#refresh();
  }

  /** What is selected of those that are there no more cannot be run on. */
  #forgetGone() {
    const before = this.selected.size;
    for (const name of this.selected) if (!this.all.has(name)) this.selected.delete(name);
    if (this.selected.size !== before) this.picked.tell();
  }

  setText(text) {
    this.#text = text;
    this.#refresh();
  }

  toggleState(state) {
    if (!this.#states.delete(state)) this.#states.add(state);
    this.#refresh();
  }

  isWanted = (state) => this.#states.has(state);

  get isFiltered() {
    return this.#text.trim() !== "" || this.#states.size > 0;
  }

  setBusy(name, by) {
    const now = (this.busy.get(name) ?? 0) + by;
    if (now > 0) this.busy.set(name, now);
    else this.busy.delete(name);
    this.#redraw();
  }

  clearBusy() {
    this.busy.clear();
    this.#redraw();
  }

  select(names) {
    this.selected = new Set(names);
    this.picked.tell();
  }

  toggle(name) {
    if (!this.selected.delete(name)) this.selected.add(name);
    this.picked.tell();
  }

  add(names) {
    for (const name of names) this.selected.add(name);
    this.picked.tell();
  }

  #filter() {
    const picks = filter(this.#text);
    const shown = [];
    this.counts = new Map();
    for (const workspace of this.all.values()) {
      if (!picks(workspace)) continue;
      this.counts.set(workspace.health, (this.counts.get(workspace.health) ?? 0) + 1);
      if (this.#states.size === 0 || this.#states.has(workspace.health)) shown.push(workspace);
    }
    this.shown = shown;
    this.changed.tell();
  }

  /** Labels with their values, the most frequent first. */
  labels(most) {
    const counts = new Map();
    for (const { labels } of this.all.values()) {
      for (const [label, value] of Object.entries(labels)) {
        const text = `${label}=${value}`;
        counts.set(text, (counts.get(text) ?? 0) + 1);
      }
    }
    return [...counts].sort((a, b) => b[1] - a[1]).slice(0, most).map(([text]) => text);
  }
}

/**
 * What a filter's text picks: words with spaces between them, all of which must hold. `label=value` is a label, and so is
 * `label=`, whatever its value; all else is part of the name, where `*` is anything. `!` before it turns it around.
 */
export function filter(text) {
  const tests = text.trim().split(/\s+/).filter((word) => word !== "" && word !== "!").map(test);
  return (workspace) => tests.every((holds) => holds(workspace));
}

function test(word) {
  if (word.startsWith("!")) {
    const holds = test(word.slice(1));
    return (workspace) => !holds(workspace);
  }
  const equals = word.indexOf("=");
  if (equals > 0) {
    const label = word.slice(0, equals);
    const is = pattern(word.slice(equals + 1), true);
    return ({ labels }) => Object.hasOwn(labels, label) && (equals === word.length - 1 || is(labels[label]));
  }
  const is = pattern(word, word.includes("*"));
  return ({ name }) => is(name);
}

function pattern(word, isWhole) {
  const wanted = word.toLowerCase();
  if (!wanted.includes("*")) return (text) => (isWhole ? text.toLowerCase() === wanted : text.toLowerCase().includes(wanted));
  const parts = wanted.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${parts.join(".*")}$`, "s");
  return (text) => expression.test(text.toLowerCase());
}
