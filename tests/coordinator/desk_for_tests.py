"""An officer's desk on a coordinator's real API, its browser without a screen, and a coordinator that lies where it is told to."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from coordinator.api.calls import Caller, asked_by
from coordinator.api.roles import RULES
from coordinator.api.server import functions_of
from coordinator.bootstrap import Centre
from coordinator.console.desk.looking import Trust
from coordinator.console.desk.memory import Memory
from coordinator.console.desk.server import listening, server_of
from coordinator.console.desk.session import Session
from coordinator.documents import read_members
from coordinator.office.actors import Actor
from protos.documents import load_document
from protos.keys import Signer
from protos.membership import Membership
from protos.root import SignedRoot
from simulation.deployment import free_port
from tests.coordinator.api_for_tests import Bank, new_id
from tests.coordinator.console_for_tests import tell_plainly
from tests.trust_for_tests import key_of

_HIDDEN = re.compile(r'name="(token|shown|contract|role)" value="([^"]*)"')

Lie = Callable[[Any, Any], Any]
"""Takes a request and its honest answer, and gives the answer that is sent."""


@dataclass
class LyingClient:
    """A coordinator between the desk and an honest one: `lies` by the last part of a method's name."""

    honest: Any
    lies: dict[str, Lie] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    """The changes that were asked for."""

    @property
    def server(self) -> str:
        return self.honest.server

    def ask(self, method: str, request: Any, answer: Any) -> Any:
        lie = self.lies.get(method.rpartition("/")[2])
        found = self.honest.ask(method, request, answer)
        return found if lie is None else lie(request, found)

    def change(self, method: str, make: Any, answer: Any, request_id: str | None = None) -> Any:
        self.sent.append(method.rpartition("/")[2])
        return self.honest.change(method, make, answer, request_id)

    def pages(self, method: str, make: Callable[[str], Any], answer: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = self.ask(method, make(token), answer)
            yield page
            token = page.next_page_token
            if not token:
                return


@dataclass
class WithoutWire:
    """The control API's own functions for one officer, without a wire: for coordinators whose clock is not that of certificates."""

    centre: Centre
    officer: str
    server: str = "coordinator"

    def ask(self, method: str, request: Any, answer: Any) -> Any:
        actor = Actor(read_members(self.centre.settings)[1].members.officer(self.officer))
        actor.require(RULES[method].roles, method)
        asked = asked_by(actor, method, request) if RULES[method].changes else None
        found = functions_of(self.centre)[method](request, Caller(actor=actor, asked=asked))  # type: ignore[arg-type]
        assert isinstance(found, answer)
        return found

    def change(self, method: str, make: Any, answer: Any, request_id: str | None = None) -> Any:
        return self.ask(method, make(request_id or new_id()), answer)


@dataclass
class CountingSigner:
    """A signer that remembers for which purposes it was asked."""

    key: Signer
    labels: list[str] = field(default_factory=list)

    @property
    def public(self) -> str:
        return self.key.public

    def sign(self, label: str, message: bytes) -> str:
        self.labels.append(label)
        return self.key.sign(label, message)

    def sign_raw(self, label: str, message: bytes) -> bytes:
        self.labels.append(label)
        return self.key.sign_raw(label, message)


@dataclass
class Desk:
    """The desk of one officer, its pages, and what it signed."""

    session: Session
    client: LyingClient
    signer: CountingSigner
    browser: httpx.Client

    @property
    def origin(self) -> str:
        return self.session.origin

    def stranger(self) -> httpx.Client:
        """Another browser on the same machine."""
        return _browser(self.origin)

    def get(self, path: str) -> httpx.Response:
        return self.browser.get(self.session.home + path)

    def post(self, path: str, fields: Mapping[str, str], *, on: str, **headers: str) -> httpx.Response:
        """Send the form of the page `on`, with `fields` besides."""
        return self.send(path, {**self.form(on), **fields}, **headers)

    def form(self, page: str) -> dict[str, str]:
        """The hidden fields of a page."""
        return {name: html.unescape(value) for name, value in _HIDDEN.findall(self.get(page).text)}

    def send(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        return self.browser.post(
            self.session.home + path, data=dict(fields), headers={"Origin": self.session.origin, **headers}
        )


def _browser(origin: str) -> httpx.Client:
    return httpx.Client(base_url=origin, follow_redirects=True, timeout=30, trust_env=False)


@contextmanager
def desk_of(
    bank: Bank,
    name: str,
    *,
    file: Path | None = None,
    known: Membership | None = None,
    key: str | None = None,
) -> Iterator[Desk]:
    """The desk of an officer of a bank whose API answers, entered already."""
    files = file or bank.folder / f"{name}.desk"
    with sitting(bank.centre, bank.client(name), key_of(key or name), files, known=known) as found:
        yield found


@contextmanager
def sitting(
    centre: Centre, honest: Any, key: Signer, file: Path, *, known: Membership | None = None
) -> Iterator[Desk]:
    """A desk that speaks through the client `honest`."""
    tell_plainly()
    pinned = load_document(centre.settings.root_file, SignedRoot)
    signer, client = CountingSigner(key), LyingClient(honest)
    with (
        closing(Memory(file, pinned.root.identity)) as memory,
        listening(free_port()) as listener,
    ):
        session = Session(
            trust=Trust(pinned=pinned, known=known, signer=signer, memory=memory),
            client=client,  # type: ignore[arg-type]
            port=listener.getsockname()[1],
            clock=centre.clock,
        )
        server = server_of(session)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]))
        thread.start()
        try:
            with _browser(session.origin) as browser:
                assert browser.get(session.address).status_code == 200
                yield Desk(session, client, signer, browser)
        finally:
            server.should_exit = True
            thread.join(10)
