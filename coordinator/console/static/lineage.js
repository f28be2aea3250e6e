// Draws each figure's graph as SVG: dagre places the nodes, each of which is a link that the keyboard reaches. `console.js` saves it.
"use strict";

const SPACE = "http://www.w3.org/2000/svg";
const EDGE = 8, HIGH = 46, LONGEST = 34, SMALLEST = 0.7, FONT = "system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

function piece(name, attributes, text) {
  const made = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function cut(words) { return words.length > LONGEST ? `${words.slice(0, LONGEST - 1)}…` : words; }

// As wide as its words in the boldest type that they may be set in.
function widthOf(node) {
  ruler.font = `700 13.5px ${FONT}`;
  return Math.max(96, Math.ceil(ruler.measureText(cut(node.label)).width) + 24);
}

function laidOut(graph, direction) {
  const made = new dagre.graphlib.Graph();
  made.setGraph({ rankdir: direction, nodesep: 14, ranksep: 40, marginx: EDGE, marginy: EDGE });
  made.setDefaultEdgeLabel(() => ({}));
  for (const node of graph.nodes) made.setNode(node.id, { ...node, width: widthOf(node), height: HIGH });
  for (const [before, after] of graph.edges) made.setEdge(before, after);
  dagre.layout(made);
  return made;
}

// From left to right; on a phone from top to bottom where that is narrower.
function placed(graph) {
  const across = laidOut(graph, "LR");
  if (innerWidth >= 768) return across;
  const down = laidOut(graph, "TB");
  return down.graph().width < across.graph().width ? down : across;
}

function nodeOf(node) {
  const group = node.href && !node.here ? piece("a", { href: node.href }) : piece("g", {});
  const left = node.x - node.width / 2, top = node.y - node.height / 2;
  const [fill, ink, soft] = node.here ? ["--accent", "--on-accent", "--on-accent"] : ["--sheet", "--ink", "--soft"];
  group.append(
    piece("title", {}, `${node.kind} ${node.label}`),
    piece("rect", { x: left, y: top, width: node.width, height: node.height, rx: 8, fill: colour(fill), stroke: colour(node.href ? "--accent" : "--line") }),
    piece("text", { x: left + 12, y: top + 17, "font-size": 11, fill: colour(soft) }, node.kind),
    piece("text", { x: left + 12, y: top + 35, "font-size": 13.5, "font-weight": node.here ? 700 : 500, fill: colour(ink) }, cut(node.label)),
  );
  return group;
}

function edgeOf(points) {
  const [first, ...rest] = points;
  const path = `M${first.x},${first.y} ${rest.map((each) => `L${each.x},${each.y}`).join(" ")}`;
  return piece("path", { d: path, fill: "none", stroke: colour("--soft"), "stroke-width": 1.4, "marker-end": "url(#lineage-arrow)" });
}

function drawLineage(figure) {
  const graph = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
  const made = placed(graph), size = made.graph(), place = figure.querySelector(".canvas");
  const svg = piece("svg", { xmlns: SPACE, width: Math.ceil(size.width), height: Math.ceil(size.height), viewBox: `0 0 ${Math.ceil(size.width)} ${Math.ceil(size.height)}`, "font-family": FONT });
  const marker = piece("marker", { id: "lineage-arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" });
  marker.append(piece("path", { d: "M0,0 L8,4 L0,8 z", fill: colour("--soft") }));
  const defined = piece("defs", {});
  defined.append(marker);
  svg.append(piece("title", {}, graph.title), defined);
  for (const each of made.edges()) svg.append(edgeOf(made.edge(each).points));
  for (const each of made.nodes()) svg.append(nodeOf(made.node(each)));
  place.replaceChildren(svg);
  place.hidden = false;
  if (size.width > place.clientWidth && size.width * SMALLEST <= place.clientWidth) svg.classList.add("fitted");
  const here = graph.nodes.find((each) => each.here);
  if (here) place.scrollLeft = made.node(here.id).x - place.clientWidth / 2;
}

function drawLineages() { for (const each of document.querySelectorAll("[data-lineage]")) drawLineage(each); }

document.addEventListener("DOMContentLoaded", () => {
  drawLineages();
  for (const each of document.querySelectorAll("[data-lineage] .pages")) each.hidden = false;
});
document.addEventListener("covenant:theme", drawLineages);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawLineages);
