"""The processes of simulated sites: each keeps its site's secrets in memory and its files in a folder of its own.

Flower gives any message to any of its workers, and a site has to remember the secrets of a round from one message to the next. So the
participant of each site lives in an actor of its own, which workers find by the site's name.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from client.bootstrap import open_participant
from simulation.ray.worker import Worker, require_ready
from simulation.world.chance import unsafe_site_entropy
from simulation.world.clock import from_epoch
from simulation.world.folders import memory_folder
from simulation.world.frames import asked_in
from strategies.ids import SiteName
from strategies.pieces import joined

if TYPE_CHECKING:
    from simulation.world.layout import Layout

_ENDS_WITHIN_S: Final = 30.0


class SiteHost(Worker):
    """One site's process. Its folder is its own, and is gone when it is closed."""

    def __init__(
        self,
        site: SiteName,
        site_file: str,
        files: Mapping[str, bytes],
        *,
        folder: str | None,
        seed: int,
        began: float,
    ) -> None:
        """`files` as `Layout.files_of`, `site_file` among them; `folder` is where its own is made, None for this machine's memory; `began` is when the simulation did."""
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix=f"covenant-{site}-", dir=folder or memory_folder())
        inside = Path(self._folder.name)
        for name, content in files.items():
            file = inside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(content)
        self._seconds: dict[int, float] = defaultdict(float)
        self._round, self._closed = 0, False
        self._participant = open_participant(
            inside / site_file,
            entropy=unsafe_site_entropy(seed, site),
            clock=lambda: from_epoch(time.time() - began),
        )

    def answer(self, frame: bytes) -> bytes:
        """See `Participant.answer`."""
        self._round = max(self._round, asked_in(frame).round)
        began = time.perf_counter()
        try:
            return joined(self._participant.answer(frame))
        finally:
            self._seconds[self._round] += time.perf_counter() - began

    def close(self) -> dict[int, float]:
        """Let go of every file and of the folder; returns the seconds that answers took, by round."""
        if not self._closed:
            self._closed = True
            self._participant.close()
            self._folder.cleanup()
        return dict(self._seconds)

    def __ray_shutdown__(self) -> None:
        """What Ray calls where it ends the process gently, and nobody has closed it."""
        self.close()


@dataclass
class Hosts:
    """The processes of all sites, as the simulation holds them."""

    actors: dict[SiteName, Any]

    @classmethod
    def start(
        cls, layout: Layout, sites: Sequence[SiteName], *, folder: str | None, seed: int, began: float
    ) -> Self:
        """Start a process for each of `sites`, wherever Ray has room. Raises `CovenantError` for one that does not come up."""
        import ray

        actor = ray.remote(SiteHost)
        hosts = cls({})
        try:
            for site in sites:
                placed = actor.options(
                    name=site, get_if_exists=True, num_cpus=0, scheduling_strategy="SPREAD", max_restarts=0
                )
                hosts.actors[site] = placed.remote(
                    site,
                    layout.site_file(site).relative_to(layout.folder).as_posix(),
                    layout.files_of(site),
                    folder=folder,
                    seed=seed,
                    began=began,
                )
            require_ready({f"the process of {site}": actor for site, actor in hosts.actors.items()})
        except BaseException:
            hosts.close()
            raise
        return hosts

    def close(self) -> dict[SiteName, dict[int, float]]:
        """End every process; returns what each `SiteHost.close` returned, as far as they still could."""
        import ray

        if not ray.is_initialized():
            return {}  # Flower's engine has crashed and left Ray, which has ended them
        closing = {site: actor.close.remote() for site, actor in self.actors.items()}
        seconds: dict[SiteName, dict[int, float]] = {}
        until = time.monotonic() + _ENDS_WITHIN_S
        for site, closed in closing.items():
            try:
                seconds[site] = ray.get(closed, timeout=max(0.1, until - time.monotonic()))
            except ray.exceptions.RayError:
                seconds[site] = {}  # it is gone already, or busy: it is ended below
        for actor in self.actors.values():
            ray.kill(actor)
        return seconds
