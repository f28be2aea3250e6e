"""The documents of runs that this site was asked to take part in, judged once but for what time changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from client.admission.documents import Accepted, check_documents, check_trust
from client.admission.presence import Presence
from client.admission.trust import Trust
from client.journal.answers import Answers
from client.newest import Newest
from protos.frames import Task
from protos.site import SiteConfig
from strategies.encoding import sha256_hex
from strategies.ids import Digest, RunId

KEPT: Final = 4
"""Runs at once whose documents are remembered."""


@dataclass
class Judged:
    """Documents that have passed, by the digests of all four: plan, contract, member list and evidence."""

    config: SiteConfig
    trust: Trust
    identity_key: str
    """This site's own public key, which the member list must name."""
    answers: Answers
    """Which say when this site began a run."""
    presence: Presence
    require_sound: Callable[[], None]
    """Raises `TaskRefused` while a split of the log is known here."""
    _accepted: Newest[tuple[Digest, Digest, Digest, Digest], Accepted] = field(
        default_factory=lambda: Newest(KEPT)
    )

    def documents(self, task: Task, run: RunId) -> Accepted:
        """The documents of `run`, if this site admits them and its people allow it. Raises `TaskRefused`."""
        key = (
            sha256_hex(task.plan),
            sha256_hex(task.contract),
            sha256_hex(task.members),
            sha256_hex(task.evidence),
        )
        if key in self._accepted:
            self.require_trust(self._accepted[key], run)
        else:
            began = self.answers.began(run, key[0])
            accepted = check_documents(
                task, config=self.config, trust=self.trust, identity_key=self.identity_key, began=began
            )
            self.presence.require_consent(accepted, began)
            self._accepted[key] = accepted
        return self._accepted[key]

    def require_trust(self, accepted: Accepted, run: RunId) -> None:
        """Judge again what time changes: a newer member list may have come, approvals expire, and consent is taken back. Raises `TaskRefused`."""
        self.require_sound()
        began = self.answers.began(run, accepted.plan.digest)
        check_trust(accepted, self.trust, began=began)
        self.presence.require_consent(accepted, began)
