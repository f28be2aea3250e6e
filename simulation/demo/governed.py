"""What the full demo adds: officers at machines of their own propose, approve, launch, halt, lift and resume a second, small plan over the control API.

1. Each command is a process of its own, in a folder that has an officer's key and access, and nothing of the coordinator's.
2. The run is halted while it runs. It goes on from the round that it had committed, after two officers have said so.
3. The log is exported over the API, before the coordinator is stopped.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.api.desk import RemoteDesk
from coordinator.db.schema import FINAL_STATES, RunState
from coordinator.runs import RunView
from protos.documents import load_document
from protos.plan import Plan
from simulation.demo import data
from simulation.demo.full_report import GovernedReport
from simulation.demo.machines import Machine
from simulation.deployment import Deployment
from simulation.officers import OFFICERS
from strategies.errors import CovenantError
from strategies.ids import RunId, run_id

AUTHOR: Final = "ml-engineer"
HALTS: Final = "model-risk"
LIFT: Final = ("privacy-officer", "model-risk")
LOG: Final = "log.jsonl"
_BEFORE: Final = 2
"""Rounds that are committed before somebody halts."""
_SIGNED: Final = ("--root", "root.json", "--yes")


@dataclass(frozen=True, slots=True)
class Officers:
    """The machines of the officers, by name."""

    machines: dict[str, Machine]

    @classmethod
    def let_in(cls, deployment: Deployment, folder: Path) -> Officers:
        """A machine for each officer, under `folder`."""
        return cls({name: Machine.let_in(deployment, folder, name) for name in OFFICERS})

    def propose(self, plan: Path) -> str:
        """Propose `plan`, a file in its author's folder; its digest."""
        author = self.machines[AUTHOR]
        author.run("plan", "sign", plan.name, *author.signs, *_SIGNED)
        return load_document(plan, Plan).digest

    def agree(self, plan: Path) -> str:
        """Propose `plan`, and approve it in both roles; its digest."""
        digest = self.propose(plan)
        for name, role in OFFICERS.items():
            if name != AUTHOR:
                machine = self.machines[name]
                machine.run("plan", "approve", digest, "--as", str(role), *machine.signs, *_SIGNED)
        return digest

    def launch(self, plan: str) -> RunId:
        """Launch the proposed plan with this digest."""
        return run_id(self.machines[AUTHOR].facts("plan", "launch", plan)["run"])

    def halt(self, run: RunId) -> tuple[dict[str, Any], int, float]:
        """Halt a run that runs: the halt, the rounds that were committed, and after how many seconds the run was seen stopped."""
        machine = self.machines[HALTS]
        with ControlClient(machine.access) as client, ThreadPoolExecutor(1) as pool:
            desk, giving = RemoteDesk(client), None
            for now in desk.watch(run):
                if giving is None and now.committed >= _BEFORE:
                    reason = ("--reason", "the demo shows how a run is halted")
                    giving = pool.submit(
                        machine.facts, "halt", "--run", run, *reason, "--root", "root.json", *machine.signs
                    )
                if now.state in FINAL_STATES:
                    seen = datetime.now(UTC)  # before the command that halts has ended
                    return self._stopped(desk, now, seen, giving.result() if giving else {})
        raise CovenantError(f"nothing more was heard of {run}")

    def _stopped(
        self, desk: RemoteDesk, now: RunView, seen: datetime, given: dict[str, Any]
    ) -> tuple[dict[str, Any], int, float]:
        if now.state is not RunState.STOPPED:
            raise CovenantError(
                f"{now.run} {now.state} before it was halted: {now.reason or 'it was too short'}"
            )
        return given, now.committed, (seen - desk.halt(given["id"]).halted_at).total_seconds()

    def go_on(self, halt: str, run: RunId) -> int:
        """Lift a halt, resume its run, and wait for its end; the rounds that are committed then."""
        for name in LIFT:
            machine = self.machines[name]
            machine.run("halt", "lift", halt, "--reason", "it was shown", *machine.signs)
        author = self.machines[AUTHOR]
        author.run("run", "resume", run)
        return int(author.facts("run", "watch", run)["committed"])

    def export(self) -> Path:
        """The log, exported to an officer's machine."""
        machine = self.machines[LIFT[0]]
        machine.run("log", "export", LOG)
        return machine.folder / LOG


def agreed_plan(officers: Officers) -> str:
    """The demo's small plan, written by its author, proposed and approved; its digest."""
    author = officers.machines[AUTHOR].folder
    data.copy_document(data.CONTRACT, author)
    return officers.agree(data.copy_document(data.PILOT, author))


def halted_and_resumed(officers: Officers, plan: str) -> GovernedReport:
    """Launch `plan`, halt its run, lift the halt, resume, and wait for the end."""
    run = officers.launch(plan)
    halt, committed, stopped_within_s = officers.halt(run)
    rounds = officers.go_on(halt["id"], run)
    return GovernedReport(
        run=run,
        plan=plan,
        machines=sorted(officers.machines),
        halt=halt["id"],
        halted_by=HALTS,
        halted_after=committed,
        stopped_within_s=stopped_within_s,
        lifted_by=list(LIFT),
        rounds=rounds,
    )
