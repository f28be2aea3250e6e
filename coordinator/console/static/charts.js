// Turns each figure's JSON into SVG, redraws it in the other theme or size, and saves it.
"use strict";

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function optionOf(chart) {
  const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line");
  const digits = (value) => typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
  const whole = chart.axis === "number" && chart.series.every((each) => each.points.every(([x]) => Number.isInteger(x)));
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
    grid: { left: 12, right: 24, top: chart.series.length > 1 ? 44 : 20, bottom: 34, containLabel: true },
    legend: chart.series.length > 1 ? { top: 4, textStyle: { color: ink }, type: "scroll" } : undefined,
    tooltip: { trigger: "axis", renderMode: "richText", valueFormatter: digits, backgroundColor: colour("--sheet"), borderColor: line, textStyle: { color: ink } },
    xAxis: {
      type: { number: "value", time: "time", category: "category" }[chart.axis], name: chart.x, nameLocation: "middle", nameGap: 26,
      nameTextStyle: { color: soft }, axisLabel: { color: soft, hideOverlap: true }, axisLine: { lineStyle: { color: line } }, splitLine: { show: false }, scale: true,
      minInterval: whole ? 1 : undefined,
    },
    yAxis: {
      type: "value", name: chart.y, nameTextStyle: { color: soft, align: "left" }, axisLabel: { color: soft }, splitLine: { lineStyle: { color: line } },
      min: chart.from ?? undefined, max: chart.to ?? undefined, scale: chart.from === null,
    },
    series: chart.series.map((each, place) => ({
      name: each.name, data: each.points, stack: each.stack ?? undefined,
      type: { bar: "bar", scatter: "scatter" }[each.kind] || "line",
      step: each.kind === "step" ? "end" : undefined,
      areaStyle: each.kind === "area" ? { opacity: 0.18 } : undefined,
      lineStyle: each.dashed ? { type: "dashed" } : undefined,
      symbolSize: each.points.length > 60 ? 0 : 6,
      markLine: place === 0 && chart.bounds.length ? bounds : undefined,
    })),
  };
}

function save(figure, kind) {
  const svg = figure.querySelector("svg");
  const text = new XMLSerializer().serializeToString(svg);
  const name = `${figure.id}.${kind}`;
  const hand = (href) => { const a = document.createElement("a"); a.href = href; a.download = name; a.click(); };
  const source = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  if (kind === "svg") return hand(source);
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = 2 * image.width; canvas.height = 2 * image.height;
    const pen = canvas.getContext("2d");
    pen.fillStyle = colour("--sheet"); pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    hand(canvas.toDataURL("image/png"));
  };
  image.src = source;
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
    figure.addEventListener("click", (event) => { if (event.target.dataset.save) save(figure, event.target.dataset.save); });
    drawn.add(chart);
    new ResizeObserver(() => chart.resize()).observe(place);
  }
}

document.addEventListener("DOMContentLoaded", () => draw(document));
document.addEventListener("covenant:theme", () => draw(document));
document.addEventListener("htmx:after:swap", () => draw(document));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(document));
