// Checks of the transparency log in the browser: leaf and root hashes (RFC 9162), the signature of the head (Ed25519 over a C2SP note), and that the
// log has only grown since this browser first saw it. They protect against tampering with database and API, and not against whoever serves this file.
"use strict";

(() => {
  const LARGEST = Number.MAX_SAFE_INTEGER;
  const KEPT = "covenant-log-head";
  const utf8 = new TextEncoder();

  const fromHex = (text) => {
    if (!/^[0-9a-f]{64}$/.test(text)) throw new Broken("");
    return Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
  };
  const toHex = (bytes) => Array.from(bytes, (each) => each.toString(16).padStart(2, "0")).join("");
  const fromBase64 = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const equal = (one, other) => toHex(one) === toHex(other);
  const sha256 = async (...parts) => {
    const whole = new Uint8Array(parts.reduce((length, each) => length + each.length, 0));
    let at = 0;
    for (const each of parts) { whole.set(each, at); at += each.length; }
    return new Uint8Array(await crypto.subtle.digest("SHA-256", whole));
  };
  const leafHash = (entry) => sha256([0], entry);
  const nodeHash = (left, right) => sha256([1], left, right);

  class Broken extends Error {}
  class Unknown extends Error {}

  // Sizes reach 2^53, where bit operations of this language do not.
  const half = (number) => Math.floor(number / 2);
  const odd = (number) => number % 2 === 1;

  // RFC 9162, 2.1.3.2.
  async function rootOf(leaf, index, size, proof) {
    if (!(index < size)) throw new Broken("");
    let [place, last, root] = [index, size - 1, leaf];
    for (const each of proof) {
      if (last === 0) throw new Broken("");
      if (odd(place) || place === last) {
        root = await nodeHash(each, root);
        while (!odd(place) && place !== 0) [place, last] = [half(place), half(last)];
      } else {
        root = await nodeHash(root, each);
      }
      [place, last] = [half(place), half(last)];
    }
    if (last !== 0) throw new Broken("");
    return root;
  }

  // RFC 9162, 2.1.4.2, for 0 < old.size < now.size.
  async function grown(old, now, proof) {
    const whole = Number.isInteger(Math.log2(old.size)) ? [old.root, ...proof] : [...proof];
    if (!whole.length) return false;
    let [place, last] = [old.size - 1, now.size - 1];
    while (odd(place)) [place, last] = [half(place), half(last)];
    let [before, after] = [whole[0], whole[0]];
    for (const each of whole.slice(1)) {
      if (last === 0) return false;
      if (odd(place) || place === last) {
        before = await nodeHash(each, before);
        after = await nodeHash(each, after);
        while (!odd(place) && place !== 0) [place, last] = [half(place), half(last)];
      } else {
        after = await nodeHash(after, each);
      }
      [place, last] = [half(place), half(last)];
    }
    return last === 0 && equal(before, old.root) && equal(after, now.root);
  }

  // A head in the one form that it has: origin, number of entries, root in base64, a line each.
  function headOf(note) {
    const end = note.lastIndexOf("\n\n");
    const text = note.slice(0, end + 1);
    const lines = text.split("\n");
    if (end < 0 || lines.length !== 4 || !/^(0|[1-9][0-9]{0,15})$/.test(lines[1])) throw new Broken("");
    const head = { origin: lines[0], size: Number(lines[1]), root: fromBase64(lines[2]) };
    if (head.size > LARGEST || head.root.length !== 32) throw new Broken("");
    return { text, head, signatures: note.slice(end + 2).split("\n").filter(Boolean) };
  }

  async function keyOf(words) {
    const [name, hash, ...rest] = words.split("+");
    const typed = fromBase64(rest.join("+"));
    const id = (await sha256(utf8.encode(`${name}\n`), typed)).slice(0, 4);
    if (typed[0] !== 1 || typed.length !== 33 || toHex(id) !== hash) throw new Broken("");
    return { name, id, public: typed.slice(1), words };
  }

  async function signed(note, key) {
    let imported;
    try {
      imported = await crypto.subtle.importKey("raw", key.public, { name: "Ed25519" }, false, ["verify"]);
    } catch (error) {
      throw new Unknown("no-ed25519", { cause: error });
    }
    for (const line of note.signatures) {
      const [dash, name, blob] = line.split(" ");
      if (dash !== "\u2014" || name !== key.name || note.head.origin !== key.name) continue;
      const data = fromBase64(blob);
      if (data.length !== 68 || !equal(data.slice(0, 4), key.id)) continue;
      if (await crypto.subtle.verify({ name: "Ed25519" }, imported, data.slice(4), utf8.encode(note.text))) return true;
    }
    return false;
  }

  // The head that this browser saw last. It is replaced by a head that is proven to extend it, and by nothing else.
  async function remembered(head, key) {
    const place = `${KEPT} ${head.origin}`;
    const keep = () => localStorage.setItem(place, JSON.stringify({ size: head.size, root: toHex(head.root), key: key.words, at: Date.now() }));
    const text = localStorage.getItem(place);
    if (text === null) {
      keep();
      return ["first", head.size];
    }
    const known = JSON.parse(text);
    if (known.key !== key.words) throw new Broken("rekeyed");
    if (head.size < known.size) throw new Broken("shrunk", { cause: [known.size, head.size] });
    if (head.size === known.size) {
      if (toHex(head.root) !== known.root) throw new Broken("changed");
      return ["same", head.size];
    }
    if (known.size > 0) {
      const answer = await fetch(`/log/consistency?old=${known.size}&new=${head.size}`);
      if (!answer.ok || !answer.headers.get("content-type").startsWith("application/json")) throw new Unknown("no-answer");
      const proof = (await answer.json()).proof.map(fromHex);
      if (!(await grown({ size: known.size, root: fromHex(known.root) }, head, proof))) throw new Broken("changed");
    }
    keep();
    return ["grown", known.size, head.size, new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(known.at)];
  }

  function panel(section) {
    const say = (name, ...values) => {
      const found = section.querySelector(`template[data-say="${name}"]`);
      const words = found ? found.content.textContent : "";
      return values.reduce((text, each, place) => text.replace(`{${place + 1}}`, each), words);
    };
    const set = (check, state, words) => {
      const item = section.querySelector(`[data-check="${check}"]`);
      if (!item) return;
      const mark = item.querySelector("[data-mark]");
      item.dataset.state = state;
      mark.textContent = mark.dataset[state];
      mark.className = `badge ${{ held: "good", broken: "bad", none: "warn" }[state]}`;
      item.querySelector("[data-found]").textContent = words ? ` ${words}` : "";
      if (state === "broken") section.querySelector("[data-alarm]").hidden = false;
    };
    return {
      // Whether a check holds. A form that is broken is a check that does not hold, whatever it raised.
      async judge(check, how) {
        try {
          const [name, ...values] = await how();
          set(check, "held", say(name, ...values));
          return true;
        } catch (error) {
          if (error instanceof Unknown) set(check, "none", say(error.message));
          else set(check, "broken", error instanceof Broken && error.message ? say(error.message, ...(error.cause || [])) : "");
          return false;
        }
      },
      none: (check, name) => set(check, "none", say(name)),
    };
  }

  async function check(section) {
    const of = JSON.parse(section.querySelector("script").textContent);
    const shown = panel(section);
    const checks = [...section.querySelectorAll("[data-check]")].map((each) => each.dataset.check);
    if (!globalThis.crypto || !crypto.subtle) {
      checks.forEach((each) => shown.none(each, "no-crypto"));
      return;
    }
    let note, key;
    const entry = document.getElementById("entry");
    if (entry && of.proof) {
      await shown.judge("root", async () => {
        note = headOf(of.note);
        const leaf = await leafHash(utf8.encode(entry.textContent));
        const root = await rootOf(leaf, of.seq, note.head.size, of.proof.map(fromHex));
        if (!equal(root, note.head.root)) throw new Broken("");
        return ["root", note.head.size];
      });
    }
    const sound = await shown.judge("signature", async () => {
      note = headOf(of.note);
      key = await keyOf(of.key);
      if (!(await signed(note, key))) throw new Broken("");
      return ["signature", `${key.name}+${toHex(key.id)}`];
    });
    // A head that is not signed is not remembered.
    if (sound) await shown.judge("grown", () => remembered(note.head, key));
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-proof]").forEach(check));
})();
