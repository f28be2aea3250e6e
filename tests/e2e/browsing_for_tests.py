"""`covenant up --demo --full` and real Chromium in front of it: officers who sign in, follow every link, and what their browsers complain of."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    sync_playwright,
)

from coordinator.bootstrap import open_centre
from coordinator.console.links import PATH, make_link
from coordinator.console.routes import Route, all_routes
from coordinator.console.vault import Vault
from coordinator.settings import load_settings
from protos.egress import child_environment
from simulation.deployment import free_port
from simulation.officers import ROLES

SIZES: Final = (1440, 390)
"""Widths in CSS pixels: a desk, and a phone."""
_HEIGHT: Final = 900
_UP_WITHIN_S: Final = 900.0
_END_WITHIN_S: Final = 90.0
_MOST_PAGES: Final = 400
_BETWEEN_S: Final = 0.08
"""A console answers an address ten times a second, not more."""
_LEADS: Final = re.compile(r'\b(href|hx-get|action|src)="([^"]*)"')
_FILLED: Final = {"/models/compare": "?first=lending-default@1&second=lending-default@2"}
"""Forms that lead to a page, filled in for the demo."""


def chromium() -> str:
    """Debian's browser. Skips where there is none; fails in CI, where it has to be."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        reason = "no browser on this machine; `make browser` installs Debian's"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found


@dataclass(frozen=True)
class Shown:
    """A demo that is up; `facts` are what it printed with --json."""

    facts: dict[str, Any]

    @property
    def address(self) -> str:
        return str(self.facts["address"])

    def link(self, officer: str) -> str:
        """A new link, as `covenant console link` makes it."""
        centre = open_centre(load_settings(Path(self.facts["home"])))
        vault = Vault(centre.settings.console_key_file)
        return f"{self.address}{PATH}?key={make_link(centre.engine, vault, officer, centre.clock())}"


@contextmanager
def demo_up(folder: Path, *options: str) -> Iterator[Shown]:
    """`covenant up --demo` with its past, until the block is left; then it has to end by itself."""
    told, trouble = folder / "up.json", folder / "up.err"
    words = ["up", "--demo", "--full", "--json", "--port", "0", "--folder", str(folder / "covenant-demo")]
    with told.open("wb") as output, trouble.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.main", *words, *options],
            cwd=folder,
            env=child_environment(),
            stdout=output,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + _UP_WITHIN_S
        while not told.read_text().endswith("}\n"):
            assert process.poll() is None, trouble.read_text()
            assert time.monotonic() < deadline, trouble.read_text()
            time.sleep(0.2)
        yield Shown(json.loads(told.read_text()))
    finally:
        process.send_signal(signal.SIGTERM)
        left = process.wait(_END_WITHIN_S)
    assert left == 130, trouble.read_text()


@contextmanager
def browser(shown: Shown) -> Iterator[Browser]:
    """A browser that trusts the key of this demo's console, and no other that is not proved: what it trusts it also keeps, as a reader's does."""
    certificate = load_pem_x509_certificate((Path(shown.facts["ca"]).parent / "control.crt").read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    trusts = b64encode(hashlib.sha256(key).digest()).decode()
    words = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={trusts}"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=words)
        yield started
        started.close()


@contextmanager
def desk_of(shown: Shown, officer: str) -> Iterator[str]:
    """The officer's own desk, opened in the officer's own folder; the address that opens it once."""
    folder = Path(shown.facts["machines"][officer])
    words = ["--access", "access", "--root", "root.json", "--key", "officer.key"]
    words += ["--passphrase-file", "passphrase", "--no-open", "--port", str(free_port())]
    told = folder / "desk.err"
    with told.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.main", "desk", *words],
            cwd=folder,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + _END_WITHIN_S
        while not (found := re.search(r"(?m)^ +(http://127\.0\.0\.1:\S+)", told.read_text())):
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.1)
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_END_WITHIN_S)


