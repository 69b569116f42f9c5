// What is known of one workspace.

import { get } from "./api.js";
import { $, ago, bytes, count, el, words } from "./ui.js";

/** How often it is asked for while it is shown. */
const EVERY = 2_000;

export class Details {
  #fleet;
  #name = null;
  #asked = null;

  constructor(fleet) {
    this.#fleet = fleet;
    setInterval(() => this.#isSeen() && this.#load(), EVERY);
    this.#empty();
  }

  /** Shows one. */
  show(name) {
    const isOther = name !== this.#name;
    this.#name = name;
    if (isOther && this.#isSeen()) this.#load();
  }

  /** The panel has come into sight. */
  seen() {
    if (this.#name !== null) this.#load();
  }

  #isSeen() {
    return this.#name !== null && !$("panel-details").hidden && !document.hidden;
  }

  #empty() {
    $("details").replaceChildren(el("div", { className: "empty small" }, "Click a workspace to see how it does."));
  }

  async #load() {
    const name = this.#name;
    this.#asked?.abort();
    this.#asked = new AbortController();
    try {
      const snapshot = await get(`/v1/workspaces/${encodeURIComponent(name)}`, this.#asked.signal);
      if (name === this.#name) this.#paint(snapshot);
    } catch (error) {
      if (error.name === "AbortError" || name !== this.#name) return;
      const text = error.status === 404 ? "This workspace is no longer there." : error.message;
      $("details").replaceChildren(el("h3", {}, name), el("div", { className: "empty small" }, text));
    }
  }

  #paint(answer) {
    // What is counted may be beside the workspace itself, or be all that is told.
    const snapshot = answer.snapshot ?? answer;
    const known = this.#fleet.all.get(this.#name) ?? answer;
    const health = typeof snapshot.health === "object" ? snapshot.health : { state: snapshot.health ?? known.health };
    const state = el("span", { className: "tip-state", dataset: { state: health.state } }, el("i"), words(health.state));
    const labels = Object.entries(known.labels ?? {}).map(([label, value]) => el("span", { className: "label" }, `${label}=${value}`));
    const rows = [
      ["Address", known.host],
      ["Since", health.since && ago(health.since)],
      ["Reason", health.reason],
      ["Failures in a row", health.failures > 0 ? count(health.failures) : null],
      ["Next look", health.next_probe && new Date(health.next_probe).toLocaleTimeString()],
      ["Takes no more steps", snapshot.stopped],
      ["Commands running", counted(snapshot.running_commands)],
      ["Steps running, waiting", snapshot.running_steps === undefined ? null : `${count(snapshot.running_steps)}, ${count(snapshot.waiting_steps)}`],
      ["Commands started, ended", snapshot.commands_started === undefined ? null : `${count(snapshot.commands_started)}, ${count(snapshot.commands_finished)}`],
      ["Output read", snapshot.output_bytes === undefined ? null : bytes(snapshot.output_bytes)],
      ["Output comes", snapshot.pushed === undefined ? null : snapshot.pushed ? "pushed by its server" : "by polls"],
      ["Polls, failed", snapshot.polls === undefined ? null : `${count(snapshot.polls)}, ${count(snapshot.poll_failures)}`],
      ["Requests sent again", counted(snapshot.retries)],
      ["Restarts", counted(snapshot.restarts)],
      ["Last failure", snapshot.last_failure],
    ].filter(([, value]) => value !== null && value !== undefined && value !== "");
    $("details").replaceChildren(
      el("div", { className: "details-head" }, el("h3", {}, this.#name), state),
      ...(labels.length > 0 ? [el("div", { className: "labels" }, ...labels)] : []),
      el("dl", {}, ...rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    );
  }
}

const counted = (number) => (number === undefined ? null : count(number));
