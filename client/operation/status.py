"""How an agent is: from its lock, its state, and what lies on the disk, whether or not it runs. Needs no key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from client.accounts.views import views
from client.bootstrap import open_accounts, open_halts, open_standing, standing_file
from client.operation.state import AgentState, StateFolder
from protos.site import SiteConfig
from strategies.errors import CovenantError

_QUIET_S: Final = 60.0
"""Four heartbeats: a connected agent that was not answered for so long is not as it says."""
_LITTLE_BYTES: Final = 1 << 30
_NEARLY: Final = 0.8
_STANDS: Final = {"suspended": "is suspended", "left": "has left the federation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`word` is running, connecting, draining or down; `warnings` say what to do about what is not as it should be."""

    site: str
    word: str
    state: AgentState | None
    accounts: dict[str, float]
    """By population: how much of the ceiling is spent; 1 is all."""
    halts: list[str]
    free_bytes: int
    warnings: list[str]

    @property
    def well(self) -> bool:
        """Whether it runs and the centre can reach it."""
        return self.word in {"running", "draining"}

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def status_of(config: SiteConfig, clock: Callable[[], datetime]) -> Status:
    """The status of the site's agent."""
    folder = StateFolder(config.journal.parent)
    alive, state = folder.alive, folder.read()
    free = shutil.disk_usage(config.journal.parent).free if config.journal.parent.exists() else 0
    warnings: list[str] = []
    accounts = _accounts(config, warnings)
    halts = _halts(config, warnings)
    word = word_of(state, alive=alive)
    warnings += about_process(state, word, clock())
    warnings += _about_standing(config)
    warnings += [
        f"{name}: {share:.0%} of the ceiling is spent; `covenant-agent budget` shows what is left"
        for name, share in accounts.items()
        if share >= _NEARLY
    ]
    if free < _LITTLE_BYTES:
        warnings.append(
            f"{free / 2**20:.0f} MiB are free where the journal is: the agent stops when it cannot record an answer; free some"
        )
    if halts:
        warnings.append(
            f"{len(halts)} halts stand here: what they cover is refused; `covenant-agent halts` shows them"
        )
    return Status(
        site=config.site, word=word, state=state, accounts=accounts, halts=halts, free_bytes=free, warnings=warnings
    )  # fmt: skip


def word_of(state: AgentState | None, *, alive: bool) -> str:
    """How the process is: running, connecting, draining or down."""
    if not alive:
        return "down"
    if state is not None and state.draining:
        return "draining"
    return "running" if state is not None and state.connected else "connecting"


def about_process(state: AgentState | None, word: str, now: datetime) -> list[str]:
    """What is not as it should be with the process that is `word`, and what to do, in sentences."""
    if word == "down":
        if state is None:
            return ["no agent has run here; start it with `covenant-agent run`"]
        if state.ended_at is None:
            return [
                "the agent ended without a word, killed or by a power cut; nothing that it had answered is lost, start it again"
            ]
        return [f"the agent ended at {state.ended_at}: {state.ended_because}"]
    if word == "connecting":
        reason = None if state is None else state.away_because
        return [
            f"not connected: {reason or 'it is starting'}; the runbook `an agent does not connect` says what to do"
        ]
    if state is not None and state.contact_at is not None:
        quiet = (now - datetime.fromisoformat(state.contact_at)).total_seconds()
        if abs(quiet) > _QUIET_S:
            return [
                f"the SuperLink was last heard {quiet:.0f} s ago; the network or this machine's clock is not well"
            ]
    return []


def _accounts(config: SiteConfig, warnings: list[str]) -> dict[str, float]:
    if not config.accounts.exists():
        return {}
    try:
        with closing(open_accounts(config)) as book:
            return {
                each.population: each.account.ceiling.fraction(each.account.cost)
                for each in views(config, book)
            }
    except CovenantError as error:
        warnings.append(f"the accounts cannot be read: {error}")
        return {}


def _about_standing(config: SiteConfig) -> list[str]:
    if not standing_file(config).exists():
        return []
    try:
        with closing(open_standing(config)) as book:
            if book.state == "taking part":
                return []
            return [
                f"this site {_STANDS[book.state]} ({book.reason}), so every request is refused; `covenant-agent return` lets it take part again"
            ]
    except CovenantError as error:
        return [f"the standing cannot be read: {error}"]


def _halts(config: SiteConfig, warnings: list[str]) -> list[str]:
    if not config.halts.exists():
        return []
    try:
        with closing(open_halts(config)) as book:
            return [f"{each.what}: {each.reason}" for each in book.standing()]
    except CovenantError as error:
        warnings.append(f"the halts cannot be read: {error}")
        return []
