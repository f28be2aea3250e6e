"""A branch server takes in what was carried to it: judged like every package, put in force by its scoring service, and acknowledged.

1. Nothing of a bundle reaches the service before the whole of it was verified, as it was read, once; the running model is not touched by one that is refused.
2. It acknowledges what its service says is in force, never what it was only given. A refusal is acknowledged as well, with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from coordinator.deploy.accepted import Machine
from coordinator.deploy.package import (
    APPROVALS_FILE,
    MEMBERS_FILE,
    RELEASE_FILE,
    Package,
    Recalled,
    verify_pieces,
)
from coordinator.deploy.pieces import read_pieces
from coordinator.deploy.targets.base import Order, Target
from coordinator.deploy.targets.edge import Acknowledgement, acknowledge
from protos.keys import Signer
from protos.membership import Membership
from protos.model_release import ModelRelease
from strategies.errors import Refused, Unreachable

_EVERY_S: Final = 0.05
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A branch server: what it remembers, its scoring service, and the key that it signs acknowledgements with."""

    machine: Machine
    service: Target
    signer: Signer
    clock: Callable[[], datetime]
    wait_s: float = 30.0

    def take_in(self, bundle: Path) -> Acknowledgement:
        """Put the package in `bundle` in force, or say why not. Raises Refused for what is no release at all, Unreachable where the service is silent."""
        pieces = read_pieces(bundle)
        if RELEASE_FILE not in pieces:
            raise Refused(f"{bundle} has no {RELEASE_FILE}; carry the bundle here again")
        release = ModelRelease.from_canonical(pieces[RELEASE_FILE])
        try:
            verify_pieces(pieces, self.machine, self.clock())
        except Recalled:
            recall = _package(release, pieces)
            return self._in_force(release, Order(revision=release.sequence, recall=recall), runs=False)
        except Refused as refused:
            return self._said(release, runs=False, refused=str(refused))
        return self._in_force(
            release, Order(revision=release.sequence, stable=_package(release, pieces)), runs=True
        )

    def _in_force(self, release: ModelRelease, order: Order, *, runs: bool) -> Acknowledgement:
        self.service.give(order)
        ends = time.monotonic() + self.wait_s
        while True:
            seen = self._seen()
            if seen is not None:
                revision, refused = seen
                if revision == order.revision:
                    return self._said(release, runs=runs, refused=None)
                if refused is not None and refused[0] == order.revision:
                    return self._said(release, runs=False, refused=refused[1])
            if time.monotonic() >= ends:
                raise Unreachable(
                    f"the scoring service has not put {release.words} in force within {self.wait_s:g} s; nothing is acknowledged, take the bundle in again"
                )
            time.sleep(_EVERY_S)

    def _seen(self) -> tuple[int, tuple[int, str] | None] | None:
        try:
            seen = self.service.observe()
        except Unreachable:
            return None
        return seen.revision, seen.refused

    def _said(self, release: ModelRelease, *, runs: bool, refused: str | None) -> Acknowledgement:
        return acknowledge(
            self.signer,
            target=self.machine.target,
            sequence=release.sequence,
            release=release.digest,
            runs=runs,
            refused=None if refused is None else refused[:_LONGEST],
            at=self.clock(),
        )


def _package(release: ModelRelease, pieces: Mapping[str, bytes]) -> Package:
    """A verified package from its pieces."""
    named = release.released.artifacts if release.mode != "recall" else {}
    own = {RELEASE_FILE, MEMBERS_FILE, APPROVALS_FILE, *named}
    return Package(
        release=release,
        membership=Membership.from_canonical(pieces[MEMBERS_FILE]),
        approvals=pieces.get(APPROVALS_FILE, b""),
        files={name: pieces[name] for name in named},
        extra={name: data for name, data in pieces.items() if name not in own},
    )
