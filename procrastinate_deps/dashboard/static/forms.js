// Actions: asked for before they are done, done without leaving the page, told of afterwards.

import { follow, refresh } from "./live.js";
import { number } from "./times.js";

const confirmDialog = document.getElementById("confirm");
const toasts = document.getElementById("toasts");

export function start() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.method !== "post") return;
    if (form.id === "bulk") {
      event.preventDefault();
      actOnSelected(form, event.submitter);
    } else if (form.dataset.confirm) {
      event.preventDefault();
      askAndSend(form, event.submitter, form.dataset.confirm, form.dataset.yes, "danger" in form.dataset);
    }
  });
  document.addEventListener("click", copy);
  startSelection();
}

export function toast(words, failed = false) {
  const element = document.createElement("div");
  element.className = failed ? "toast failed" : "toast";
  element.textContent = words;
  toasts.append(element);
  setTimeout(() => element.remove(), failed ? 12000 : 6000);
}

function ask(question, yes, danger) {
  document.getElementById("confirm-title").textContent = `${yes}?`;
  document.getElementById("confirm-text").textContent = question;
  const button = document.getElementById("confirm-yes");
  button.textContent = yes;
  button.className = danger ? "danger primary" : "primary";
  confirmDialog.returnValue = "no";
  confirmDialog.showModal();
  button.focus();
  return new Promise((resolve) => {
    confirmDialog.addEventListener("close", () => resolve(confirmDialog.returnValue === "yes"), { once: true });
  });
}

async function askAndSend(form, submitter, question, yes, danger) {
  const data = new FormData(form, submitter);
  const address = form.getAttribute("action");
  if (!(await ask(question, yes, danger))) return false;
  return send(address, data);
}

async function send(address, data) {
  try {
    const response = await fetch(address, {
      method: "POST",
      body: new URLSearchParams(data),
      headers: { "X-Requested-With": "fetch" },
    });
    const answer = await response.json();
    toast(answer.text || answer.error, !response.ok || answer.failed);
    if (answer.to) location.assign(answer.to);
    else refresh();
    return response.ok;
  } catch {
    toast("The dashboard doesn't answer: nothing is known of what was asked.", true);
    return false;
  }
}

// Selecting rows of the list of jobs

const selected = new Set();
// By their filters, also of other pages; more than can be acted on at once were found.
let everything = false;
let more = false;

function startSelection() {
  const form = document.getElementById("bulk");
  if (!form || !document.getElementById("bulkbar")) return;
  form.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-all]")) {
      for (const each of boxes()) choose(each, box.checked);
    } else if (box.name === "ids") {
      choose(box, box.checked);
    }
    show();
  });
  document.getElementById("bulk-clear").addEventListener("click", clear);
  document.getElementById("bulk-all")?.addEventListener("click", selectEverything);
  follow(show);
}

async function selectEverything(event) {
  const button = event.currentTarget;
  button.disabled = true;
  try {
    const query = new URLSearchParams(location.search);
    const response = await fetch(`${button.dataset.ids}?${query}`, { headers: { "X-Requested-With": "fetch" } });
    const answer = await response.json();
    if (!response.ok) {
      toast([answer.error, answer.text].filter(Boolean).join(". "), true);
      return;
    }
    selected.clear();
    for (const id of answer.ids) selected.add(String(id));
    everything = true;
    more = answer.more;
  } catch {
    toast("The dashboard doesn't answer.", true);
  } finally {
    button.disabled = false;
    show();
  }
}

function boxes() {
  return document.querySelectorAll("#bulk input[name=ids]");
}

function choose(box, chosen) {
  if (chosen) selected.add(box.value);
  else selected.delete(box.value);
}

function clear() {
  selected.clear();
  everything = false;
  more = false;
  show();
}

function show() {
  let shown = 0;
  let all = 0;
  const there = new Set();
  for (const box of boxes()) {
    there.add(box.value);
    all += 1;
    box.checked = selected.has(box.value);
    box.closest("tr").classList.toggle("selected", box.checked);
    shown += box.checked;
  }
  // What has left the page is not acted on unseen.
  if (!everything) for (const id of selected) if (!there.has(id)) selected.delete(id);
  const box = document.querySelector("#bulk [data-all]");
  if (box) {
    box.checked = all > 0 && shown === all;
    box.indeterminate = shown > 0 && shown < all;
  }
  const count = selected.size;
  document.getElementById("bulkbar").hidden = count === 0;
  const words = everything ? `${jobs(count)} on all pages${more ? "; more match" : ""}` : jobs(count);
  document.getElementById("bulk-count").textContent = words;
  // Where this page holds all there is, there are no others to be selected.
  const other = document.getElementById("bulk-all");
  if (other) other.hidden = everything || shown < all || !document.querySelector(".pager a, .note a");
}

function jobs(count) {
  return count === 1 ? "1 job" : `${number(count)} jobs`;
}

const QUESTIONS = {
  retry: (count) => `Run ${jobs(count)} again? Their children that have not started wait for them again.`,
  cancel: (count) => `Cancel ${jobs(count)}? Those that have started or ended stay as they are.`,
  abort: (count) => `Cancel ${jobs(count)}, and ask those that run to stop?`,
  delete: (count) => `Delete ${jobs(count)} for good? Those that have not ended count as cancelled for their children.`,
};

async function actOnSelected(form, submitter) {
  const action = submitter?.value;
  if (!(action in QUESTIONS) || selected.size === 0) return;
  const count = selected.size;
  const yes = `${submitter.textContent.trim()} ${jobs(count)}`;
  // By its attribute: the form has a button that is named like the property.
  const data = new FormData(form);
  data.set("action", action);
  data.set("ids", [...selected].join(" "));
  const rest = more ? " More jobs match: these are the first ones." : "";
  if (!(await ask(QUESTIONS[action](count) + rest, yes, action === "delete"))) return;
  if (await send(form.getAttribute("action"), data)) clear();
}

async function copy(event) {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    toast("Copied");
  } catch {
    toast("The browser didn't allow that", true);
  }
}
