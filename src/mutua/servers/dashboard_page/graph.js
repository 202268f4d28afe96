// The picture: workloads in their namespaces, edges with locks; moved with the mouse or by keyboard.
import { Component, Icon, LOCKS, OUTSIDE, cut, gravest, html, lockWord, nodeState, perSecond, plural, textWidth } from "./ui.js";
import { LABEL, NODE, arrange, boxes, extent, keep, route } from "./layout.js";

const FAR = 0.5; // labels of what is well are left out
const TROUBLED = new Set(["open", "part", "refused"]);
const FARTHER = 0.28; // names too: what remains is colours, boxes and whatever is plaintext
const SCALE = { least: 0.05, most: 3 };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FONTS = { name: "600 16.5px", state: "14px", label: "600 13.5px", box: "600 16px" };

export class GraphView extends Component {
  view = { x: 0, y: 0, scale: 1 };
  arrangement = null;
  touched = false;
  state = { at: null };

  componentDidMount() {
    this.frame.addEventListener("wheel", this.onWheel, { passive: false });
    this.watcher = new ResizeObserver(() => this.resized());
    this.watcher.observe(this.frame);
    this.fit();
  }

  // The details beside it take room: then nothing moves, unless what was chosen would be hidden.
  resized() {
    if (this.props.chosen) this.reveal(this.props.chosen);
    else if (!this.touched) this.fit();
  }

  componentWillUnmount() {
    this.watcher.disconnect();
    this.frame.removeEventListener("wheel", this.onWheel);
  }

  componentDidUpdate(before) {
    const came = before.nodes.length === 0 && this.props.nodes.length > 0;
    if (before.shape !== this.props.shape || came || (!this.touched && this.fittedFor !== this.arrangedFor)) this.fit();
  }

  // Places are worked out anew only if somebody came or went.
  arranged() {
    const { nodes, edges } = this.props;
    const key = `${nodes.map((node) => node.id).join()}|${edges.map((edge) => edge.id).join()}`;
    if (key !== this.arrangedFor) {
      this.arrangement = this.arrangement ? keep(this.arrangement, nodes, edges) : arrange(nodes, edges);
      this.arrangedFor = key;
    }
    return this.arrangement;
  }

  rearrange = () => {
    this.arrangement = arrange(this.props.nodes, this.props.edges);
    this.forceUpdate(this.fit);
  };

