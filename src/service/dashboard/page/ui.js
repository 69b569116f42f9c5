// What all parts of the page share: elements, texts, times, messages. Text from elsewhere is only ever set as text.

/** The element of this id. */
export const $ = (id) => document.getElementById(id);

/** A new element with these properties and children. Children that are strings become text. */
export function el(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const plain = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A count, with separators. */
export const count = (number) => plain.format(number);

/** A number that fits into little room. */
export const compact = (number) => (number < 10_000 ? plain.format(number) : short.format(number));

/** `1 workspace`, `2 workspaces`. */
export const many = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

/** Bytes, in units of 1024. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) {
    number /= 1024;
    at += 1;
  }
  return `${number >= 100 || at === 0 ? Math.round(number) : number.toFixed(1)} ${units[at]}`;
}

/** A duration in milliseconds. */
export function duration(millis) {
  if (millis < 1000) return `${Math.max(0, Math.round(millis))} ms`;
  const seconds = millis / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** How long ago a time was. */
export function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  if (seconds < 10) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(time).toLocaleDateString();
}

/** A name of the API in words: `timed_out` is `timed out`. */
export const words = (name) => String(name).replaceAll("_", " ");

/** Shows a message for a while. */
export function toast(text, kind = "error") {
  const close = el("button", { type: "button", className: "toast-close", ariaLabel: "Dismiss" }, "×");
  const message = el("div", { className: `toast ${kind}` }, el("span", {}, text), close);
  const gone = () => message.remove();
  close.addEventListener("click", gone);
  $("toasts").append(message);
  while ($("toasts").childElementCount > 4) $("toasts").firstElementChild.remove();
  setTimeout(gone, kind === "error" ? 12_000 : 5_000);
}

/** Calls a function once in the next frame, however often it is asked to. */
export function onceAFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  };
}

/** Who wants to be told of something. */
export class Signal {
  #listeners = [];

  on(listener) {
    this.#listeners.push(listener);
  }

  tell(...what) {
    for (const listener of this.#listeners) listener(...what);
  }
}
