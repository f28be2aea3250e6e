"""Whether the log that this site is shown goes on from what it has signed of it before: rules 1, 6 and 7 of a `witness`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NoReturn

import structlog

from client.refusal import TaskRefused
from client.transparency.gap_check import bridges_in
from client.transparency.log_copy import LogCopy
from client.transparency.memory import WitnessMemory
from protos.frames import RefusalCode
from protos.log_proofs import LogLeaf, ProofMissing, Shown
from protos.membership import Trusted
from protos.root import SignedRoot
from protos.witness import Evidence
from strategies.encoding import sha256_hex
from strategies.transparency.merkle import ProofRefused

Shows = Literal["split", "shorter", "not extended"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """The log as this site remembers it, and the root by which gaps in it are judged."""

    memory: WitnessMemory
    pinned: SignedRoot

    def require_sound(self) -> None:
        """Check that no split of the log is known here. Raises `TaskRefused`."""
        if self.memory.forks:
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                "this site has two different heads of one size of the log, both signed by the log's key, and takes part in nothing until its people"
                " have dealt with it: `covenant-agent witness` shows both",
                evidence=self.evidence("split", self.memory.forks[0].notes),
            )

    def follow_over_gaps(
        self, gaps: Iterable[LogLeaf], shown: Shown, trusted: Trusted, copy: LogCopy | None
    ) -> None:
        """Learn which heads are lost, and go on from the one that was kept where the last is among them: in the journal before anything is signed.

        Raises Refused for gaps that are none.
        """
        last = self.memory.last
        if last is None:
            return
        for bridge in bridges_in(gaps, shown, self.pinned):
            if self.memory.last_head in bridge.sound.declared.lost_heads:
                bridge.require_leads(self.memory.last_head, shown, self.pinned, trusted)
                _log.warning("follows the log over a gap", kept=bridge.kept.size)
                if copy is not None:
                    copy.leave_behind(bridge.kept.size, "lost, as a gap says")
                self.memory.note_gap(bridge.body, before=last.encoded, note=shown.note.encoded)
            elif sha256_hex(bridge.body) not in self.memory.gaps:
                self.memory.note_gap(bridge.body)

    def extends_the_last(self, shown: Shown, *, again: bool) -> bool:
        """Whether the head extends the last one that this site has signed; False where it may, and nothing shows it.

        Raises `TaskRefused` where it does not, or where nothing shows it although the request was made `again`.
        """
        last = self.memory.last_head
        if self.memory.last is None:
            return True
        if shown.head.size < last.size and not again:
            return False  # it may have been sent before the site signed for another run
        try:
            shown.require_extends(last)
        except ProofMissing:
            if not again:
                return False
            self._refuse(
                "not extended",
                shown,
                f"nothing shows that the log extends the {last.size} entries that this site has witnessed",
            )
        except ProofRefused as refused:
            split = shown.head.size == last.size and shown.head.root != last.root
            shows: Shows = "split" if split else "shorter" if shown.head.size < last.size else "not extended"
            self._refuse(shows, shown, f"the log does not extend what this site has witnessed: {refused}")
        return True

    def evidence(self, shows: Shows, notes: tuple[str, ...]) -> bytes:
        """What a refusal carries: `notes` that cannot be of one log, and the last statement of this site."""
        own = self.memory.newest
        shown = Evidence(
            shows=shows, site=self.memory.site, notes=notes, statements=() if own is None else (own,)
        )
        return shown.encoded

    def _refuse(self, shows: Shows, shown: Shown, reason: str) -> NoReturn:
        notes = (self.memory.last.encoded if self.memory.last else "", shown.note.encoded)
        _log.error("history refused", shows=shows, reason=reason)
        if shows == "split":
            self.memory.keep_fork(notes)
        raise TaskRefused(RefusalCode.SIGNATURE, reason, evidence=self.evidence(shows, notes))
