"""Windows from where models run: fetched from scoring services on this machine, taken from files of places without a connection; and alerts sent on.

1. A service is asked for what came since the newest window that is kept of it. Killed anywhere, the next one that comes asks the same again, which
   changes nothing that was taken in.
2. A service that has released fewer windows than it told before has lost its state. That is told: asked for what came since, it would say nothing for long.
3. A window that is refused is told, and those after it are taken in. Once somebody has mended what is wrong, all are asked for `again`.
4. Whatever one target says or does costs the others nothing.
5. A file of a target with a key of its own is signed by it. One of a target that is asked over its connection is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

import structlog
from sqlalchemy import func, select

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import TargetRow
from coordinator.db.engine import reading
from coordinator.db.monitor_schema import MonitorRow, WindowRow
from coordinator.deploy.monitoring.alerts.outbox import deliver
from coordinator.deploy.monitoring.receiving import Received, receive
from coordinator.deploy.opening import open_target
from coordinator.deploy.targets.local import LocalTarget
from coordinator.deploy.targets.settings import EdgeSettings, LocalSettings, settings_from
from protos.windows import Windows
from strategies.errors import CovenantError, DiskError, Refused, UsageError

_MOST_PAGES: Final = 50
_LONGEST_END_S: Final = 30.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of the windows of one place: how many were `new`, the alarms that they raised, and why some were `refused`."""

    place: str
    new: int
    alarms: tuple[str, ...]
    refused: tuple[str, ...]


def collect(centre: Centre) -> tuple[Taken, ...]:
    """Fetch what every scoring service on this machine has released. What fails at one is told, and left for the next time."""
    with reading(centre.engine, "looking for what is watched") as session:
        if session.scalar(select(MonitorRow.name).limit(1)) is None:
            return ()
    found = []
    for name in local_targets(centre):
        try:
            found.append(collect_from(centre, name))
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("windows not collected", target=name, reason=str(error))
        except Exception as error:  # noqa: BLE001  (a defect that one target brings out must not keep the windows of others)
            _log.error("windows not collected", target=name, trouble=type(error).__name__)
    return tuple(found)


def local_targets(centre: Centre) -> tuple[str, ...]:
    """Targets whose scoring service is on this machine, by name."""
    with reading(centre.engine, "looking for targets") as session:
        query = select(TargetRow.name).where(TargetRow.kind == "local").order_by(TargetRow.name)
        return tuple(session.scalars(query))


def collect_from(centre: Centre, name: str, *, again: bool = False) -> Taken:
    """Fetch what the service of target `name` has released since, or all of it `again`. Raises Unreachable, UsageError and Refused."""
    opened = open_target(centre, name)
    if not isinstance(opened, LocalTarget):
        raise UsageError(
            f"{name} is reached over no connection; carry a file of its windows here, and `covenant monitor import` it"
        )
    after, parts = 0 if again else _newest(centre, name), []
    for _ in range(_MOST_PAGES):
        page = opened.windows(after)
        _require_not_back(name, page, after)
        parts.append(_take_all(centre, name, page))
        if not page.windows or page.windows[-1].sequence >= page.last:
            break
        after = page.windows[-1].sequence
    return Taken(
        place=name,
        new=sum(each.new for each in parts),
        alarms=tuple(alarm for each in parts for alarm in each.alarms),
        refused=tuple(why for each in parts for why in each.refused),
    )


def take_file(centre: Centre, windows: Windows) -> Taken:
    """Take in a file of a target that has no connection. Raises UsageError for no such target, Refused where it is not signed as it must be."""
    with reading(centre.engine, f"looking for target {windows.place}") as session:
        row = session.get(TargetRow, windows.place)
    if row is None:
        raise UsageError(
            f"there is no target {windows.place!r}; `covenant deploy targets list` shows those there are"
        )
    match settings_from(row.settings.encode()):
        case EdgeSettings(key=key):
            windows.require(key)
        case LocalSettings(url=url):
            raise Refused(
                f"the windows of {windows.place} are asked for at {url}; a file of them proves nothing, so none is taken"
            )
    return _take_all(centre, windows.place, windows)


def _require_not_back(name: str, page: Windows, after: int) -> None:
    """A place whose sequence went back has forgotten what it told, and what that cost."""
    if page.last < after:
        raise Refused(
            f"{name} has told {page.last} windows, and {after} are here: its state was restored from an older copy, so it may tell windows again with other"
            " noise and from a budget that was spent. Have its newest state put back; where there is none, have it watched no more until its period is over,"
            " and then under another name"
        )


def _newest(centre: Centre, place: str) -> int:
    with reading(centre.engine, f"looking for windows of {place}") as session:
        query = select(func.max(WindowRow.sequence)).where(WindowRow.place == place)
        return int(session.scalar(query) or 0)


def _take_all(centre: Centre, name: str, page: Windows) -> Taken:
    if page.place != name:
        raise Refused(f"{name} tells windows of {page.place}; start its service with the target's name")
    received: list[Received] = []
    refused: list[str] = []
    for each in page.windows:
        try:
            received.append(receive(centre, each))
        except Refused as error:
            refused.append(str(error))
            _log.warning("window refused", place=name, number=each.number, reason=str(error))
    return Taken(
        place=name,
        new=sum(each.new for each in received),
        alarms=tuple(each.alarm for each in received if each.alarm is not None),
        refused=tuple(refused),
    )


@dataclass
class Collecting:
    """Collects and delivers while the block runs, if there is anything to watch, each in a thread of its own: a channel that is slow, or never ends, keeps no
    window from being judged. `then` is what follows on windows, each after the other, whatever became of those before. `failed` is the disk's failure
    that ended a thread."""

    centre: Centre
    then: tuple[Callable[[Centre], object], ...] = ()
    every_s: float = 60.0
    deliver_s: float = 5.0
    failed: DiskError | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: tuple[threading.Thread, ...] = ()

    def __enter__(self) -> Self:
        """Begin."""
        jobs = (("collecting", self._collect, self.every_s), ("delivering", self._deliver, self.deliver_s))
        self._threads = tuple(
            threading.Thread(target=self._run, args=(job, every_s), name=name, daemon=True)
            for name, job, every_s in jobs
        )
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; what is under way is ended first, but for a delivery that takes long: that is sent again."""
        self._stopping.set()
        collecting, delivering = self._threads
        collecting.join()
        delivering.join(_LONGEST_END_S)

    def _collect(self) -> None:
        collect(self.centre)
        for follows in self.then:
            follows(self.centre)

    def _deliver(self) -> None:
        deliver(self.centre, self._stopping.is_set)

    def _run(self, job: Callable[[], None], every_s: float) -> None:
        due, told = 0.0, ""
        while not self._stopping.wait(0.2):
            if (now := self.centre.monotonic()) < due:
                continue
            due = now + every_s
            try:
                job()
                told = ""
            except DiskError as error:
                self.failed = error
                return
            except CovenantError as error:
                if str(error) != told:
                    told = str(error)
                    _log.error("nothing is watched", reason=told)
            except Exception as error:  # noqa: BLE001  (a thread that ends without a word would raise no alarm any more)
                _log.error("nothing is watched", trouble=type(error).__name__)
