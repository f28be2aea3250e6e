"""A version as a folder that others verify and read: its files, the signature over them, and the key that it is by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.registry.signatures import beside, read_certificate, verify_folder, write_folder
from coordinator.registry.versions import ModelVersion
from protos.artifact_keys import CERTIFICATE_FILE, RESERVED, SIGNATURE_FILE, require_artifact_key
from protos.log_entries import LogEntry
from protos.log_registry_events import ModelSigned
from protos.membership import Trusted
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFolder:
    """A folder whose signature holds: `digest` is the registry's of the version that it is, `key` who signed it, in PEM."""

    digest: Digest
    files: tuple[str, ...]
    key: str


def export_version(centre: Centre, version: ModelVersion, folder: Path) -> tuple[str, ...]:
    """Write a version into `folder`, new or empty, every file verified against its digest; returns the names. Raises `CovenantError`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is not an empty folder: a file that is not the version's would break its signature; name a new one"
        )
    files = {name: centre.artifacts.get(digest) for name, digest in version.artifacts.items()}
    if version.signature is not None:
        files |= beside(signed_as(centre, version).key)
        files[SIGNATURE_FILE] = centre.artifacts.get(version.signature)
    write_folder(folder, files)
    return tuple(files)


def signed_as(centre: Centre, version: ModelVersion) -> ModelSigned:
    """By which key a signed version is signed, as the log has it. Raises UsageError for one that is not."""
    query = select(LoggedEntry.body).where(LoggedEntry.kind == "model-signed").order_by(LoggedEntry.seq)
    with reading(centre.engine, f"looking who signed {version.ref}") as session:
        for body in session.scalars(query):
            what = LogEntry.from_canonical(bytes(body)).what
            if isinstance(what, ModelSigned) and (what.name, what.version) == (version.name, version.version):
                return what
    raise UsageError(
        f"the files of {version.ref} are not signed: there was no key for that when it was registered"
    )


def verify_export(folder: Path, trusted: Trusted) -> VerifiedFolder:
    """Judge a folder that `export_version` wrote, with nothing but the member list: no database, and no word of the coordinator's. Raises `CovenantError`."""
    certificate = read_certificate(folder / CERTIFICATE_FILE)
    key = require_artifact_key(certificate, trusted)
    verify_folder(folder, key, str(folder))
    try:
        files = {
            each.name: sha256_hex(each.read_bytes()) for each in folder.iterdir() if each.name not in RESERVED
        }
    except OSError as error:
        raise Refused(f"{folder} cannot be read: {error.strerror}") from error
    return VerifiedFolder(digest=digest_of(files), files=tuple(sorted(files)), key=key)
