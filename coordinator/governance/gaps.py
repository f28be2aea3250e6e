"""The gaps in the log, as sites are shown them: each is an entry with its proof, and names the heads that are lost."""

from __future__ import annotations

from typing import Final

from coordinator.governance.log import TransparencyLog
from protos.gaps import SignedGap
from protos.log_entries import GapLogged, LogEntry
from protos.log_proofs import MOST_GAPS, LogLeaf
from strategies.transparency.notes import Checkpoint

_KIND: Final = "gap"
_MOST_BYTES: Final = 512 * 1024


def gap_leaves(log: TransparencyLog, size: int) -> tuple[LogLeaf, ...]:
    """The newest gaps in the log of `size` entries, as many as a request takes, the oldest first."""
    found: list[LogLeaf] = []
    left = _MOST_BYTES
    for each in log.newest_first(_KIND, before=size):
        left -= len(each.body)
        if left < 0 or len(found) == MOST_GAPS:
            break
        found.append(LogLeaf(each.seq, each.body, log.inclusion(each.seq, size)))
    return tuple(reversed(found))


def lost_heads(log: TransparencyLog) -> frozenset[Checkpoint]:
    """The heads that gaps name: nobody accuses the log of not having them."""
    found = (LogEntry.from_canonical(each.body).what for each in log.entries(kind=_KIND))
    gaps = [each.gap.read_as(SignedGap) for each in found if isinstance(each, GapLogged)]
    return frozenset(head for gap in gaps for head in gap.gap.lost_heads)
