// What all parts of the page share: templates, words for locks, numbers as people read them.
import { h, Component, Fragment, render } from "./preact.js";
import htm from "./htm.js";

export { Component, Fragment, render };
// Text of the mesh gets into the page through this only, as text nodes and attribute values: never as markup.
export const html = htm.bind(h);

export const FAMILY = getComputedStyle(document.body).fontFamily;
export const OUTSIDE = "/";
// The gravest first.
export const LOCKS = ["open", "part", "refused", "failed", "closed", "leaves", "quiet"];
export const isOpen = (lock) => lock === "open" || lock === "part";

export function lockWord(item) {
  switch (item.lock) {
    case "closed":
      return "mutual TLS";
    case "open":
      return "plaintext";
    case "part":
      return `${item.mutual_tls_percent} % mutual TLS`;
    case "refused":
      return "plaintext refused";
    case "failed":
      return "no answer";
    case "leaves":
      return "leaves the mesh";
    default:
      return "no traffic";
  }
}

export const Icon = ({ name }) => html`<svg class="icon" aria-hidden="true"><use href=${`#icon-${name}`} /></svg>`;

export const Lock = ({ item }) =>
  html`<span class=${`lock ${item.lock}`}><${Icon} name=${item.lock} /> ${lockWord(item)}</span>`;

const CLASSES = { STRICT: "good", PERMISSIVE: "doubt", DISABLE: "bad" };
export const Mode = ({ mode }) => html`<span class=${`mode ${CLASSES[mode] ?? ""}`}>${mode}</span>`;

export const objectName = (ref) => (ref.namespace ? `${ref.namespace}/${ref.name}` : ref.name);
export const Decider = ({ by, short = false }) =>
  by
    ? html`<span class="decider" title=${`${by.kind} ${objectName(by)}`}>${short ? "" : `${by.kind} `}${objectName(by)}</span>`
    : html`<span class="quiet">nobody: the default</span>`;

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  if (value >= 10) return value.toFixed(1).replace(/\.0$/, "");
  return value >= 0.095 ? value.toFixed(2).replace(/\.?0+$/, "") : value < 0.001 ? "<0.001" : value.toPrecision(1);
}

export const perSecond = (value) => (value === null ? "–" : `${number(value)}/s`);
export const milliseconds = (value) => (value === null ? "–" : `${number(value)} ms`);
export const count = (value) => Math.round(value).toLocaleString("en");
export const percent = (part, whole) => (whole ? `${number((100 * part) / whole)} %` : "–");
export const host = (name) => name.replace(/\.svc\..*$/, "");
export const plural = (many, one) => `${many} ${one}${many === 1 ? "" : "s"}`;

export function span(seconds) {
  const size = Math.abs(seconds);
  for (const [unit, each] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (size >= 2 * each) return `${Math.floor(size / each)} ${unit}`;
  return `${Math.round(size)} s`;
}

export function when(moment) {
  if (!moment) return "–";
  const left = (Date.parse(moment) - Date.now()) / 1000;
  return left < 0 ? `${span(left)} ago` : `in ${span(left)}`;
}

export const clock = (moment) => (moment ? new Date(moment).toLocaleTimeString("en-GB") : "never");
export const full = (moment) => (moment ? new Date(moment).toISOString().replace("T", " ").replace(/\..*/, " UTC") : "");

export function nodeState(node) {
  if (node.kind === "outside") return { word: "not in this cluster", tone: "quiet" };
  if (node.kind === "gone") return { word: "has no pods", tone: "quiet" };
  const guarded = node.pods.filter((pod) => pod.sidecar).length;
  if (!guarded) return { word: "no sidecar", tone: "bad" };
  if (guarded < node.pods.length) return { word: `${guarded} of ${node.pods.length} pods have a sidecar`, tone: "bad" };
  const modes = [...new Set(node.accepts.map((each) => each.mode))];
  return { word: modes.join(", "), tone: modes.length > 1 ? "doubt" : CLASSES[modes[0]] ?? "quiet" };
}

const SEVERITIES = { Error: "bad", Warning: "doubt", Info: "quiet" };
export const severityTone = (severity) => SEVERITIES[severity] ?? "quiet";

// "" where there is nothing but remarks.
export function gravest(places, issues) {
  const order = ["Error", "Warning"];
  const found = places.map((place) => issues[place].severity);
  return order.find((severity) => found.includes(severity)) ?? "";
}

// How wide a text is drawn, in pixels, and as much of it as there is room for.
const pencil = document.createElement("canvas").getContext("2d");
const widths = new Map();
export function textWidth(text, font) {
  const key = `${font} ${text}`;
  if (!widths.has(key)) {
    if (widths.size > 20_000) widths.clear();
    pencil.font = `${font} ${FAMILY}`;
    widths.set(key, pencil.measureText(text).width);
  }
  return widths.get(key);
}

export function cut(text, font, room) {
  if (textWidth(text, font) <= room) return text;
  let [least, most] = [0, text.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (textWidth(`${text.slice(0, middle)}…`, font) <= room) least = middle;
    else most = middle - 1;
  }
  return `${text.slice(0, least)}…`;
}
