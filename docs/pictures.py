# ruff: noqa: INP001 (a script; the documentation is no package)
"""Takes the pictures of the console, and writes the page that shows them: `make pictures`, or `python -m docs.pictures`.

1. `covenant up --demo --full` is started for it in a folder of its own, and ended; five minutes, and Chromium is needed.
2. Every page that links lead to is pictured at both sizes. One that `_TOLD` does not name stands below the others until somebody tells readers what it is for.
3. A picture has at most `MOST_BYTES`: a long page is cut, and colours are made fewer until it fits.
4. `console.md` is its words, and the pictures that there are.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser

from tests.e2e.browsing_for_tests import (
    EVERYBODY,
    SIZES,
    Looking,
    Shown,
    Tour,
    browser,
    demo_up,
    follow_links,
)

DOCS: Final = Path(__file__).parent
PICTURES: Final = DOCS / "pictures"
PAGE: Final = DOCS / "console.md"
MOST_BYTES: Final = 150_000
_TALLEST: Final = {SIZES[0]: 1500, SIZES[1]: 1500}
"""Pixels of a page that are shown, by its width."""
_COLOURS: Final = (256, 128, 64, 32, 16)
_DRAWN_S: Final = 0.4


@dataclass(frozen=True, slots=True)
class Told:
    """What readers are told of the page at `path`, and who looks at it in the picture."""

    path: str
    heading: str
    words: str
    officer: str = "privacy-officer"


_TOLD: Final[Mapping[str, Sequence[Told]]] = {
    "For everybody": (
        Told(
            "/signin",
            "Sign in",
            "A first sign-in is by a link that somebody makes on the coordinator's machine. It works once, within an hour.",
        ),
        Told("/", "Overview", "What needs you now, most urgent first, and below it what is going on."),
        Told(
            "/halt",
            "Halt",
            "A halt needs no key. It stops at once what it covers, and two officers' signatures let it go on. The button is on every page.",
            "model-risk",
        ),
        Told("/account", "Your account", "Your own sign-in and your roles."),
    ),
    "For privacy officers": (
        Told(
            "/budgets",
            "Budgets",
            "What has been released of each population, what is reserved, and the ceiling that its officers signed.",
        ),
        Told(
            "/budgets/{site}/{population}",
            "One account",
            "Its curve under its ceiling, the runs that spent it, and who decided.",
        ),
        Told("/budgets/what-if", "What if", "What a plan would cost each account, before anybody signs it."),
        Told("/plans", "Plans", "Plans, and who has still to sign."),
        Told(
            "/plans/{digest}",
            "One plan",
            "A plan in words: what it changes, what the policies say of it, what it will cost. It is approved at your own desk.",
        ),
    ),
    "For the central team": (
        Told("/runs", "Runs", "The latest first.", "ml-engineer"),
        Told("/runs/{run}", "One run", "A page that follows the run while it goes on.", "ml-engineer"),
        Told(
            "/runs/{run}/diagnosis",
            "Diagnosis",
            "What went wrong, by which evidence, and what to do.",
            "ml-engineer",
        ),
        Told("/sites", "Sites", "Who is connected, who refuses, whose certificate ends.", "ml-engineer"),
        Told("/sites/{site}", "One site", "Its runs, its refusals, its keys.", "ml-engineer"),
    ),
    "For model risk": (
        Told("/models", "Models", "Versions, and how far each has come.", "model-risk"),
        Told(
            "/models/{model}",
            "One version",
            "Gates rule by rule, approvals, evidence, and what it was made from.",
            "model-risk",
        ),
        Told("/models/compare", "Two versions", "Beside each other.", "model-risk"),
        Told("/deployments", "Deployments", "What runs where.", "model-risk"),
        Told(
            "/deployments/{target}",
            "One target",
            "Both versions of a rollout measured side by side, and the way back.",
            "model-risk",
        ),
        Told(
            "/models/from/plan/{plan}",
            "What came of a plan",
            "Its runs, and the versions that they made.",
            "model-risk",
        ),
        Told(
            "/models/from/run/{run}",
            "What came of a run",
            "The versions that it made, and where they are.",
            "model-risk",
        ),
        Told(
            "/models/from/site/{site}",
            "What a site had a part in",
            "The versions that its rows helped to make.",
            "model-risk",
        ),
    ),
    "For auditors": (
        Told("/log", "Log", "Searched by what an entry is about.", "auditor"),
        Told("/log/{seq}", "One entry", "With its proof, which your browser computes itself.", "auditor"),
        Told("/log/head", "The head", "Signed by the log, and witnessed by sites.", "auditor"),
    ),
}

_WORDS: Final = """\
# The console

A web console shows budgets, plans, runs, sites, models, deployments and the log to whoever may read them, served by the coordinator that leads. It shows a role nothing that the
[API](reference/roles.md) would not, and signs nothing: approvals are signed on your own machine.

