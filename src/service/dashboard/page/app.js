// Puts the parts of the page together, and keeps them up to date.

import { Activity } from "./activity.js";
import { forgetKey, get, hasKey, list, onKeyWanted } from "./api.js";
import { Details } from "./details.js";
import { Fleet, STATES } from "./fleet.js";
import { Grid } from "./grid.js";
import { Launch } from "./launch.js";
import { Output } from "./output.js";
import { Plots } from "./plots.js";
import { follow } from "./stream.js";
import { theme } from "./theme.js";
import { $, count, el, toast, words } from "./ui.js";

const fleet = new Fleet();
// Before the grid: it is laid out when there is room for it.
fleet.changed.on(paintFleet);
const plots = new Plots($("plots"));
const grid = new Grid(fleet);
const activity = new Activity(fleet);
const output = new Output(activity);
const details = new Details(fleet);
const launch = new Launch(fleet, activity);

/** What happens while everything is loaded, to be taken after it. */
let loading = null;

onKeyWanted(askForKey);
theme(() => {
  grid.restyle();
  plots.restyle();
});
tabs();
grid.opened.on((name, toFront) => {
  details.show(name);
  if (toFront) showTab("details");
});
activity.opened.on((item) => output.open(item));
$("filter").addEventListener("input", ({ target }) => fleet.setText(target.value));
$("filter").addEventListener("focus", suggestLabels);
$("forget").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    $("filter").focus();
  }
});

await whoAmI();
follow("/v1/events", { event: take, state: connection });

/** What the key allows, and what the service is. */
async function whoAmI() {
  for (;;) {
    try {
      const session = await get("/dashboard/session");
      const mayWrite = session.access === "full";
      $("version").textContent = session.version;
      $("access").hidden = mayWrite;
      $("forget").hidden = !hasKey();
      launch.mayRun = mayWrite;
      output.mayStop = mayWrite;
      return;
    } catch (error) {
      connection("lost", error.message);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}

function take(name, text) {
  const data = JSON.parse(text);
  if (name === "hello" || name === "missed") load();
  else if (name === "stats") plots.add(data);
  else if (loading !== null) loading.push([name, data]);
  else apply(name, data);
}

function apply(name, data) {
  if (name === "workspaces") fleet.apply(data);
  else if (name === "command") activity.command(data);
  else if (name === "run") activity.run(data);
}

/** Loads everything, and then takes what happened meanwhile. */
async function load() {
  const mine = [];
  loading = mine;
  while (loading === mine) {
    try {
      const [workspaces] = await Promise.all([list("/v1/workspaces", "workspaces"), activity.load()]);
      // Another load has begun, which knows more.
      if (loading !== mine) return;
      fleet.load(workspaces);
      loading = null;
      for (const [name, data] of mine) apply(name, data);
    } catch (error) {
      toast(`The fleet cannot be loaded: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
}

function connection(state, reason) {
  const text = { live: "Live", lost: "Reconnecting", refused: "Refused" }[state];
  $("connection").dataset.state = state;
  $("connection").lastElementChild.textContent = text;
  $("connection").title = reason;
  if (state === "refused") toast(reason);
}

function paintFleet() {
  const { all, shown, counts, isFiltered } = fleet;
  $("fleet-count").textContent = isFiltered ? `${count(shown.length)} of ${count(all.size)}` : count(all.size);
  const known = [...STATES, ...[...counts.keys()].filter((state) => !STATES.includes(state))];
  const wanted = known.filter((state) => counts.has(state) || fleet.isWanted(state));
  const chips = $("states");
  while (chips.childElementCount > wanted.length) chips.lastElementChild.remove();
  wanted.forEach((state, at) => {
    const chip = chips.children[at] ?? chips.appendChild(newChip());
    chip.dataset.state = state;
    chip.setAttribute("aria-pressed", String(fleet.isWanted(state)));
    chip.children[1].textContent = words(state);
    chip.children[2].textContent = count(counts.get(state) ?? 0);
  });
  $("grid-scroll").hidden = shown.length === 0;
  $("fleet-empty").hidden = shown.length > 0;
  if (shown.length === 0) $("fleet-empty").replaceChildren(...(all.size === 0 ? noWorkspaces() : [el("p", {}, "No workspace matches the filter.")]));
}

function newChip() {
  const chip = el("button", { type: "button", className: "chip" }, el("i"), el("span"), el("b"));
  chip.addEventListener("click", () => fleet.toggleState(chip.dataset.state));
  return chip;
}

/** How the first workspace is added. */
function noWorkspaces() {
  const key = hasKey() ? ` \\\n  -H 'Authorization: Bearer YOUR_KEY'` : "";
  const body = `{"name": "first", "host": "http://127.0.0.1:8000", "api_key": "ITS_SESSION_KEY"}`;
  const snippet = `curl ${location.origin}/v1/workspaces${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
  return [
    el("p", {}, "There is no workspace yet. Add one that runs an agent server:"),
    el("pre", { className: "snippet" }, snippet),
    el("p", { className: "muted" }, "or start the service with workspaces of its own: wsfleet serve --local 4"),
  ];
}

function suggestLabels() {
  $("labels").replaceChildren(...fleet.labels(30).map((value) => el("option", { value })));
}

function tabs() {
  const names = ["activity", "details"];
  for (const name of names) $(`tab-${name}`).addEventListener("click", () => showTab(name));
  document.querySelector(".tabs").addEventListener("keydown", ({ key }) => {
    if (key !== "ArrowLeft" && key !== "ArrowRight") return;
    const other = names.find((name) => $(`tab-${name}`).ariaSelected !== "true");
    showTab(other);
    $(`tab-${other}`).focus();
  });
}

function showTab(wanted) {
  for (const name of ["activity", "details"]) {
    $(`tab-${name}`).setAttribute("aria-selected", String(name === wanted));
    $(`tab-${name}`).tabIndex = name === wanted ? 0 : -1;
    $(`panel-${name}`).hidden = name !== wanted;
  }
  if (wanted === "details") details.seen();
}

function askForKey(problem) {
  $("key-error").textContent = problem;
  $("key-input").value = "";
  $("key").showModal();
  return new Promise((resolve) => {
    $("key").addEventListener("cancel", (event) => event.preventDefault());
    $("key-form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        $("key").close();
        resolve($("key-input").value);
      },
      { once: true },
    );
  });
}
