// The line in which a command is written, and what it is run on.

import { post } from "./api.js";
import { $, many, toast } from "./ui.js";

/** How many workspaces a question names. */
const NAMED = 8;

export class Launch {
  #fleet;
  #activity;
  #mayRun = true;

  constructor(fleet, activity) {
    this.#fleet = fleet;
    this.#activity = activity;
    fleet.picked.on(() => this.#paint());
    fleet.changed.on(() => this.#paint());
    $("launch").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("select-all").addEventListener("click", () => fleet.select(fleet.shown.map(({ name }) => name)));
    $("select-none").addEventListener("click", () => fleet.select([]));
    this.#paint();
  }

  set mayRun(may) {
    this.#mayRun = may;
    this.#paint();
  }

  #paint() {
    const { selected, shown, isFiltered, all } = this.#fleet;
    $("launch").hidden = !this.#mayRun || all.size === 0;
    const seen = shown.reduce((sum, { name }) => sum + Number(selected.has(name)), 0);
    const hidden = selected.size - seen;
    $("selected").textContent = selected.size === 0 ? "" : `${many(selected.size, "workspace")} selected${hidden > 0 ? ` (${hidden} not shown)` : ""}`;
    $("select-all").textContent = isFiltered ? `Select ${shown.length.toLocaleString("en")} shown` : "Select all";
    $("select-all").disabled = shown.length === 0;
    $("select-none").disabled = selected.size === 0;
    $("launch-where").textContent = selected.size === 0 ? "Select workspaces to run a command on" : `Run on ${target(selected)}`;
    $("run").disabled = selected.size === 0;
  }

  async #submit() {
    const names = [...this.#fleet.selected];
    const command = $("command").value.trim();
    if (names.length === 0 || command === "" || !(await confirm(names, command))) return;
    const bound = $("timeout").value;
    const execute = { command, timeout_ms: bound === "" ? null : Number(bound) };
    $("run").disabled = true;
    try {
      if (names.length === 1) {
        const record = await post(`/v1/workspaces/${encodeURIComponent(names[0])}/commands`, execute);
        this.#activity.command(record);
        this.#activity.opened.tell(this.#activity.get(record.id));
      } else {
        const steps = [{ operation: { execute } }];
        const record = await post("/v1/runs", { selector: { names }, work: { each: { steps } }, stream_output: true });
        this.#activity.run(record);
        this.#activity.opened.tell(this.#activity.get(record.id));
      }
      $("command").select();
    } catch (error) {
      toast(error.message);
    }
    this.#paint();
  }
}

const target = (names) => (names.size === 1 ? [...names][0] : many(names.size, "workspace"));

/** Asks before something is started, and says on how many workspaces. */
function confirm(names, command) {
  const dialog = $("confirm");
  const where = many(names.length, "workspace");
  $("confirm-title").textContent = `Run this on ${where}?`;
  $("confirm-yes").textContent = `Run on ${where}`;
  $("confirm-command").textContent = command;
  const more = names.length - NAMED;
  $("confirm-where").textContent = names.slice(0, NAMED).join(", ") + (more > 0 ? `, and ${more.toLocaleString("en")} more` : "");
  dialog.returnValue = "";
  dialog.showModal();
  $("confirm-yes").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
