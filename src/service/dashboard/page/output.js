// The output of one command or run, as it comes.

import { get, post } from "./api.js";
import { drawProgress, ended, progressText } from "./progress.js";
import { follow } from "./stream.js";
import { Terminal } from "./terminal.js";
import { $, count, duration, el, many, onceAFrame, toast, words } from "./ui.js";
import { label, tone, why } from "./work.js";

export class Output {
  #activity;
  #item = null;
  #stream = null;
  #terminal = new Terminal($("output-text"));
  #targets = null;
  #mayStop = true;
  #draw = onceAFrame(() => this.#paint());

  constructor(activity) {
    this.#activity = activity;
    $("output-close").addEventListener("click", () => this.close());
    $("output-stop").addEventListener("click", () => this.#stop());
    $("output-follow").addEventListener("click", () => this.#follow($("output-follow").ariaPressed !== "true"));
    $("output-large").addEventListener("click", () => {
      const isLarge = $("output").classList.toggle("large");
      $("output-large").setAttribute("aria-pressed", String(isLarge));
    });
    $("output-text").addEventListener("wheel", (event) => event.deltaY < 0 && this.#follow(false), { passive: true });
    $("output-text").addEventListener("keydown", ({ key }) => ["ArrowUp", "PageUp", "Home"].includes(key) && this.#follow(false));
    activity.changed.on((item) => {
      if (item.id !== this.#item?.id) return;
      this.#item = item;
      this.#draw();
    });
    setInterval(() => this.#item?.isRunning && this.#draw(), 500);
  }

  set mayStop(may) {
    this.#mayStop = may;
    this.#draw();
  }

  /** Shows one from its beginning. */
  open(item) {
    this.#stream?.close();
    this.#item = item;
    this.#terminal.clear();
    this.#follow(true);
    this.#targets = item.kind === "run" ? new Targets(this.#terminal) : null;
    $("output").hidden = false;
    document.body.classList.add("has-output");
    this.#activity.mark(item.id);
    const path = `/v1/${item.kind}s/${encodeURIComponent(item.id)}`;
    this.#stream = follow(`${path}/events`, {
      event: (name, data) => this.#take(name, JSON.parse(data || "null")),
      state: (state, reason) => state === "refused" && toast(reason),
    });
    this.#draw();
  }

  close() {
    this.#stream?.close();
    this.#stream = null;
    this.#item = null;
    $("output").hidden = true;
    document.body.classList.remove("has-output");
    this.#activity.mark(null);
  }

  #follow(follows) {
    $("output-follow").setAttribute("aria-pressed", String(follows));
    this.#terminal.follows = follows;
  }

  /** Returns true when nothing more comes. */
  #take(name, data) {
    if (name === "stdout" || name === "stderr") {
      this.#terminal.add(data, name);
    } else if (name === "event") {
      this.#targets?.take(data);
      this.#draw();
    } else if (name === "missed") {
      this.#terminal.add("… some of it is missing here\n", "note");
    } else if (name === "end") {
      this.#end(data);
      return true;
    }
    return false;
  }

  #end(record) {
    const item = this.#item;
    if (item.kind === "command" && record?.id) this.#activity.command(record);
    else if (item.kind === "run" && record?.id) this.#activity.run(record);
    else this.#load(item);
    if (this.#terminal.isEmpty) this.#terminal.add("It wrote nothing.\n", "note");
    if (record?.error) this.#terminal.add(`${why(record.error)}\n`, "note");
    this.#draw();
  }

  async #load({ kind, id }) {
    try {
      const record = await get(`/v1/${kind}s/${encodeURIComponent(id)}`);
      if (kind === "command") this.#activity.command(record);
      else this.#activity.run(record);
    } catch (error) {
      toast(error.message);
    }
  }

  async #stop() {
    const { kind, id } = this.#item;
    $("output-stop").disabled = true;
    try {
      await post(`/v1/${kind}s/${encodeURIComponent(id)}/${kind === "run" ? "cancel" : "stop"}`);
    } catch (error) {
      toast(error.message);
    }
    $("output-stop").disabled = false;
  }

