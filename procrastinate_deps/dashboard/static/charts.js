// Reads the numbers under the pointer out of the table that belongs to the charts.

export function start() {
  document.addEventListener("pointermove", (event) => {
    const chart = event.target.closest?.("[data-chart]");
    for (const other of document.querySelectorAll("[data-chart]")) if (other !== chart) leave(other);
    if (chart) show(chart, event.clientX);
  });
}

function show(chart, x) {
  const svg = chart.querySelector(".plot > svg");
  const rows = document.querySelectorAll("[data-slots] tbody tr");
  const box = svg.getBoundingClientRect();
  const at = Math.floor(((x - box.left) / box.width) * rows.length);
  if (at < 0 || at >= rows.length) {
    leave(chart);
    return;
  }
  const cells = [...rows[at].cells].map((cell) => cell.textContent.trim());
  const words =
    chart.dataset.chart === "rate"
      ? `${cells[0]}: ${cells[1]} succeeded, ${cells[2]} failed`
      : `${cells[0]}: run ${cells[4]} (median ${cells[3]}), wait ${cells[6]}`;
  const readout = chart.querySelector("[data-readout]");
  if (!("usual" in readout.dataset)) readout.dataset.usual = readout.textContent;
  if (readout.textContent !== words) readout.textContent = words;
  const cursor = chart.querySelector("[data-cursor]");
  cursor.setAttribute("x", (at * 1000) / rows.length);
  cursor.setAttribute("width", 1000 / rows.length);
}

function leave(chart) {
  const readout = chart.querySelector("[data-readout]");
  if (readout && "usual" in readout.dataset) {
    readout.textContent = readout.dataset.usual;
    delete readout.dataset.usual;
  }
  chart.querySelector("[data-cursor]")?.setAttribute("width", 0);
}
