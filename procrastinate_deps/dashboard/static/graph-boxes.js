// The boxes and arrows of a graph.

import { BOX } from "./layout.js";
import { cut, svg, use } from "./svg.js";
import { duration, number } from "./times.js";

const TITLE = "600 12px system-ui, sans-serif";
const SUB = "11px system-ui, sans-serif";
const ORDER = ["succeeded", "failed", "aborted", "cancelled", "doing", "todo", "blocked"];

export function drawGraph(data, layout, root) {
  const edges = new Map();
  const nodes = new Map();
  const lower = svg("g", {});
  const upper = svg("g", {});
  data.edges.forEach((edge, at) => {
    const path = svg("path", { class: edgeClass(edge), d: layout.paths[at], "marker-end": "url(#arrow)" });
    edges.set(`${edge.from} ${edge.to}`, path);
    lower.append(path);
  });
  for (const node of data.nodes) {
    const element = box(node, root);
    const { x, y } = layout.positions.get(node.key);
    element.setAttribute("transform", `translate(${x} ${Math.round(y)})`);
    nodes.set(node.key, element);
    upper.append(element);
  }
  const arrow = svg(
    "marker",
    { id: "arrow", viewBox: "0 0 8 8", refX: 7.2, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { class: "arrow", d: "M0.5 0.8L7.5 4L0.5 7.2z" }),
  );
  return { group: svg("g", {}, svg("defs", {}, arrow), lower, upper), nodes, edges, root };
}

export function updateGraph(drawn, data) {
  for (const node of data.nodes) {
    const old = drawn.nodes.get(node.key);
    if (old.dataset.state === state(node)) continue;
    const element = box(node, drawn.root);
    element.setAttribute("transform", old.getAttribute("transform"));
    const focused = document.activeElement === old;
    old.replaceWith(element);
    if (focused) element.focus();
    drawn.nodes.set(node.key, element);
  }
  for (const edge of data.edges) {
    const path = drawn.edges.get(`${edge.from} ${edge.to}`);
    const css = edgeClass(edge);
    if (path.getAttribute("class") !== css) path.setAttribute("class", css);
  }
}

// One arrow may stand for thousands: a few that decided against a job don't make all of them red.
function edgeClass(edge) {
  const kind = edge.deciding * 2 > edge.count ? "deciding" : edge.unmet ? "unmet" : "met";
  return `edge ${kind}${edge.critical ? " critical" : ""}`;
}

function state(node) {
  return JSON.stringify([node.status, node.counts, node.why, node.critical, node.doomed, took(node)]);
}

function took(node) {
  return node.run_s && node.status !== "doing" ? duration(node.run_s) : "";
}

function box(node, root) {
  const group = node.jobs > 1;
  const css = ["node", `st-${node.status}`];
  if (group) css.push("group");
  if (node.critical) css.push("critical");
  if (node.doomed) css.push("doomed");
  if (node.focus) css.push("focus");
  const parts = group ? groupParts(node) : jobParts(node);
  const frame = [
    group ? svg("rect", { class: "back", x: 4, y: 4, width: BOX.width, height: BOX.height, rx: 8 }) : null,
    svg("rect", { class: "box", width: BOX.width, height: BOX.height, rx: 8 }),
    svg("rect", { class: "side", x: 0.7, y: 8, width: 4, height: BOX.height - 16, rx: 2 }),
    use(`s-${node.status}`, 13, 8, 15, node.status === "doing" ? "glyph turn" : "glyph"),
    ...parts,
  ];
  const attributes = { class: css.join(" "), "data-node": node.key, "aria-label": label(node) };
  const element = group
    ? svg("g", { ...attributes, tabindex: 0, role: "button", "data-open": openKey(node) }, ...frame)
    : svg("a", { ...attributes, href: `${root}/jobs/${node.id}`, draggable: "false" }, ...frame);
  element.dataset.state = state(node);
  return element;
}

// The rest of an opened group closes it.
function openKey(node) {
  return node.group ?? node.key;
}

export function label(node) {
  if (node.jobs > 1) return `${node.jobs} jobs of ${node.task}, ${node.status}`;
  return `${node.node ?? node.task}, job ${node.id}, ${node.status}${node.why ? `, ${node.why}` : ""}`;
}

function shortTask(task) {
  return task.split(".").at(-1);
}

function jobParts(node) {
  const title = node.node ?? shortTask(node.task);
  const below = node.why ?? [`#${node.id}`, node.node ? shortTask(node.task) : "", took(node)].filter(Boolean).join(" · ");
  return [
    svg("text", { class: "title", x: 34, y: 19 }, cut(title, BOX.width - 44, TITLE)),
    svg("text", { class: node.why ? "fate" : "sub", x: 34, y: 35 }, cut(below, BOX.width - 44, SUB)),
  ];
}

function groupParts(node) {
  const width = BOX.width - 46;
  const count = number(node.jobs);
  const parts = [
    svg("text", { class: "title", x: 34, y: 19 }, cut(`${count} × ${shortTask(node.task)}`, BOX.width - 44, TITLE)),
    svg("rect", { class: "rest", x: 34, y: 29, width, height: 6, rx: 3 }),
  ];
  let x = 34;
  for (const status of ORDER) {
    const share = ((node.counts[status] ?? 0) / node.jobs) * width;
    if (share && status !== "todo" && status !== "blocked") {
      parts.push(svg("rect", { class: `fill-${status}`, x, y: 29, width: share, height: 6 }));
    }
    x += share;
  }
  return parts;
}
