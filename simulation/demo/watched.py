"""What the full demo shows at last: what serves is watched where it runs, other applicants come, an alarm names them, and a plan waits for its author.

1. The place's service is started again with a monitor, as its operator would. Its windows last seconds, and have the noise and the account of any other.
2. Ordinary applicants come for a window, then those of a campaign. The centre is told of neither: it sees noisy counts.
3. This process does what the coordinator does each minute, collects and drafts, so that nobody waits for a minute. Whichever comes first does it.
4. An alarm drafts before outcomes are known. Once they are, its author throws that draft away and asks for one that knows them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import numpy.typing as npt

from coordinator.api.client import ControlClient
from coordinator.api.loop_desk import RemoteLoopDesk
from coordinator.api.monitor_desk import RemoteMonitorDesk
from coordinator.deploy.monitoring.collecting import collect_from
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from protos.documents import load_document, read_document
from protos.plan import Plan
from protos.windows import WINDOWS_PATH, Monitor, Window, Windows
from simulation.demo import data
from simulation.demo.deployed import TARGET, Rollouts
from simulation.demo.governed import AUTHOR
from simulation.demo.loop_report import DriftReport, RetrainingReport, WindowReport
from simulation.demo.machines import command
from simulation.demo.scoring import wait_until_ready
from simulation.demo.traffic import CAMPAIGN, SHARE, Traffic
from strategies.errors import CovenantError

ORDINARY: Final = "ordinary"
DRIFTED: Final = "of the campaign"
NOBODY: Final = "none"
_DRIFTED_WINDOWS: Final = 2
_WITHIN_S: Final = 60.0
_EVERY_S: Final = 0.1
Step = Callable[[str], AbstractContextManager[None]]


@dataclass(slots=True)
class Watching:
    """One version watched at the target of `rollouts`, which it serves alone; `traffic` is who applies there."""

    rollouts: Rollouts
    traffic: Traffic
    monitor: Monitor
    _sent: list[tuple[str, float, float]] = field(default_factory=list)
    """What was sent, from when to when, in seconds since 1970."""

    @classmethod
    def begun(cls, rollouts: Rollouts, traffic: Traffic) -> Watching:
        """Have the centre watch the first version, and its service count windows."""
        author = rollouts.officers.machines[AUTHOR]
        file = data.copy_document(data.MONITOR, author.folder)
        rules = ("--why", "it serves at the branch")
        author.run("monitor", "add", rollouts.first.ref, file.name, *rules)
        watching = cls(rollouts, traffic, load_document(file, Monitor))
        watching._start_again()
        return watching

    def end(self) -> None:
        """Have the service go on without a monitor, so that its windows end with the story and none of a version that is not watched is told and refused."""
        deployment = self.rollouts.deployment
        deployment.end(TARGET)
        deployment.start_target(TARGET, self._state, self.rollouts.port)
        wait_until_ready(self.rollouts.url, deployment.check)

    def _start_again(self) -> None:
        deployment = self.rollouts.deployment
        monitor = data.copy_document(data.MONITOR, deployment.folder)
        reference = deployment.folder / "reference.json"
        self._here("monitor", "reference", self.rollouts.first.ref, "--out", str(reference))
        deployment.end(TARGET)
        watch = ("--monitor", str(monitor), "--reference", str(reference))
        deployment.start_target(TARGET, self._state, self.rollouts.port, watch)
        wait_until_ready(self.rollouts.url, deployment.check)

    def send(self) -> None:
        """A window of ordinary applicants, then windows of the campaign's."""
        with httpx.Client(base_url=self.rollouts.url, trust_env=False) as service:
            self._apply(service, ORDINARY, self.traffic.ordinary())
            for _ in range(_DRIFTED_WINDOWS):
                self._apply(service, DRIFTED, self.traffic.campaign())

    def _apply(self, service: httpx.Client, what: str, places: npt.NDArray[np.int64]) -> None:
        """Send when the next window has begun."""
        length = self.monitor.window
        time.sleep(length - time.time() % length + _EVERY_S)
        began = time.time()
        self.traffic.send(service, self.rollouts.first.name, places)
        self._sent.append((what, began, time.time()))

    def alarm(self) -> dict[str, Any]:
        """Collect the windows once the place has told them; the alarm that they raise. Raises CovenantError if there is none."""
        self._wait_until_told()
        self._collect()
        with ControlClient(self.rollouts.officers.machines[AUTHOR].access) as client:
            open_ = RemoteMonitorDesk(client).alarms(only_open=True)
        if not open_:
            raise CovenantError(f"{CAMPAIGN} raised no alarm; see `covenant monitor windows`")
        return open_[0]

    def _told(self) -> tuple[Window, ...]:
        """What the place has told."""
        answer = httpx.get(f"{self.rollouts.url}{WINDOWS_PATH}", trust_env=False).raise_for_status()
        return Windows.from_canonical(answer.content).windows

    def spent(self) -> float:
        """Epsilon that the place's windows have cost."""
        return self._told()[-1].spent

    def _wait_until_told(self) -> None:
        """Return once the place has told the last window in which anybody applied. Raises CovenantError if it does not."""
        last, deadline = self._sent[-1][2], time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            self.rollouts.deployment.check()
            told = self._told()
            if told and told[-1].ends.timestamp() >= last:
                return
            time.sleep(_EVERY_S)
        raise CovenantError(f"{TARGET} told no window of {CAMPAIGN} within {_WITHIN_S:.0f} s")

    def _collect(self) -> None:
        """What the coordinator does each minute."""
        centre = self.rollouts.deployment.centre()
        refused = collect_from(centre, TARGET).refused
        if refused:
            raise CovenantError(f"windows of {TARGET} were refused: {refused[0]}")
        draft_due(centre)

    def draft(self) -> dict[str, Any]:
        """The draft that is open. Raises CovenantError where there is none."""
        with ControlClient(self.rollouts.officers.machines[AUTHOR].access) as client:
            desk, deadline = RemoteLoopDesk(client), time.monotonic() + _WITHIN_S
            while not (found := desk.drafts(only_open=True)):
                if time.monotonic() > deadline:  # the coordinator may be drafting it
                    raise CovenantError("the alarm drafted no plan")
                time.sleep(_EVERY_S)
            return desk.draft_facts(found[0]["id"])

    def bring_outcomes(self) -> int:
        """Have the place count what became of the campaign's applicants, and collect that; how many outcomes were counted."""
        file = self.rollouts.deployment.folder / "outcomes.csv"
        self.traffic.write_outcomes(file)
        numbers = [each.number for each in self.windows() if each.applicants == DRIFTED]
        which = ("--state", str(self._state), "--windows", f"{numbers[0]}-{numbers[-1]}")
        found = self._here("score", "outcomes", str(file), *which, "--json")
        self._collect()
        return int(json.loads(found)["counted"])

    def draft_again(self, first: str) -> dict[str, Any]:
        """Have the author throw a draft away, and ask for another that knows the outcomes."""
        author = self.rollouts.officers.machines[AUTHOR]
        author.run("loop", "dismiss", first, "--reason", "outcomes have arrived since")
        return author.facts("loop", "draft", self.rollouts.first.name)

    def windows(self) -> list[WindowReport]:
        """Windows of decisions, up to the last in which anybody applied."""
        first = self.rollouts.first
        with ControlClient(self.rollouts.officers.machines[AUTHOR].access) as client:
            found = RemoteMonitorDesk(client).windows(first.name, first.version)
        of_decisions = [
            each for place in found["places"] if place["of"] == "decisions" for each in place["windows"]
        ]
        return list(self._reports(of_decisions))

    def _reports(self, windows: list[dict[str, Any]]) -> Iterator[WindowReport]:
        for each in windows:
            begins, ends = (_seconds(each[name]) for name in ("begins", "ends"))
            who = [what for what, since, until in self._sent if since < ends and until >= begins]
            if begins <= self._sent[-1][2]:
                yield WindowReport.of(each, who[-1] if who else NOBODY)

    @property
    def _state(self) -> Path:
        return self.rollouts.deployment.folder / TARGET

    def _here(self, *arguments: str) -> str:
        """What a command on the coordinator's and the branch's machine prints. Raises CovenantError where it fails."""
        deployment = self.rollouts.deployment
        done = command(deployment.folder, *arguments, environment={"COVENANT_HOME": str(deployment.home)})
        if done.returncode:
            raise CovenantError(
                f"`covenant {' '.join(arguments[:2])}` left with {done.returncode}: {done.stderr.strip()[-2000:]}"
            )
        return done.stdout


