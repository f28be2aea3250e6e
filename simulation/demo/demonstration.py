"""`covenant demo`: a real federation on real loans, from keys to a score, in one command."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from client.data import Table
from client.training import held_out_rows
from coordinator.cli.runs import watch
from coordinator.registry.versions import (
    SCORING_FILE,
    WEIGHTS_FILE,
    ModelVersion,
    find_version,
    list_versions,
)
from coordinator.runs import RunView, launch
from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.shell import people
from simulation.baselines import local_auc, pooled_auc, pooled_table
from simulation.bench.processes import resident_mib
from simulation.demo import data
from simulation.demo.accounts import account_option, charged_accounts, open_accounts
from simulation.demo.audit import audited, audited_elsewhere
from simulation.demo.deployed import Rollouts, declined_by_both, rolled_out
from simulation.demo.full_report import Afterwards
from simulation.demo.governed import LOG, Officers, agreed_plan, halted_and_resumed
from simulation.demo.report import (
    AccountReport,
    AucReport,
    AuditReport,
    DemoReport,
    ScoringReport,
)
from simulation.demo.scoring import score_one, wait_until_ready
from simulation.demo.traffic import Traffic
from simulation.demo.watched import watched
from simulation.deployment import Deployment, free_port
from strategies.errors import UsageError
from strategies.features import FeatureSpec
from strategies.ids import SiteName

_MARKER = ".covenant-demo"


@dataclass
class Demonstration:
    """A demo in `folder`, which is made anew each time; `private`, or with the plan that has no privacy. `full` adds what `governed` shows."""

    folder: Path
    private: bool = True
    full: bool = False
    _began: float = field(default_factory=time.monotonic)

    def prepare(self) -> None:
        """Make the folder, or empty it if an earlier demo made it; raises `UsageError` for anybody else's folder."""
        if self.folder.exists() and any(self.folder.iterdir()):
            if not (self.folder / _MARKER).exists():
                raise UsageError(
                    f"{self.folder} holds something else; name a folder that does not exist with --folder"
                )
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _MARKER).touch()

    @contextmanager
    def federation(self, pilots: int = 0, console_port: int | None = None) -> Iterator[Deployment]:
        """The running federation: four subsidiaries and their coordinator, with room in their accounts for `pilots` runs of the small plan."""
        self.prepare()
        data.copy_document(data.PLAN if self.private else data.WITHOUT_PRIVACY, self.folder, data.PLAN)
        contract_file = data.copy_document(data.CONTRACT, self.folder)
        plan, contract = self.documents()
        then = [load_document(data.copy_document(data.PILOT, self.folder), Plan)] * pilots if pilots else []
        with Deployment(self.folder, console_port=console_port) as deployment:
            with step("keys, certificates and four folders of loans"):
                deployment.lay_out(
                    data.regional_loans(),
                    contract_file,
                    purpose=plan.purpose,
                    privacy=[plan.privacy.mode],
                    account=account_option(plan, contract, then),
                )
                open_accounts(deployment, plan, contract, then)
            with step("a plan, signed by its author and approved by two officers"):
                deployment.approve(self.folder / data.PLAN)
            with step("a SuperLink with TLS and node authentication, and four agents"):
                deployment.start_coordinator()
                for site in plan.sites.invite:
                    deployment.start_agent(site)
                deployment.wait_until_ready()
            yield deployment

    def run(self) -> DemoReport:
        """Run the demo to its end; nothing is left running."""
        with self.federation(pilots=1 if self.full else 0) as deployment:
            plan, contract = self.documents()
            tables = data.tables(contract)
            finished = self._train(deployment)
            memory = max(resident_mib(deployment.pid(site)) or 0.0 for site in plan.sites.invite)
            version = list_versions(deployment.centre().engine, plan.name)[-1]
            applicants = applicants_of(plan, contract, tables)
            difference = self._export(deployment, plan, contract, version, applicants)
            scoring = self._score(deployment, plan, contract, version, applicants)
            with step("the same training without a federation, to compare"):
                auc = self._auc(contract, tables, applicants, version)
            then, export = Afterwards(), None
            if self.full:
                then, export = self._govern(deployment, contract, plan, applicants)
                version = find_version(deployment.centre().engine, version.ref)
            accounts = charged_accounts(deployment, plan)
            audit = self._audit(deployment, export)
        return self._report(
            plan=plan,
            contract=contract,
            finished=finished,
            version=version,
            auc=auc,
            difference=difference,
            memory=memory,
            scoring=scoring,
            accounts=accounts,
            audit=audit,
            then=then,
        )

    def _govern(
        self, deployment: Deployment, contract: Contract, plan: Plan, applicants: Table
    ) -> tuple[Afterwards, Path]:
        """What officers do from their own machines with runs and models, what becomes of what serves, and an officer's export of the log."""
        with step("officers' own machines, let in over the control API"):
            officers = Officers.let_in(deployment, self.folder / "machines")
        with step("a small plan, proposed and approved from there"):
            agreed = agreed_plan(officers)
        with step("its run: launched, halted, lifted by two officers, resumed to its end"):
            governed = halted_and_resumed(officers, agreed)
        features = contract.feature_spec(plan.features)
        rollouts = self._rollouts(deployment, officers, features, applicants)
        deployed = rolled_out(rollouts, self.folder / "exported", step)
        drift, retraining = watched(rollouts, Traffic(applicants, features, contract), step)
        with step("the log, exported over the API; then the coordinator is stopped"):
            export = officers.export()
            deployment.end("coordinator")
        return Afterwards(governed, deployed, drift, retraining), export

    def _rollouts(
        self, deployment: Deployment, officers: Officers, features: FeatureSpec, applicants: Table
    ) -> Rollouts:
        """Both runs' models, and a target for them."""
        first, second = list_versions(deployment.centre().engine, self.documents()[0].name)
        application = declined_by_both(deployment, (first, second), features, applicants)
        return Rollouts.of(deployment, officers, (first, second), application)

    def _audit(self, deployment: Deployment, export: Path | None) -> AuditReport:
        """The log, verified: the export of an officer where no coordinator is, or one that is made here."""
        with step("the log, verified as an auditor would"):
            if export is None:
                return audited(deployment, self.folder / LOG)
            shutil.copy(export, self.folder / LOG)
            return audited_elsewhere(self.folder / LOG, deployment.officers.root)

    def _auc(
        self, contract: Contract, tables: dict[SiteName, Table], applicants: Table, version: ModelVersion
    ) -> AucReport:
        """On the demo's own held-out loans, outside the protocol, which only a demo can do: a real centre has no loans."""
        from simulation.demo.equality import exact_auc

        alone = load_document(data.copy_document(data.WITHOUT_PRIVACY, self.folder), Plan)
        scored = exact_auc(self.folder / "model" / SCORING_FILE, alone, applicants)
        found = dict(version.metrics or {})
        interval = found.get("auc_interval")
        return AucReport(
            federated=scored,
            local={str(site): value for site, value in local_auc(alone, contract, tables).items()},
            pooled=pooled_auc(alone, contract, tables),
            reported=found["auc"],
            interval=None if interval is None else (interval[0], interval[1]),
        )

    def documents(self) -> tuple[Plan, Contract]:
        """The demo's plan and contract."""
        return (
            load_document(self.folder / data.PLAN, Plan),
            load_document(self.folder / data.CONTRACT, Contract),
        )

    def _train(self, deployment: Deployment) -> RunView:
        with step("a federated run", spinner=False):
            centre = deployment.centre()
            run = launch(centre, self.folder / data.PLAN)
            return watch(centre, run, deployment.check)

    def _export(
        self, deployment: Deployment, plan: Plan, contract: Contract, version: ModelVersion, applicants: Table
    ) -> float:
        """Write the model's files, and hold ONNX against torch on all held-out rows; the largest difference."""
        from simulation.demo.equality import largest_difference

        artifacts, folder = deployment.centre().artifacts, self.folder / "model"
        folder.mkdir()
        for name, digest in version.artifacts.items():
            (folder / name).write_bytes(artifacts.get(digest))
        return largest_difference(folder / SCORING_FILE, folder / WEIGHTS_FILE, plan, contract, applicants)

    def _score(
        self, deployment: Deployment, plan: Plan, contract: Contract, version: ModelVersion, applicants: Table
    ) -> ScoringReport:
        with step("a scoring service, and one real application"):
            port = free_port()
            deployment.start_scoring(version.ref, port)
            base = f"http://127.0.0.1:{port}"
            wait_until_ready(base, deployment.check)
            return score_one(
                base, version.name, version.version, contract.feature_spec(plan.features), applicants
            )

    def _report(
        self,
        *,
        plan: Plan,
        contract: Contract,
        finished: RunView,
        version: ModelVersion,
        auc: AucReport,
        difference: float,
        memory: float,
        scoring: ScoringReport,
        accounts: list[AccountReport],
        audit: AuditReport,
        then: Afterwards,
    ) -> DemoReport:
        width = contract.feature_spec(plan.features).width
        return DemoReport(
            sites=list(plan.sites.invite),
            rounds=finished.committed,
            parameters=plan.dense_model(width).size,
            auc=auc,
            exchange_s=median(finished.exchange_s),
            round_s=median(finished.round_s),
            aggregation=plan.aggregation.mode,
            privacy=accounts,
            model={
                "name": version.name,
                "version": version.version,
                "digest": version.digest,
                "stage": str(version.stage),
            },
            onnx_max_difference=difference,
            agent_memory_mib=memory,
            scoring=scoring,
            audit=audit,
            then=then,
            elapsed_s=time.monotonic() - self._began,
            paths={
                "model and ONNX export": self.folder / "model",
                "database": self.folder / "coordinator" / "covenant.db",
                "logs": self.folder / "logs",
                "coordinator": self.folder / "coordinator",
                "command": command_path(),
            },
        )


def command_path() -> Path:
    """How a reader calls `covenant` from here: by name if the shell finds it, else by path."""
    return Path("covenant") if shutil.which("covenant") else Path(sys.executable).parent / "covenant"


@contextmanager
def step(name: str, *, spinner: bool = True) -> Iterator[None]:
    """Show what is being done, and how long it took."""
    began = time.monotonic()
    with people.status(name) if spinner and people.is_terminal else nullcontext():
        yield
    people.print(f"[green]✓[/] {name} ({time.monotonic() - began:.1f} s)", highlight=False)


def applicants_of(plan: Plan, contract: Contract, tables: dict[SiteName, Table]) -> Table:
    """The held-out rows of all sites: who applies for a loan has been in nobody's training."""
    pooled = pooled_table(tables)
    return pooled.rows(held_out_rows(plan, contract, pooled))
