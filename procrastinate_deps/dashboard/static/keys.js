// The keyboard: single letters where nobody is typing.

import { toggle } from "./live.js";
import { nextTheme } from "./theme.js";

const shortcuts = document.getElementById("shortcuts");

export function start() {
  document.getElementById("help").addEventListener("click", () => shortcuts.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, select, textarea, dialog")) {
      if (event.key === "Escape" && event.target.matches?.("input")) event.target.blur();
      if (event.target.type !== "checkbox") return;
    }
    if (press(event.key, event.target)) event.preventDefault();
  });
}

function press(key, target) {
  switch (key) {
    case "?":
      shortcuts.showModal();
      return true;
    case "/":
      return focus(document.querySelector("[data-search], [data-find]"));
    case "p":
      if (document.getElementById("live")) toggle();
      return true;
    case "t":
      nextTheme();
      return true;
    case "n":
      return go(document.querySelector("a[rel=next]"));
    case "b":
      return go(document.querySelector("a[rel=prev]"));
    case "x":
      return select(document.activeElement?.closest("tr"));
    case "ArrowDown":
      return target.closest?.("[data-canvas]") ? false : step(1);
    case "ArrowUp":
      return target.closest?.("[data-canvas]") ? false : step(-1);
    default:
      return /^[a-z]$/.test(key) && go(document.querySelector(`.nav a[data-key="${key}"]`));
  }
}

function go(link) {
  if (!link) return false;
  link.click();
  return true;
}

function focus(field) {
  if (!field) return false;
  field.focus();
  field.select();
  return true;
}

function select(row) {
  const box = row?.querySelector("input[type=checkbox]");
  if (!box) return false;
  box.click();
  return true;
}

// Through the rows of the page; Enter follows the link that is focused in one.
function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (rows.length === 0) return false;
  const at = rows.indexOf(document.activeElement?.closest("[data-row]"));
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
  (row.querySelector("a") ?? row).focus();
  return true;
}