  // While it moves, the picture is a layer of its own, which is cheap to shift; at rest it is drawn sharply again.
  moving() {
    this.frame.classList.add("moving");
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.frame.classList.remove("moving"), 200);
    this.apply();
  }

  apply() {
    const { x, y, scale } = this.view;
    // A transform outside of the SVG: its texts are not laid out anew with every step.
    this.plane.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.frame.classList.toggle("far", scale < FAR);
    this.frame.classList.toggle("farther", scale < FARTHER);
    if (scale >= FARTHER) return;
    for (const name of this.names.children) {
      const [left, top] = [Number(name.dataset.x) * scale + x, Number(name.dataset.y) * scale + y];
      name.style.transform = `translate(${left}px, ${top}px) translate(-50%, -50%)`;
    }
  }

  fit = () => {
    const { left, top, right, bottom } = extent(this.props.nodes, this.arranged().places);
    const { clientWidth: width, clientHeight: height } = this.frame;
    const scale = Math.min(1.25, width / (right - left), height / (bottom - top));
    this.view = { scale, x: (width - scale * (left + right)) / 2, y: (height - scale * (top + bottom)) / 2 };
    this.touched = false;
    this.fittedFor = this.arrangedFor;
    this.apply();
  };

  zoom(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const scale = Math.min(SCALE.most, Math.max(SCALE.least, this.view.scale * factor));
    const real = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real };
    this.touched = true;
    this.moving();
  }

  onWheel = (event) => {
    event.preventDefault();
    const box = this.frame.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  };

  onPointerDown = (event) => {
    if (event.button !== 0 || event.target.closest("[data-id]")) return;
    const start = { x: event.clientX - this.view.x, y: event.clientY - this.view.y };
    const move = (moved) => {
      this.view = { ...this.view, x: moved.clientX - start.x, y: moved.clientY - start.y };
      this.touched = true;
      this.moving();
    };
    const stop = () => {
      this.frame.removeEventListener("pointermove", move);
      this.frame.classList.remove("dragging");
    };
    this.frame.setPointerCapture(event.pointerId);
    this.frame.classList.add("dragging");
    this.frame.addEventListener("pointermove", move);
    this.frame.addEventListener("pointerup", stop, { once: true });
    this.frame.addEventListener("pointercancel", stop, { once: true });
  };

  // Everything that can be chosen, with its middle.
  spots() {
    const { places } = this.arranged();
    return [
      ...this.props.nodes.map((node) => ({ id: node.id, ...places.get(node.id) })),
      ...this.props.edges.map((edge) => ({ id: edge.id, ...route(edge, this.arrangement).label })),
    ];
  }

  onKeyDown = (event) => {
    const id = event.target.closest("[data-id]")?.dataset.id;
    if (event.key in STEPS && id) {
      event.preventDefault();
      this.step(id, STEPS[event.key]);
    } else if ((event.key === "Enter" || event.key === " ") && id) {
      event.preventDefault();
      this.props.choose(id, true);
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
      const action = { "+": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: this.fit, a: this.rearrange }[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    }
  };

  // The nearest in that direction, where being off the line counts more than being far.
  step(id, [dx, dy]) {
    const spots = this.spots();
    const from = spots.find((spot) => spot.id === id);
    let best = null;
    for (const spot of spots) {
      const along = (spot.x - from.x) * dx + (spot.y - from.y) * dy;
      const off = Math.abs((spot.x - from.x) * dy) + Math.abs((spot.y - from.y) * dx);
      const cost = along + 2.5 * off;
      if (spot.id !== id && along > 1 && (!best || cost < best.cost)) best = { ...spot, cost };
    }
    if (best) this.goTo(best.id);
  }

  goTo(id) {
    this.setState({ at: id }, () => {
      const found = [...this.plane.querySelectorAll("[data-id]")].find((each) => each.dataset.id === id);
      found?.focus({ preventScroll: true });
      this.reveal(id);
    });
  }

  reveal(id) {
    const spot = this.spots().find((each) => each.id === id);
    if (!spot) return;
    const { clientWidth: width, clientHeight: height } = this.frame;
    const [x, y] = [spot.x * this.view.scale + this.view.x, spot.y * this.view.scale + this.view.y];
    if (x > 60 && y > 40 && x < width - 60 && y < height - 40 && this.view.scale >= 0.3) return;
    const scale = Math.max(this.view.scale, 0.5);
    this.view = { scale, x: width / 2 - spot.x * scale, y: height / 2 - spot.y * scale };
    this.apply();
  }

  render({ nodes, edges, issues, namespaces, chosen, found, stale, choose }) {
    const arrangement = this.arranged();
    const around = [...boxes(nodes, arrangement.places)];
    const near = new Set(chosen ? [chosen, ...edges.filter((each) => touches(each, chosen)).flatMap(ends)] : []);
    const entry = this.state.at ?? chosen ?? nodes[0]?.id;
    const stop = [...nodes, ...edges].some((each) => each.id === entry) ? entry : nodes[0]?.id;
    const dim = (id) => (found && !found.has(id)) || (near.size && !near.has(id));
    const on = (id) => ({
      "data-id": id,
      tabindex: id === stop ? 0 : -1,
      role: "button",
      "aria-pressed": id === chosen ? "true" : "false",
      onClick: () => choose(id),
      onFocus: () => this.state.at !== id && this.setState({ at: id }),
    });
    return html`
      <div class=${`graph ${stale ? "stale" : ""}`}>
        <div
          class="frame"
          role="group"
          aria-label="Graph of workloads. Arrow keys go from one to the next, Enter shows details."
          ref=${(frame) => (this.frame = frame)}
          onPointerDown=${this.onPointerDown}
          onKeyDown=${this.onKeyDown}
        >
          <div class="plane" ref=${(plane) => (this.plane = plane)}>
          <svg width="1" height="1">
            <defs>
            ${LOCKS.map(
              (lock) => html`<marker
                id=${`arrow-${lock}`}
                class=${`arrow ${lock}`}
                viewBox="0 0 10 10"
                refX="9"
                refY="5"
                markerWidth="11"
                markerHeight="11"
                markerUnits="userSpaceOnUse"
                orient="auto"
              >
                <path d="M0,0.5 L10,5 L0,9.5 z" />
              </marker>`,
            )}
            </defs>
            ${around.map(([name, box]) => html`<${Box} key=${name} box=${box} />`)}
            ${[...edges].sort(byTrouble).map((edge) => html`<${Line} key=${edge.id} edge=${edge} at=${route(edge, arrangement)} dim=${dim(edge.id)} chosen=${edge.id === chosen} choose=${choose} />`)}
            ${around.map(([name, box]) => html`<${BoxName} key=${`name ${name}`} name=${name} box=${box} line=${namespaces.get(name)} />`)}
            ${nodes.map((node) => html`<${Workload} key=${node.id} node=${node} at=${arrangement.places.get(node.id)} dim=${dim(node.id)} on=${on(node.id)} issues=${issues} />`)}
            ${edges.map((edge) => html`<${Label} key=${`label ${edge.id}`} edge=${edge} at=${route(edge, arrangement).label} dim=${dim(edge.id)} on=${on(edge.id)} />`)}
          </svg>
          </div>
          <div class="far-names" aria-hidden="true" ref=${(names) => (this.names = names)}>
            ${around.map(([name, box]) => html`<${FarName} key=${name} name=${name} box=${box} />`)}
          </div>
        </div>
        <footer>
          <${Legend} />
          <div class="zoom" role="group" aria-label="View">
          <button type="button" onClick=${() => this.zoom(1.25)} title="Closer (+)" aria-label="Closer">+</button>
          <button type="button" onClick=${() => this.zoom(0.8)} title="Farther (-)" aria-label="Farther">−</button>
          <button type="button" onClick=${this.fit} title="All of it (0)">Fit</button>
          <button type="button" onClick=${this.rearrange} title="Find new places for everything (a)">Arrange</button>
          </div>
        </footer>
      </div>
    `;
  }
}

