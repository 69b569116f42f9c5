// What runs and what has run lately.

import { list } from "./api.js";
import { drawProgress, progressText } from "./progress.js";
import { $, ago, count, duration, el, onceAFrame, Signal, toast } from "./ui.js";
import { command, label, run, tone } from "./work.js";

/** How many are kept. */
const MOST = 200;
/** How many are shown. */
const SHOWN = 60;

export class Activity {
  /** Somebody wants to see one. */
  opened = new Signal();
  /** One has changed. */
  changed = new Signal();
  #items = new Map();
  #fleet;
  #open = null;
  #turn = 0;
  #draw = onceAFrame(() => this.#paint());

  constructor(fleet) {
    this.#fleet = fleet;
    setInterval(this.#draw, 5_000);
  }

  /** Loads what there is. */
  async load() {
    const turn = (this.#turn += 1);
    const [runs, running, latest] = await Promise.all([
      list("/v1/runs", "runs", 50),
      list("/v1/commands?state=running", "commands", MOST / 2),
      list("/v1/commands", "commands", 50),
    ]);
    // Another load has begun, which knows more.
    if (turn !== this.#turn) return;
    this.#items.clear();
    this.#fleet.clearBusy();
    for (const record of [...latest, ...running]) this.#put(command(record));
    for (const record of runs) this.#put(run(record));
    this.#draw();
  }

  get(id) {
    return this.#items.get(id) ?? null;
  }

  command(record) {
    this.#put(command(record));
  }

  run(record) {
    this.#put(run(record));
  }

  /** What has been opened, to show which one it is. */
  mark(id) {
    this.#open = id;
    this.#draw();
  }

  #put(item) {
    const before = this.#items.get(item.id);
    // An answer may come after the event of what happened later.
    if (before && !before.isRunning && item.isRunning) return;
    this.#items.set(item.id, item);
    if (item.kind === "command") {
      const by = Number(item.isRunning) - Number(before?.isRunning ?? false);
      if (by !== 0) this.#fleet.setBusy(item.where, by);
    }
    if (this.#items.size > MOST + 50) this.#forget();
    this.changed.tell(item);
    this.#draw();
  }

  #forget() {
    const ended = [...this.#items.values()].filter(({ isRunning, id }) => !isRunning && id !== this.#open).sort(newestFirst);
    for (const { id } of ended.slice(MOST / 2)) this.#items.delete(id);
  }

  #paint() {
    const items = [...this.#items.values()].sort((a, b) => Number(b.isRunning) - Number(a.isRunning) || newestFirst(a, b));
    const running = items.filter(({ isRunning }) => isRunning).length;
    $("running-count").textContent = running > 0 ? count(running) : "";
    $("activity-empty").hidden = items.length > 0;
    const list = $("activity");
    const rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
    const wanted = items.slice(0, SHOWN).map((item) => this.#row(item, rows.get(item.id)));
    // Rows are kept where they can be, so that neither focus nor a click is lost.
    wanted.forEach((row, at) => {
      if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null);
    });
    while (list.childElementCount > wanted.length) list.lastElementChild.remove();
  }

  #row(item, old) {
    const row = old ?? this.#newRow(item);
    const { badge, text, meta, bar, button } = row.parts;
    badge.className = `badge ${tone(item.state)}`;
    badge.textContent = label(item);
    text.textContent = item.text;
    const took = item.ended ? duration(Date.parse(item.ended) - Date.parse(item.created)) : null;
    const where = item.kind === "run" ? progressText(item.progress) : item.where;
    meta.textContent = [where, took, ago(item.created)].filter(Boolean).join(" · ");
    bar.hidden = item.kind !== "run";
    if (!bar.hidden) drawProgress(bar, item.progress);
    button.setAttribute("aria-current", String(item.id === this.#open));
    return row;
  }

  #newRow({ id, kind }) {
    const parts = {
      badge: el("span"),
      text: el("code", { className: "line" }),
      meta: el("span", { className: "muted line" }),
      bar: el("div", { className: "progress" }),
    };
    const first = el("span", { className: "row-first" }, parts.badge, el("span", { className: "kind" }, kind), parts.text);
    parts.button = el("button", { type: "button", className: "row" }, first, parts.meta, parts.bar);
    parts.button.addEventListener("click", () => {
      const item = this.#items.get(id);
      if (item) this.opened.tell(item);
      else toast("It is no longer in the list.", "info");
    });
    const row = el("li", { dataset: { id } }, parts.button);
    row.parts = parts;
    return row;
  }
}

function newestFirst(a, b) {
  return Date.parse(b.created) - Date.parse(a.created);
}
