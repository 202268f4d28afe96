// Where things are. Whoever has a place keeps it from one update to the next; newcomers find room beside the others.
import { Graph, layout } from "./dagre.js";

export const NODE = { width: 182, height: 60 };
export const LABEL = { height: 27 };
const LABEL_WIDTHS = { closed: 84, part: 140, open: 128, refused: 114, failed: 128, leaves: 84, quiet: 31 };
const PADDING = { side: 18, top: 40, bottom: 16 };
const GAP = 28;
const ROOM = 24; // around each workload, so that boxes and their names fit between
const ALONE_IN_A_ROW = 4;
const TOGETHER_AT_MOST = 60;
const WIDE = 1300;
const ASPECT = 3.2;

const groupOf = (node) => `namespace ${node.namespace}`;

// Everything anew: layers from callers to called, with namespaces as boxes. Same input, same picture.
export function arrange(nodes, edges) {
  const present = new Set(nodes.map((node) => node.id));
  const drawn = edges.filter((edge) => present.has(edge.source) && present.has(edge.destination));
  return nodes.length > TOGETHER_AT_MOST ? byNamespace(nodes, drawn) : together(nodes, drawn);
}

// All namespaces in one flow, as long as it can be taken in at a glance; those without traffic below it.
function together(nodes, edges) {
  const connected = new Set(edges.flatMap((edge) => [edge.source, edge.destination]));
  const lively = new Set(nodes.filter((node) => connected.has(node.id)).map((node) => node.namespace));
  const { places, routes } = flow(nodes.filter((node) => lively.has(node.namespace)), edges);
  const rest = groups(nodes.filter((node) => !lively.has(node.namespace)));
  const [below, width] = places.size
    ? [extent(nodes, places).bottom, Math.max(extent(nodes, places).right - extent(nodes, places).left, WIDE)]
    : [0, WIDE];
  pack(rest.map((group) => flow(group, [])), below, width, places, routes);
  return { places, routes };
}

// Every namespace on its own, callers of other namespaces first, and their boxes in rows: many fit on one screen.
function byNamespace(nodes, edges) {
  const home = new Map(nodes.map((node) => [node.id, node.namespace]));
  const calls = new Map();
  for (const edge of edges) {
    const [from, to] = [home.get(edge.source), home.get(edge.destination)];
    if (from === to) continue;
    calls.set(from, (calls.get(from) ?? 0) + 1);
    calls.set(to, (calls.get(to) ?? 0) - 1);
  }
  const blocks = groups(nodes)
    .sort((one, other) => (calls.get(other[0].namespace) ?? 0) - (calls.get(one[0].namespace) ?? 0))
    .map((group) => {
      const name = group[0].namespace;
      return flow(group, edges.filter((edge) => home.get(edge.source) === name && home.get(edge.destination) === name));
    });
  const area = blocks.reduce((sum, block) => sum + block.width * block.height, 0);
  const widest = Math.max(...blocks.map((block) => block.width));
  const result = { places: new Map(), routes: new Map() };
  pack(blocks, 0, Math.max(widest, Math.sqrt(area * ASPECT)), result.places, result.routes);
  return result;
}

