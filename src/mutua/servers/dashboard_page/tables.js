// The same as the picture, and more, as tables.
import {
  Decider, LOCKS, Lock, Mode, OUTSIDE, count, host, html, isOpen, milliseconds, nodeState, number, objectName, percent, perSecond,
  severityTone, when,
} from "./ui.js";

const Table = ({ caption, head, rows, empty }) =>
  rows.length === 0
    ? html`<p class="empty">${empty}</p>`
    : html`<table>
        <caption>${caption}</caption>
        <thead><tr>${head.map(([name, kind]) => html`<th scope="col" class=${kind ?? ""}>${name}</th>`)}</tr></thead>
        <tbody>${rows}</tbody>
      </table>`;

const nameOf = (id, byId) => {
  const node = byId.get(id);
  return id === OUTSIDE || !node ? (node?.name ?? id) : html`${node.name} <span class="quiet">${node.namespace}</span>`;
};

export const Traffic = ({ edges, byId, choose, chosen }) => {
  const order = [...edges].sort(
    (one, other) => LOCKS.indexOf(one.lock) - LOCKS.indexOf(other.lock) || (other.rates.count ?? 0) - (one.rates.count ?? 0),
  );
  return html`<${Table}
    caption="Who calls whom, what is not mutual TLS first"
    empty="No traffic was seen yet."
    head=${[["From"], ["To"], ["Protection"], ["Rate", "number"], ["Errors", "number"], ["Denied", "number"], ["Refused", "number"], ["Mean", "number"], ["Ports"]]}
    rows=${order.map(
      (edge) => html`<tr key=${edge.id} class=${edge.id === chosen ? "chosen" : ""} data-edge=${edge.id} onClick=${() => choose(edge.id)}>
        <td>${nameOf(edge.source, byId)}</td>
        <td>${nameOf(edge.destination, byId)}</td>
        <td><button type="button" onClick=${(event) => (event.stopPropagation(), choose(edge.id, true))}><${Lock} item=${edge} /></button></td>
        <${Rate} value=${edge.rates.count} />
        <td class=${`number ${edge.rates.errors > 0 ? "bad" : "quiet"}`}>${edge.rates.count > 0 ? percent(edge.rates.errors, edge.rates.count) : "–"}</td>
        <${Rate} value=${edge.rates.denied} tone="doubt" />
        <${Rate} value=${edge.rates.refused} tone="doubt" />
        <td class="number">${milliseconds(edge.rates.milliseconds)}</td>
        <td class="quiet">${ports(edge)}</td>
      </tr>`,
    )}
  />`;
};

const Rate = ({ value, tone = "" }) => html`<td class=${`number ${value ? tone : "quiet"}`}>${perSecond(value)}</td>`;

const ports = (edge) => {
  // Whoever leaves the mesh for a host that nobody configured goes to no port that is known.
  const all = [...new Set(edge.ways.filter((way) => way.service || way.port).map((way) => `${host(way.service) || "pod"}:${way.port}`))];
  return all.slice(0, 3).join(", ") + (all.length > 3 ? `, and ${all.length - 3} more` : "");
};

export const Workloads = ({ nodes, choose, chosen }) => html`<${Table}
  caption="Workloads"
  empty="No workload matches."
  head=${[["Namespace"], ["Workload"], ["Accepts"], ["Decided by"], ["Pods", "number"], ["With sidecar", "number"], ["Certificate ends"], ["Findings", "number"]]}
  rows=${nodes.map((node) => {
    const state = nodeState(node);
    const ends = node.pods.map((pod) => pod.certificate?.not_after).filter(Boolean).sort();
    return html`<tr key=${node.id} class=${node.id === chosen ? "chosen" : ""} onClick=${() => choose(node.id)}>
      <td class="quiet">${node.namespace}</td>
      <td><button type="button" onClick=${(event) => (event.stopPropagation(), choose(node.id, true))}>${node.name}</button> <span class="quiet">${node.kind}</span></td>
      <td><span class=${`tone ${state.tone}`}>${state.word}</span></td>
      <td>${node.accepts.length > 0 && html`<${Decider} by=${node.accepts[0].decided_by} short />`}</td>
      <td class="number">${node.pods.length}</td>
      <td class="number">${node.pods.filter((pod) => pod.sidecar).length}</td>
      <td>${ends.length ? when(ends[0]) : "–"}</td>
      <td class="number">${node.issues.length || ""}</td>
    </tr>`;
  })}
/>`;

export const Namespaces = ({ namespaces, issues, pick }) => html`<${Table}
  caption="Namespaces"
  empty="No namespace matches."
  head=${[["Namespace"], ["Injection"], ["Mode"], ["Decided by"], ["Workloads", "number"], ["Pods with sidecar", "number"], ["Edges", "number"], ["With plaintext", "number"], ["Findings"]]}
  rows=${namespaces.map(
    (line) => html`<tr key=${line.name}>
      <td><button type="button" onClick=${() => pick(line.name)} title="Show this namespace only">${line.name}</button></td>
      <td class=${line.injection ? "" : "quiet"}>${line.injection || "not asked for"}</td>
      <td><${Mode} mode=${line.accepts.mode} />${line.other_modes.map((mode) => html` <span class="quiet">+</span> <${Mode} mode=${mode} />`)}</td>
      <td><${Decider} by=${line.accepts.decided_by} short /></td>
      <td class="number">${line.workloads}</td>
      <td class=${`number ${line.pods_with_sidecar < line.pods && !line.is_system ? "doubt" : ""}`}>${line.pods_with_sidecar} of ${line.pods}</td>
      <td class="number">${line.edges}</td>
      <td class=${`number ${line.open_edges ? "bad" : ""}`}>${line.open_edges}</td>
      <td>${summary(line.issues, issues)}</td>
    </tr>`,
  )}
/>`;

const summary = (places, issues) =>
  ["Error", "Warning", "Info"]
    .map((severity) => [severity, places.filter((place) => issues[place].severity === severity).length])
    .filter(([, many]) => many)
    .map(([severity, many]) => html`<span class=${`tone ${severityTone(severity)}`}>${count(many)} ${severity}</span> `);

export const Findings = ({ issues }) => html`<${Table}
  caption="Findings"
  empty="Nothing was found."
  head=${[["Severity"], ["Code"], ["Object"], ["What"]]}
  rows=${issues.map(
    (issue) => html`<tr>
      <td><span class=${`tone ${severityTone(issue.severity)}`}>${issue.severity}</span></td>
      <td>${issue.code}</td>
      <td>${issue.subject && html`<span class="quiet">${issue.subject.kind}</span> ${objectName(issue.subject)}`}</td>
      <td class="words">${issue.text}${issue.hint && html` <span class="quiet">${issue.hint}</span>`}</td>
    </tr>`,
  )}
/>`;
