// What is known of one workload or one edge.
import {
  Component, Decider, Lock, Mode, OUTSIDE, clock, count, full, host, html, lockWord, milliseconds, nodeState, number, objectName,
  perSecond, percent, plural, severityTone, span, when,
} from "./ui.js";

export class Details extends Component {
  componentDidMount() {
    if (this.props.focus) this.heading?.focus();
  }

  componentDidUpdate(before) {
    if (this.props.chosen !== before.chosen && this.props.focus) this.heading?.focus();
  }

  render({ chosen, graph, byId, moment, choose, close }) {
    const node = byId.get(chosen);
    const edge = graph.edges.find((each) => each.id === chosen);
    const title = node ? node.name : edge ? html`${nameOf(edge.source, byId)} → ${nameOf(edge.destination, byId)}` : chosen;
    const body = node
      ? html`<${OfNode} node=${node} graph=${graph} byId=${byId} choose=${choose} />`
      : edge
        ? html`<${OfEdge} edge=${edge} graph=${graph} byId=${byId} moment=${moment} choose=${choose} />`
        : html`<p>It is not there any more.</p>`;
    return html`
      <aside class="details" aria-label="Details" onKeyDown=${(event) => event.key === "Escape" && close()}>
        <header>
          <h2 tabindex="-1" ref=${(heading) => (this.heading = heading)}>${title}</h2>
          <button type="button" class="close" onClick=${close} aria-label="Close details" title="Close (Esc)">✕</button>
        </header>
        ${body}
      </aside>
    `;
  }
}

const nameOf = (id, byId) => byId.get(id)?.name ?? id;

const Section = ({ title, children }) => html`<section><h3>${title}</h3>${children}</section>`;
const Facts = ({ children }) => html`<dl>${children}</dl>`;
const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;

