// Turns each figure's JSON into SVG, and draws it again in the other theme or size. `console.js` saves it.
"use strict";

// Lines are told apart by their symbols as well: colours alone tell nothing to some, and nothing on paper.
const SYMBOLS = ["emptyCircle", "emptyRect", "emptyTriangle", "emptyDiamond", "circle", "rect"];

function optionOf(chart) {
  const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line");
  const digits = (value) => typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
  const whole = chart.axis === "number" && chart.series.every((each) => each.points.every(([x]) => Number.isInteger(x)));
  const highest = chart.bounds.length ? Math.max(...chart.bounds.map((each) => each.at)) : null;
  // A bound is in sight, also where all that is drawn lies far below it.
  const top = highest === null ? undefined : (shown) => (shown.max <= highest ? highest : null);
  const bounds = {
    silent: true, symbol: "none", lineStyle: { color: colour("--bad"), type: "dashed" },
    label: { formatter: (at) => at.name, color: colour("--bad"), position: "insideEndTop" },
    data: chart.bounds.map((each) => ({ name: each.name, yAxis: each.at })),
  };
  return {
    animation: false,
    aria: { enabled: false },
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: ink },
    color: [1, 2, 3, 4, 5, 6].map((each) => colour(`--chart-${each}`)),
    grid: { left: 12, right: 24, top: chart.series.length > 1 ? 60 : 32, bottom: 34, containLabel: true },
    legend: chart.series.length > 1 ? { top: 4, textStyle: { color: ink }, type: "scroll" } : undefined,
    tooltip: { trigger: "axis", renderMode: "richText", valueFormatter: digits, backgroundColor: colour("--sheet"), borderColor: line, textStyle: { color: ink } },
    xAxis: {
      type: { number: "value", time: "time", category: "category" }[chart.axis], name: chart.x, nameLocation: "middle", nameGap: 26,
      nameTextStyle: { color: soft }, axisLabel: { color: soft, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, splitLine: { show: false }, scale: true,
      minInterval: whole ? 1 : undefined,
    },
    yAxis: {
      type: "value", name: chart.y, nameTextStyle: { color: soft, align: "left" }, axisLabel: { color: soft }, splitLine: { lineStyle: { color: line } },
      min: chart.from ?? undefined, max: chart.to ?? top, scale: chart.from === null,
    },
    series: chart.series.map((each, place) => ({
      name: each.name, data: each.points, stack: each.stack ?? undefined,
      type: { bar: "bar", scatter: "scatter" }[each.kind] || "line",
      step: each.kind === "step" ? "end" : undefined,
      areaStyle: each.kind === "area" ? { opacity: 0.18 } : undefined,
      lineStyle: each.dashed ? { type: "dashed" } : undefined,
      symbol: each.kind === "scatter" ? "circle" : SYMBOLS[place % SYMBOLS.length],
      symbolSize: each.points.length > 60 ? 0 : 6,
      markLine: place === 0 && chart.bounds.length ? bounds : undefined,
    })),
  };
}

const drawn = new Set();

function draw(root) {
  for (const each of drawn) if (!each.getDom().isConnected) { drawn.delete(each); each.dispose(); }
  for (const figure of root.querySelectorAll("[data-chart]")) {
    const place = figure.querySelector(".canvas"), told = figure.querySelector("script[type='application/json']");
    if (!place || !told) continue;
    const known = echarts.getInstanceByDom(place);
    const chart = known || echarts.init(place, null, { renderer: "svg" });
    chart.setOption(optionOf(JSON.parse(told.textContent)), { notMerge: true });
    if (known) continue;
    figure.querySelector(".pages").hidden = false;
    drawn.add(chart);
    new ResizeObserver(() => chart.resize()).observe(place);
  }
}

document.addEventListener("DOMContentLoaded", () => draw(document));
document.addEventListener("covenant:theme", () => draw(document));
document.addEventListener("htmx:after:swap", () => draw(document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(document));
