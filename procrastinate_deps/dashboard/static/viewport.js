// Moving about in a drawing: by pointer, wheel, two fingers and keys; with a small map of the whole.

import { BOX } from "./layout.js";
import { svg } from "./svg.js";

const LARGEST = 2.5;
const LARGEST_FIT = 1.15;
const MARGIN = 28;
const STEP = 1.25;
// Below this nothing can be read: a larger graph is shown from its beginning, and fit on demand.
const READABLE = 0.55;

export class Viewport {
  constructor(canvas) {
    this.canvas = canvas;
    this.x = 0;
    this.y = 0;
    this.scale = 1;
    this.size = { width: 1, height: 1 };
    this.pointers = new Map();
    this.dragged = false;
    this.moved = false;
    this.group = null;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("dragstart", (event) => event.preventDefault());
    new ResizeObserver(() => (this.moved ? this.apply() : this.begin())).observe(canvas);
  }

  get active() {
    return this.group !== null && this.canvas.dataset.view === "graph";
  }

  show(drawn, layout, data, first) {
    this.group = drawn.group;
    this.size = { width: Math.max(layout.width, 1), height: Math.max(layout.height, 1) };
    this.layout = layout;
    this.running = data.nodes.find((node) => node.status === "doing")?.key;
    const drawing = svg("svg", { role: "group", "aria-label": "Graph" }, this.group);
    this.map = data.nodes.length > 14 ? this.minimap(data) : null;
    this.canvas.replaceChildren(drawing, ...(this.map ? [this.map] : []));
    if (first) this.moved = false;
    this.canvas.style.height = `${this.tall()}px`;
    if (!this.moved) this.begin();
    else this.apply();
  }

  refresh(data) {
    if (!this.map) return;
    for (const node of data.nodes) {
      const dot = this.dots.get(node.key);
      const css = `fill-${node.status}`;
      if (dot && dot.getAttribute("class") !== css) dot.setAttribute("class", css);
    }
  }

  minimap(data) {
    this.dots = new Map();
    const { width, height } = this.size;
    const map = svg("svg", { class: "minimap", viewBox: `${-width * 0.04} ${-height * 0.04} ${width * 1.08} ${height * 1.08}`, "aria-hidden": "true" });
    for (const node of data.nodes) {
      const { x, y } = this.layout.positions.get(node.key);
      const dot = svg("rect", { x, y, width: BOX.width, height: BOX.height, class: `fill-${node.status}` });
      this.dots.set(node.key, dot);
      map.append(dot);
    }
    this.frame = svg("rect", { class: "view", "vector-effect": "non-scaling-stroke" });
    map.append(this.frame);
    const jump = (event) => {
      if (!event.buttons) return;
      event.stopPropagation();
      const inverse = map.getScreenCTM().inverse();
      const to = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
      this.centreOn(to.x, to.y);
    };
    map.addEventListener("pointerdown", jump);
    map.addEventListener("pointermove", jump);
    return map;
  }

  // The room that there is for a drawing.
  room() {
    this.canvas.style.height = "";
    return { width: this.canvas.clientWidth - 2 * MARGIN, height: this.canvas.clientHeight - 2 * MARGIN };
  }

  // As high as is needed, where that is less than there could be.
  tall() {
    const { width, height } = this.room();
    const scale = Math.min(LARGEST_FIT, Math.max(READABLE, Math.min(width / this.size.width, height / this.size.height)));
    return Math.max(170, Math.min(height, this.size.height * scale) + 2 * MARGIN + 10);
  }

