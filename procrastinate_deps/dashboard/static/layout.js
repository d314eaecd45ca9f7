// Where the boxes of a layered graph stand: layer after layer, few crossings, straight ways. Layers go to the right or
// downwards. Boxes that an edge passes over get a place for it to pass through, so that it goes around them.

export const BOX = { width: 208, height: 46 };
const LANE = 10;
const GAP = 16;
const SWEEPS = 6;
const MAX_LANES = 4000;
const RIGHT = { down: false, size: BOX.height, thickness: BOX.width, step: BOX.width + 92 };
const DOWN = { down: true, size: BOX.width, thickness: BOX.height, step: BOX.height + 54 };

// In the direction in which it is seen larger.
export function layOut(nodes, edges, room) {
  const fits = (layout) => Math.min(room.width / layout.width, room.height / layout.height);
  const right = layOutIn(RIGHT, nodes, edges);
  if (fits(right) >= 0.75) return right;
  const down = layOutIn(DOWN, nodes, edges);
  return fits(down) > fits(right) * 1.15 ? down : right;
}

function layOutIn(direction, nodes, edges) {
  const layers = [];
  const places = new Map();
  for (const node of nodes) {
    const place = { key: node.key, layer: node.layer, size: direction.size, before: [], after: [], at: 0 };
    places.set(node.key, place);
    (layers[node.layer] ??= []).push(place);
  }
  // Layers that nobody is in (they were drawn together) take no room.
  const used = layers.filter(Boolean);
  used.forEach((layer, at) => {
    for (const place of layer) place.layer = at;
  });
  const lanes = { left: MAX_LANES };
  const ways = edges.map((edge) => route(edge, places, used, lanes));
  order(used);
  straighten(used);
  const positions = new Map();
  let across = 0;
  for (const place of places.values()) {
    const along = place.layer * direction.step;
    positions.set(place.key, direction.down ? { x: place.at, y: along } : { x: along, y: place.at });
    across = Math.max(across, place.at + place.size);
  }
  const along = Math.max(direction.thickness, used.length * direction.step - (direction.step - direction.thickness));
  return {
    positions,
    paths: ways.map((way) => draw(way, direction)),
    width: direction.down ? across : along,
    height: direction.down ? along : across,
    down: direction.down,
  };
}

function route(edge, places, layers, lanes) {
  const from = places.get(edge.from);
  const to = places.get(edge.to);
  const way = [from];
  let last = from;
  if (to.layer - from.layer > 1 && lanes.left > 0) {
    for (let layer = from.layer + 1; layer < to.layer; layer += 1) {
      lanes.left -= 1;
      const lane = { layer, size: LANE, before: [last], after: [], at: 0 };
      last.after.push(lane);
      layers[layer].push(lane);
      way.push(lane);
      last = lane;
    }
  }
  last.after.push(to);
  to.before.push(last);
  way.push(to);
  return way;
}

function order(layers) {
  const number = (layer) => layer.forEach((place, rank) => (place.rank = rank));
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      for (const place of layer) {
        const others = down ? place.before : place.after;
        place.wish = others.length ? others.reduce((sum, other) => sum + other.rank, 0) / others.length : place.rank;
      }
      layer.sort((a, b) => a.wish - b.wish || a.rank - b.rank);
      number(layer);
    }
  }
}

function straighten(layers) {
  for (const layer of layers) {
    let at = 0;
    for (const place of layer) {
      place.at = at;
      at += place.size + GAP;
    }
  }
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    for (const layer of down ? layers : [...layers].reverse()) {
      settle(layer, (place) => {
        const others = down ? place.before : place.after;
        const near = others.length ? others : down ? place.after : place.before;
        return near.length
          ? near.reduce((sum, other) => sum + other.at + other.size / 2, 0) / near.length - place.size / 2
          : place.at;
      });
    }
  }
  let first = Infinity;
  for (const layer of layers) for (const place of layer) first = Math.min(first, place.at);
  for (const layer of layers) for (const place of layer) place.at -= first;
}

// As near as can be to where each wishes to stand, in their order and not on each other: neighbours that would
// overlap are moved as one block to the mean of their wishes.
function settle(layer, wish) {
  const blocks = [];
  let offset = 0;
  for (const place of layer) {
    let block = { sum: wish(place) - offset, count: 1, places: [{ place, offset }] };
    offset += place.size + GAP;
    while (blocks.length && blocks.at(-1).sum / blocks.at(-1).count > block.sum / block.count) {
      const before = blocks.pop();
      block = { sum: before.sum + block.sum, count: before.count + block.count, places: before.places.concat(block.places) };
    }
    blocks.push(block);
  }
  for (const block of blocks) {
    for (const each of block.places) each.place.at = block.sum / block.count + each.offset;
  }
}

function draw(way, { down, step, thickness }) {
  const point = (along, across) => (down ? `${round(across)} ${round(along)}` : `${round(along)} ${round(across)}`);
  const middle = (place) => place.at + place.size / 2;
  let along = way[0].layer * step + thickness;
  let across = middle(way[0]);
  let path = `M${point(along, across)}`;
  way.slice(1).forEach((place, index) => {
    const toAlong = place.layer * step;
    const toAcross = middle(place);
    const bend = (toAlong - along) / 2;
    path += `C${point(along + bend, across)} ${point(toAlong - bend, toAcross)} ${point(toAlong, toAcross)}`;
    if (index < way.length - 2) {
      along = toAlong + thickness;
      across = toAcross;
      path += `L${point(along, across)}`;
    }
  });
  return path;
}

function round(value) {
  return Math.round(value * 10) / 10;
}
