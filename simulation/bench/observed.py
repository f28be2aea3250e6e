"""A run of a deployment as its processes and its SuperLink see it: what each round took of each of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Final

from sqlalchemy import select, text

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.schema import Round, RoundState
from coordinator.flower.traffic import Traffic
from coordinator.following import follow
from coordinator.office.desk import LocalDesk
from coordinator.runs import RunView
from simulation.bench.processes import cpu_seconds, folder_bytes, forget_peak, peak_mib
from simulation.deployment import Deployment
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName

_WARM_UP: Final = 1
_SUPERLINK: Final = "superlink_process"
_SERVER: Final = "server_process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Counts at a moment: processor seconds by process, of all agents together too, and what the SuperLink has counted."""

    at: float
    cpu_s: Mapping[str, float]
    traffic: Traffic

    def since(self, before: Sample) -> dict[str, float]:
        """What has come since: seconds, processor seconds, requests and bytes."""
        ours, theirs = self.traffic, before.traffic
        return {
            "seconds": self.at - before.at,
            **{f"{name}_cpu_s": spent - before.cpu_s.get(name, 0.0) for name, spent in self.cpu_s.items()},
            "requests": float(ours.requests - theirs.requests),
            "polls": float(ours.polls - theirs.polls),
            "refused": float(ours.refused - theirs.refused),
            "bytes_in": float(ours.site_bytes_in - theirs.site_bytes_in),
            "bytes_out": float(ours.site_bytes_out - theirs.site_bytes_out),
            "request_s": (ours.microseconds - theirs.microseconds) / 1e6,
        }

    def a_second(self, before: Sample) -> dict[str, float]:
        """What came in a second since: requests, and processor seconds by process."""
        come = self.since(before)
        seconds = come["seconds"]
        spent = {name: value / seconds for name, value in come.items() if name.endswith("_cpu_s")}
        return {"requests_a_s": come["requests"] / seconds} | {
            f"{name.removesuffix('_cpu_s')}_cores": value for name, value in spent.items()
        }


@dataclass
class Watch:
    """Looks at the processes of a deployment and at its SuperLink's count."""

    deployment: Deployment
    names: Sequence[SiteName]
    _by_round: dict[int, Sample] = field(default_factory=dict)
    _server_peak_mib: float = 0.0

    def sample(self) -> Sample:
        """The counts of now."""
        spent = {name: cpu_seconds(pid) for name, pid in self._processes().items()}
        agents = [cpu_seconds(pid) for pid in self.deployment.agent_pids().values()]
        counted = {name: value for name, value in spent.items() if value is not None}
        traffic = Traffic.read(self.deployment.home)
        if traffic is None:
            raise CovenantError(f"the SuperLink of {self.deployment.home} counts no requests")
        return Sample(
            at=time.perf_counter(),
            cpu_s=counted | {"agents": sum(each or 0.0 for each in agents)},
            traffic=traffic,
        )

    def follow(self, centre: Centre, run: RunId) -> dict[str, float]:
        """Watch a run to its end: what it took, by name, of a round where nothing else is said. Raises CovenantError if it does not complete."""
        superlink = self._processes()["superlink"]
        agents = self.deployment.agent_pids().values()
        coordinator = self.deployment.pid("coordinator")
        for each in (superlink, coordinator, *agents):
            forget_peak(each)
        before, kept = self.sample(), _kept(centre)
        view = follow(LocalDesk(centre).watch(run), self._look)
        after, grown = self.sample(), _kept(centre)
        return self._rounds(view) | {
            "run_s": after.at - before.at,
            "run_refused": after.since(before)["refused"],
            "superlink_peak_mib": peak_mib(superlink) or 0.0,
            "server_peak_mib": self._server_peak_mib,
            "coordinator_peak_mib": peak_mib(coordinator) or 0.0,
            "agent_peak_mib": median(peak_mib(each) or 0.0 for each in agents),
            "database_bytes": (grown[0] - kept[0]) / view.rounds,
            "artifact_bytes": (grown[1] - kept[1]) / view.rounds,
            "survivors": _survivors(centre, run),
        }

    def _processes(self) -> dict[str, int]:
        found = {
            "coordinator": self.deployment.pid("coordinator"),
            "superlink": self.deployment.coordinators_child(_SUPERLINK),
            "server": self.deployment.coordinators_child(_SERVER),
        }
        return {name: pid for name, pid in found.items() if pid is not None}

    def _look(self, view: RunView) -> None:
        self.deployment.check()
        server = self._processes().get("server")
        if server is not None:
            self._server_peak_mib = max(self._server_peak_mib, peak_mib(server) or 0.0)
        if view.committed not in self._by_round and server is not None:
            self._by_round[view.committed] = self.sample()

    def _rounds(self, view: RunView) -> dict[str, float]:
        """Of a round, between the first and the last one that was seen to end."""
        seen = sorted(number for number in self._by_round if number >= _WARM_UP)
        if len(seen) < 2:  # noqa: PLR2004 (what lies between two)
            raise CovenantError(f"{view.run} went by too quickly to be watched; ask for more rounds")
        first, last = seen[0], seen[-1]
        come = self._by_round[last].since(self._by_round[first])
        took = view.round_s[_WARM_UP:] or view.round_s
        of_one = {name: value / (last - first) for name, value in come.items() if name != "seconds"}
        sites = len(self.names)
        of_one["agent_cpu_s"] = of_one.pop("agents_cpu_s") / sites
        of_one["site_up_bytes"], of_one["site_down_bytes"] = (
            of_one.pop(each) / sites for each in ("bytes_in", "bytes_out")
        )
        return {
            "round_s": median(took),
            "mean_round_s": mean(took),
            "worst_round_s": max(took),
            "requests_a_s": come["requests"] / come["seconds"],
            **of_one,
        }


def _kept(centre: Centre) -> tuple[int, int]:
    """Bytes in use in the database, and of artifacts: the file of a database does not shrink when a request that was kept for its shares is erased."""
    with centre.engine.connect() as connection:
        total, free, size = (
            int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (total - free) * size, folder_bytes(centre.settings.artifacts)


def _survivors(centre: Centre, run: RunId) -> float:
    """Sites in a round's sum, the mean."""
    with reading(centre.engine, "counting survivors") as session:
        mine = select(Round.survivors).where(Round.run_id == run, Round.state == RoundState.COMMITTED)
        return mean(len(each or ()) for each in session.scalars(mine))
