// Starts what a page needs.

import * as charts from "./charts.js";
import * as forms from "./forms.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import * as theme from "./theme.js";
import { countTimes } from "./times.js";

theme.start();
keys.start();
forms.start();
countTimes();
setInterval(countTimes, 1000);
if (document.querySelector("[data-chart]")) charts.start();
if (document.querySelector("[data-graph]")) {
  const { GraphView } = await import("./graph.js");
  for (const element of document.querySelectorAll("[data-graph]")) {
    const view = new GraphView(element);
    live.follow(() => view.refresh());
    view.load();
  }
}
live.start();
document.body.dataset.ready = "yes";
