// A graph of jobs: fetched, drawn, moved about in, searched; and the same jobs on a time line.

import { drawGraph, updateGraph } from "./graph-boxes.js";
import { drawTime } from "./graph-time.js";
import { layOut } from "./layout.js";
import { Tip } from "./graph-tip.js";
import { number } from "./times.js";
import { Viewport } from "./viewport.js";

const root = document.body.dataset.root;
const RETRY_S = 5;

export class GraphView {
  constructor(element) {
    this.element = element;
    this.address = element.dataset.graph;
    this.canvas = element.querySelector("[data-canvas]");
    this.note = element.querySelector("[data-note]");
    this.find = element.querySelector("[data-find]");
    this.found = element.querySelector("[data-found]");
    this.wait = element.querySelector("[data-wait]");
    this.critical = element.querySelector("[data-critical]");
    this.view = location.hash === "#time" ? "time" : "graph";
    this.opened = new Set();
    this.data = null;
    this.shape = "";
    this.loading = false;
    this.again = false;
    this.at = -1;
    this.hits = [];
    this.tip = new Tip(this.canvas);
    this.viewport = new Viewport(this.canvas);
    this.listen();
    this.pressView();
  }

  listen() {
    for (const button of this.element.querySelectorAll("[data-view]:not([data-canvas])")) {
      button.addEventListener("click", () => {
        this.view = button.dataset.view;
        history.replaceState(history.state, "", this.view === "time" ? "#time" : location.pathname + location.search);
        this.pressView();
        this.shape = "";
        this.draw();
      });
    }
    for (const button of this.element.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.viewport[button.dataset.zoom]());
    }
    this.critical.addEventListener("change", () => this.mark());
    this.find.addEventListener("input", () => {
      this.at = -1;
      this.mark();
      this.search();
    });
    this.find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
    });
    this.canvas.addEventListener("click", (event) => {
      const group = event.target.closest("[data-open]");
      if (group && !this.viewport.dragged) this.toggle(group.dataset.open);
      else if (this.viewport.dragged) event.preventDefault();
    });
    this.canvas.addEventListener("keydown", (event) => {
      const group = event.target.closest("[data-open]");
      if (group && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        this.toggle(group.dataset.open);
      }
    });
  }

  pressView() {
    for (const button of this.element.querySelectorAll("button[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === this.view));
    }
    this.canvas.dataset.view = this.view;
    this.canvas.style.height = "";
    this.element.querySelector(".zoom").hidden = this.view === "time";
  }

  toggle(key) {
    if (this.opened.has(key)) this.opened.delete(key);
    else this.opened.add(key);
    this.load();
  }

  // Jobs in closed groups are not known here: the server looks for them, and draws those that it finds.
  search() {
    clearTimeout(this.searching);
    if (this.data?.grouped || this.data?.found) this.searching = setTimeout(() => this.load(), 300);
  }

  looksInside() {
    return this.find.value.trim() !== "" && (this.data === null || this.data.grouped || this.data.found !== null);
  }

  // The larger a graph is the longer it takes to be made: it is asked for a quarter of the time at most.
  async refresh() {
    if (performance.now() >= (this.notBefore ?? 0)) {
      await this.load();
    } else if (!this.later) {
      this.later = setTimeout(() => {
        this.later = null;
        this.load();
      }, this.notBefore - performance.now());
    }
  }

  async load() {
    if (this.loading) {
      this.again = true;
      return;
    }
    this.loading = true;
    const began = performance.now();
    try {
      const query = new URLSearchParams([...this.opened].map((key) => ["open", key]));
      if (this.looksInside()) query.set("find", this.find.value.trim());
      const response = await fetch(`${this.address}?${query}`);
      if (response.ok) {
        this.data = await response.json();
        this.draw();
      } else {
        this.failed(`The server answered ${response.status}`);
      }
    } catch {
      this.failed("The server does not answer");
    } finally {
      this.notBefore = performance.now() + 3 * (performance.now() - began);
      this.loading = false;
      if (this.again) {
        this.again = false;
        this.load();
      }
    }
  }

  // What was drawn stays; where nothing was, it is said and tried again.
  failed(why) {
    if (this.data) return;
    this.wait.textContent = `${why}: the graph can't be drawn now. Next try in ${RETRY_S} seconds.`;
    setTimeout(() => this.load(), RETRY_S * 1000);
  }

  draw() {
    const { data } = this;
    if (!data) return;
    this.tip.know(data.nodes);
    if (this.view === "time") {
      drawTime(this.canvas, data, root);
    } else {
      const shape = JSON.stringify([data.nodes.map((node) => node.key), data.edges.map((edge) => [edge.from, edge.to])]);
      if (shape !== this.shape) {
        const first = this.shape === "";
        this.shape = shape;
        this.layout = layOut(data.nodes, data.edges, this.viewport.room());
        this.drawn = drawGraph(data, this.layout, root);
        this.viewport.show(this.drawn, this.layout, data, first);
      } else {
        updateGraph(this.drawn, data);
        this.viewport.refresh(data);
      }
    }
    this.say();
    this.mark();
    this.element.dataset.graphReady = this.view;
  }

  say() {
    const { data } = this;
    const words = [];
    if (data.truncated) words.push(`Only the first ${number(data.jobs)} jobs are shown.`);
    if (data.grouped) words.push("Jobs of one task in one layer are drawn as one box: open it by a click.");
    if (data.doomed) words.push(`${data.doomed} waiting ${data.doomed === 1 ? "job is" : "jobs are"} bound to be cancelled.`);
    this.note.replaceChildren(words.join(" "), ...data.opened.map((key) => this.closer(key)));
    this.note.hidden = words.length === 0 && data.opened.length === 0;
    this.element.querySelector("[data-critical-label]").hidden = data.critical.jobs.length === 0;
  }

  closer(key) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.textContent = `close ${key.slice(key.indexOf(":") + 1)}`;
    button.addEventListener("click", () => this.toggle(key));
    return button;
  }

  mark() {
    this.canvas.classList.toggle("show-critical", this.critical.checked);
    const term = this.find.value.trim().toLowerCase();
    const hits = [];
    for (const node of this.data?.nodes ?? []) {
      const words = `${node.id ?? ""} ${node.node ?? ""} ${node.task}`.toLowerCase();
      const hit = term !== "" && words.includes(term);
      if (hit) hits.push(node.key);
      const element = this.canvas.querySelector(`[data-node="${CSS.escape(node.key)}"]`);
      element?.classList.toggle("hit", hit);
      element?.classList.toggle("miss", term !== "" && !hit);
    }
    // In the order in which the server found them, the exact one first.
    const rank = new Map((this.data?.found?.shown ?? []).map((id, at) => [`j${id}`, at]));
    this.hits = hits.sort((a, b) => (rank.get(a) ?? rank.size) - (rank.get(b) ?? rank.size));
    const all = this.data?.found?.jobs ?? 0;
    const drawn = (this.data?.nodes ?? []).filter((node) => node.jobs === 1 && hits.includes(node.key)).length;
    if (term === "") this.found.textContent = "";
    else if (all > drawn) this.found.textContent = `${number(all)} found${drawn ? `, ${drawn} of them drawn singly` : " in groups"}`;
    else this.found.textContent = `${Math.max(all, hits.length)} found`;
  }

  next(by) {
    if (!this.hits.length) return;
    this.at = this.at < 0 && by < 0 ? this.hits.length - 1 : (this.at + by + this.hits.length) % this.hits.length;
    const key = this.hits[this.at];
    if (this.view === "graph") this.viewport.centre(this.layout.positions.get(key));
    else this.canvas.querySelector(`[data-node="${CSS.escape(key)}"]`)?.scrollIntoView({ block: "center" });
  }
}
