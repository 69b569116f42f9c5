// Commands and runs, as all parts of the page see them.

import { words } from "./ui.js";

/** A command as lists, answers and events tell of it. */
export function command(record) {
  return {
    kind: "command",
    id: record.id,
    text: typeof record.command === "string" ? record.command : record.command.command,
    where: record.workspace,
    isRunning: record.state !== "finished",
    state: record.state === "finished" ? (record.outcome ?? "finished") : record.state,
    exitCode: record.exit_code ?? record.result?.exit_code ?? null,
    error: record.error ? why(record.error) : null,
    created: record.created,
    ended: record.ended ?? null,
  };
}

/** A run as lists, answers and events tell of it. */
export function run(record) {
  const isRunning = record.state !== "finished";
  return {
    kind: "run",
    id: record.id,
    text: record.description,
    isRunning,
    state: isRunning ? (record.cancelled ? "cancelling" : "running") : runOutcome(record.summary),
    created: record.created,
    ended: record.ended ?? null,
    progress: { ...record.progress, total: record.progress.targets },
  };
}

/** How a run ended as a whole. */
function runOutcome(summary) {
  if (!summary) return "finished";
  if (summary.cancelled) return "cancelled";
  return (summary.outcomes.succeeded ?? 0) === summary.total ? "succeeded" : "failed";
}

/** The words for how something does: the exit code says more than that it failed. */
export const label = ({ state, exitCode = null }) => (state === "failed" && exitCode !== null ? `exit ${exitCode}` : words(state));

/** The colour class of an outcome or state. */
export function tone(state) {
  if (state === "succeeded") return "good";
  if (["starting", "running"].includes(state)) return "live";
  if (["stopped", "skipped", "cancelled", "cancelling", "finished"].includes(state)) return "calm";
  return state === "timed_out" ? "warn" : "bad";
}

/** Why something could not be done on a workspace. */
export function why(error) {
  const detail = error.message ?? error.reason ?? error.detail ?? "";
  return [error.kind && words(error.kind), detail].filter(Boolean).join(": ");
}