// Whatever is plaintext is drawn over what is not.
const byTrouble = (one, other) => TROUBLED.has(one.lock) - TROUBLED.has(other.lock);
const touches = (edge, id) => edge.id === id || edge.source === id || edge.destination === id;
const ends = (edge) => [edge.id, edge.source, edge.destination];

const Box = ({ box }) =>
  html`<rect class="box" x=${box.left} y=${box.top} width=${box.right - box.left} height=${box.bottom - box.top} rx="14" />`;

const BoxName = ({ name, box, line }) => html`
  <text class="box-name" x=${box.left + 16} y=${box.top + 25}>
    ${cut(name, FONTS.box, Math.max(60, box.right - box.left - 130))}<tspan class=${`mode-in-box ${line?.accepts.mode ?? ""}`} dx="10">${line?.accepts.mode ?? ""}</tspan>
  </text>
`;

const FarName = ({ name, box }) =>
  html`<span data-x=${(box.left + box.right) / 2} data-y=${(box.top + box.bottom) / 2}>${name}</span>`;

const width = (edge) => 1.6 + Math.min(3.4, Math.log10(1 + (edge.rates.count ?? 0)) * 1.4);

const Line = ({ edge, at, dim, chosen, choose }) => html`
  <g class=${`line ${edge.lock} ${dim ? "dim" : ""} ${chosen ? "chosen" : ""}`} onClick=${() => choose(edge.id)}>
    <path class="reach" d=${at.path} />
    <path class="drawn" d=${at.path} stroke-width=${width(edge)} marker-end=${`url(#arrow-${edge.lock})`} />
  </g>
`;

export function edgeName(edge) {
  const errors = edge.rates.errors ? `, ${perSecond(edge.rates.errors)} errors` : "";
  const name = (id) => (id === OUTSIDE ? "outside" : id);
  return `${name(edge.source)} to ${name(edge.destination)}: ${lockWord(edge)}, ${perSecond(edge.rates.count)} ${edge.unit}${errors}`;
}

function labelText(edge) {
  if (edge.lock === "refused") return edge.rates.refused === null ? "refused" : `refused ${perSecond(edge.rates.refused)}`;
  if (edge.lock === "quiet") return "";
  if (edge.lock === "failed") return `no answer ${perSecond(edge.rates.count)}`;
  const rate = edge.rates.count === null ? "" : perSecond(edge.rates.count);
  if (edge.lock === "closed" || edge.lock === "leaves") return rate;
  return edge.lock === "open" ? `plaintext ${rate}` : `${edge.mutual_tls_percent} % mTLS ${rate}`;
}

const Label = ({ edge, at, dim, on }) => {
  const text = labelText(edge);
  const errors = edge.rates.errors > 0 || edge.rates.denied > 0;
  const wide = text ? 29 + textWidth(text, FONTS.label) + (errors ? 22 : 11) : 31;
  return html`
    <g class=${`label ${edge.lock} ${dim ? "dim" : ""}`} transform=${`translate(${at.x} ${at.y})`} aria-label=${edgeName(edge)} ...${on}>
      <title>${edgeName(edge)}</title>
      <rect x=${-wide / 2} y=${-LABEL.height / 2} width=${wide} height=${LABEL.height} rx=${LABEL.height / 2} />
      <use href=${`#icon-${edge.lock}`} x=${-wide / 2 + 8} y="-7.5" width="15" height="15" />
      <text x=${-wide / 2 + 28} y="5">${text}</text>
      ${errors && html`<text class="errors" x=${wide / 2 - 14} y="5">!</text>`}
    </g>
  `;
};

const Workload = ({ node, at, dim, on, issues }) => {
  const state = nodeState(node);
  const grave = gravest(node.issues, issues);
  const pods = node.pods.length > 1 ? ` · ${plural(node.pods.length, "pod")}` : "";
  const spoken = `${node.name}${node.namespace ? ` in ${node.namespace}` : ""}: ${state.word}${pods}${grave ? `, ${plural(node.issues.length, "finding")}` : ""}`;
  const [left, top] = [-NODE.width / 2, -NODE.height / 2];
  const outside = node.kind === "outside";
  const inset = outside ? 46 : 17;
  return html`
    <g class=${`node ${node.kind} ${state.tone} ${dim ? "dim" : ""}`} transform=${`translate(${at.x} ${at.y})`} aria-label=${spoken} ...${on}>
      <title>${spoken}</title>
      <rect class="card" x=${left} y=${top} width=${NODE.width} height=${NODE.height} rx="9" />
      ${!outside && html`<rect class="edge-of-card" x=${left} y=${top} width="6" height=${NODE.height} rx="3" />`}
      ${outside && html`<use class="world" href="#icon-leaves" x=${left + 12} y=${top + 16} width="24" height="24" />`}
      <text class="name" x=${left + inset} y=${top + 25}>${cut(node.name, FONTS.name, NODE.width - inset - (grave ? 42 : 8))}</text>
      <text class="state" x=${left + inset} y=${top + 46}>${cut(state.word + pods, FONTS.state, NODE.width - inset - 6)}</text>
      ${grave &&
      html`<g class=${`badge ${grave}`} transform=${`translate(${-left - 19} ${top + 18})`}>
        <rect x="-14" y="-10" width="28" height="20" rx="10" />
        <text y="4.5">${node.issues.length}!</text>
      </g>`}
    </g>
  `;
};

const Legend = () => html`
  <ul class="legend" aria-label="Legend">
    ${[
      ["closed", "mutual TLS"],
      ["part", "partly plaintext"],
      ["open", "plaintext"],
      ["refused", "plaintext refused"],
      ["failed", "no answer"],
      ["leaves", "leaves the mesh"],
      ["quiet", "no traffic"],
    ].map(
      ([lock, words]) => html`<li class=${lock}>
        <svg class=${`sample line ${lock}`} viewBox="0 0 34 12" aria-hidden="true"><path class="drawn" d="M1,6H33" stroke-width="2.6" /></svg>
        <${Icon} name=${lock} /> ${words}
      </li>`,
    )}
    <li><b class="mark">!</b> errors or denials</li>
  </ul>
`;
