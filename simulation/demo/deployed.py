"""What the full demo does with its two models: the gates judge them, officers approve them, an engineer deploys them, and one is taken back.

1. The first run's model serves in full: nothing is there to try it beside. The second run's, of a small and noisier plan, answers a share of requests
   beside it, then all of them, then none.
2. The service takes packages alone, judges each by the officers' root, and declines by the target's threshold: with reasons in the contract's words.
3. Officers act from their own machines. The coordinator's own adds the target, and exports what other people's tool then verifies.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from client.data import Table
from coordinator.api.client import ControlClient
from coordinator.api.deploy_desk import RemoteDeployDesk
from coordinator.deploy.targets.settings import LocalSettings
from coordinator.office.deploy_desk import LocalDeployDesk
from coordinator.registry.versions import SCORING_FILE, ModelVersion
from protos.egress import child_environment
from simulation.demo.full_report import ApplicationReport, DeploymentReport
from simulation.demo.governed import AUTHOR, HALTS, Officers
from simulation.demo.machines import command
from simulation.demo.scoring import inputs, wait_until_ready
from simulation.deployment import Deployment, free_port
from simulation.officers import OFFICERS
from strategies.errors import CovenantError, Refused
from strategies.features import FeatureSpec

TARGET: Final = "branch"
SHARE: Final = 0.5
_KEYS: Final = 40
_DECLINED: Final = 0.1
"""Share of the held-out loans that the more lenient of both models declines."""
_WITHIN_S: Final = 60.0
_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Application:
    """One that both models decline at the threshold `decline_at`."""

    body: list[Mapping[str, object]]
    decline_at: float


def declined_by_both(
    deployment: Deployment, versions: tuple[ModelVersion, ModelVersion], features: FeatureSpec, rows: Table
) -> Application:
    """Of the held-out `rows`, the one that the more lenient model finds riskiest. Raises CovenantError if both models decline none together."""
    from simulation.demo.equality import scores_of

    artifacts, names = deployment.centre().artifacts, [each.name for each in features.features]
    scores = [scores_of(artifacts.get(version.artifacts[SCORING_FILE]), names, rows) for version in versions]
    both = np.minimum(*scores)
    place, bounds = int(both.argmax()), [float(np.quantile(each, 1.0 - _DECLINED)) for each in scores]
    decline_at = round(min(bounds), 3)
    if both[place] <= decline_at:
        raise CovenantError(
            f"no loan scores above {decline_at} with both models, so none can be shown declined"
        )
    return Application(body=inputs(features, rows, np.array([place])), decline_at=decline_at)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Two versions of one model brought to one target of a running federation."""

    deployment: Deployment
    officers: Officers
    first: ModelVersion
    second: ModelVersion
    application: Application
    port: int

    @classmethod
    def of(
        cls,
        deployment: Deployment,
        officers: Officers,
        versions: tuple[ModelVersion, ModelVersion],
        application: Application,
    ) -> Rollouts:
        """With a service that runs from now on, and its target."""
        made = cls(deployment, officers, *versions, application, free_port())
        state = deployment.folder / TARGET
        state.mkdir(mode=0o700)
        deployment.start_target(TARGET, state, made.port)
        settings = LocalSettings(state=str(state), url=made.url, decline_at=application.decline_at)
        LocalDeployDesk(deployment.centre()).add_target(TARGET, settings)
        return made

    @property
    def url(self) -> str:
        """Where the target answers."""
        return f"http://127.0.0.1:{self.port}"

    def approve(self) -> list[str]:
        """Have the gates judge both versions, and two officers approve them; the verdicts' digests."""
        verdicts = []
        for version in (self.first, self.second):
            judged = self._author("model", "validate", version.ref, "--why", "the demo's candidate")
            verdicts.append(str(judged["digest"]))
            for name, role in OFFICERS.items():
                if name != AUTHOR:
                    machine = self.officers.machines[name]
                    signs = ("--as", str(role), *machine.signs, "--root", "root.json", "--yes")
                    standing = machine.facts("model", "approve", version.ref, *signs)
            if standing["stage"] != "approved":
                raise CovenantError(f"{version.ref} is {standing['stage']} after two officers' approvals")
        return verdicts

    def serve(self) -> None:
        """Bring the first version to the target, and wait until it serves."""
        self._author("deploy", "start", self.first.ref, *_to("the first model"))
        self._confirmed()
        wait_until_ready(self.url, self.deployment.check)

    def share(self) -> dict[str, int]:
        """Bring the second version to a share of requests; how many applications each version answers then."""
        self._author("deploy", "start", self.second.ref, *_to("the next model"), "--canary", str(SHARE))
        self._confirmed()
        with self._service() as service:
            answered = Counter(self._ask(service, f"applicant-{each}").version for each in range(_KEYS))
        return {version.ref: answered[version.version] for version in (self.first, self.second)}

    def try_out(self) -> dict[str, int]:
        """Bring the second version to a share of requests, then to all; how many applications each version answered meanwhile."""
        answered = self.share()
        self._author("deploy", "promote", TARGET, "--full", "--why", "it answers well")
        self._confirmed()
        return answered

    def score(self) -> ApplicationReport:
        """Ask about the application. Raises CovenantError unless it is declined with reasons."""
        with self._service() as service:
            found = self._ask(service, "applicant-0")
        if not found.reasons:
            raise CovenantError(f"{self.url} gave no reasons for a loan that it declines")
        return found

    def export(self, folder: Path) -> str:
        """Export the version that serves, and have `model_signing` verify it; what that says. Raises Refused if it does not fit."""
        own = {"COVENANT_HOME": str(self.deployment.home)}
        done = command(
            self.deployment.folder, "model", "export", self.second.ref, str(folder), environment=own
        )
        if done.returncode:
            raise CovenantError(f"{self.second.ref} was not exported: {done.stderr.strip()[-2000:]}")
        tool = Path(sys.executable).parent / "model_signing"
        signed = ("--signature", str(folder / "model.sig"), "--public_key", str(folder / "artifacts.pub"))
        said = subprocess.run(
            [tool, "verify", "key", str(folder), *signed],
            env=child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode:
            raise Refused(f"model_signing does not verify {folder}: {said.stderr.strip()[-2000:]}")
        return (said.stdout or said.stderr).strip().splitlines()[-1]

    def take_back(self) -> tuple[float, ApplicationReport]:
        """Roll back; after how many seconds since the order the first version answered again, and the application as it does."""
        machine = self.officers.machines[HALTS]
        reason = ("--why", "the demo shows how a version is taken back")
        with self._service() as service, ThreadPoolExecutor(1) as pool:
            giving = pool.submit(machine.facts, "deploy", "rollback", TARGET, *reason)
            found, seen = self._answered_by(service, self.first.version, giving)
            order = max(giving.result()["orders"], key=lambda each: int(each["revision"]))
        self._confirmed()
        return (seen - datetime.fromisoformat(order["made_at"])).total_seconds(), found

    def _answered_by(
        self, service: httpx.Client, version: int, giving: Future[Any]
    ) -> tuple[ApplicationReport, datetime]:
        """The first answer of that version, and when it came. Raises CovenantError."""
        deadline = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline:
            found, seen = self._ask(service, "applicant-0"), datetime.now(UTC)
            if found.version == version:
                return found, seen
            if giving.done():
                giving.result()  # raises what went wrong
            time.sleep(_EVERY_S)
        raise CovenantError(f"{self.first.ref} did not answer again within {_WITHIN_S:.0f} s")

    def _author(self, *arguments: str) -> dict[str, Any]:
        return self.officers.machines[AUTHOR].facts(*arguments)

    def _confirmed(self) -> None:
        """Return once the target has confirmed its newest order. Raises CovenantError if it does not."""
        deadline = time.monotonic() + _WITHIN_S
        with ControlClient(self.officers.machines[AUTHOR].access) as client:
            desk = RemoteDeployDesk(client)
            while time.monotonic() < deadline:
                self.deployment.check()
                (found,) = desk.targets()
                if found["refused"]:
                    raise CovenantError(f"{TARGET} refused its order: {found['refused']}")
                if not found["waits"]:
                    return
                time.sleep(0.05)
        raise CovenantError(f"{TARGET} did not confirm its order within {_WITHIN_S:.0f} s")

    def _service(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False)

    def _ask(self, service: httpx.Client, key: str) -> ApplicationReport:
        """The application, answered by whichever version answers for `key`. Raises CovenantError for any answer but a score."""
        asked = {"inputs": self.application.body, "parameters": {"key": key}}
        response = service.post(f"/v2/models/{self.first.name}/infer", json=asked)
        if not response.is_success:
            raise CovenantError(f"{self.url} answered HTTP {response.status_code}: {response.text[:300]}")
        answer = response.json()
        found = {each["name"]: each["data"] for each in answer["outputs"]}
        return ApplicationReport(
            version=int(answer["model_version"]),
            probability=float(found["probability"][0]),
            reasons=[each for each in found["reasons"] if each],
        )


def rolled_out(
    rollouts: Rollouts, folder: Path, step: Callable[[str], AbstractContextManager[None]]
) -> DeploymentReport:
    """The whole story, with a line of `step` for each part; the export goes to `folder`."""
    first, second = rollouts.first.ref, rollouts.second.ref
    with step(f"{first} and {second}, judged by their plans' gates and approved by two officers each"):
        verdicts = rollouts.approve()
    with step(f"{first}, released for a scoring service that takes approved packages alone"):
        rollouts.serve()
    with step(f"{second} on {SHARE:.0%} of applicants beside it, then on all"):
        answered = rollouts.try_out()
    with step("an application that it declines, with reasons"):
        declined = rollouts.score()
    with step("its export, verified by model_signing"):
        verified = rollouts.export(folder)
    with step(f"{second} taken back by model risk"):
        seconds, after = rollouts.take_back()
    return DeploymentReport(
        target=TARGET,
        first=first,
        second=second,
        digests=[rollouts.first.digest, rollouts.second.digest],
        verdicts=verdicts,
        approved_by=sorted(name for name in OFFICERS if name != AUTHOR),
        canary_share=SHARE,
        canary_answered=answered,
        decline_at=rollouts.application.decline_at,
        declined=declined,
        model_signing=verified,
        rolled_back_by=HALTS,
        rolled_back_within_s=seconds,
        after_rollback=after,
    )


def _to(why: str) -> tuple[str, ...]:
    return ("--target", TARGET, "--why", why)
