"""Packing the evidence of an incident into one zip file: the log and its witnesses, the halts, the runs concerned, the accounts, and the ends of the logs.

1. It holds no rows, no keys, and nothing of a sum before noise: of the rounds it takes what the log may hold, and not what opens a sum.
2. Every file is looked through for the coordinator's secrets before it is packed; one that holds any ends the export, with nothing written.
3. Each source is a function in `SOURCES`; a part of the coordinator with evidence of its own adds one.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.schema import Attempt, Checkpoint, Round, Run
from coordinator.governance.exports import export_log, witness_facts
from coordinator.governance.halts import views
from coordinator.governance.log import TransparencyLog, open_log
from coordinator.governance.redaction import Secrets
from coordinator.keys import log_signer
from coordinator.ledger.facts import view_facts
from coordinator.ledger.store import Ledger
from protos.incident import (
    HALTS,
    INCIDENT_LABEL,
    LOG,
    MANIFEST,
    Manifest,
    PackedFile,
    SignedManifest,
    run_file,
)
from protos.release import package_version
from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.ids import RunId

_TAIL_BYTES: Final = 1 << 20
_MOST_LOGS: Final = 50
_MODE: Final = 0o600
_PACKAGES: Final = ("covenant-fl", "flwr", "sqlalchemy", "cryptography", "pydantic", "numpy", "torch")
_ROUND: Final = (
    "number", "attempt", "state", "roster", "survivors", "statement_digest", "aggregate_digest", "model_digest",
    "optimizer_digest", "exchange_s", "seconds", "metrics", "panels", "reason", "opened_at", "closed_at",
)  # fmt: skip
_ATTEMPT: Final = ("stage", "round", "attempt", "roster", "survivors", "asked_at")
_RUN: Final = (
    "id", "plan_name", "plan_digest", "state", "reason", "idle_starts", "submitted_at", "started_at", "finished_at",
)  # fmt: skip
_CHECKPOINT: Final = ("round", "model_artifact", "optimizer_artifact")


@dataclass(frozen=True, slots=True)
class Concern:
    """What an export is about."""

    centre: Centre
    log: TransparencyLog
    runs: tuple[RunId, ...]


File = tuple[str, bytes]


def export_incident(
    centre: Centre, target: Path, runs: tuple[RunId, ...] = (), since: datetime | None = None
) -> tuple[Path, Manifest]:
    """Write the zip `target`, or one in the folder `target`; where it is, and what it holds.

    `runs` are those concerned; without any all that were not over by `since`, or all. Raises UsageError where the file is there already or a run is
    not, and CovenantError where something holds a secret.
    """
    at = centre.clock()
    path = _file_in(target, centre, at)
    log = open_log(centre.engine, centre.settings, centre.clock)
    concern = Concern(centre, log, _concerned(centre, runs, since))
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
            manifest = _pack(file, concern, at)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # which, other than a renaming, overwrites nothing
    except FileExistsError as error:
        raise UsageError(f"{path} exists; name another file") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return path, manifest


def _pack(file: BinaryIO, concern: Concern, at: datetime) -> Manifest:
    """Every source's files, each looked through for secrets, and the signed manifest of them."""
    settings = concern.centre.settings
    known, packed = Secrets.of(settings), dict[str, PackedFile]()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for source in SOURCES:
            for name, data in source(concern, known):
                known.require_clean(name, data)
                made.writestr(name, data)
                packed[name] = PackedFile(sha256=sha256_hex(data), bytes=len(data))
        manifest = Manifest(
            federation=settings.config.federation,
            at=at,
            runs=concern.runs,
            versions=_versions(),
            files=packed,
        )
        signature = log_signer(settings).sign(INCIDENT_LABEL, manifest.canonical)
        made.writestr(MANIFEST, SignedManifest(manifest=manifest, signature=signature).canonical)
    return manifest


# --- sources


def _log(concern: Concern, _: Secrets) -> Iterator[File]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / LOG
        export_log(concern.log, concern.centre.settings.config.federation, file)
        yield LOG, file.read_bytes()


