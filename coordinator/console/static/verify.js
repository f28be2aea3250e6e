// Hashes a plan's canonical text in the browser, and compares that with the digest in the log's entry of its proposal.
// Against whoever changed the database or the API's answers; the page says that it is no protection against the server itself.
"use strict";

async function digestOf(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (each) => each.toString(16).padStart(2, "0")).join("");
}

async function verify(part) {
  const verdict = part.querySelector("[data-verdict]"), entry = part.querySelector("[data-entry]");
  const say = (name) => { verdict.textContent = verdict.dataset[name]; verdict.dataset.state = name; };
  if (!entry) return say("none");
  if (!globalThis.crypto || !crypto.subtle) return say("unknown");
  const { what } = JSON.parse(JSON.parse(entry.textContent).body);
  const found = await digestOf(part.querySelector("[data-canonical]").textContent);
  say(what.kind === "proposed" && what.statement.plan === found ? "good" : "bad");
}

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-verify]").forEach(verify));
