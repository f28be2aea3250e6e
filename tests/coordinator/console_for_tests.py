"""A coordinator with its console on a free loopback port, over real TLS, and browsers of its officers without a screen."""

from __future__ import annotations

import html
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import structlog
from sqlalchemy import select

from coordinator.bootstrap import Centre
from coordinator.console.seals import seal
from coordinator.console.server import ConsoleServer
from coordinator.console.sessions import COOKIE, Method, Sessions
from coordinator.console.vault import Vault
from coordinator.control_tls import control_files
from coordinator.db.console_schema import ConsoleSession
from coordinator.db.engine import open_database, writing
from coordinator.db.migrate import migrate
from coordinator.settings import load_settings
from simulation.deployment import free_port
from tests.coordinator.api_for_tests import Bank, new_id, template

_TOKEN = re.compile(r'name="token" value="([^"]+)"')
_FORM = re.compile(r'<form method="post" action="([^"]*)"[^>]* id="typed">(.*?)</form>', re.DOTALL)
_FIELD = re.compile(r"<(input)([^>]*)>()|<(textarea|select)([^>]*)>(.*?)</(?:textarea|select)>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Browser:
    """A browser of one officer: keeps cookies, follows redirects, and sends forms as pages do."""

    client: httpx.Client
    address: str

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.get(path, headers=headers)

    def post(
        self, path: str, fields: Mapping[str, str], *, on: str | None = None, **headers: str
    ) -> httpx.Response:
        """Send a form with the token of the page `on` (else `path`)."""
        page = self.client.get(on or path).text
        token = _TOKEN.search(page)
        data = {"request_id": new_id(), **({"token": token[1]} if token else {}), **fields}
        return self.client.post(path, data=data, headers={"Origin": self.address, **headers})


@dataclass
class Pages:
    """A bank whose console answers."""

    bank: Bank
    centre: Centre
    browsers: list[Browser] = field(default_factory=list)

    @property
    def address(self) -> str:
        section = self.centre.settings.config.console
        assert section is not None
        return f"https://{section.host}:{section.port}"

    @property
    def vault(self) -> Vault:
        return Vault(self.centre.settings.console_key_file)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.centre.engine, self.vault)

    def browser(self, officer: str | None = None) -> Browser:
        """A browser, signed in as an officer if one is named."""
        files = control_files(self.centre.settings, self.centre.clock())
        client = httpx.Client(
            base_url=self.address,
            verify=ssl.create_default_context(cafile=files.ca),
            follow_redirects=True,
            timeout=30,
            trust_env=False,
        )
        made = Browser(client, self.address)
        self.browsers.append(made)
        if officer is not None:
            self.signed_in(made, officer)
        return made

    def signed_in(self, browser: Browser, officer: str, method: Method = "password") -> None:
        """Give a browser a session, as signing in does."""
        secret = self.sessions.begin(officer, method, self.centre.clock())
        browser.client.cookies.set(COOKIE, secret, domain="127.0.0.1", path="/")

    def idle(self) -> None:
        """Half an hour goes by for every session."""
        with writing(self.centre.engine, "waiting") as session:
            for row in session.scalars(select(ConsoleSession)):
                row.seen_at -= timedelta(minutes=31)
                seal(self.vault, row)

    def sent_too_late(self, officer: str, on: str, path: str, fields: Mapping[str, str]) -> Late:
        """Send a form of the page `on` after its session has ended, sign in, and go to where the console leads."""
        browser = self.browser(officer)
        token = _TOKEN.search(browser.get(on).text)
        assert token is not None
        self.idle()
        answered = browser.client.post(
            path,
            data={"token": token[1], "request_id": new_id(), **fields},
            headers={"Origin": self.address},
            follow_redirects=False,
        )
        address = httpx.URL(answered.headers["location"])
        assert address.path == "/signin"
        self.signed_in(browser, officer)
        return Late(browser, browser.get(parse_qs(address.query.decode())["next"][0]))


@dataclass
class Late:
    """An officer who has signed in again, and the page that they are led to."""

    browser: Browser
    page: httpx.Response

    def form(self, path: str) -> dict[str, str]:
        """The fields of the form in which what was typed is. Fails unless it is one that is sent to `path`."""
        found = _FORM.search(self.page.text)
        assert found is not None, self.page.text
        assert found[1] == path
        return fields_of(found[2])

    def send(self, path: str, fields: Mapping[str, str]) -> httpx.Response:
        """Send that form with more typed into it."""
        data = {**self.form(path), **fields}
        return self.browser.client.post(path, data=data, headers={"Origin": self.browser.address})


def fields_of(form: str) -> dict[str, str]:
    """What a browser would send of a form as the page has it."""
    found = dict[str, str]()
    for parts in _FIELD.findall(form):
        tag, attributes, inside = parts[:3] if parts[0] else parts[3:]
        told = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(attributes)}
        if tag == "textarea":
            found[told["name"]] = html.unescape(inside)
        elif tag == "select":
            chosen = re.search(r"<option([^>]*) selected[^>]*>([^<]*)", inside) or re.search(
                r"<option([^>]*)>([^<]*)", inside
            )
            assert chosen is not None
            value = re.search(r'value="([^"]*)"', chosen[1])
            found[told["name"]] = html.unescape(value[1] if value else chosen[2])
        elif told.get("type") != "checkbox" or " checked" in attributes:
            found[told["name"]] = told.get("value", "on")
    return found


def with_console(bank: Bank, more: str = "") -> Centre:
    """Give a bank's configuration a console on a free port; `more` is written into its section."""
    config = bank.centre.settings.home / "covenant.yaml"
    config.write_text(f"{config.read_text()}console: {{host: 127.0.0.1, port: {free_port()}{more}}}\n")
    bank.centre = replace(bank.centre, settings=load_settings(bank.centre.settings.home))
    return bank.centre


@contextmanager
def pages(bank: Bank, more: str = "") -> Iterator[Pages]:
    """The console of a bank, running. A bank made before the console has its database brought up to date."""
    tell_plainly()
    centre = with_console(bank, more)
    migrate(open_database(centre.settings.database_url))
    served = Pages(bank, centre)
    with ConsoleServer(centre):
        yield served
        for each in served.browsers:  # a server that ends waits for connections that are open
            each.client.close()


def tell_plainly() -> None:
    """A defect's place in the output of a test, without the local variables that structlog draws by default, which takes it minutes."""
    for each in structlog.get_config()["processors"]:
        if isinstance(each, structlog.dev.ConsoleRenderer):
            each.exception_formatter = structlog.dev.plain_traceback


def copied(folder: Path) -> Iterator[Bank]:
    """A bank of its own in `folder`, with accounts, and no API that listens."""
    bank = Bank.copied(template(accounts=True), folder)
    yield bank
    bank.close()


@dataclass
class Shifted:
    """A clock that is `ahead` of the machine's."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Ticking:
    """Seconds that go by one at every look, so that nobody is ever too quick."""

    at: float = 0.0

    def __call__(self) -> float:
        self.at += 1.0
        return self.at
