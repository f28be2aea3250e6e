"""A federation that has met misfortunes of the campaign, which were planted one by one: what people find afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from coordinator.runs import RunView
from simulation.campaign.schedule import Death, Misfortune
from simulation.campaign.stage import mode_of, stage
from simulation.campaign.strikes import Strikes
from simulation.world.federation import Federation
from simulation.world.world import SERVER, World
from strategies.ids import RunId

_OF_THE_SERVER = frozenset(
    {
        "a sum lacks shares; waiting for its sites", "driving", "evaluation without metrics", "site left out", "site set back",
        "sites missing", "the disk failed", "the run failed", "too few survivors; trying again",
    }
)  # fmt: skip
"""What a server process logs: in a simulation sites log in the same process."""


@dataclass(frozen=True)
class Struck:
    """A federation whose run has ended, with what its server processes logged."""

    federation: Federation
    world: World
    run: RunId
    events: list[Mapping[str, Any]]


@contextmanager
def struck(folder: Path, seed: int, *misfortunes: Misfortune) -> Iterator[Struck]:
    """A federation that met `misfortunes`; the operator resumes a few times, and what he finds then is there while the block runs."""
    strikes = Strikes(seed, misfortunes, None)
    world = World(faults=strikes, folder=str(folder))
    strikes.world = world
    federation = Federation(stage(mode_of(seed)).build(folder / "federation"), world, seed)
    snapshots: dict[str, dict[str, bytes]] = {}

    def set_back(site: Any, back: bool) -> None:
        process = federation.sites[site]
        if back:
            process.restore(snapshots[site])
        else:
            snapshots[site] = process.snapshot()

    strikes.set_back, strikes.start_twin = set_back, lambda _site: None
    strikes.let_rot = lambda site, place: federation.sites[site].rot(place)
    resumed: list[RunView] = []

    def operator(run: RunView) -> bool:
        world.clock.sleep(30.0)
        resumed.append(run)
        return len(resumed) < 12

    with capture_logs() as lines:
        try:
            federation.start_sites()
            run = federation.drive(federation.launch(), operator=operator).run
            yield Struck(federation, world, run, [line for line in lines if line["event"] in _OF_THE_SERVER])
        finally:
            world.watchers.clear()
            federation.close()


AFTER_A_SNAPSHOT = Death(party=SERVER, step=110, down_s=1.0)
"""What lets a snapshot show: a site that was set back is told so when it is next asked to witness, by another driver."""