// One flow of layers, with the size of it.
function flow(nodes, edges) {
  const graph = new Graph({ multigraph: true, compound: true });
  graph.setGraph({ rankdir: "LR", nodesep: 12, ranksep: 50, edgesep: 16, marginx: 20, marginy: 20, ranker: "tight-tree" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) {
    graph.setNode(node.id, { width: NODE.width, height: NODE.height + ROOM });
    if (!node.namespace) continue;
    graph.setNode(groupOf(node), {});
    graph.setParent(node.id, groupOf(node));
  }
  for (const edge of edges)
    graph.setEdge(edge.source, edge.destination, { width: LABEL_WIDTHS[edge.lock], height: LABEL.height, labelpos: "c" }, edge.id);
  // Whoever calls nobody stands in rows: an edge that is never drawn holds the neighbours together.
  const connected = new Set(edges.flatMap((edge) => [edge.source, edge.destination]));
  const idle = nodes.filter((node) => !connected.has(node.id));
  const row = Math.max(ALONE_IN_A_ROW, Math.ceil(Math.sqrt(idle.length)));
  for (const [index, node] of idle.entries()) {
    const next = idle[index + 1];
    if (next?.namespace === node.namespace && (index + 1) % row) graph.setEdge(node.id, next.id, { weight: 0 }, "row");
  }
  if (nodes.length) layout(graph);
  const places = new Map(nodes.map(({ id }) => [id, { x: graph.node(id).x, y: graph.node(id).y }]));
  const routes = new Map();
  for (const edge of edges) {
    const found = graph.edge(edge.source, edge.destination, edge.id);
    routes.set(edge.id, { points: found.points, label: { x: found.x, y: found.y } });
  }
  const { left, right, top, bottom } = extent(nodes, places);
  return { places, routes, left, top, width: right - left, height: bottom - top };
}

// Puts blocks in rows of at most that width, below a line.
function pack(blocks, line, width, places, routes) {
  let [x, y, tallest] = [0, line, 0];
  for (const block of blocks) {
    if (x > 0 && x + block.width > width) [x, y, tallest] = [0, y + tallest, 0];
    const [dx, dy] = [x - block.left, y - block.top];
    const moved = (point) => ({ x: point.x + dx, y: point.y + dy });
    for (const [id, place] of block.places) places.set(id, moved(place));
    for (const [id, found] of block.routes) routes.set(id, { points: found.points.map(moved), label: moved(found.label) });
    x += block.width;
    tallest = Math.max(tallest, block.height);
  }
}

function groups(nodes) {
  const found = new Map();
  for (const node of nodes) found.set(node.namespace, [...(found.get(node.namespace) ?? []), node]);
  return [...found.values()];
}

// What changed since: places of before, and a free one for each newcomer. Routes of whoever had to move are forgotten.
export function keep(before, nodes, edges) {
  const here = new Set(nodes.map((node) => node.id));
  const places = new Map([...before.places].filter(([id]) => here.has(id)));
  const newcomers = nodes.filter((node) => !places.has(node.id));
  if (newcomers.length > places.size) return arrange(nodes, edges);
  const moved = new Set();
  for (const node of newcomers) {
    const group = nodes.filter((each) => each.namespace === node.namespace && places.has(each.id));
    places.set(node.id, group.length ? below(group, places) : corner(places));
    separate(nodes, places, node.namespace, moved);
  }
  const routes = new Map(
    edges
      .filter((edge) => before.routes.has(edge.id) && !moved.has(edge.source) && !moved.has(edge.destination))
      .map((edge) => [edge.id, before.routes.get(edge.id)]),
  );
  return { places, routes };
}

// The boxes around namespaces, by name.
export function boxes(nodes, places) {
  const found = new Map();
  for (const node of nodes) {
    const place = places.get(node.id);
    if (!node.namespace || !place) continue;
    const box = found.get(node.namespace) ?? { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
    box.left = Math.min(box.left, place.x - NODE.width / 2 - PADDING.side);
    box.right = Math.max(box.right, place.x + NODE.width / 2 + PADDING.side);
    box.top = Math.min(box.top, place.y - NODE.height / 2 - PADDING.top);
    box.bottom = Math.max(box.bottom, place.y + NODE.height / 2 + PADDING.bottom);
    found.set(node.namespace, box);
  }
  return found;
}

export function extent(nodes, places) {
  const all = nodes.map((node) => places.get(node.id)).filter(Boolean);
  if (!all.length) return { left: 0, top: 0, right: 600, bottom: 300 };
  const margin = PADDING.top + 8;
  return {
    left: Math.min(...all.map((place) => place.x)) - NODE.width / 2 - margin,
    right: Math.max(...all.map((place) => place.x)) + NODE.width / 2 + margin,
    top: Math.min(...all.map((place) => place.y)) - NODE.height / 2 - margin,
    bottom: Math.max(...all.map((place) => place.y)) + NODE.height / 2 + margin,
  };
}

// The way of an edge as an SVG path, and where its label is.
export function route(edge, arrangement) {
  const known = arrangement.routes.get(edge.id);
  const from = arrangement.places.get(edge.source);
  const to = arrangement.places.get(edge.destination);
  if (known) {
    const between = known.points.slice(1, -1);
    const points = [border(from, between[0] ?? to), ...between, border(to, between.at(-1) ?? from)];
    return { path: smooth(points), label: known.label };
  }
  if (edge.source === edge.destination) return loop(from);
  const forward = to.x - from.x > NODE.width;
  const start = { x: from.x + NODE.width / 2, y: from.y };
  const end = { x: to.x + (forward ? -1 : 1) * (NODE.width / 2), y: to.y };
  const reach = Math.max(60, Math.abs(end.x - start.x) / 2);
  const first = { x: start.x + reach, y: start.y };
  const second = { x: end.x + (forward ? -reach : reach), y: end.y };
  return {
    path: `M${start.x},${start.y}C${first.x},${first.y} ${second.x},${second.y} ${end.x},${end.y}`,
    label: {
      x: (start.x + 3 * first.x + 3 * second.x + end.x) / 8,
      y: (start.y + 3 * first.y + 3 * second.y + end.y) / 8,
    },
  };
}

// Where a line from the middle of a workload to a point leaves its card.
function border(place, point) {
  const [dx, dy] = [point.x - place.x, point.y - place.y];
  const part = Math.min(NODE.width / 2 / (Math.abs(dx) || 1e-9), NODE.height / 2 / (Math.abs(dy) || 1e-9), 1);
  return { x: place.x + dx * part, y: place.y + dy * part };
}

function loop(place) {
  const x = place.x + NODE.width / 2;
  return {
    path: `M${x},${place.y - 12}C${x + 90},${place.y - 40} ${x + 90},${place.y + 40} ${x},${place.y + 12}`,
    label: { x: x + 68, y: place.y },
  };
}

// A cubic B-spline through the route's corners, as d3's curveBasis draws it.
function smooth(points) {
  const [first, ...rest] = points;
  if (rest.length < 2) return `M${first.x},${first.y}` + rest.map((each) => `L${each.x},${each.y}`).join("");
  const at = (a, b, c, d) => ({ x: a * b.x + c * d.x, y: a * b.y + c * d.y });
  let path = `M${first.x},${first.y}`;
  let [before, current] = [first, points[1]];
  const start = at(5 / 6, before, 1 / 6, current);
  path += `L${start.x},${start.y}`;
  for (const next of [...points.slice(2), points.at(-1)]) {
    const one = at(2 / 3, before, 1 / 3, current);
    const two = at(1 / 3, before, 2 / 3, current);
    const end = { x: (before.x + 4 * current.x + next.x) / 6, y: (before.y + 4 * current.y + next.y) / 6 };
    path += `C${one.x},${one.y} ${two.x},${two.y} ${end.x},${end.y}`;
    [before, current] = [current, next];
  }
  return `${path}L${points.at(-1).x},${points.at(-1).y}`;
}

const below = (group, places) => {
  const lowest = group.map((node) => places.get(node.id)).reduce((one, other) => (other.y > one.y ? other : one));
  return { x: lowest.x, y: lowest.y + NODE.height + GAP };
};

const corner = (places) => {
  const all = [...places.values()];
  if (!all.length) return { x: 0, y: 0 };
  return {
    x: Math.min(...all.map((place) => place.x)),
    y: Math.max(...all.map((place) => place.y)) + NODE.height + PADDING.top + PADDING.bottom + GAP,
  };
};

// A box that grew pushes down those that it would cover, and they the next.
function separate(nodes, places, grown, moved) {
  const pushed = [grown];
  for (const name of pushed) {
    const found = boxes(nodes, places);
    const box = found.get(name);
    if (!box) continue;
    for (const [other, its] of found) {
      if (other === name || pushed.includes(other)) continue;
      if (its.left < box.right && box.left < its.right && its.top < box.bottom && box.top < its.bottom) {
        for (const node of nodes.filter((each) => each.namespace === other && places.has(each.id))) {
          const place = places.get(node.id);
          places.set(node.id, { x: place.x, y: place.y + box.bottom - its.top + GAP });
          moved.add(node.id);
        }
        pushed.push(other);
      }
    }
  }
}
