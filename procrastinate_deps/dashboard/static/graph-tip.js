// What is known of the job under the pointer.

import { duration, number } from "./times.js";

export class Tip {
  constructor(canvas) {
    this.nodes = new Map();
    this.element = document.createElement("div");
    this.element.className = "tip";
    this.element.hidden = true;
    document.body.append(this.element);
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => this.hide());
    canvas.addEventListener("pointerdown", () => this.hide());
  }

  know(nodes) {
    this.nodes = new Map(nodes.map((node) => [node.key, node]));
  }

  hide() {
    this.element.hidden = true;
  }

  move(event) {
    const node = this.nodes.get(event.target.closest?.("[data-node]")?.dataset.node);
    if (!node || event.buttons) {
      this.hide();
      return;
    }
    const lines = node.jobs > 1 ? this.group(node) : this.job(node);
    const title = document.createElement("b");
    title.textContent = lines.shift();
    this.element.replaceChildren(title, ...lines.flatMap((line, at) => (at ? [document.createElement("br"), line] : [line])));
    this.element.hidden = false;
    const box = this.element.getBoundingClientRect();
    this.element.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
    this.element.style.top = `${Math.min(event.clientY + 14, innerHeight - box.height - 8)}px`;
  }

  group(node) {
    const counts = Object.entries(node.counts).map(([status, count]) => `${number(count)} ${status}`);
    return [`${number(node.jobs)} jobs`, node.task, counts.join(", "), node.group ? "closed by a click" : "opened by a click"];
  }

  job(node) {
    const lines = [node.node ?? node.task, `job ${node.id}, ${node.status}`];
    if (node.node) lines.push(node.task);
    if (node.layer > 0) lines.push(`runs when ${node.run_when.replaceAll("_", " ")}`);
    if (node.run_s) lines.push(`ran for ${duration(node.run_s)}`);
    if (node.critical) lines.push("on the critical path");
    else if (node.slack_s && node.run_s) lines.push(`could have taken ${duration(node.slack_s)} longer`);
    if (node.why) lines.push(node.why);
    return lines;
  }
}
