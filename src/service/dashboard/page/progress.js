// A bar that shows how many targets of a run have ended in which way, and how many run.

import { tone } from "./work.js";
import { count, words } from "./ui.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const ORDER = ["good", "warn", "bad", "calm", "live"];

/** Draws the progress of a run into an element. */
export function drawProgress(element, progress) {
  const { total, running = 0, outcomes = {} } = progress;
  const parts = new Map(ORDER.map((name) => [name, 0]));
  let finished = 0;
  for (const [outcome, number] of Object.entries(outcomes)) {
    parts.set(tone(outcome), parts.get(tone(outcome)) + number);
    finished += number;
  }
  parts.set("live", running);
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", "0 0 1000 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  let at = 0;
  for (const [name, number] of parts) {
    const width = total > 0 ? (number / total) * 1000 : 0;
    if (width <= 0) continue;
    const bar = document.createElementNS(NAMESPACE, "rect");
    bar.setAttribute("class", `bar-${name}`);
    bar.setAttribute("x", String(at));
    bar.setAttribute("width", String(width));
    bar.setAttribute("height", "10");
    svg.append(bar);
    at += width;
  }
  element.setAttribute("role", "progressbar");
  element.setAttribute("aria-valuemin", "0");
  element.setAttribute("aria-valuemax", String(total));
  element.setAttribute("aria-valuenow", String(finished));
  element.setAttribute("aria-label", "Targets that have ended");
  element.replaceChildren(svg);
}

/** The same in words. */
export function progressText({ total, running = 0, outcomes = {} }) {
  const all = ended({ outcomes });
  const finished = all.reduce((sum, [, number]) => sum + number, 0);
  const bad = all.filter(([outcome]) => outcome !== "succeeded");
  const parts = [`${count(finished)} of ${count(total)}`];
  if (running > 0) parts.push(`${count(running)} running`);
  for (const [outcome, number] of bad) parts.push(`${count(number)} ${words(outcome)}`);
  return parts.join(" · ");
}

/** How many targets ended in which way, those ways in which none did left out. */
export const ended = ({ outcomes = {} }) => Object.entries(outcomes).filter(([, number]) => number > 0);