const OfNode = ({ node, graph, byId, choose }) => {
  const state = nodeState(node);
  const incoming = graph.edges.filter((edge) => edge.destination === node.id);
  const outgoing = graph.edges.filter((edge) => edge.source === node.id);
  const identities = [...new Set(node.pods.map((pod) => pod.identity).filter(Boolean))];
  return html`
    <p class="lead">
      <span class=${`tone ${state.tone}`}>${state.word}</span>${node.pods.length > 0 && `, ${node.kind} in namespace ${node.namespace}`}
    </p>
    ${node.accepts.length > 0 &&
    html`<${Section} title="Accepts">
      <${Facts}>
        ${node.accepts.map((each) => html`<${Fact} name=${each.port ? `port ${each.port}` : "every port"}><${Mode} mode=${each.mode} /> <${Decider} by=${each.decided_by} /><//>`)}
      <//>
    <//>`}
    ${identities.length > 0 && html`<${Section} title="Proves to be">${identities.map((each) => html`<code>${each}</code>`)}<//>`}
    ${node.pods.length > 0 && html`<${Section} title=${plural(node.pods.length, "pod")}>${node.pods.slice(0, 30).map((pod) => html`<${Pod} key=${pod.name} pod=${pod} />`)}${node.pods.length > 30 && html`<p class="quiet">and ${node.pods.length - 30} more</p>`}<//>`}
    <${EdgeList} title="Called by" edges=${incoming} end=${(edge) => edge.source} byId=${byId} choose=${choose} />
    <${EdgeList} title="Calls" edges=${outgoing} end=${(edge) => edge.destination} byId=${byId} choose=${choose} />
    ${node.services.length > 0 && html`<${Section} title="Services"><p>${node.services.join(", ")}</p><//>`}
    <${Policies} policies=${node.policies} />
    <${Issues} places=${node.issues} issues=${graph.issues} />
  `;
};

const Pod = ({ pod }) => html`
  <div class="pod">
    <p><b>${pod.name}</b>${!pod.ready && html` <span class="tone doubt">not ready</span>`}${!pod.sidecar && html` <span class="tone bad">no sidecar</span>`}</p>
    ${pod.sidecar && html`<${Facts}><${Held} certificate=${pod.certificate} />
      <${Fact} name="configuration"><span class=${pod.configuration === "current" ? "" : "tone doubt"}>${pod.configuration}</span><//>
    <//>`}
  </div>
`;

const Held = ({ certificate }) =>
  certificate
    ? html`
        <${Fact} name="certificate ends"><span title=${full(certificate.not_after)}>${when(certificate.not_after)}</span> <span class="quiet">${full(certificate.not_after)}</span><//>
        <${Fact} name="next rotation"><span title=${full(certificate.next_rotation)}>${when(certificate.next_rotation)}</span><//>
        <${Fact} name="serial"><code>${certificate.serial}</code><//>
        ${certificate.error && html`<${Fact} name="renewal failed"><span class="tone bad">${certificate.error}</span><//>`}
      `
    : html`<${Fact} name="certificate"><span class="quiet">its agent has not told yet</span><//>`;

const EdgeList = ({ title, edges, end, byId, choose }) =>
  edges.length > 0 &&
  html`<${Section} title=${title}>
    <ul class="edges">
      ${edges.map(
        (edge) => html`<li key=${edge.id}>
          <button type="button" onClick=${() => choose(edge.id, true)}><b>${nameOf(end(edge), byId)}</b> <${Lock} item=${edge} /> ${perSecond(edge.rates.count)}</button>
        </li>`,
      )}
    </ul>
  <//>`;

function verdict(edge, moment) {
  const seen = `the last ${span(moment.window_seconds)}`;
  switch (edge.lock) {
    case "closed":
      return `Everything that was seen in ${seen} was mutual TLS.`;
    case "part":
      return `Not all of it is protected: a part of ${seen} was plaintext.`;
    case "open":
      return `Nothing is protected: all of ${seen} was plaintext.`;
    case "leaves":
      return "It goes to where the mesh protects nothing. Whether the application encrypts is not known here.";
    case "failed":
      return `Nobody answered in ${seen}.`;
    case "refused":
      return `Plaintext was tried in ${seen}, and refused.`;
    default:
      return `Nothing was seen in ${seen}.`;
  }
}

const OfEdge = ({ edge, graph, byId, moment, choose }) => {
  const rates = edge.rates;
  const total = (name) => edge.total[name];
  const server = byId.get(edge.destination);
  return html`
    <p class="lead"><${Lock} item=${edge} />${". "}${verdict(edge, moment)}</p>
    <${Share} edge=${edge} />
    ${edge.reasons.length > 0 && html`<${Section} title="Why plaintext">${edge.reasons.map((each) => html`<p>${each}</p>`)}<//>`}
    <${Section} title=${`Per second, over ${span(moment.window_seconds)}`}>
      <${Facts}>
        <${Fact} name=${edge.unit}>${perSecond(rates.count)}<//>
        <${Fact} name="with mutual TLS">${perSecond(rates.mutual_tls)}<//>
        <${Fact} name="plaintext"><span class=${rates.plaintext > 0 ? "tone bad" : ""}>${perSecond(rates.plaintext)}</span><//>
        <${Fact} name="errors"><span class=${rates.errors > 0 ? "tone bad" : ""}>${perSecond(rates.errors)} ${rates.count > 0 && rates.errors > 0 ? `(${percent(rates.errors, rates.count)})` : ""}</span><//>
        <${Fact} name="denied by policy"><span class=${rates.denied > 0 ? "tone doubt" : ""}>${perSecond(rates.denied)}</span><//>
        <${Fact} name="refused handshakes"><span class=${rates.refused > 0 ? "tone doubt" : ""}>${perSecond(rates.refused)}</span><//>
        <${Fact} name="mean duration">${milliseconds(rates.milliseconds)}<//>
      <//>
    <//>
    <${Section} title="Since the sidecars started">
      <${Facts}>
        <${Fact} name="with mutual TLS"><span data-total="mutual_tls">${count(total("mutual_tls"))}</span><//>
        <${Fact} name="plaintext"><span data-total="plaintext">${count(total("plaintext"))}</span>${edge.plaintext_age !== null && html` <span class="quiet">last at ${clock(Date.parse(moment.as_of) - 1000 * edge.plaintext_age)}</span>`}<//>
        <${Fact} name="errors"><span data-total="errors">${count(total("errors"))}</span><//>
        <${Fact} name="denied by policy"><span data-total="denied">${count(total("denied"))}</span><//>
        <${Fact} name="refused handshakes"><span data-total="refused">${count(total("refused"))}</span><//>
      <//>
    <//>
    <${Section} title="Ports">
      ${edge.ways.map((way) => html`<${Way} way=${way} />`)}
      ${edge.more_ways > 0 && html`<p class="quiet">and ${edge.more_ways} more clients</p>`}
    <//>
    <${Section} title="Identities">
      <${Facts}>
        <${Fact} name="client">${edge.clients.length ? edge.clients.map((each) => html`<code>${each}</code>`) : html`<span class="tone bad">proves nothing</span>`}<//>
        <${Fact} name="server">${edge.servers.length ? edge.servers.map((each) => html`<code>${each}</code>`) : html`<span class="tone bad">proves nothing</span>`}<//>
        ${edge.tls && html`<${Fact} name="TLS version">${edge.tls}<//>`}
      <//>
    <//>
    <${Certificates} title="Client's certificate" node=${byId.get(edge.source)} />
    <${Certificates} title="Server's certificate" node=${server} />
    ${server && html`<${Policies} policies=${server.policies} />`}
    <${Issues} places=${[...new Set([edge.source, edge.destination].flatMap((id) => byId.get(id)?.issues ?? []))]} issues=${graph.issues} />
    <p class="ends">
      ${[edge.source, edge.destination].map((id) => html`<button type="button" onClick=${() => choose(id, true)}>Show ${nameOf(id, byId)}</button> `)}
    </p>
  `;
};

const Share = ({ edge }) => {
  const share = edge.mutual_tls_percent;
  if (share === null) return null;
  return html`<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label=${`${share} % mutual TLS`}>
    <rect class="plain" width="100" height="6" /><rect class="mutual" width=${share} height="6" />
  </svg>`;
};

const Way = ({ way }) => html`
  <div class="way">
    <p><b>${way.client && `${way.client} → `}${host(way.service) || "the pod itself"}:${way.port}</b> <span class="quiet">${way.protocol}</span> <${Lock} item=${way} /></p>
    <${Facts}>
      <${Fact} name=${way.unit}>${perSecond(way.rates.count)}<//>
      ${way.accepts && html`<${Fact} name="server takes"><${Mode} mode=${way.accepts.mode} /> <${Decider} by=${way.accepts.decided_by} /><//>`}
      <${Fact} name="client sends">${way.sends}${way.rule && html` <span class="decider">${way.rule.kind} ${objectName(way.rule)}</span>`}<//>
    <//>
  </div>
`;

const Certificates = ({ title, node }) => {
  const pods = node?.pods.filter((pod) => pod.sidecar) ?? [];
  if (!pods.length) return null;
  const first = pods.reduce((one, other) => ((other.certificate?.not_after ?? "9") < (one.certificate?.not_after ?? "9") ? other : one));
  return html`<${Section} title=${title}>
    <${Facts}><${Held} certificate=${first.certificate} /><//>
    ${pods.length > 1 && html`<p class="quiet">the first of ${pods.length} pods to end: ${first.name}</p>`}
  <//>`;
};

const Policies = ({ policies }) =>
  policies.length > 0 &&
  html`<${Section} title="Policies of the server">
    <ul class="plain">${policies.map((each) => html`<li><span class="quiet">${each.kind}</span> ${objectName(each)} ${each.about && html`<b>${each.about}</b>`}</li>`)}</ul>
  <//>`;

const Issues = ({ places, issues }) =>
  places.length > 0 &&
  html`<${Section} title="Findings">
    <ul class="plain">${places.map((place) => html`<${Issue} issue=${issues[place]} />`)}</ul>
  <//>`;

const Issue = ({ issue }) => html`<li class="issue">
  <span class=${`tone ${severityTone(issue.severity)}`}>${issue.severity} ${issue.code}</span>
  ${issue.subject && html` <span class="quiet">${issue.subject.kind} ${objectName(issue.subject)}</span>`}
  <br />${issue.text}${issue.hint && html` <span class="quiet">${issue.hint}</span>`}
</li>`;
