// The page: what was told last, what of it is shown, what is chosen.
import { Component, Icon, OUTSIDE, clock, html, isOpen, plural, render, span } from "./ui.js";
import { Details } from "./details.js";
import { Feed } from "./feed.js";
import { GraphView } from "./graph.js";
import { Findings, Namespaces, Traffic, Workloads } from "./tables.js";

const NOTHING = { nodes: [], edges: [], namespaces: [], issues: [] };
const TABS = ["graph", "traffic", "workloads", "namespaces", "findings"];
const THEMES = { "": "Auto", light: "Light", dark: "Dark" };

class Page extends Component {
  state = {
    moment: this.props.first,
    connected: true,
    paused: false,
    tab: "graph",
    chosen: null,
    focus: false,
    namespace: "",
    search: "",
    system: false,
    idle: true,
    theme: "",
  };

  componentDidMount() {
    this.feed = new Feed(
      (moment) => this.setState({ moment }),
      (connected) => this.state.connected !== connected && this.setState({ connected }),
    );
    document.addEventListener("keydown", this.onKey);
  }

  onKey = (event) => {
    if (event.key === "/" && !event.target.closest("input, select")) {
      event.preventDefault();
      this.searchField.focus();
    } else if (event.key === "Escape" && this.state.chosen) this.close();
  };

  choose = (id, focus = false) => {
    if (focus) this.opener = document.activeElement;
    this.setState({ chosen: id === this.state.chosen && !focus ? null : id, focus });
  };

  close = () => {
    const opener = this.opener;
    this.opener = null;
    this.setState({ chosen: null, focus: false }, () => opener?.isConnected && opener.focus({ preventScroll: true }));
  };

  pause = () => {
    this.feed.pause(!this.state.paused);
    this.setState({ paused: !this.state.paused });
  };

  setTheme = (theme) => {
    this.setState({ theme });
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };

  pick = (namespace) => this.setState({ namespace, tab: "graph" });

  // What is shown: workloads of the cluster itself only where they meet the rest.
  shown(graph) {
    const { namespace, system, idle } = this.state;
    const hidden = new Set(system ? [] : graph.namespaces.filter((line) => line.is_system).map((line) => line.name));
    const byId = new Map(graph.nodes.map((node) => [node.id, node]));
    const touched = new Set();
    for (const edge of graph.edges) {
      const ends = [edge.source, edge.destination].map((id) => byId.get(id).namespace);
      const matters = edge.lock !== "quiet" && !ends.every((name) => hidden.has(name) || !name);
      if (matters) touched.add(edge.source).add(edge.destination);
    }
    const inside = (id) => !namespace || byId.get(id).namespace === namespace;
    const beside = new Set(
      graph.edges.filter((edge) => inside(edge.source) || inside(edge.destination)).flatMap((edge) => [edge.source, edge.destination]),
    );
    const nodes = graph.nodes.filter(
      (node) =>
        (!hidden.has(node.namespace) || touched.has(node.id)) &&
        (inside(node.id) || beside.has(node.id)) &&
        (idle || touched.has(node.id)) &&
        (node.id !== OUTSIDE || touched.has(node.id) || idle),
    );
    const present = new Set(nodes.map((node) => node.id));
    const edges = graph.edges.filter(
      (edge) => present.has(edge.source) && present.has(edge.destination) && (inside(edge.source) || inside(edge.destination)) && (idle || edge.lock !== "quiet"),
    );
    return { byId, nodes, edges, found: this.found(nodes, edges) };
  }

  found(nodes, edges) {
    const wanted = this.state.search.trim().toLowerCase();
    if (!wanted) return null;
    const hits = nodes.filter((node) => node.id.toLowerCase().includes(wanted) || node.name.toLowerCase().includes(wanted)).map((node) => node.id);
    const found = new Set(hits);
    for (const edge of edges) if (hits.includes(edge.source) || hits.includes(edge.destination)) found.add(edge.id);
    return found;
  }

