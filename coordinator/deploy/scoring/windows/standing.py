"""Where a place's windows stand: what it has told, what its account has left, and what was lost. For whoever runs the place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from coordinator.deploy.scoring.windows.account import account_of, more_that_fit
from coordinator.deploy.scoring.windows.store import Gap, Store
from coordinator.deploy.scoring.windows.telling import windows_after
from protos.windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """`lost` are windows that a crash came between, `verdicts` what the place keeps to itself, by number of the window."""

    place: str
    monitor: str
    windows: Windows
    spent: str
    epsilon: float
    fits: int
    lost: Sequence[int]
    gaps: Sequence[Gap]
    verdicts: Sequence[tuple[int, str]]

    @property
    def words(self) -> Iterator[str]:
        """What is to be said beside the windows."""
        yield f"this period has spent {self.spent}; {self.fits} more windows fit"
        for number in self.lost:
            yield f"window {number} is lost: the service ended between its charge and its noise; it stays charged"
        for gap in self.gaps:
            yield (
                f"the service was killed between {_said(gap.since)} and {_said(gap.until)}: of {gap.decisions} decisions since then, those that it had not "
                "counted yet are in no window"
            )
        for number, words in self.verdicts:
            yield f"window {number}, for this place alone: {words}"
        newest = self.windows.windows[-1].sequence if self.windows.windows else self.windows.last
        if newest < self.windows.last:
            yield f"there are more, up to sequence {self.windows.last}: ask with --after {newest}"

    def facts(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "place": self.place,
            "monitor": self.monitor,
            "windows": [each.model_dump(mode="json", exclude_none=True) for each in self.windows.windows],
            "last": self.windows.last,
            "epsilon": self.epsilon,
            "fits": self.fits,
            "lost": list(self.lost),
            "gaps": [
                {"since": _said(each.since), "until": _said(each.until), "decisions": each.decisions}
                for each in self.gaps
            ],
            "verdicts": [{"number": number, "words": words} for number, words in self.verdicts],
        }


def standing_of(store: Store, now: float, after: int = 0) -> Standing:
    """Where the windows of a place stand, those after a sequence. Raises Refused, DiskError."""
    monitor, _ = store.monitor()
    place = store.place()
    with store.turn() as turn:
        account = account_of(turn, monitor, now)
        lost = turn.rows(
            "SELECT number FROM charges c WHERE release IS NOT NULL AND NOT EXISTS (SELECT 1 FROM releases WHERE charge = c.id) ORDER BY id"
        )
        verdicts = turn.rows("SELECT number, words FROM verdicts ORDER BY rowid")
    guarantee = account.guarantee()
    return Standing(
        place=place,
        monitor=monitor.digest,
        windows=windows_after(store, place, after),
        spent=guarantee.words,
        epsilon=guarantee.epsilon,
        fits=more_that_fit(monitor, account),
        lost=[int(str(number)) for (number,) in lost],
        gaps=store.gaps(),
        verdicts=[(int(str(number)), str(words)) for number, words in verdicts],
    )


def _said(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
