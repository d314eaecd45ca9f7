// The jobs of a graph on a time line: when each waited, and when it ran.

import { label } from "./graph-boxes.js";
import { cut, svg, use } from "./svg.js";
import { duration, number } from "./times.js";

const ROW = 24;
const HEAD = 26;
const MAX_ROWS = 600;
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800];

export function drawTime(canvas, data, root) {
  const at = (text) => (text ? Date.parse(text) / 1000 : null);
  const rows = data.nodes
    .map((node) => ({ node, ready: at(node.ready_at ?? node.created_at), created: at(node.created_at), started: at(node.started_at), ended: at(node.ended_at) }))
    .sort((a, b) => (a.started ?? Infinity) - (b.started ?? Infinity) || a.created - b.created || a.node.layer - b.node.layer)
    .slice(0, MAX_ROWS);
  const starts = rows.map((row) => row.started).filter((each) => each !== null);
  const now = at(data.now);
  const from = starts.length ? Math.min(...starts) : Math.min(...rows.map((row) => row.created));
  const to = Math.max(from + 0.01, ...rows.map((row) => row.ended ?? row.started ?? from));
  const width = Math.max(canvas.clientWidth - 4, 320);
  const names = Math.min(230, width * 0.36);
  const span = width - names - 24;
  const x = (moment) => names + (Math.max(0, Math.min(moment, to) - from) / (to - from)) * span;
  const height = HEAD + rows.length * ROW + 8;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "list", "aria-label": "Time line" });
  drawing.append(...ticks(from, to, x, height));
  rows.forEach((row, index) => drawing.append(line(row, index, { x, width, names, from, now, root })));
  const scrolled = canvas.scrollTop;
  canvas.replaceChildren(drawing);
  canvas.scrollTop = scrolled;
}

function ticks(from, to, x, height) {
  const most = Math.max(2, Math.floor((x(to) - x(from)) / 72));
  const step = STEPS.find((each) => (to - from) / each <= most) ?? 604800;
  const found = [];
  for (let seconds = 0; seconds <= to - from + step / 1000; seconds += step) {
    const place = x(from + seconds);
    found.push(
      svg(
        "g",
        { class: "tick" },
        svg("line", { x1: place, x2: place, y1: HEAD - 6, y2: height }),
        svg("text", { x: place, y: 14, "text-anchor": seconds === 0 ? "start" : "middle" }, seconds === 0 ? "0" : duration(seconds).replace(".0 s", " s")),
      ),
    );
  }
  return found;
}

function line({ node, ready, started, ended }, index, { x, width, names, from, root }) {
  const y = HEAD + index * ROW;
  const group = node.jobs > 1;
  const name = group ? `${number(node.jobs)} × ${node.task.split(".").at(-1)}` : (node.node ?? node.task.split(".").at(-1));
  const parts = [
    svg("rect", { class: index % 2 ? "lane odd" : "lane", x: 0, y, width, height: ROW }),
    use(`s-${node.status}`, 8, y + 5, 14, "glyph"),
    svg("text", { x: 28, y: y + 16 }, cut(name, names - 36, "12px system-ui, sans-serif")),
  ];
  if (started !== null) {
    if (started > ready && !group) parts.push(svg("rect", { class: "waiting", x: x(ready), y: y + 11, width: Math.max(0, x(started) - x(ready)), height: 2 }));
    parts.push(svg("rect", { class: "run", x: x(started), y: y + 6, width: Math.max(2, x(ended ?? started) - x(started)), height: 12, rx: 3 }));
  }
  const css = `time-row node st-${node.status}${node.critical ? " critical" : ""}`;
  const attributes = { class: css, "data-node": node.key, "aria-label": label(node) };
  return group
    ? svg("g", { ...attributes, tabindex: 0, role: "button", "data-open": node.group ?? node.key }, ...parts)
    : svg("a", { ...attributes, href: `${root}/jobs/${node.id}` }, ...parts);
}
