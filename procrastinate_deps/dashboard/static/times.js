// Times as how long ago they were, counted on while the page is open; clocks in the time zone of who looks.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export function ago(seconds) {
  for (const [size, unit] of UNITS) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return "0 s";
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const left = Math.max(0, seconds);
  if (left === 0) return "0 s";
  if (left < 0.00095) return "< 1 ms";
  if (left < 1) return `${Math.round(left * 1000)} ms`;
  if (left < 59.95) return `${left.toFixed(1)} s`;
  const whole = Math.round(left);
  for (let at = 0; at < UNITS.length - 1; at += 1) {
    const [size, unit] = UNITS[at];
    const [smaller, smallerUnit] = UNITS[at + 1];
    if (whole >= size) {
      const rest = Math.floor((whole % size) / smaller);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smallerUnit}` : ""}`;
    }
  }
  return `${whole} s`;
}

function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

export function countTimes() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[datetime]")) {
    const at = Date.parse(element.dateTime);
    if (Number.isNaN(at)) continue;
    if ("clock" in element.dataset) {
      put(element, new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false }));
      continue;
    }
    const distance = (now - at) / 1000;
    const words = ago(Math.abs(distance));
    put(element, words === "0 s" ? "now" : distance >= 0 ? `${words} ago` : `in ${words}`);
  }
  for (const element of document.querySelectorAll("[data-since]")) {
    put(element, duration((now - Date.parse(element.dataset.since)) / 1000));
  }
}

// With narrow spaces between thousands, as the server writes it.
export function number(value) {
  return value.toLocaleString("en").replaceAll(",", "\u202f");
}