  #paint() {
    const item = this.#item;
    if (item === null) return;
    const progress = this.#targets?.progress ?? item.progress ?? null;
    const badge = $("output-state");
    badge.className = `badge ${tone(item.state)}`;
    badge.textContent = label(item);
    $("output-command").textContent = item.text;
    $("output-where").textContent = item.kind === "command" ? item.where : progress ? many(progress.total, "target") : "";
    const end = item.ended ? Date.parse(item.ended) : Date.now();
    $("output-time").textContent = item.created ? duration(end - Date.parse(item.created)) : "";
    $("output-stop").hidden = !item.isRunning || !this.#mayStop;
    $("output-stop").textContent = item.kind === "run" ? "Cancel" : "Stop";
    $("output-progress").hidden = $("output-outcomes").hidden = progress === null;
    if (progress === null) return;
    drawProgress($("output-progress"), progress);
    $("output-outcomes").replaceChildren(
      el("span", {}, progressText({ ...progress, outcomes: {} }).replace(/^0/, count(finished(progress)))),
      ...ended(progress).map(([outcome, number]) => el("span", { className: `badge ${tone(outcome)}` }, `${count(number)} ${words(outcome)}`)),
    );
  }
}

const finished = ({ outcomes }) => Object.values(outcomes).reduce((sum, number) => sum + number, 0);

/** The targets of a run, counted from its events, and their output line by line. */
class Targets {
  progress = { total: 0, running: 0, outcomes: {} };
  #terminal;
  /** What each target has written of a line that is not at its end. */
  #lines = new Map();
  #hasOutput = new Set();

  constructor(terminal) {
    this.#terminal = terminal;
  }

  take(event) {
    const { progress } = this;
    const who = event.job ?? event.workspace;
    switch (event.event) {
      case "run_started":
      case "targets_added":
        progress.total += event.targets;
        break;
      case "target_began":
        progress.running += 1;
        break;
      case "output":
        this.#hasOutput.add(who);
        this.#write(who, event.stream, event.text);
        break;
      case "target_retried":
        progress.running -= 1;
        this.#ended(who, event);
        this.#terminal.add(`${words(event.outcome)}, it is tried again\n`, "note");
        break;
      case "target_finished":
        if (event.attempt > 0) progress.running = Math.max(0, progress.running - 1);
        progress.outcomes[event.outcome] = (progress.outcomes[event.outcome] ?? 0) + 1;
        this.#ended(who, event);
        break;
      case "run_cancelled":
        this.#terminal.add(`the run ends early: ${words(reason(event.reason))}\n`, "note");
        break;
    }
  }

  #write(who, stream, text) {
    const key = `${stream} ${who}`;
    const lines = ((this.#lines.get(key) ?? "") + text).split("\n");
    const rest = lines.pop();
    if (rest === "") this.#lines.delete(key);
    else this.#lines.set(key, rest);
    for (const line of lines) this.#line(who, stream, line);
  }

  #line(who, stream, line) {
    this.#terminal.add(`${who}  `, "who");
    this.#terminal.add(`${line}\n`, stream);
  }

  #ended(who, { outcome, value, error }) {
    const result = value?.type === "command" ? value.value : null;
    if (!this.#hasOutput.has(who) && result) {
      if (result.stdout) this.#write(who, "stdout", result.stdout);
      if (result.stderr) this.#write(who, "stderr", result.stderr);
    }
    for (const stream of ["stdout", "stderr"]) {
      const rest = this.#lines.get(`${stream} ${who}`);
      this.#lines.delete(`${stream} ${who}`);
      if (rest) this.#line(who, stream, rest);
    }
    this.#hasOutput.delete(who);
    if (outcome === "succeeded") return;
    const detail = error ? why(error) : result ? `exit code ${result.exit_code}` : "";
    this.#terminal.add(`${who}  `, "who");
    this.#terminal.add(`${words(outcome)}${detail ? `: ${detail}` : ""}\n`, "note");
  }
}

const reason = (reason) => (typeof reason === "string" ? reason : (Object.keys(reason ?? {})[0] ?? "cancelled"));
