"""What a machine that runs models remembers: the newest release and the newest member list that it has accepted.

1. What is accepted is on disk before it is used, so that no restart and no restored service takes an older model back.
2. One process at a time looks and writes: a lock on a file beside the state.
3. A member list is kept whole, and verified against the pinned root each time that it is read.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protos import yaml12
from protos.files import replace_file
from protos.membership import Membership, Trusted
from protos.model_release import Floor, ModelRelease, floor_after
from protos.root import SignedRoot
from protos.succession import Newest, require_follows
from strategies.errors import Refused, UsageError

FLOOR_FILE: Final = "accepted.json"
_MEMBERS_FILE: Final = "accepted-members.json"
_LOCK_FILE: Final = "accepted.lock"
_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Machine:
    """One that runs models as `target`: the `pinned` root of its federation, and the folder of what it has accepted."""

    pinned: SignedRoot
    target: str
    folder: Path

    @contextmanager
    def looking(self) -> Iterator[Memory]:
        """What was accepted, for whoever may add to it; others wait. Raises UsageError where it cannot be read."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.folder / _LOCK_FILE).open("ab")
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be used: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Memory(self, self._floor(), self._members())

    def _floor(self) -> Floor | None:
        data = _read(self.folder / FLOOR_FILE)
        return None if data is None else Floor.from_canonical(data)

    def _members(self) -> tuple[Membership, Trusted] | None:
        data = _read(self.folder / _MEMBERS_FILE)
        if data is None:
            return None
        membership = Membership.from_canonical(data)
        return membership, membership.verify(self.pinned)


@dataclass(slots=True)
class Memory:
    """What was accepted so far; `accept` adds to it."""

    machine: Machine
    floor: Floor | None
    members: tuple[Membership, Trusted] | None

    def newest(self, offered: Trusted) -> Trusted:
        """The newer of what was accepted and what is `offered`. Raises Refused for a list or root that contradicts what was accepted."""
        if self.members is None:
            return offered
        _, known = self.members
        if offered.members.version < known.members.version or offered.root.version < known.root.version:
            require_follows(known, Newest.of(offered))
            return known
        require_follows(offered, Newest.of(known))
        return offered

    def require_not_under_older(self, release: ModelRelease, offered: Trusted) -> None:
        """Check that a release that is new here was not made under a member list from before the newest: officers who were taken off it approve nothing new.

        Raises Refused.
        """
        if self.members is None or (self.floor is not None and release.sequence <= self.floor.sequence):
            return
        known = self.members[1].members
        if offered.members.version < known.version:
            raise Refused(
                f"{release.words} was made under member list {offered.members.ref}, and {known.ref} has been accepted here; whoever was taken off it"
                " would approve again. Have it released anew"
            )

    def accept(self, release: ModelRelease, membership: Membership, trusted: Trusted) -> None:
        """Remember a release and the list that it came with, flushed on return. Raises Refused as `floor_after`, and UsageError."""
        floor = floor_after(release, self.floor)
        if self.newest(trusted) is trusted and (self.members is None or self.members[0] != membership):
            replace_file(self.machine.folder / _MEMBERS_FILE, membership.canonical, mode=_MODE)
            self.members = membership, trusted
        if floor != self.floor:
            replace_file(self.machine.folder / FLOOR_FILE, floor.canonical, mode=_MODE)
            self.floor = floor


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(yaml12.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise Refused(
            f"{path} is empty; without it this machine does not know which models are too old. Restore it"
        )
    return data
