// Follows the changes that the server tells of: fetches this page again and takes over the parts that are live.

import { morph } from "./morph.js";
import { countTimes } from "./times.js";

const PAUSED = "procrastinate_deps.paused";
const root = document.body.dataset.root;
const button = document.getElementById("live");
const text = document.getElementById("live-text");

let source = null;
let busy = false;
let again = false;
let paused = readPaused();
const followers = new Set();

export function follow(callback) {
  followers.add(callback);
}

export function start() {
  if (!button) return;
  button.addEventListener("click", toggle);
  document.addEventListener("visibilitychange", connect);
  // A page that the browser keeps for going back must not keep a connection.
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  connect();
}

export function toggle() {
  paused = !paused;
  try {
    localStorage.setItem(PAUSED, paused ? "1" : "");
  } catch {
    // Without storage it holds for this page.
  }
  connect();
  if (!paused) refresh();
}

function readPaused() {
  try {
    return localStorage.getItem(PAUSED) === "1";
  } catch {
    return false;
  }
}

function connect() {
  const wanted = !paused && !document.hidden;
  if (wanted && !source) {
    source = new EventSource(`${root}/live`);
    source.addEventListener("open", () => {
      say("on", "Live");
      // Whatever happened while nobody listened.
      refresh();
    });
    source.addEventListener("change", () => refresh());
    source.addEventListener("error", () => {
      say("lost", "Reconnecting");
      if (source && source.readyState === EventSource.CLOSED) {
        disconnect();
        setTimeout(connect, 3000);
      }
    });
  } else if (!wanted) {
    disconnect();
  }
  if (paused) say("off", "Paused");
}

function disconnect() {
  source?.close();
  source = null;
}

function say(state, words) {
  button.setAttribute("aria-pressed", String(!paused));
  button.dataset.state = state;
  text.textContent = words;
}

export async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (response.redirected && new URL(response.url).pathname !== location.pathname) {
      location.assign(response.url);
      return;
    }
    if (response.ok) {
      takeOver(new DOMParser().parseFromString(await response.text(), "text/html"));
      for (const callback of followers) callback();
    } else if (response.status >= 500) {
      say("lost", "Reconnecting");
    } else if (response.status === 404) {
      location.reload();
    }
  } catch {
    // The stream notices, and says so.
  } finally {
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function takeOver(page) {
  if (document.querySelector("dialog[open]")) return;
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (fresh) morph(part, fresh);
  }
  countTimes();
}
