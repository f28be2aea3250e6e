// What every page does in the browser: times in the reader's zone, the theme, confirmations, figures that are saved, typed text that is not lost, and the
// stream of what is new.
"use strict";

const zoned = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function localise(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    each.textContent = zoned.format(new Date(each.dateTime));
  }
}

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function theme() {
  const toggle = document.querySelector("[data-theme-toggle]");
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  matchMedia("print").addEventListener("change", () => document.dispatchEvent(new CustomEvent("covenant:theme")));  // paper is light
  if (!toggle) return;
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    document.dispatchEvent(new CustomEvent("covenant:theme"));
  });
}

// A button whose word is not typed yet does nothing.
function confirmations(root) {
  for (const input of root.querySelectorAll("input[data-confirm]")) {
    const button = input.form.querySelector("button:not([type=button])");
    const judge = () => { button.disabled = input.value.trim() !== input.dataset.confirm; };
    input.addEventListener("input", judge);
    judge();
  }
}

// A figure that charts.js or lineage.js has drawn, as it is or painted on the page's colour at twice its size.
function save(figure, kind) {
  const hand = (href) => { const a = document.createElement("a"); a.href = href; a.download = `${figure.id}.${kind}`; a.click(); };
  const source = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(figure.querySelector("svg")))}`;
  if (kind === "svg") return hand(source);
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    canvas.width = 2 * image.width; canvas.height = 2 * image.height;
    pen.fillStyle = colour("--sheet"); pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    hand(canvas.toDataURL("image/png"));
  };
  image.src = source;
}

function figures() {
  document.addEventListener("click", (event) => { if (event.target.dataset.save) save(event.target.closest("figure"), event.target.dataset.save); });
}

// The stream: pages listen to `covenant:entry` on the document. The browser reconnects by itself, with the last number that it has seen. It is not told
// why an answer is none, so whether the session is over is asked before another try.
function live() {
  const path = document.body.dataset.live;
  const state = document.querySelector("[data-live-state]");
  if (!path || !state) return;
  let last = document.body.dataset.seen || "";
  const open = () => {
    const stream = new EventSource(last ? `${path}?after=${last}` : path);
    const say = (name, words) => { if (state.dataset.state === "over") return; state.hidden = false; state.dataset.state = name; state.textContent = words; };
    stream.addEventListener("ready", (event) => { last = event.lastEventId || last; say("on", state.dataset.on || "Live"); });
    stream.addEventListener("entry", (event) => {
      last = event.lastEventId;
      document.dispatchEvent(new CustomEvent("covenant:entry", { detail: JSON.parse(event.data) }));
    });
    const end = () => { stream.close(); say("over", state.dataset.over); };
    const again = () => { say("lost", state.dataset.lost || "Connection lost, trying again"); setTimeout(open, 3000); };
    stream.addEventListener("over", end);
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) say("lost", state.dataset.lost || "Connection lost, trying again");
      else if (state.dataset.state !== "over") fetch(path).then((answer) => { answer.body.cancel(); if ([401, 403].includes(answer.status)) end(); else again(); }, again);
    });
    addEventListener("pagehide", () => stream.close(), { once: true });
  };
  open();
}

// Parts that name a run, or a kind of entry, fetch themselves again when something is written about it.
function refresh() {
  let waiting = null;
  const told = new Set();
  const fetchAgain = () => {
    waiting = null;
    for (const each of document.querySelectorAll("[data-refresh]")) {
      if (each.dataset.refresh.split(" ").some((of) => of === "*" || told.has(of))) htmx.trigger(each, "refresh");
    }
    told.clear();
  };
  document.addEventListener("covenant:entry", (event) => {
    for (const of of [event.detail.run, event.detail.kind]) if (of) told.add(of);
    waiting ||= setTimeout(fetchAgain, 300);
  });
}

// The session is over: the page leads to the sign-in, but what somebody has typed stays until they send it, and is kept then.
function over() {
  const fields = 'form[method="post"] :is(textarea, input:not([type="hidden"]))';
  document.addEventListener("covenant:over", (event) => {
    const typed = [...document.querySelectorAll(fields)].some((each) => each.value !== each.defaultValue);
    const state = document.querySelector("[data-live-state]");
    if (!typed) location.assign(new URL(event.detail.address, location.origin).pathname === "/signin" ? event.detail.address : "/signin");
    else if (state) { state.hidden = false; state.dataset.state = "over"; state.textContent = state.dataset.over; }
  });
}

document.addEventListener("DOMContentLoaded", () => {
  over();
  theme();
  localise(document);
  confirmations(document);
  figures();
  live();
  refresh();
});
// What a reader has opened within a part stays open when the part is fetched again.
let opened = [];
const places = () => [...document.querySelectorAll("[id] details")].map((each) => [each, `${each.closest("[id]").id} ${each.querySelector("summary")?.textContent}`]);
document.addEventListener("htmx:before:swap", () => { opened = places().filter(([each]) => each.open).map(([, place]) => place); });
document.addEventListener("htmx:after:swap", () => { for (const [each, place] of places()) if (opened.includes(place)) each.open = true; });
for (const name of ["htmx:after:swap", "htmx:after:settle"]) {
  document.addEventListener(name, () => { localise(document); confirmations(document); });
}
