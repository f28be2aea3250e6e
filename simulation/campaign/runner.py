"""One seed: its schedule played on a fresh federation, and every invariant checked after every step."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from client.bootstrap import open_participant
from coordinator.runs import RunView
from simulation.campaign.invariants import Invariant, Scene, Violation, registered
from simulation.campaign.schedule import Misfortune, schedule
from simulation.campaign.stage import mode_of, stage
from simulation.campaign.strikes import Strikes
from simulation.world.federation import Federation, NobodyDrivesError
from simulation.world.folders import memory_folder
from simulation.world.world import Line, World
from strategies.errors import CovenantError, UsageError
from strategies.ids import SiteName

_MOST_LINES = 30_000
_MOST_TIME_S = 40_000.0
_MOST_RESUMES = 60
_OPERATOR_LOOKS_AFTER_S = 30.0
DEFECT = "no-unexpected-error"


@dataclass(frozen=True)
class Played:
    """What became of one seed. `invariant` is None if all held; `digest` is over the trace."""

    seed: int
    misfortunes: tuple[Misfortune, ...]
    only: tuple[int, ...] | None
    invariant: str | None
    sentence: str
    lines: tuple[Line, ...]
    digest: str

    @property
    def command(self) -> str:
        """What replays exactly this."""
        only = "" if self.only is None else f" --only {','.join(map(str, self.only)) or 'none'}"
        return f"covenant simulate campaign --seed {self.seed}{only}"


def play(
    seed: int, only: Collection[int] | None = None, *, misfortunes: Sequence[Misfortune] | None = None
) -> Played:
    """Play a seed's schedule, or the part of it at the places `only`."""
    chosen = tuple(schedule(seed) if misfortunes is None else misfortunes)
    if only is not None and (strange := sorted(set(only) - set(range(len(chosen))))):
        raise UsageError(
            f"only names {strange[0]}; the schedule of seed {seed} has places 0 to {len(chosen) - 1}"
        )
    folder = Path(mkdtemp(prefix=f"covenant-seed-{seed}-", dir=memory_folder()))
    strikes = Strikes(seed, chosen, only)
    world = World(faults=strikes, folder=str(folder))
    strikes.world = world
    invariant, sentence = None, ""
    try:
        _Play(folder / "federation", world, strikes, seed).to_the_end()
    except Violation as violation:
        invariant, sentence = violation.invariant, violation.sentence
    except Exception as error:  # a campaign reports what no part of the code expected  # noqa: BLE001
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        invariant = DEFECT
        sentence = f"{type(error).__name__}: {error} ({Path(where.filename).name} line {where.lineno})"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    places = None if only is None else tuple(sorted(only))
    return Played(seed, chosen, places, invariant, world.anywhere(sentence), tuple(world.lines), world.digest)


class _Play:
    """The stage set for one seed."""

    def __init__(self, folder: Path, world: World, strikes: Strikes, seed: int) -> None:
        self.world = world
        setting = stage(mode_of(seed))
        self.federation = Federation(setting.build(folder), world, seed)
        self.scene = scene = Scene(self.federation, setting)
        self.invariants: list[Invariant] = [each(scene) for each in registered()]
        self.snapshots: dict[SiteName, dict[str, bytes]] = {}
        self.resumes = 0
        strikes.set_back, strikes.start_twin = self._set_back, self._start_twin
        strikes.let_rot = self._let_rot
        world.watchers.append(self._watch)
        self.federation.link.on_frame.append(self._frame)

    def to_the_end(self) -> None:
        """Start, launch, drive, and look at what is left."""
        try:
            self.federation.start_sites()
            run = self.federation.drive(self.federation.launch(), operator=self._operator)
            for each in self.invariants:
                each.ended(run)
        except NobodyDrivesError as error:
            raise Violation("runs-end", str(error)) from error
        finally:
            self.world.watchers.clear()
            self.scene.close()
            self.federation.close()

    def _watch(self, party: str, what: str) -> None:
        for each in self.invariants:
            each.after_step(party, what)
        if len(self.world.lines) > _MOST_LINES or self.world.clock.now > _MOST_TIME_S:
            raise Violation(
                "runs-end", f"no end after {len(self.world.lines)} steps and {self.world.clock.now:.0f} s"
            )

    def _frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        for each in self.invariants:
            each.frame(site, direction, frame)

    def _operator(self, run: RunView) -> bool:
        """Looks after a while, and resumes what has failed."""
        self.world.note("operator", f"sees: {run.reason}")
        self.world.clock.sleep(_OPERATOR_LOOKS_AFTER_S)
        self.resumes += 1
        return self.resumes <= _MOST_RESUMES

    def _set_back(self, site: SiteName, back: bool) -> None:  # noqa: FBT001 (called by the strikes alone)
        process = self.federation.sites[site]
        if not back:
            self.snapshots[site] = process.snapshot()
        elif site in self.snapshots:
            process.restore(self.snapshots[site])

    def _let_rot(self, site: SiteName, place: float) -> None:
        self.federation.sites[site].rot(place)

    def _start_twin(self, site: SiteName) -> None:
        process = self.federation.sites[site]
        if not process.up:
            return
        try:
            open_participant(process.config_file).close()
        except CovenantError as error:
            self.world.note(site, f"is spared a twin: {error}")
        else:
            self.world.step(site, "has a twin")
