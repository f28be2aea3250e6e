"""What people at this site have said of plans, and which plans wait for them to say something.

1. What was said is on disk before the command that said it returns, and counts from the agent's next request on.
2. It is signed with the site's identity. What another key has signed, an earlier one of this site among them, does not count: it is asked for anew.
3. The newest word on a plan is the one that counts.
4. A plan that waits has passed every other rule. At most `MOST_PENDING` are kept: whoever sends more could fill a disk.

The file is a shared journal, as that of the halts is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from client.journal.entries import Entry
from client.journal.file import Connect, connect
from client.journal.shared import SharedJournal
from protos.consent import Consent
from protos.plan import Plan
from strategies.errors import UsageError
from strategies.ids import Digest, SiteName

MOST_PENDING: Final = 100
_SAID: Final = "consent"
_WAITS: Final = "waits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A plan that the agent was asked for, `at` some time, when nobody had said anything of it, or nothing that still counted."""

    plan: Plan
    at: datetime


@dataclass
class ConsentBook:
    """The consents of one site in one federation, in a journal at `path` that the agent and the commands share, and which the first word or plan begins.

    All methods raise as `Journal.open` does, and `JournalBroken`.
    """

    path: Path
    site: SiteName
    federation: Digest
    """That of root version 1. Consents in another federation are left alone."""
    identity: str
    """The public key, in base64, with which consents must be signed."""
    clock: Callable[[], datetime]
    connect: Connect = connect
    _shared: SharedJournal | None = None
    _said: dict[Digest, Consent] = field(default_factory=dict)
    """By plan, in the order in which they were said."""
    _waiting: dict[Digest, Waiting] = field(default_factory=dict)

    def given(self) -> tuple[Consent, ...]:
        """The newest word on each plan, the newest last, whoever said it since this process looked last."""
        self._look()
        return tuple(self._said.values())

    def waiting(self) -> tuple[Waiting, ...]:
        """The plans of which nobody has said anything since they were asked for, the oldest first."""
        self._look()
        return tuple(each for each in self._waiting.values() if not self._is_said(each))

    def find(self, digits: str) -> Plan:
        """The plan whose digest begins with `digits`, among those that the agent has seen. Raises UsageError unless it is one."""
        self._look()
        found = [each.plan for digest, each in self._waiting.items() if digest.startswith(digits)]
        if len(found) != 1:
            raise UsageError(
                f"{digits} is {'the beginning of several plans' if found else 'no plan that this site was asked to take part in'};"
                " `covenant-agent plan pending` lists them, or name the plan's file"
            )
        return found[0]

    def say(self, consent: Consent) -> None:
        """Put on disk what a person has said."""
        self._append(_SAID, {"consent": consent.canonical.decode()})

    def note(self, plan: Plan) -> bool:
        """Keep a plan that waits, once, and once more after each consent that has run out; whether it is kept."""
        known, said = self._waiting.get(plan.digest), self._said.get(plan.digest)
        ran_out = said is not None and said.expires is not None and said.expires <= self.clock()
        if known is not None and not (ran_out and self._is_said(known)):
            return True
        if len(self.waiting()) >= MOST_PENDING:
            return False
        at = self.clock().isoformat()
        self._append(_WAITS, {"plan": plan.canonical.decode(), "at": at, "in": self.federation})
        return True

    def close(self) -> None:
        """Close the file."""
        if self._shared is not None:
            self._shared.close()

    def _is_said(self, waiting: Waiting) -> bool:
        """Whether somebody has said something of a plan that counts, or has not run out when it was asked for."""
        said = self._said.get(waiting.plan.digest)
        return said is not None and (said.expires is None or waiting.at < said.expires)

    def _append(self, kind: str, body: dict[str, str]) -> None:
        with self._opened().turn() as append:
            append(kind, body)

    def _opened(self) -> SharedJournal:
        if self._shared is None:
            kinds = (_SAID, _WAITS)
            self._shared = SharedJournal.open(
                self.path, self.site, kinds, self._remember, connect=self.connect
            )
        return self._shared

    def _look(self) -> None:
        if self._shared is not None or self.path.exists():
            self._opened().refresh()

    def _remember(self, entry: Entry) -> None:
        if entry.kind == _SAID:
            said = Consent.from_canonical(entry.body["consent"].encode())
            if said.federation == self.federation and said.is_signed(self.identity):
                self._said.pop(said.plan, None)
                self._said[said.plan] = said
        elif entry.kind == _WAITS and entry.body["in"] == self.federation:
            plan = Plan.from_canonical(entry.body["plan"].encode())
            at = datetime.fromisoformat(entry.body["at"])
            self._waiting[plan.digest] = Waiting(plan=plan, at=at)