def watched(rollouts: Rollouts, traffic: Traffic, step: Step) -> tuple[DriftReport, RetrainingReport]:
    """The whole story, with a line of `step` for each part; the place is watched no more at its end."""
    first = rollouts.first.ref
    with step(f"{first} watched at {TARGET}, in windows of seconds"):
        watching = Watching.begun(rollouts, traffic)
    with step(f"ordinary applicants there, then those of {CAMPAIGN}"):
        watching.send()
    with step("what the place told of them, an alarm with its cause, and a plan that it drafted"):
        alarm, draft = watching.alarm(), watching.draft()
    with step("outcomes, which arrive later, and the draft that knows them"):
        outcomes = watching.bring_outcomes()
        again = watching.draft_again(draft["id"])
    found = _drift(watching, alarm, outcomes), _retraining(again, draft)
    watching.end()
    return found


def _drift(watching: Watching, alarm: dict[str, Any], outcomes: int) -> DriftReport:
    rollouts, monitor = watching.rollouts, watching.monitor
    with ControlClient(rollouts.officers.machines[AUTHOR].access) as client:
        (one,) = RemoteMonitorDesk(client).monitors()
    return DriftReport(
        model=rollouts.first.ref,
        monitor=one["monitor"],
        window_s=monitor.window,
        false_alarm_rate=one["rules"]["false_alarm_rate"],
        horizon=one["rules"]["horizon"],
        planted=f"{CAMPAIGN}, which are {SHARE:.0%} of its applicants",
        windows=watching.windows(),
        alarm=alarm["id"],
        cause=alarm["cause"],
        features=[each.partition(":")[0] for each in alarm["evidence"]],
        places=[alarm["place"]],
        evidence=alarm["evidence"],
        likely=alarm["words"],
        outcomes=outcomes,
        epsilon=watching.spent(),
        delta=monitor.privacy.limit.delta,
    )


def _retraining(draft: dict[str, Any], first: dict[str, Any]) -> RetrainingReport:
    """Raises CovenantError where no plan fits."""
    if draft["text"] is None:
        raise CovenantError(f"{draft['id']} has no plan: {draft['says'][0]}")
    plan = read_document(draft["text"], Plan, f"the plan of {draft['id']}")
    champion = plan.evaluation.champion
    return RetrainingReport(
        draft=draft["id"],
        model=draft["model"],
        plan=draft["plan"],
        author=draft["author"],
        drafted_by=draft["drafted_by"],
        sites=list(plan.sites.invite),
        rounds=plan.training.rounds,
        champion=None if champion is None else champion.model,
        says=draft["says"],
        gain=draft["gain"],
        first={
            "draft": first["id"],
            "drafted_by": first["drafted_by"],
            "alarm": first["alarm"],
            "said": first["gain"]["said"],
        },
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
