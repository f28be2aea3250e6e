"""The versions of named models: numbered from 1, never changed, each tied to its run and its exact artifacts.

1. A version's digest is over the canonical JSON of its artifacts map, so it names all files and their contents at once.
2. Registering the same artifacts of the same run again yields the version that exists: a restarted run adds no twin.
3. The artifacts are in the store before the row that names them exists.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading, writing
from coordinator.db.registry_schema import ModelAlias
from coordinator.db.schema import Model, Run, Stage
from coordinator.governance.log import append
from coordinator.governance.members import members_signed
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.personal import personal_sites
from coordinator.registry.signatures import Signed
from protos.artifact_keys import RESERVED
from protos.log_entries import ModelRegistered, What
from protos.log_registry_events import ModelSigned
from strategies.analytics.panels import Panels, released_panels
from strategies.encoding import digest_of
from strategies.errors import UsageError
from strategies.ids import Digest, RunId, SiteName
from strategies.pieces import Bytes

_MODEL_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MOST_DIGITS: Final = 9
WEIGHTS_FILE: Final = "model.safetensors"
SCORING_FILE: Final = "model.onnx"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One registered version. `artifacts` is file name to SHA-256; `created_at` is in UTC."""

    name: str
    version: int
    stage: Stage
    run_id: RunId
    digest: Digest
    artifacts: Mapping[str, Digest]
    metrics: Mapping[str, Any] | None
    created_at: datetime
    panels: Mapping[str, Any] | None = None
    """What its evaluation told beside metrics, where it gave none because noise hid a class."""
    personal: tuple[SiteName, ...] = ()
    """Sites that state to personalise it."""
    aliases: tuple[str, ...] = ()
    signature: Digest | None = None
    """The artifact that holds the signature over its files."""

    @property
    def released(self) -> Panels | None:
        """The panels of its evaluation, with metrics or without."""
        return released_panels(self.metrics, self.panels)

    @property
    def ref(self) -> str:
        """How people name it: `lending-default@3`."""
        return f"{self.name}@{self.version}"


def register(
    engine: Engine,
    store: ArtifactStore,
    *,
    name: str,
    run_id: RunId,
    files: Mapping[str, Bytes],
    weights: Digest,
    metrics: Mapping[str, Any] | None,
    clock: Callable[[], datetime],
    panels: Mapping[str, Any] | None = None,
    signed: Signed | None = None,
) -> ModelVersion:
    """Keep `files` and register them as the next version of `name`, a candidate. `weights` is the digest of the run's last model, which the log
    is told so that the version can be told to come from it. `signed` is the signature over these files.

    Raises UsageError for a name that cannot be used or an unknown run, CovenantError when disk or database fail.
    """
    _check(name, files)
    artifacts = {file: store.put(data) for file, data in sorted(files.items())}
    row = Model(
        name=name,
        stage=Stage.CANDIDATE,
        run_id=run_id,
        digest=digest_of(artifacts),
        artifacts=artifacts,
        metrics=None if metrics is None else dict(metrics),
        panels=None if panels is None else dict(panels),
        created_at=clock(),
        signature=None if signed is None else store.put(signed.signature),
    )
    with writing(engine, f"registering the model {name}") as session:
        made: list[Model] = []
        # The run before the log, as whoever stops or halts it: the row of the version points to the run's.
        session.get(Run, row.run_id, with_for_update={"read": True, "key_share": True})
        append(session, row.created_at, _registered(session, row, weights, signed, made))
        return _version(made[0])


def _registered(
    session: Session, row: Model, weights: Digest, signed: Signed | None, made: list[Model]
) -> Iterator[What]:
    """The entries of a new version, under the log's lock, which two registrations of a name take in turn; nothing for one that is there. `made` is given the row."""
    if session.get(Run, row.run_id) is None:
        raise UsageError(f"{row.run_id} is not in this database, so no model can come from it")
    same = (Model.name == row.name, Model.run_id == row.run_id, Model.digest == row.digest)
    known = session.scalar(select(Model).where(*same))
    made.append(row if known is None else known)
    if known is not None:
        return
    row.version = _next_version(session, row.name)
    session.add(row)
    session.flush()
    yield from _told(session, _version(row), weights, signed)


def list_versions(engine: Engine, name: str | None = None) -> tuple[ModelVersion, ...]:
    """All versions, or those of `name`, by name and then number."""
    query = select(Model).order_by(Model.name, Model.version)
    if name is not None:
        query = query.where(Model.name == name)
    with reading(engine, "listing models") as session:
        sites, named = personal_sites(session), _aliases(session)
        return tuple(
            _version(row, sites.get((row.name, row.version), ()), named.get((row.name, row.version), ()))
            for row in session.scalars(query)
        )