  render(_, { moment, tab, chosen, namespace, search, system, idle, theme, paused, connected, focus }) {
    const graph = moment?.graph ?? NOTHING;
    const { byId, nodes, edges, found } = this.shown(graph);
    const stale = Boolean(!connected || moment?.trouble || paused);
    const named = (item) => !found || found.has(item.id);
    const lines = new Map(graph.namespaces.map((line) => [line.name, line]));
    const names = graph.namespaces.filter((line) => system || !line.is_system || line.open_edges);
    const counts = { traffic: edges.length, workloads: nodes.length, namespaces: names.length, findings: graph.issues.length };
    const selected = TABS.indexOf(tab);
    const turn = (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = TABS[(selected + step + TABS.length) % TABS.length];
      this.setState({ tab: next }, () => document.getElementById(`tab-${next}`).focus());
    };
    return html`
      <header class="top">
        <h1><svg class="logo" aria-hidden="true"><use href="#icon-closed" /></svg> mutua <span>${moment?.cluster ?? ""}</span></h1>
        <${Answer} graph=${graph} moment=${moment} stale=${stale} />
        <div class="now">
          <span class=${`as-of ${stale ? "old" : ""}`} role="timer">${paused ? "Paused" : stale ? "Old" : "Live"}, as of <b>${clock(moment?.as_of)}</b></span>
          <button type="button" aria-pressed=${paused ? "true" : "false"} onClick=${this.pause}>${paused ? "Go on" : "Pause"}</button>
          <select aria-label="Colours" value=${theme} onChange=${(event) => this.setTheme(event.target.value)}>
            ${Object.entries(THEMES).map(([value, words]) => html`<option value=${value}>${words}</option>`)}
          </select>
        </div>
      </header>
      <${Banner} moment=${moment} connected=${connected} paused=${paused} />
      <nav class="bar" aria-label="What to show">
        <div role="tablist" aria-label="Views" onKeyDown=${turn}>
          ${TABS.map(
            (name) => html`<button type="button" role="tab" id=${`tab-${name}`} aria-controls="view" aria-selected=${name === tab ? "true" : "false"}
              tabindex=${name === tab ? 0 : -1} onClick=${() => this.setState({ tab: name })}>${name[0].toUpperCase() + name.slice(1)}${name in counts ? html` <span class="many">${counts[name]}</span>` : ""}</button>`,
          )}
        </div>
        <div class="filters">
          <label>Namespace
            <select value=${namespace} onChange=${(event) => this.setState({ namespace: event.target.value })}>
              <option value="">all</option>
              ${graph.namespaces.map((line) => html`<option value=${line.name}>${line.name}</option>`)}
            </select>
          </label>
          <input type="search" placeholder="Search ( / )" aria-label="Search for workloads" value=${search} maxlength="100"
            ref=${(field) => (this.searchField = field)} onInput=${(event) => this.setState({ search: event.target.value })} />
          <label title="Workloads and edges without traffic"><input type="checkbox" checked=${idle} onChange=${() => this.setState({ idle: !idle })} /> idle</label>
          <label title="Namespaces of the cluster and of the mesh itself"><input type="checkbox" checked=${system} onChange=${() => this.setState({ system: !system })} /> system</label>
        </div>
      </nav>
      <main class=${chosen ? "with-details" : ""}>
        <div class=${`view ${tab}`} id="view" role="tabpanel" aria-labelledby=${`tab-${tab}`} tabindex=${tab === "graph" ? undefined : 0}>
          ${!moment && html`<p class="empty">Reading the mesh …</p>`}
          ${moment && tab === "graph" && html`<${GraphView} shape=${`${namespace} ${idle} ${system}`} nodes=${nodes} edges=${edges} issues=${graph.issues} namespaces=${lines} chosen=${chosen} found=${found} stale=${stale} choose=${this.choose} />`}
          ${moment && tab === "traffic" && html`<${Traffic} edges=${edges.filter(named)} byId=${byId} chosen=${chosen} choose=${this.choose} />`}
          ${moment && tab === "workloads" && html`<${Workloads} nodes=${nodes.filter(named)} chosen=${chosen} choose=${this.choose} />`}
          ${moment && tab === "namespaces" && html`<${Namespaces} namespaces=${names} issues=${graph.issues} pick=${this.pick} />`}
          ${moment && tab === "findings" && html`<${Findings} issues=${graph.issues} />`}
        </div>
        ${chosen && moment && html`<${Details} chosen=${chosen} focus=${focus} graph=${graph} byId=${byId} moment=${moment} choose=${this.choose} close=${this.close} />`}
      </main>
    `;
  }
}

// The question that everybody comes with: is everything encrypted now?
const Answer = ({ graph, moment, stale }) => {
  const lively = graph.edges.filter((edge) => !["quiet", "refused", "failed", "leaves"].includes(edge.lock));
  const open = graph.edges.filter((edge) => isOpen(edge.lock));
  const window = span(moment?.window_seconds ?? 60);
  const [lock, words] = !moment?.as_of
    ? ["quiet", "Nothing is known yet"]
    : open.length
      ? ["open", `${open.length} of ${plural(lively.length, "edge")} ${open.length === 1 ? "carries" : "carry"} plaintext`]
      : lively.length
        ? ["closed", `Everything seen in ${window} is mutual TLS`]
        : ["quiet", `No traffic in the last ${window}`];
  return html`<p class=${`answer ${lock} ${stale ? "stale" : ""}`} role="status"><${Icon} name=${lock} /> ${words}</p>`;
};

// A command, or a sentence with commands in it.
const Hint = ({ text }) =>
  text.includes("`") ? text.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part)) : text && html`Try: <code>${text}</code>`;

const Banner = ({ moment, connected, paused }) => {
  const since = moment?.as_of ? `What you see is of ${clock(moment.as_of)}.` : "";
  if (!connected && !paused)
    return html`<div class="banner" role="alert"><b>\`mutua dashboard\` does not answer.</b> ${since} The page goes on by itself once it does.</div>`;
  if (moment?.trouble)
    return html`<div class="banner" role="alert"><b>${moment.trouble}.</b> ${since} <${Hint} text=${moment.hint} /></div>`;
  if (moment?.silent.length)
    return html`<div class="banner notice" role="status"><b>${plural(moment.silent.length, "sidecar")} did not tell what was counted since.</b> ${moment.silent.slice(0, 3).join("; ")}</div>`;
  return null;
};

const first = JSON.parse(document.getElementById("moment").textContent);
render(html`<${Page} first=${first} />`, document.getElementById("page"));
