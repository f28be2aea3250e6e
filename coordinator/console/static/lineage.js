// Draws each figure's graph as SVG: dagre places the nodes, each of which is a link that the keyboard reaches. Saved as SVG or PNG like a chart.
"use strict";

const SPACE = "http://www.w3.org/2000/svg";
const EDGE = 8, LETTER = 7.4, HIGH = 46, LONGEST = 34;

function piece(name, attributes, text) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function cut(words) { return words.length > LONGEST ? `${words.slice(0, LONGEST - 1)}…` : words; }

function placed(graph) {
  const made = new dagre.graphlib.Graph();
  made.setGraph({ rankdir: innerWidth < 768 ? "TB" : "LR", nodesep: 14, ranksep: 40, marginx: EDGE, marginy: EDGE });
  made.setDefaultEdgeLabel(() => ({}));
  for (const node of graph.nodes) {
    const letters = Math.max(cut(node.label).length, node.kind.length);
    made.setNode(node.id, { ...node, width: Math.max(96, letters * LETTER + 24), height: HIGH });
  }
  for (const [before, after] of graph.edges) made.setEdge(before, after);
  dagre.layout(made);
  return made;
}

function colourOf(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function nodeOf(node) {
  const group = node.href && !node.here ? piece("a", { href: node.href }) : piece("g", {});
  const left = node.x - node.width / 2, top = node.y - node.height / 2;
  const [fill, ink, soft] = node.here ? ["--accent", "--on-accent", "--on-accent"] : ["--sheet", "--ink", "--soft"];
  group.append(
    piece("title", {}, `${node.kind} ${node.label}`),
    piece("rect", { x: left, y: top, width: node.width, height: node.height, rx: 8, fill: colourOf(fill), stroke: colourOf(node.href ? "--accent" : "--line") }),
    piece("text", { x: left + 12, y: top + 17, "font-size": 11, fill: colourOf(soft) }, node.kind),
    piece("text", { x: left + 12, y: top + 35, "font-size": 13.5, "font-weight": node.here ? 700 : 500, fill: colourOf(ink) }, cut(node.label)),
  );
  return group;
}

function edgeOf(points) {
  const [first, ...rest] = points;
  const path = `M${first.x},${first.y} ${rest.map((each) => `L${each.x},${each.y}`).join(" ")}`;
  return piece("path", { d: path, fill: "none", stroke: colourOf("--soft"), "stroke-width": 1.4, "marker-end": "url(#lineage-arrow)" });
}

function drawLineage(figure) {
  const graph = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const made = placed(graph), size = made.graph(), place = figure.querySelector(".canvas");
  const svg = piece("svg", { xmlns: SPACE, width: Math.ceil(size.width), height: Math.ceil(size.height), viewBox: `0 0 ${Math.ceil(size.width)} ${Math.ceil(size.height)}`, "font-family": "system-ui, sans-serif" });
  const marker = piece("marker", { id: "lineage-arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" });
  marker.append(piece("path", { d: "M0,0 L8,4 L0,8 z", fill: colourOf("--soft") }));
  const defined = piece("defs", {});
  defined.append(marker);
  svg.append(piece("title", {}, graph.title), defined);
  for (const each of made.edges()) svg.append(edgeOf(made.edge(each).points));
  for (const each of made.nodes()) svg.append(nodeOf(made.node(each)));
  place.replaceChildren(svg);
  place.hidden = false;
  const here = graph.nodes.find((each) => each.here);
  if (here) place.scrollLeft = made.node(here.id).x - place.clientWidth / 2;
}

function saveLineage(figure, kind) {
  const svg = figure.querySelector("svg"), hand = (href) => { const a = document.createElement("a"); a.href = href; a.download = `${figure.id}.${kind}`; a.click(); };
  const source = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  if (kind === "svg") return hand(source);
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = 2 * image.width; canvas.height = 2 * image.height;
    pen.fillStyle = colourOf("--sheet"); pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    hand(canvas.toDataURL("image/png"));
  };
  image.src = source;
}

function drawLineages() { for (const each of document.querySelectorAll("[data-lineage]")) drawLineage(each); }

document.addEventListener("DOMContentLoaded", () => {
  drawLineages();
  for (const figure of document.querySelectorAll("[data-lineage]")) {
    figure.querySelector(".pages").hidden = false;
    figure.addEventListener("click", (event) => { if (event.target.dataset.save) saveLineage(figure, event.target.dataset.save); });
  }
});
document.addEventListener("covenant:theme", drawLineages);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawLineages);