def _witnesses(concern: Concern, _: Secrets) -> Iterator[File]:
    """What `covenant log witnesses` shows: each note and statement in it carries its own signature."""
    yield "witnesses.json", _json(witness_facts(concern.centre, concern.log))


def _halts(concern: Concern, _: Secrets) -> Iterator[File]:
    yield (
        HALTS,
        _json(
            [
                {
                    "order": each.order.model_dump(mode="json", exclude_none=True),
                    "halted_at": each.halted_at,
                    "lift": None if each.lift is None else each.lift.model_dump(mode="json"),
                    "lifted_at": each.lifted_at,
                }
                for each in views(concern.centre.engine)
            ]
        ),
    )


def _runs(concern: Concern, _: Secrets) -> Iterator[File]:
    for run in concern.runs:
        with reading(concern.centre.engine, f"reading {run}") as session:
            row = session.get_one(Run, run)
            for name, text in (
                ("plan", row.plan),
                ("contract", row.contract),
                ("members", row.members),
                ("evidence", row.evidence),
            ):
                if text:
                    yield run_file(run, name), text.encode()
            yield run_file(run, "run"), _json(_columns(row, _RUN))
            yield run_file(run, "rounds"), _json(_rows(session, Round, run, _ROUND))
            yield run_file(run, "attempts"), _json(_rows(session, Attempt, run, _ATTEMPT))
            yield run_file(run, "checkpoints"), _json(_rows(session, Checkpoint, run, _CHECKPOINT))


def _ledger(concern: Concern, _: Secrets) -> Iterator[File]:
    ledger = Ledger(concern.centre.engine, concern.centre.clock)
    found = [ledger.show(each.key.site, each.key.population, each.ceiling.unit) for each in ledger.accounts()]
    yield "ledger.json", _json([view_facts(each) for each in found])


def _logs(concern: Concern, known: Secrets) -> Iterator[File]:
    """The ends of the processes' logs, without the line that was cut."""
    folder = concern.centre.settings.logs
    for path in sorted(folder.glob("*.log"))[:_MOST_LOGS]:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            tail = file.read(_TAIL_BYTES)
        yield f"logs/{path.name}", known.redacted(tail.partition(b"\n")[2] if start else tail)


SOURCES: Final[tuple[Callable[[Concern, Secrets], Iterator[File]], ...]] = (
    _log,
    _witnesses,
    _halts,
    _runs,
    _ledger,
    _logs,
)
"""What is packed, in this order."""


def _concerned(centre: Centre, runs: tuple[RunId, ...], since: datetime | None) -> tuple[RunId, ...]:
    with reading(centre.engine, "looking for runs") as session:
        if runs:
            for run in runs:
                if session.get(Run, run) is None:
                    raise UsageError(f"there is no run {run}; `covenant run list` shows those there are")
            return tuple(dict.fromkeys(runs))
        query = select(Run.id).order_by(Run.submitted_at)
        if since is not None:
            query = query.where(or_(Run.finished_at.is_(None), Run.finished_at >= since))
        return tuple(RunId(each) for each in session.scalars(query))


def _file_in(target: Path, centre: Centre, at: datetime) -> Path:
    if target.suffix == ".zip":
        path = target
    elif target.is_dir():
        path = target / f"incident-{centre.settings.config.federation}-{at:%Y%m%dT%H%M%SZ}.zip"
    else:
        raise UsageError(f"{target} is neither a folder nor the name of a .zip file; name one of these")
    if path.exists():
        raise UsageError(f"{path} exists; name another file")
    return path


def _rows(session: Session, table: type[Any], run: RunId, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What may be shown of the rows of a run; the columns are named, so that one that is added later is not shown by itself."""
    rows = session.scalars(select(table).where(table.run_id == run).order_by(*table.__mapper__.primary_key))
    return [_columns(each, names) for each in rows]


def _columns(row: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, default=str).encode() + b"\n"


def _versions() -> dict[str, str]:
    found = {
        "covenant": package_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
    }
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