```
covenant up --demo          # a federation on this machine with its console, a run that goes on and a plan that waits
covenant up --demo --full   # with a past as well: two runs that have ended, models that were approved, a deployment, an alarm and the plan that it drafted
```

prints the address, the authority to trust and a link for each role, and keeps running until Ctrl-C. At a coordinator of your own, a line `console:` in `covenant.yaml` turns the console on
(`covenant init --console-port 9095` writes it), and `covenant console link OFFICER` makes a first link.

What a page shows comes from the server, and a lying server can lie. What your browser computes itself, such as the proof of an entry of the log, protects against somebody who changed the database or
what the API says; it does not protect against the server that sends the page. For that there are [`covenant log verify`](auditor/log.md) with your own root and, for approvals, your own machine.

Everything can be done by keyboard: the first Tab leads past the menu, what has the focus is outlined, and the browser's own modifier (Alt, Alt and Shift, or Control and Option) with `1` to `9` opens the pages of the menu, with
`h` Halt, and with `m` the content. Times are in the zone of whoever reads, and in UTC where the pointer rests on them. Every table is also a CSV file, every chart an SVG or PNG picture, and every page prints.

The pictures are of the demo. The pages below are shown as they stand on a desk and on a phone.
"""


def name_of(path: str) -> str:
    """The name of a page's pictures."""
    kept = path.replace("{", "").replace("}", "").strip("/").replace("/", "-")
    return kept or "overview"


def take(shown: Shown, browser: Browser) -> dict[str, str]:
    """Picture every page that somebody is led to, as who is told to look at it, else as who found it first; the pages' titles by the path of their route."""
    wanted = {each.path: each.officer for several in _TOLD.values() for each in several}
    tour, lookings, found_by = Tour(), dict[str, Looking](), dict[str, str]()
    for officer in EVERYBODY:
        lookings[officer] = Looking.at(shown, browser)
        lookings[officer].sign_in(officer)
        follow_links(lookings[officer], tour)
        found_by = dict.fromkeys(tour.pages, officer) | found_by
    titles = {
        path: picture(lookings[wanted.get(path, found_by[path])], name_of(path), address)
        for path, address in sorted(tour.pages.items())
    }
    link = shown.link(EVERYBODY[0]).removeprefix(shown.address)
    return titles | {"/signin": picture(Looking.at(shown, browser), name_of("/signin"), link)}


def picture(looking: Looking, name: str, address: str) -> str:
    """Write the pictures of one page; its title."""
    for width in SIZES:
        looking.set(width, dark=False)
        looking.show(address)
        time.sleep(_DRAWN_S)
        tall = looking.page.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(tall, _TALLEST[width])}
        taken = looking.page.screenshot(full_page=True, clip=clip, animations="disabled")
        (PICTURES / f"{name}-{width}.png").write_bytes(packed(taken))
    return looking.page.title().removesuffix(" – Covenant")


def packed(taken: bytes) -> bytes:
    """A picture with as few colours as it takes. Raises ValueError for one that is too large even so."""
    shown = Image.open(io.BytesIO(taken)).convert("RGB")
    for colours in _COLOURS:
        target = io.BytesIO()
        shown.quantize(colours, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)
        if target.tell() <= MOST_BYTES:
            return target.getvalue()
    raise ValueError(
        f"a picture of {shown.size} pixels does not fit into {MOST_BYTES} bytes; show less of it"
    )


def page(titles: Mapping[str, str]) -> str:
    """`console.md`."""
    told = {each.path for several in _TOLD.values() for each in several}
    further = [Told(path, titles[path], "") for path in sorted(titles.keys() - told)]
    parts = [_WORDS]
    for heading, several in {**_TOLD, "Further pages": further}.items():
        there = [each for each in several if each.path in titles]
        if there:
            parts += [f"## {heading}\n", *(_section(each) for each in there)]
    return "\n".join(parts)


def _section(each: Told) -> str:
    shown = (f"pictures/{name_of(each.path)}-{width}.png" for width in SIZES)
    desk, phone = (
        f"[![{each.heading}, on a {where}]({path})]({path})"
        for where, path in zip(("desk", "phone"), shown, strict=True)
    )
    words = f"{each.words}\n\n" if each.words else ""
    return f"### {each.heading}\n\n{words}| On a desk | On a phone |\n|---|---|\n| {desk} | {phone} |\n"


def main() -> int:
    """Take all pictures, and write the page."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, demo_up(Path(folder)) as shown, browser(shown) as started:
        for old in PICTURES.glob("*.png"):
            old.unlink()
        titles = take(shown, started)
    PAGE.write_text(page(titles))
    return 0


if __name__ == "__main__":
    sys.exit(main())
