"""A branch server without a connection: what it is to run is carried to it as one file, and what it runs is carried back as another.

1. An order is a bundle in the outbox, called by target and revision: the package that serves, or the recall.
2. An acknowledgement is signed with the branch server's own key, which was read to the centre when the target was added, so that nobody else can
   say what runs there. It names the release that was accepted, or why none was.
3. A branch server tries nothing: what is carried there has been tried elsewhere.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import structlog
from pydantic import Field

from coordinator.deploy.package import RELEASE_FILE, Package, bundle_package
from coordinator.deploy.pieces import BUNDLE_SUFFIX, read_ordinary, read_pieces
from coordinator.deploy.targets.base import Observed, Order
from coordinator.deploy.targets.settings import EdgeSettings
from protos import yaml12
from protos.documents import Document, make_document
from protos.files import replace_file
from protos.keys import Signature, Signer, verify
from protos.model_release import ModelRelease
from protos.moments import Moment
from protos.names import Name, Sha256
from protos.rollouts import State
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_LABEL: Final = "covenant/edge-acknowledgement/v1"
_SUFFIX: Final = ".ack.json"
_MODE: Final = 0o644
_log = structlog.get_logger(__name__)


class _Acknowledgement(Document):
    """What is signed."""

    covenant: Literal["edge-acknowledgement/v1"] = "edge-acknowledgement/v1"
    target: Name
    sequence: Annotated[int, Field(ge=1)]
    release: Sha256
    runs: bool
    refused: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    at: Moment


class Acknowledgement(_Acknowledgement):
    """What a branch server says of a release: it `runs`, nothing runs after a recall, or it was `refused`. Worth nothing before `require`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    def require(self, key: str, target: str) -> None:
        """Check that the branch server with that `key` says so of itself. Raises Refused."""
        if self.target != target or not verify(key, self.signature, _LABEL, self.message):
            raise Refused(
                f"this acknowledgement is not signed by {target}; carry back what the branch server wrote"
            )


def acknowledge(
    signer: Signer,
    *,
    target: str,
    sequence: int,
    release: Digest,
    runs: bool,
    refused: str | None,
    at: datetime,
) -> Acknowledgement:
    """What the branch server with that `signer` says. Raises UsageError."""
    said = make_document(
        _Acknowledgement,
        "the acknowledgement",
        target=target,
        sequence=sequence,
        release=release,
        runs=runs,
        refused=refused,
        at=at.replace(microsecond=0),
    )
    return Acknowledgement(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def bundle_name(target: str, revision: int) -> str:
    """What the bundle of an order is called."""
    return f"{target}-{revision:06d}{BUNDLE_SUFFIX}"


def acknowledgement_name(target: str, sequence: int) -> str:
    """What the acknowledgement of a release is called."""
    return f"{target}-{sequence:06d}{_SUFFIX}"


class EdgeTarget:
    """See `Target`."""

    states = frozenset({State.FULL})

    def __init__(self, name: str, settings: EdgeSettings) -> None:
        self._name, self._settings = name, settings
        self._outbox = Path(settings.outbox)

    def give(self, order: Order) -> None:
        """See `Target.give`."""
        if order.challenger is not None:
            raise Refused(
                f"{self._name} has no connection, so nothing can be watched while it is tried there"
            )
        package = _carried(order)
        newest = max(self._given(), default=0)
        if newest > order.revision:
            raise Refused(
                f"{self._outbox} has order {newest} for {self._name}; order {order.revision} is older, so another deployment came first"
            )
        path = self._outbox / bundle_name(self._name, order.revision)
        if path.exists():
            return
        try:
            self._outbox.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._outbox} cannot be used: {error.strerror}") from error
        bundle_package(path, package)

    def observe(self) -> Observed:
        """See `Target.observe`. A bundle that nobody has acknowledged is not in force.

        The newest first, and nothing older than what is in force: what was carried here damaged, or by somebody else, is told and is no acknowledgement.
        """
        refused = None
        for each in sorted(self._given(), reverse=True):
            try:
                said = self._said(each)
            except (Refused, UsageError) as error:
                _log.warning("no acknowledgement", target=self._name, revision=each, reason=str(error))
                continue
            if said is None:
                continue
            if said.refused is None:
                return Observed(revision=each, refused=refused)
            refused = refused or (each, said.refused)
        return Observed(revision=0, refused=refused)

    def _given(self) -> list[int]:
        """The revisions whose bundles are in the outbox."""
        if not self._outbox.is_dir():
            return []
        start, end = f"{self._name}-", BUNDLE_SUFFIX
        names = (each.name for each in self._outbox.iterdir())
        middles = (
            each[len(start) : -len(end)] for each in names if each.startswith(start) and each.endswith(end)
        )
        return [int(each) for each in middles if each.isdecimal()]

    def _said(self, revision: int) -> Acknowledgement | None:
        """What the branch server says of the release in the bundle of an order. Raises Refused for what it has not signed."""
        pieces = read_pieces(self._outbox / bundle_name(self._name, revision))
        if RELEASE_FILE not in pieces:
            raise Refused(f"the bundle of order {revision} in {self._outbox} has no {RELEASE_FILE}")
        release = ModelRelease.from_canonical(pieces[RELEASE_FILE])
        path = Path(self._settings.inbox) / acknowledgement_name(self._name, release.sequence)
        try:
            data = read_ordinary(path, yaml12.MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        said = Acknowledgement.from_canonical(data.strip())
        said.require(self._settings.key, self._name)
        if (said.sequence, said.release) != (release.sequence, release.digest):
            raise Refused(f"{path} is of another release than the bundle of order {revision}")
        return said


def _carried(order: Order) -> Package:
    """The one package of an order. Raises Refused for an order without any."""
    package = order.recall or order.stable
    if package is None:
        raise Refused(
            f"order {order.revision} has neither a release nor a recall, so there is nothing to carry"
        )
    return package


def write_acknowledgement(folder: Path, said: Acknowledgement) -> Path:
    """Write what a branch server says where it is carried back from. Raises UsageError."""
    path = folder / acknowledgement_name(said.target, said.sequence)
    replace_file(path, said.canonical + b"\n", mode=_MODE)
    return path
