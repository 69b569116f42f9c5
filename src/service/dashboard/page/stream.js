// Server-sent events over fetch, since an EventSource cannot send a key. Comes back by itself, where it was.

import { refusal, send } from "./api.js";

/** After so long without a byte a connection is given up: something comes at least every 15 s. */
const SILENCE = 40_000;
const FIRST_REST = 300;
const LONGEST_REST = 5_000;

/**
 * Follows a path until `close` is called or the stream has come to its end.
 *
 * `event(name, data)` gets each event; `state("live" | "lost", reason)` what the connection does. A true answer of `event`
 * ends it.
 */
export function follow(path, { event, state = () => {} }) {
  const closed = new AbortController();
  let last = null;
  let rest = FIRST_REST;
  const run = async () => {
    while (!closed.signal.aborted) {
      let reason = "";
      try {
        const over = await read(path, last, closed.signal, {
          open: () => {
            rest = FIRST_REST;
            state("live", "");
          },
          event: (id, name, data) => {
            if (id !== null) last = id;
            return event(name, data);
          },
        });
        if (over) return;
      } catch (error) {
        if (closed.signal.aborted) return;
        reason = error.message;
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          state("refused", reason);
          return;
        }
      }
      state("lost", reason);
      await pause(rest * (0.75 + Math.random() / 2), closed.signal);
      rest = Math.min(rest * 2, LONGEST_REST);
    }
  };
  run();
  return { close: () => closed.abort() };
}

async function read(path, last, signal, on) {
  const request = new AbortController();
  const abort = () => request.abort();
  signal.addEventListener("abort", abort);
  let watchdog = setTimeout(abort, SILENCE);
  try {
    const headers = last === null ? {} : { "last-event-id": last };
    const answer = await send(path, { headers, signal: request.signal });
    if (!answer.ok) throw await refusal(answer);
    on.open();
    const parser = new Parser();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, SILENCE);
      for (const { id, name, data } of parser.parse(value)) {
        if (on.event(id, name, data) === true) {
          abort();
          return true;
        }
      }
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", abort);
  }
}

function pause(millis, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, millis);
    signal.addEventListener("abort", resolve, { once: true });
  });
}

/** Cuts a text into events. */
export class Parser {
  #rest = "";
  #event = { id: null, name: "message", data: [] };

  *parse(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        const { id, name, data } = this.#event;
        this.#event = { id: null, name: "message", data: [] };
        if (data.length > 0) yield { id, name, data: data.join("\n") };
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "id") this.#event.id = value;
      else if (field === "event") this.#event.name = value;
      else if (field === "data") this.#event.data.push(value);
    }
  }
}
