"""Follows the state in a service's folder: a new state is opened, loaded and warmed beside the running models, then put into force at once.

1. The file is looked at ten times a second, so that a rollback takes effect well within one.
2. A state that is older, or whose packages are refused, changes nothing; the status says which and why, until a newer one is in force.
3. A model that both states have keeps its arm and its counts if it keeps its role.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from coordinator.deploy.scoring.arms import Arm, InForce, Loaded, Role, load
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import (
    STATE_FILE,
    Opened,
    Opener,
    PackageRef,
    RefusedState,
    ServingState,
    read_state,
)
from strategies.errors import CovenantError, Refused

LOOK_EVERY_S: Final = 0.1
_log = structlog.get_logger(__name__)


class Follower:
    """Keeps a scorer at the state in `folder`."""

    def __init__(self, folder: Path, opener: Opener, scorer: Scorer) -> None:
        self._folder, self._opener, self._scorer = folder, opener, scorer
        self._seen: tuple[int, int, int] | None = None

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Put the state in the folder into force if it is another than was looked at before."""
        stamp = await asyncio.to_thread(self._stamp)
        if stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        revision = 0
        try:
            state = await asyncio.to_thread(read_state, self._folder)
            if state is None:
                return
            revision = state.revision
            force = await asyncio.to_thread(self._prepared, state)
        except CovenantError as error:
            self._refuse(revision, str(error))
        except Exception as error:  # noqa: BLE001  (a defect in what opens packages must not end what is served)
            # Its kind alone: what a traceback quotes of a package is not for a log.
            self._refuse(
                revision, f"it could not be prepared ({type(error).__name__}), by a defect of this service"
            )
        else:
            self._scorer.in_force, self._scorer.refused = force, None
            _log.info("in force", revision=revision, models=[each.loaded.ref for each in force.arms])

    def _refuse(self, revision: int, why: str) -> None:
        self._scorer.refused = RefusedState(revision=revision, why=why)
        _log.error("a serving state was refused", revision=revision, why=why)

    def _prepared(self, state: ServingState) -> InForce:
        """The state with its models. Raises CovenantError."""
        before = self._scorer.in_force
        if state.revision <= before.revision:
            raise Refused(f"revision {state.revision} is not above {before.revision}, which is in force")
        return InForce(
            revision=state.revision,
            stable=self._arm("stable", state.stable, before),
            challenger=self._arm("challenger", state.challenger, before),
            mode=state.mode,
            share=state.share,
            decline_at=state.decline_at,
        )

    def _arm(self, role: Role, package: PackageRef | None, before: InForce) -> Arm | None:
        if package is None:
            return None
        # Opened anew each time, also where the model runs already: it may have been recalled, or altered on disk.
        opened = self._opener(Path(package.package))
        if opened.digest != package.digest:
            raise Refused(
                f"{package.package} holds {opened.name}@{opened.version} with the digest {opened.digest}; {package.digest} is to be served"
            )
        if opened.expires is not None and opened.expires <= self._scorer.clock():
            raise Refused(
                f"the package of {opened.name}@{opened.version} expired at {opened.expires:%Y-%m-%d %H:%M} UTC"
            )
        for arm in before.arms:
            if arm.loaded.digest == opened.digest and arm.loaded.expires == opened.expires:
                return arm if arm.role == role else self._of(role, arm.loaded)
        return self._of(role, load(opened))

    def _of(self, role: Role, loaded: Loaded) -> Arm:
        return Arm(role=role, loaded=loaded, since=self._scorer.clock())

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = (self._folder / STATE_FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def serve_one(scorer: Scorer, opened: Opened, decline_at: float | None) -> None:
    """Put one model into force, for good. Raises Refused for one that cannot be loaded."""
    arm = Arm(role="stable", loaded=load(opened), since=scorer.clock())
    scorer.in_force = InForce(revision=1, stable=arm, decline_at=decline_at)
