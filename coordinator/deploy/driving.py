"""The thread that drives rollouts while a coordinator leads (`driver`)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final, Self

import structlog
from sqlalchemy import func, select

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import TargetRow
from coordinator.db.engine import reading
from coordinator.deploy.driver import Driver
from coordinator.deploy.issuing import Issuer, issuer_of
from coordinator.keys import release_signer
from protos.keys import Signer
from strategies.errors import CovenantError, DiskError

_AWAKE_S: Final = 1.0
"""How long a new order is followed closely: until the target has had time to come to it."""
_log = structlog.get_logger(__name__)


@dataclass
class Driving:
    """Drives every target again and again while a coordinator leads, and at once for a second when an order is new. Use as a context manager.

    A coordinator without targets needs no key that signs releases; one whose key cannot be used tells its log and asks again. The key is opened once
    and again when its file is another, because opening an encrypted one is hard work by design.
    """

    centre: Centre
    every_s: float = 2.0
    look_s: float = 0.1
    """How soon a new order is seen, whoever decided it: a rollback takes effect well within a second."""
    failed: DiskError | None = None
    _opened: tuple[int, Signer] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="deployments", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; what is under way at a target is ended first."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        told, ordered, due, awake = "", 0, 0.0, 0.0
        while not self._stopping.wait(self.look_s):
            try:
                newest, now = orders_made(self.centre), time.monotonic()
                if newest != ordered:
                    ordered, awake, due = newest, now + _AWAKE_S, now
                if awake <= now < due:
                    continue
                due = now + self.every_s
                if has_targets(self.centre):
                    Driver(self._issuer()).drive_all()
                told = ""
            except DiskError as error:
                self.failed = error
                return
            except CovenantError as error:
                if str(error) != told:
                    told = str(error)
                    _log.error("nothing is deployed", reason=told)
            except Exception as error:  # noqa: BLE001  (a thread that ends without a word would recall nothing any more)
                _log.error("nothing is deployed", trouble=type(error).__name__)

    def _issuer(self) -> Issuer:
        path = self.centre.settings.release_key_file
        written = path.stat().st_mtime_ns if path.exists() else 0
        if self._opened is None or self._opened[0] != written:
            self._opened = written, release_signer(self.centre.settings)
        return issuer_of(self.centre, self._opened[1])


def orders_made(centre: Centre) -> int:
    """How many orders there are: another number when one is new."""
    with reading(centre.engine, "looking for orders") as session:
        return int(session.scalar(select(func.sum(TargetRow.revision))) or 0)


def has_targets(centre: Centre) -> bool:
    """Whether there is anything to deploy to."""
    with reading(centre.engine, "looking for targets") as session:
        return session.scalar(select(TargetRow.name).limit(1)) is not None