@dataclass
class Looking:
    """One officer at a browser. `complaints` are what it said of the pages, and requests to other hosts than the one whose pages they are."""

    shown: Shown
    host: str
    context: BrowserContext
    page: Page
    officer: str = ""
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, shown: Shown, browser: Browser, host: str | None = None) -> Looking:
        """Nobody yet, before the console, or before the pages of another `host`."""
        context = browser.new_context(
            viewport={"width": SIZES[0], "height": _HEIGHT},
            color_scheme="light",
            locale="en-GB",
            timezone_id="Europe/Vienna",
        )
        made = cls(shown, host or shown.address, context, context.new_page())
        context.on("request", made._asked)
        context.on("console", made._said)
        context.on("weberror", lambda error: made.complaints.append(f"script: {error.error}"))
        return made

    def sign_in(self, officer: str) -> None:
        """By a link, as a person does it."""
        self.page.goto(self.shown.link(officer))
        self.page.get_by_role("button", name="Sign in with this link").click()
        self.page.get_by_role("link", name=officer).wait_for()
        self.officer = officer

    def show(self, path: str) -> Response:
        """Go to a page of the console, and wait until its charts are drawn."""
        answered = self.page.goto(self.shown.address + path)
        assert answered is not None
        drawn = (
            "[...document.querySelectorAll('[data-chart] .canvas')].every(each => each.querySelector('svg'))"
        )
        self.page.wait_for_function(drawn)
        return answered

    def set(self, width: int, *, dark: bool) -> None:
        """Another size and theme."""
        self.page.set_viewport_size({"width": width, "height": _HEIGHT})
        self.page.emulate_media(color_scheme="dark" if dark else "light")

    def _asked(self, request: Request) -> None:
        target = urlsplit(request.url)
        if target.scheme not in {"data", "blob"} and f"{target.scheme}://{target.netloc}" != self.host:
            self.complaints.append(f"a request to {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{urlsplit(self.page.url).path}: {message.type}: {message.text}")


def templates() -> dict[str, re.Pattern[str]]:
    """The paths of all pages, and what their addresses look like."""
    return {each.path: _pattern(each) for each in all_routes() if each.method == "GET"}


def _pattern(route: Route) -> re.Pattern[str]:
    parts = re.split(r"\{[^}]+\}", route.path)
    greedy = re.findall(r"\{[^}]+\}", route.path)
    joined = re.escape(parts[0])
    for name, part in zip(greedy, parts[1:], strict=True):
        joined += (".+" if ":path" in name else "[^/]+") + re.escape(part)
    return re.compile(joined)


def template_of(path: str) -> str | None:
    """The route of a path: the first that fits, as the console finds it."""
    return next((name for name, pattern in templates().items() if pattern.fullmatch(path)), None)


@dataclass
class Tour:
    """Pages by the path of their route, each with one address that a link led to; `files` likewise, and parts of pages; `dead` are links that led nowhere."""

    pages: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)


def follow_links(looking: Looking, tour: Tour) -> Tour:
    """Follow the links of the pages, one address of every route for each set of fields in its query."""
    waiting, seen = [(each, "href") for each in ("/", "/account")], set[tuple[str, frozenset[str]]]()
    client = looking.context.request
    while waiting and len(seen) < _MOST_PAGES:
        address, kind = waiting.pop(0)
        place, part = urlsplit(address), kind == "hx-get"
        name = template_of(place.path)
        if name is None and kind == "href" and not place.path.startswith("/static/"):
            tour.dead.append(f"{looking.officer}: {address} is no page")
        asked = frozenset(parse_qs(place.query))
        if name is None or (name, asked) in seen:
            continue
        seen.add((name, asked))
        time.sleep(_BETWEEN_S)
        answered = client.get(
            looking.shown.address + address,
            headers={"HX-Request": "true"} if part else {},
            ignore_https_errors=True,
        )
        if not answered.ok:
            tour.dead.append(f"{looking.officer}: {address}: {answered.status}")
        elif part or not answered.headers["content-type"].startswith("text/html"):
            tour.files.setdefault(name, address)
        else:
            tour.pages.setdefault(name, address)
            waiting += _links(answered.text(), place.path)
    return tour


def _links(page: str, path: str) -> list[tuple[str, str]]:
    """Where a page leads to within the console, and by which attribute."""
    found = [
        (urljoin(path, html.unescape(where)) + _FILLED.get(where, ""), kind)
        for kind, where in _LEADS.findall(page)
    ]
    return [
        (where.partition("#")[0], kind)
        for where, kind in found
        if not urlsplit(where).netloc and not where.startswith("data:")
    ]


EVERYBODY: Final = tuple(ROLES)
