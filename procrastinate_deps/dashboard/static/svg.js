// Elements of SVG, made without markup: what a name holds is text, whatever it looks like.

const SPACE = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function use(symbol, x, y, size, css) {
  return svg("use", { href: `#${symbol}`, x, y, width: size, height: size, class: css });
}

const ruler = document.createElement("canvas").getContext("2d");

// As much of a text as there is room for.
export function cut(text, width, font) {
  ruler.font = font;
  if (ruler.measureText(text).width <= width) return text;
  let low = 0;
  let high = text.length;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (ruler.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}
