"""Whether a log that does not extend what this site has signed may be followed: only over a gap that the officers have signed.

1. The gap is in the log of the head that the site is about to sign, as the first entry after the head that was kept.
2. The quorum of the root that this site trusts signed it, and it names the very head that this site has signed as lost.
3. The head that the site is about to sign extends the one that was kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from protos.gaps import SignedGap, SoundGap, require_bridges
from protos.log_entries import GapLogged, LogEntry
from protos.log_proofs import LogLeaf, Shown
from protos.membership import Trusted
from protos.root import SignedRoot
from strategies.errors import Refused
from strategies.transparency.notes import Checkpoint


@dataclass(frozen=True, slots=True)
class Bridge:
    """A gap in the log of a head that was shown, as entry `body`; `bridges_in` is its only maker. `kept` is the head from which the log goes on."""

    sound: SoundGap
    kept: Checkpoint
    body: bytes

    def require_leads(self, last: Checkpoint, shown: Shown, pinned: SignedRoot, trusted: Trusted) -> None:
        """Check that whoever has signed `last` may follow `shown`. Raises Refused."""
        require_bridges(self.sound.signed, last, pinned, newest=trusted.root.version)
        shown.require_extends(self.kept)


def signed_gap(body: bytes) -> SignedGap | None:
    """The gap in an entry of the log, unverified; None if it is another kind of entry."""
    what = LogEntry.from_canonical(body).what
    return what.gap.read_as(SignedGap) if isinstance(what, GapLogged) else None


def bridges_in(gaps: Iterable[LogLeaf], shown: Shown, pinned: SignedRoot) -> Iterator[Bridge]:
    """The gaps among entries `gaps` of the log of `shown`. Raises Refused for one that is not in it, at its place, or without the quorum."""
    for leaf in gaps:
        signed, head = signed_gap(leaf.body), shown.head
        if signed is None:
            raise Refused(f"entry {leaf.seq} of the log is no gap")
        sound, kept = signed.verify(pinned), signed.gap.kept
        if leaf.seq != kept.size:
            raise Refused(
                f"the gap is entry {leaf.seq} of the log, and says that the log goes on after {kept.size} entries"
            )
        leaf.require_in(head)
        at = Checkpoint(origin=head.origin, size=kept.size, root=bytes.fromhex(kept.root))
        yield Bridge(sound, at, leaf.body)
