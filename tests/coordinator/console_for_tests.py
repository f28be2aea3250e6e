"""A coordinator with its console on a free loopback port, over real TLS, and browsers of its officers without a screen."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from coordinator.bootstrap import Centre
from coordinator.console.links import PATH, make_link
from coordinator.console.server import ConsoleServer
from coordinator.control_tls import control_files
from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.settings import load_settings
from simulation.deployment import free_port
from tests.coordinator.api_for_tests import Bank, new_id, template

_TOKEN = re.compile(r'name="token" value="([^"]+)"')


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
    open_browsers: ExitStack

    @property
    def address(self) -> str:
        section = self.centre.settings.config.console
        assert section is not None
        return f"https://{section.host}:{section.port}"

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
        made = Browser(self.open_browsers.enter_context(client), self.address)
        if officer is not None:
            secret = make_link(self.centre.engine, officer, self.centre.clock())
            answered = made.post(PATH, {"link": secret})
            assert answered.status_code == 200, answered.text
        return made


def with_console(bank: Bank) -> Centre:
    """Give a bank's configuration a console on a free port."""
    config = bank.centre.settings.home / "covenant.yaml"
    config.write_text(f"{config.read_text()}console: {{host: 127.0.0.1, port: {free_port()}}}\n")
    bank.centre = replace(bank.centre, settings=load_settings(bank.centre.settings.home))
    return bank.centre


@contextmanager
def pages(bank: Bank) -> Iterator[Pages]:
    """The console of a bank, running. A bank made before the console has its database brought up to date."""
    centre = with_console(bank)
    migrate(open_database(centre.settings.database_url))
    with ConsoleServer(centre), ExitStack() as open_browsers:  # which a server that ends would wait for
        yield Pages(bank, centre, open_browsers)


def copied(folder: Path) -> Iterator[Bank]:
    """A bank of its own in `folder`, with accounts, and no API that listens."""
    bank = Bank.copied(template(accounts=True), folder)
    yield bank
    bank.close()
