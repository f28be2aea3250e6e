"""What is said about witnesses as messages and back. What comes in is within bounds, or raises a `CovenantError` that `codec` makes its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from protos import training_pb2 as pb
from protos.frames import WitnessAnswer
from protos.log_proofs import (
    MOST_COPIED,
    MOST_COPIED_BYTES,
    MOST_ENTRY_BYTES,
    MOST_GAPS,
    MOST_HASHES,
    Grown,
    LogLeaf,
)
from protos.names import Site
from protos.vouching import SignedStart, SignedVoucher
from protos.witness import MOST_WITNESSES, Position, SignedWitness, View
from strategies.encoding import canonical_json
from strategies.errors import UsageError
from strategies.ids import SiteName
from strategies.transparency.merkle import HASH_BYTES, MOST_LEAVES

_VIEW: Final = TypeAdapter(Annotated[dict[Site, Position], Field(max_length=MOST_WITNESSES)])
_LONGEST_VIEW: Final = 1 << 18
_LONGEST_VERSION: Final = 40
_VERSION: Final = re.compile(rf"[0-9A-Za-z.+_!-]{{0,{_LONGEST_VERSION}}}")


def put_witness_answer(frame: pb.Reply, answer: WitnessAnswer) -> None:
    """Put an answer into a reply."""
    frame.witness.SetInParent()
    frame.witness.size, frame.witness.copied = answer.size, answer.copied
    frame.witness.version = answer.version
    if answer.statement is not None:
        frame.witness.statement = answer.statement.canonical
        frame.witness.view = view_bytes(answer.view)
    if answer.start is not None:
        frame.witness.start = answer.start.canonical
    frame.witness.vouchers.extend(each.canonical for each in answer.vouchers)


def read_witness_answer(frame: pb.WitnessAnswer) -> WitnessAnswer:
    """An answer; raises `CovenantError` for anything else."""
    size, copied = bounded(frame.size), bounded(frame.copied)
    start = SignedStart.from_canonical(frame.start) if frame.start else None
    vouchers, version = read_vouchers(frame.vouchers), _version(frame.version)
    if not frame.statement:
        return WitnessAnswer(size, copied=copied, start=start, vouchers=vouchers, version=version)
    return WitnessAnswer(
        size,
        SignedWitness.from_canonical(frame.statement),
        read_view(frame.view),
        copied=copied,
        start=start,
        vouchers=vouchers,
        version=version,
    )


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise UsageError(f"a release is named by at most {_LONGEST_VERSION} letters, digits and . + - _ !")
    return text


def read_starts(frames: Sequence[bytes]) -> tuple[SignedStart, ...]:
    """Starts; raises `CovenantError` for anything else."""
    few(frames, "starts")
    return tuple(map(SignedStart.from_canonical, frames))


def read_vouchers(frames: Sequence[bytes]) -> tuple[SignedVoucher, ...]:
    """Vouchers; raises `CovenantError` for anything else."""
    few(frames, "vouchers")
    return tuple(map(SignedVoucher.from_canonical, frames))


def leaf_message(leaf: LogLeaf) -> pb.LogLeaf:
    """The message of an entry with its proof."""
    return pb.LogLeaf(seq=leaf.seq, body=leaf.body, hashes=leaf.hashes)


def read_leaf(frame: pb.LogLeaf) -> LogLeaf:
    """An entry with its proof; raises `UsageError` out of bounds."""
    if not 1 <= len(frame.body) <= MOST_ENTRY_BYTES:
        raise UsageError(f"an entry of {len(frame.body)} bytes; 1 to {MOST_ENTRY_BYTES} are accepted")
    return LogLeaf(bounded(frame.seq), frame.body, _hashes(frame.hashes))


def read_gaps(frames: Sequence[pb.LogLeaf]) -> tuple[LogLeaf, ...]:
    """Entries that say what is lost; raises `UsageError` out of bounds."""
    if len(frames) > MOST_GAPS:
        raise UsageError(f"{len(frames)} gaps; at most {MOST_GAPS} are accepted")
    return tuple(map(read_leaf, frames))


def read_copied(frames: Sequence[bytes]) -> tuple[bytes, ...]:
    """Entries for a copy of the log; raises `UsageError` out of bounds."""
    total = sum(map(len, frames))
    if len(frames) > MOST_COPIED or total > MOST_COPIED_BYTES:
        raise UsageError(
            f"{len(frames)} entries of {total} bytes to copy; at most {MOST_COPIED} of {MOST_COPIED_BYTES} are accepted"
        )
    return tuple(frames)


def growth_messages(grown: Iterable[Grown]) -> list[pb.Growth]:
    """The messages of some proofs."""
    return [pb.Growth(size=each.size, hashes=each.proof) for each in grown]


def read_growth(frames: Sequence[pb.Growth]) -> tuple[Grown, ...]:
    """Proofs; raises `UsageError` out of bounds."""
    few(frames, "proofs")
    return tuple(Grown.of(bounded(each.size), _hashes(each.hashes)) for each in frames)


def view_bytes(view: View) -> bytes:
    """A view as canonical JSON."""
    return canonical_json({site: each.model_dump(mode="json") for site, each in view.items()})


def read_view(data: bytes) -> dict[SiteName, Position]:
    """A view; raises `UsageError` for anything else, or another form of one."""
    if len(data) > _LONGEST_VIEW:
        raise UsageError(f"a view of {len(data)} bytes; at most {_LONGEST_VIEW} are accepted")
    try:
        view = _VIEW.validate_json(data, strict=True)
    except ValidationError as error:
        raise UsageError("a view that is none: sites, and where the journal of each stands") from error
    if view_bytes(view) != data:
        raise UsageError("a view that is not in canonical form (RFC 8785)")
    return view


def few(items: Sequence[object], what: str) -> None:
    """Raises `UsageError` for more than one for each site that there may be."""
    if len(items) > MOST_WITNESSES:
        raise UsageError(f"{len(items)} {what}; at most {MOST_WITNESSES} are accepted")


def bounded(number: int) -> int:
    """A size or an index; raises `UsageError` beyond what any log has."""
    if number > MOST_LEAVES:
        raise UsageError(f"a log of {number} entries; at most {MOST_LEAVES} are counted")
    return number


def _hashes(hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    if len(hashes) > MOST_HASHES or any(len(each) != HASH_BYTES for each in hashes):
        raise UsageError(f"a proof that is not at most {MOST_HASHES} hashes of {HASH_BYTES} bytes")
    return tuple(hashes)
