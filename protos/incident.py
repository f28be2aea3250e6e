"""An incident's evidence in one zip file, checked without its coordinator.

1. `MANIFEST.json` names every other file by its SHA-256, and is signed with the log's key.
2. `log.jsonl` is an export of the transparency log, and is verified whole. The manifest's key is the one that the log's newest member list names.
3. The documents of a run are those under which the log says that it was launched; the halts are those that the log has.
4. What is not named in the manifest is not in the file; nothing is unpacked, and nothing is read beyond its bound.

It holds no rows, no keys, and nothing of a sum before noise: who makes it leaves that out, and looks once more.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, cast

from pydantic import Field

from protos.approvals import PlanEvidence
from protos.documents import Document, Part
from protos.halts import HaltOrder
from protos.keys import Signature, verify
from protos.log_entries import LogEntry, RunLaunched
from protos.log_export import Export, Verified
from protos.membership import Membership
from protos.moments import Moment
from protos.names import Name, Sha256
from protos.root import SignedRoot
from strategies.encoding import canonical_json, sha256_hex
from strategies.errors import Refused, UsageError

MANIFEST: Final = "MANIFEST.json"
LOG: Final = "log.jsonl"
HALTS: Final = "halts.json"
INCIDENT_LABEL: Final = "covenant/incident/v1"
_MOST_FILES: Final = 10_000
_MOST_BYTES: Final = 4 << 30
_MOST_SMALL: Final = 64 << 20
_PIECE: Final = 1 << 20
_RUN_DOCUMENTS: Final = ("plan", "contract", "members", "evidence")


class PackedFile(Part):
    """One file of the zip."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=_MOST_BYTES)]


class Manifest(Document):
    """What is in the zip, and of when it is."""

    covenant: Literal["incident/v1"] = "incident/v1"
    federation: Name
    at: Moment
    runs: tuple[str, ...]
    versions: dict[str, str]
    files: Annotated[dict[str, PackedFile], Field(max_length=_MOST_FILES)]


class SignedManifest(Document):
    """A manifest and the log's signature over its canonical bytes."""

    manifest: Manifest
    signature: Signature


@dataclass(frozen=True, slots=True)
class VerifiedIncident:
    """What was verified; `verify_incident` is its only maker."""

    manifest: Manifest
    log: Verified


def verify_incident(path: Path, pinned: SignedRoot, known: Membership | None = None) -> VerifiedIncident:
    """Everything that the module promises. Raises UsageError where the file cannot be read, Refused where it is not what it must be."""
    try:
        with zipfile.ZipFile(path) as packed:
            return _verified(packed, pinned, known)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"{path} is no zip file that can be read whole: {error}") from error


def _verified(packed: zipfile.ZipFile, pinned: SignedRoot, known: Membership | None) -> VerifiedIncident:
    names = packed.namelist()
    if len(names) > _MOST_FILES or len(set(names)) < len(names):
        raise Refused(
            f"this file names {len(names)} files, or one of them twice; at most {_MOST_FILES} are accepted"
        )
    if sum(each.file_size for each in packed.infolist()) > _MOST_BYTES:
        raise Refused(f"this file unpacks to more than {_MOST_BYTES} bytes")
    if MANIFEST not in names:
        raise Refused(f"this is no incident export: it has no {MANIFEST}")
    signed = SignedManifest.from_canonical(_small(packed, MANIFEST).strip())
    _require_files(packed, signed.manifest)
    with packed.open(LOG) as file:
        log = Export.read(cast("BinaryIO", file)).verify(pinned, known)
    members = log.story.members
    key = None if members is None else members.service("log").key
    if key is None or not verify(key, signed.signature, INCIDENT_LABEL, signed.manifest.canonical):
        raise Refused(
            f"{MANIFEST} is not signed with the key of this federation's log: it was changed, or made by somebody else"
        )
    _require_as_logged(packed, signed.manifest, log)
    return VerifiedIncident(signed.manifest, log)


def _require_files(packed: zipfile.ZipFile, manifest: Manifest) -> None:
    found, named = set(packed.namelist()) - {MANIFEST}, set(manifest.files)
    if found != named or not {LOG, HALTS} <= named:
        odd = sorted((found ^ named) or {LOG, HALTS} - named)
        raise Refused(f"{odd[0]} is in the file and not in {MANIFEST}, or the other way round")
    for name, expected in sorted(manifest.files.items()):
        digest, size = hashlib.sha256(), 0
        with packed.open(name) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        if (digest.hexdigest(), size) != (expected.sha256, expected.bytes):
            raise Refused(f"{name} is not the file that {MANIFEST} names: it was changed")


def _require_as_logged(packed: zipfile.ZipFile, manifest: Manifest, log: Verified) -> None:
    """The documents and halts beside the log are those in the log."""
    if manifest.federation != log.federation:
        raise Refused(f"the manifest is of federation {manifest.federation}, the log of {log.federation}")
    by_name = {str(run): story for run, story in log.story.runs.items()}
    launches = _launches(packed, {each.launch for each in by_name.values()})
    for run in manifest.runs:
        if (story := by_name.get(run)) is None:
            raise Refused(f"{run} is in this file, and was never launched by the log")
        plan, contract = (sha256_hex(_small(packed, run_file(run, each))) for each in _RUN_DOCUMENTS[:2])
        if (plan, contract) != (story.plan.digest, story.contract):
            raise Refused(f"plan or contract of {run} is not the one that it was launched with")
        _require_people_as_logged(packed, run, launches[story.launch])
    logged = {each.digest: each.order for each in log.story.halts.given}
    for each in json.loads(_small(packed, HALTS)):
        order = HaltOrder.from_canonical(canonical_json(each["order"]))
        if logged.pop(order.digest, None) is None:
            raise Refused(f"halt {order.id} is in this file, and not in the log")
    for order in logged.values():
        raise Refused(f"halt {order.id} is in the log, and not in {HALTS}")


def _require_people_as_logged(packed: zipfile.ZipFile, run: str, launch: RunLaunched) -> None:
    """The member list and the approvals of a run are those of its launch."""
    if sha256_hex(_small(packed, run_file(run, "members"))) != launch.members:
        raise Refused(f"the member list of {run} is not the one that it was launched with")
    name = run_file(run, "evidence")
    there = PlanEvidence.from_canonical(_small(packed, name)).digest if name in packed.namelist() else None
    if there != launch.evidence:
        raise Refused(f"the approvals of {run} are not those that it was launched with")


def _launches(packed: zipfile.ZipFile, places: Collection[int]) -> dict[int, RunLaunched]:
    """The launches at `places` of a log that was verified."""
    with packed.open(LOG) as file:
        bodies = enumerate(Export.read(cast("BinaryIO", file)).entries)
        found = {seq: LogEntry.from_canonical(body).what for seq, body in bodies if seq in places}
    return {seq: what for seq, what in found.items() if isinstance(what, RunLaunched)}


def run_file(run: str, document: str) -> str:
    """Where a document of a run is in the zip."""
    return f"runs/{run}/{document}.json"


def _small(packed: zipfile.ZipFile, name: str) -> bytes:
    """A whole file, in bounds. Raises Refused."""
    try:
        info = packed.getinfo(name)
    except KeyError as error:
        raise Refused(f"this file has no {name}") from error
    if info.file_size > _MOST_SMALL:
        raise Refused(f"{name} has {info.file_size} bytes; at most {_MOST_SMALL} are accepted")
    return packed.read(name)
