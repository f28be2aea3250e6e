"""What the console's pages are built from."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, cast

from google.protobuf.message import Message

from coordinator.api.calls import Caller, asked_by, tell_refusal
from coordinator.api.identity import CurrentMembers
from coordinator.api.roles import RULES
from coordinator.api.server import functions_of
from coordinator.bootstrap import Centre
from coordinator.console.accounts import Accounts
from coordinator.console.assets import Assets
from coordinator.console.fleet import Fleet
from coordinator.console.identities import Identities
from coordinator.console.oidc import Provider
from coordinator.console.rates import Rates
from coordinator.console.sessions import Sessions
from coordinator.console.vault import Vault
from coordinator.office.actors import Actor
from coordinator.settings import ConsoleSection
from strategies.errors import CovenantError, DiskError, Refused

_HTTPS: Final = 443


@dataclass
class Console:
    """The console of one coordinator. `failed` is the disk's failure, which ends everything."""

    centre: Centre
    members: CurrentMembers
    vault: Vault
    sessions: Sessions
    accounts: Accounts
    identities: Identities
    provider: Provider | None
    assets: Assets
    rates: Rates
    streams: Counter[str] = field(default_factory=Counter)
    """How many streams of what is new each officer has open (`live`)."""
    closing: threading.Event = field(default_factory=threading.Event)
    failed: DiskError | None = None

    @classmethod
    def of(cls, centre: Centre) -> Console:
        """The console of a coordinator that leads."""
        section = centre.settings.config.console
        vault = Vault(centre.settings.console_key_file)
        return cls(
            centre=centre,
            members=CurrentMembers(centre.settings),
            vault=vault,
            sessions=Sessions(centre.engine, vault),
            accounts=Accounts(centre.engine, vault, centre.monotonic, centre.sleep),
            identities=Identities(centre.engine, vault),
            provider=None
            if section is None or section.oidc is None
            else Provider(section.oidc, centre.settings.home, centre.clock, centre.monotonic),
            assets=Assets.read(),
            rates=Rates(centre.monotonic),
        )

    @cached_property
    def fleet(self) -> Fleet:
        """The sites as the SuperLink sees them."""
        return Fleet.of(self.centre)

    @property
    def section(self) -> ConsoleSection:
        """Its part of covenant.yaml."""
        section = self.centre.settings.config.console
        if section is None:
            raise CovenantError("covenant.yaml has no section `console`")
        return section

    @property
    def hosts(self) -> frozenset[str]:
        """The names, with ports, by which browsers may call it."""
        port = self.section.port
        names = (self.section.host, "localhost", "127.0.0.1")
        own = {f"{name}:{port}" for name in names}
        bare = set(names) if port == _HTTPS else set()  # browsers leave the port of https out
        return frozenset({*own, *bare, *self.section.names})

    def require(self, actor: Actor, method: str) -> None:
        """Check that an officer has a role for a method. A change that they have none for is told to the log, as the API's door does. Raises Forbidden."""
        try:
            actor.require(RULES[method].roles, method)
        except Refused as error:
            if RULES[method].changes:
                tell_refusal(self.centre, actor, method, None, error)
            raise

    def ask(self, actor: Actor, method: str, request: Message) -> Any:  # noqa: ANN401  (each method's own response)
        """Ask a method of the API as its door would: the same rule, the same request once, and a refusal told to the log. Raises CovenantError."""
        rule = RULES[method]
        try:
            actor.require(rule.roles, method)
            asked = asked_by(actor, method, request) if rule.changes else None
            return self._functions[method](request, Caller(actor=actor, asked=asked))
        except DiskError as error:
            self.failed = error
            raise
        except Refused as error:
            if rule.changes:
                tell_refusal(self.centre, actor, method, request, error)
            raise

    @cached_property
    def _functions(self) -> Mapping[str, Callable[[Any, Caller], Any]]:
        """Those that answer one request with one response look at no more of a call than its `Caller`."""
        return cast("Mapping[str, Callable[[Any, Caller], Any]]", functions_of(self.centre))
