// Light, dark, or as the system has it.

import { $ } from "./ui.js";

const KEY = "wsfleet-theme";
const ORDER = ["auto", "light", "dark"];

/** Takes the colours that were chosen last, and lets them be chosen; says when they have changed. */
export function theme(changed) {
  let chosen = ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto";
  const apply = () => {
    if (chosen === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    const name = chosen[0].toUpperCase() + chosen.slice(1);
    $("theme").textContent = name;
    $("theme").setAttribute("aria-label", `Colours: ${chosen === "auto" ? "as the system has them" : chosen}`);
    changed();
  };
  $("theme").addEventListener("click", () => {
    chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length];
    localStorage.setItem(KEY, chosen);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  apply();
}