def get_version(engine: Engine, name: str, version: int) -> ModelVersion:
    """One version. Raises UsageError, naming what exists, when it does not."""
    with reading(engine, f"looking up {name}@{version}") as session:
        if session.get(Model, (name, version)) is not None:
            return read_version(session, name, version)
    known = list_versions(engine, name)
    hint = f"the latest is {known[-1].ref}" if known else f"there is no model called {name}"
    raise UsageError(f"the model {name}@{version} is not registered; {hint}")


def read_version(session: Session, name: str, version: int) -> ModelVersion:
    """One version that is registered, within a transaction."""
    row = session.get_one(Model, (name, version))
    place = (name, version)
    return _version(row, personal_sites(session).get(place, ()), _aliases(session).get(place, ()))


def locked_row(session: Session, name: str, version: int) -> Model:
    """The row of a version, as the database has it now and for this transaction alone. Raises UsageError."""
    query = select(Model).where(Model.name == name, Model.version == version)
    row = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if row is None:
        raise UsageError(
            f"the model {name}@{version} is not registered; `covenant model list` shows those that are"
        )
    return row


def find_version(engine: Engine, model: str) -> ModelVersion:
    """The version that NAME@VERSION or NAME@ALIAS names, or the latest of NAME. Raises UsageError."""
    name, _, version = model.partition("@")
    if version:
        return get_version(engine, name, _number(engine, name, version))
    known = list_versions(engine, name)
    if not known:
        raise UsageError(f"there is no model called {name!r}; `covenant model list` shows those there are")
    return known[-1]


def _number(engine: Engine, name: str, word: str) -> int:
    """The version that a number or an alias names. Raises UsageError."""
    if word.isdecimal() and len(word) <= _MOST_DIGITS:
        return int(word)
    with reading(engine, f"looking up {name}@{word}") as session:
        found = session.get(ModelAlias, (name, word))
    if found is None:
        raise UsageError(
            f"{name}@{word} names no version; write NAME@NUMBER, such as {name}@1, or an alias that `covenant model list` shows"
        )
    return found.version


def _aliases(session: Session) -> dict[tuple[str, int], tuple[str, ...]]:
    """The aliases of all versions that have one, by name and number."""
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    for row in session.scalars(select(ModelAlias).order_by(ModelAlias.alias)):
        place = (row.name, row.version)
        found[place] = (*found.get(place, ()), row.alias)
    return found


def _told(session: Session, version: ModelVersion, weights: Digest, signed: Signed | None) -> Iterator[What]:
    """What the log is told of a new version."""
    yield ModelRegistered(
        name=version.name,
        version=version.version,
        digest=version.digest,
        run=version.run_id,
        weights=weights,
        artifacts=dict(version.artifacts),
    )
    if signed is not None and version.signature is not None:
        yield from members_signed(session, signed.listed)
        yield ModelSigned(
            name=version.name,
            version=version.version,
            digest=version.digest,
            signature=version.signature,
            key=signed.key,
        )


def _next_version(session: Session, name: str) -> int:
    return (session.scalar(select(func.max(Model.version)).where(Model.name == name)) or 0) + 1


def _version(row: Model, personal: tuple[SiteName, ...] = (), aliases: tuple[str, ...] = ()) -> ModelVersion:
    return ModelVersion(
        name=row.name,
        version=row.version,
        stage=Stage(row.stage),
        run_id=RunId(row.run_id),
        digest=Digest(row.digest),
        artifacts={file: Digest(digest) for file, digest in sorted(row.artifacts.items())},
        metrics=row.metrics,
        panels=row.panels,
        created_at=row.created_at,
        personal=personal,
        aliases=aliases,
        signature=None if row.signature is None else Digest(row.signature),
    )


def _check(name: str, files: Mapping[str, Bytes]) -> None:
    """Names end up in URLs and folders, so they are plain and short."""
    if not _MODEL_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a model name; use 1 to 63 characters a-z, 0-9 and '-', starting with a letter"
        )
    for file in files:
        if file in RESERVED:
            raise UsageError(
                f"an artifact cannot be called {file}, as the signature and its key are; call it otherwise"
            )
        if not _FILE_NAME.fullmatch(file):
            raise UsageError(
                f"{file!r} is not an artifact's file name; use up to 100 letters, digits, '.', '_' and '-'"
            )
    if not files:
        raise UsageError(f"the model {name} has no files; register at least one")