  begin() {
    this.fit();
    if (!this.group || this.scale >= READABLE) return;
    this.scale = READABLE;
    const { clientWidth, clientHeight } = this.canvas;
    const wide = this.size.width * READABLE;
    const tall = this.size.height * READABLE;
    const down = this.layout.down;
    this.x = wide > clientWidth - 2 * MARGIN && !down ? MARGIN : (clientWidth - wide) / 2;
    this.y = tall > clientHeight - 2 * MARGIN && down ? MARGIN : (clientHeight - tall) / 2;
    const running = this.running && this.layout.positions.get(this.running);
    if (running) {
      // Where something happens, along the layers.
      if (down && tall > clientHeight) this.y = clientHeight / 3 - running.y * READABLE;
      if (!down && wide > clientWidth) this.x = clientWidth / 3 - running.x * READABLE;
    }
    this.apply();
  }

  fit() {
    if (!this.group) return;
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = this.size;
    this.scale = Math.min((clientWidth - 2 * MARGIN) / width, (clientHeight - 2 * MARGIN) / height, LARGEST_FIT);
    this.scale = Math.max(this.scale, 0.02);
    this.x = (clientWidth - width * this.scale) / 2;
    this.y = (clientHeight - height * this.scale) / 2;
    this.moved = false;
    this.apply();
  }

  in() {
    this.zoom(STEP);
  }

  out() {
    this.zoom(1 / STEP);
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(Math.max(this.scale * factor, 0.02), LARGEST);
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.moved = true;
    this.apply();
  }

  centre(position) {
    if (!position) return;
    this.scale = Math.max(this.scale, 0.9);
    this.centreOn(position.x + BOX.width / 2, position.y + BOX.height / 2);
  }

  centreOn(x, y) {
    this.x = this.canvas.clientWidth / 2 - x * this.scale;
    this.y = this.canvas.clientHeight / 2 - y * this.scale;
    this.moved = true;
    this.apply();
  }

  apply() {
    if (!this.active) return;
    this.group.setAttribute("transform", `translate(${this.x} ${this.y}) scale(${this.scale})`);
    if (this.map) {
      this.map.classList.toggle("whole", this.showsAll());
      this.frame.setAttribute("x", -this.x / this.scale);
      this.frame.setAttribute("y", -this.y / this.scale);
      this.frame.setAttribute("width", this.canvas.clientWidth / this.scale);
      this.frame.setAttribute("height", this.canvas.clientHeight / this.scale);
    }
  }

  showsAll() {
    const { clientWidth, clientHeight } = this.canvas;
    const right = this.x + this.size.width * this.scale;
    const bottom = this.y + this.size.height * this.scale;
    return this.x >= 0 && this.y >= 0 && right <= clientWidth && bottom <= clientHeight;
  }

  down(event) {
    if (!this.active || event.button !== 0) return;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.dragged = false;
    this.began = { x: event.clientX, y: event.clientY };
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before || !this.active) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.pointers.size === 2) this.pinch(event.pointerId, now);
    if (!this.dragged && Math.hypot(now.x - this.began.x, now.y - this.began.y) < 5) return;
    if (!this.dragged) {
      this.dragged = true;
      this.canvas.classList.add("dragging");
      this.canvas.setPointerCapture(event.pointerId);
    }
    this.x += (now.x - before.x) / this.pointers.size;
    this.y += (now.y - before.y) / this.pointers.size;
    this.moved = true;
    this.pointers.set(event.pointerId, now);
    this.apply();
  }

  pinch(id, now) {
    const [other] = [...this.pointers].filter(([each]) => each !== id).map(([, place]) => place);
    const before = this.pointers.get(id);
    const factor = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    const box = this.canvas.getBoundingClientRect();
    this.zoom(factor, (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove("dragging");
  }

  wheel(event) {
    // The page scrolls, unless the graph is what is worked with.
    if (!this.active || !(event.ctrlKey || event.metaKey || this.canvas.contains(document.activeElement))) return;
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), event.clientX - box.left, event.clientY - box.top);
  }

  key(event) {
    if (!this.active) return;
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key in moves) {
      this.x += moves[event.key][0];
      this.y += moves[event.key][1];
      this.moved = true;
      this.apply();
    } else if (event.key === "+" || event.key === "=") this.in();
    else if (event.key === "-") this.out();
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }
}
