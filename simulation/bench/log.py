"""`covenant bench log`: how many entries a second the transparency log takes durably, and what a proof and a verification then cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine, text

from coordinator.db import migrate, open_database, writing
from coordinator.governance.log import TransparencyLog, append
from protos.keys import SigningKey, public_bytes
from protos.log_export import Export, ExportHeader, write_export
from protos.log_names import origin_of
from protos.log_run_events import RoundCommitted
from simulation.bench.log_story import LogStory
from simulation.bench.report import BenchResult
from strategies.errors import UsageError
from strategies.ids import Digest, RunId, site_name
from strategies.transparency.merkle import Frontier, leaf_hash, verify_consistency, verify_inclusion
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_PROOFS: Final = 50
_VERIFIED: Final = 10_000
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_DIGEST: Final = Digest("ab" * 32)
_SITES: Final = tuple(site_name(name) for name in ("east", "north", "south", "west"))


def measure(*, entries: int, batch: int, database: str | None, folder: Path | None) -> BenchResult:
    """Append `entries` in transactions of `batch`, each on disk when it returns, then prove some.

    In a fresh SQLite file in `folder` (else where temporary files lie), or in the empty database of a URL. Raises UsageError for one that has a log.
    """
    with _engine(database, folder) as engine:
        log = _log(engine)
        if log.size():
            raise UsageError("the database to measure in has a log already; name an empty one")
        began = time.perf_counter()
        for start in range(0, entries, batch):
            with writing(engine, "measuring") as session:
                append(session, _AT, (_entry(number) for number in range(start, min(start + batch, entries))))
        seconds = time.perf_counter() - began
        head = Checkpoint.parse(log.checkpoint().require(log.key))
        ours = {"entries_per_s": entries / seconds, "entries": float(entries), "batch": float(batch)}
        return BenchResult(bench="log", ours=ours | _proofs(log, head) | _verifying(_VERIFIED))


def _entry(number: int) -> RoundCommitted:
    """An entry of usual size."""
    return RoundCommitted(
        run=RunId(f"run-{number:016x}"),
        round=1,
        attempt=1,
        roster=_SITES,
        survivors=_SITES,
        statement=_DIGEST,
        aggregate=_DIGEST,
        model=_DIGEST,
        optimizer=_DIGEST,
    )


def _proofs(log: TransparencyLog, head: Checkpoint) -> dict[str, float]:
    """Seconds to make and check a proof, the median of some, with a fixed choice of entries."""
    chosen = Random("entries to prove")  # noqa: S311 (no secret)
    inclusion, consistency = [], []
    for _ in range(_PROOFS):
        seq = chosen.randrange(head.size)
        began = time.perf_counter()
        proof = log.inclusion(seq, head.size)
        (entry,) = log.entries(seq, seq + 1)
        verify_inclusion(leaf_hash(entry.body), index=seq, size=head.size, proof=proof, root=head.root)
        inclusion.append(time.perf_counter() - began)
        old = chosen.randrange(1, head.size + 1)
        began = time.perf_counter()
        proof = log.consistency(old, head.size)
        verify_consistency(
            old=old, old_root=log.head(old).root, new=head.size, new_root=head.root, proof=proof
        )
        consistency.append(time.perf_counter() - began)
    return {"inclusion_s": median(inclusion), "consistency_s": median(consistency)}


def _verifying(entries: int) -> dict[str, float]:
    """Seconds to verify an export of `entries` that tell of whole runs, as `covenant log verify` does."""
    story = LogStory()
    bodies = list(story.entries(entries))
    tree = Frontier()
    for each in bodies:
        tree, _ = tree.append(leaf_hash(each))
    key = NoteKey(origin_of(story.federation), public_bytes(story.log.public))
    head = Checkpoint(origin=key.name, size=tree.size, root=tree.root)
    note = SignedNote(head.text, (key.line(story.log.sign_note(head.text)),))
    file = BytesIO()
    write_export(file, ExportHeader(federation=story.federation, checkpoint=note.encoded), bodies)
    file.seek(0)
    began = time.perf_counter()
    Export.read(file).verify(story.pinned)
    return {"verified": float(entries), "verify_s": time.perf_counter() - began}


def _log(engine: Engine) -> TransparencyLog:
    signer = SigningKey.generate()
    key = NoteKey("bench/log", public_bytes(signer.public))
    return TransparencyLog(engine=engine, key=key, sign=signer.sign_note, clock=lambda: _AT)


@contextmanager
def _engine(database: str | None, folder: Path | None) -> Iterator[Engine]:
    with TemporaryDirectory(prefix="covenant-bench-", dir=folder) as name:
        engine = open_database(database or f"sqlite:///{Path(name) / 'covenant.db'}")
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            migrate(engine)
            yield engine
        finally:
            engine.dispose()
