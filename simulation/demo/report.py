"""What the demo found, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from protos.shell import people
from simulation.demo.full_report import Afterwards
from strategies.dp.units import Guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class AucReport:
    """AUC on the same held-out rows of all sites, scored outside the protocol; `reported` is what the run itself found, with its 95 % interval
    where noise made it uncertain."""

    federated: float
    local: dict[str, float]
    pooled: float
    reported: float
    interval: tuple[float, float] | None = None

    @property
    def local_mean(self) -> float:
        """The mean of the models that a site trained alone."""
        return sum(self.local.values()) / len(self.local)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringReport:
    """One real application, scored by the running service."""

    url: str
    latency_ms: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """What one unit of a site's population has lost to the run, by the larger of the site's and the centre's account."""

    site: str
    dataset: str
    mode: str
    guarantee: Guarantee

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return {"site": self.site, "dataset": self.dataset, **self.guarantee.facts(), "mode": self.mode}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What `covenant log verify --json` found in an export, from its first entry to its signed head; there is no report of one that was not verified."""

    found: dict[str, Any]
    export: Path

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return {**self.found, "export": str(self.export)}

    def table(self) -> Table:
        """What an auditor knows, by question."""
        table = Table(
            "question",
            "answer",
            title="What an auditor reads in the exported log, with the officers' root alone",
        )
        table.columns[1].overflow = "fold"
        runs = {each["run"]: each for each in self.found["runs"]}
        for model in self.found["models"]:
            run = runs[model["run"]]
            by = ", ".join(f"{each['officer']} ({each['role']})" for each in run["approved_by"])
            table.add_row(
                f"which plan made {model['model']}?",
                f"{run['plan']} {run['plan_digest'][:12]}, in {run['run']}: {run['rounds']} rounds, {run['state']}",
            )
            table.add_row("who approved it?", f"{by}; written by {run['author']}")
            table.add_row("which sites took part knowingly?", ", ".join(run["witnessed_by"]))
        for each in self.found["budgets"]:
            cost, ceiling = each["charged"], each["ceiling"]
            table.add_row(
                f"what did it cost {each['site']}/{each['population']}?",
                f"epsilon {cost['epsilon']:.3f} of {ceiling['epsilon']:g} at delta {cost['delta']:g} per {cost['unit']}, {each['sums']} sums opened",
            )
        for each in self.found["deployments"]:
            ended = ", ".join(f"{one['model']} ({one['state']})" for one in each["rollouts"])
            table.add_row(
                f"what runs at {each['target']}?",
                f"{each['serves'] or 'nothing'}, {(each['digest'] or '')[:12]}; brought there: {ended}",
            )
        for each in self.found["halts"]:
            state = "stands" if each["stands"] else "lifted"
            table.add_row("what was halted?", f"{each['what']}, by {each['by']}: {each['reason']} ({state})")
        table.add_row(
            "are entries missing?",
            f"no: all {self.found['entries']} are under the head that the log signed; {self.found['unwitnessed']} at the end no site has witnessed yet",
        )
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """Everything that the demo shows. Times in seconds unless the name says otherwise."""

    sites: list[str]
    rounds: int
    parameters: int
    auc: AucReport
    exchange_s: float
    round_s: float
    aggregation: str
    privacy: list[AccountReport]
    model: dict[str, object]
    onnx_max_difference: float
    agent_memory_mib: float
    scoring: ScoringReport
    audit: AuditReport
    then: Afterwards = field(default_factory=Afterwards)
    elapsed_s: float
    paths: dict[str, Path]

    def facts(self) -> dict[str, object]:
        """The report as one JSON object."""
        return {
            "sites": self.sites,
            "rounds": self.rounds,
            "parameters": self.parameters,
            "auc": {
                "federated": self.auc.federated,
                "local_mean": self.auc.local_mean,
                "local": self.auc.local,
                "pooled": self.auc.pooled,
                "reported": {"estimate": self.auc.reported, "interval_95": self.auc.interval},
            },
            "exchange_s": {"median": self.exchange_s},
            "round_s": {"median": self.round_s},
            "aggregation": self.aggregation,
            "privacy": [account.facts() for account in self.privacy],
            "model": self.model,
            "onnx_max_difference": self.onnx_max_difference,
            "agent_memory_mib": self.agent_memory_mib,
            "scoring": asdict(self.scoring),
            "audit": self.audit.facts(),
            **self.then.facts(),
            "elapsed_s": self.elapsed_s,
            "paths": {name: str(path) for name, path in self.paths.items()},
        }

    def show(self) -> None:
        """Print tables for people."""
        people.print(self._auc_table())
        people.print(self._run_table())
        saw = "sums over at least three sites" if self.aggregation == "secure" else "each site's update"
        people.print(
            f"Aggregation in this run was [bold]{self.aggregation}[/]: the coordinator saw {saw}. {self._privacy_words()}\n"
            "The officers' keys were made beside the coordinator; in production they are offline, with the officers."
        )
        self.then.show()
        people.print(self.audit.table())
        covenant = self.paths["command"]
        people.print(
            f"\nLook at it: [bold]{covenant} up --demo[/] starts it anew with its web console, and keeps it running."
        )

    def _privacy_words(self) -> str:
        if not self.privacy:
            return "Privacy was [bold]none[/]: nothing protects a person's rows in what was released."
        worst = max(self.privacy, key=lambda each: each.guarantee.epsilon)
        estimate = ""
        if self.auc.interval is not None:
            low, high = self.auc.interval
            estimate = f" The run's own, private estimate of AUC: {self.auc.reported:.3f}, 95 % interval {low:.3f} to {high:.3f}."
        return (
            f"Privacy was [bold]{worst.mode}[/]: all that was released, moments and evaluation included, costs at most"
            f" [bold]{worst.guarantee.words}[/] at each site. That a site took part is not protected.{estimate}"
        )

    def _auc_table(self) -> Table:
        table = Table(
            "model", "AUC", "", title="Who predicts defaults best? All scored on the same held-out loans"
        )
        best = max(self.auc.pooled, self.auc.federated, *self.auc.local.values())
        rows = [
            ("federated, no row left its site", self.auc.federated),
            *((f"{site} alone", value) for site, value in sorted(self.auc.local.items())),
            ("mean of the four alone", self.auc.local_mean),
            ("pooled, all rows in one place", self.auc.pooled),
        ]
        for name, value in rows:
            style = "bold green" if name.startswith("federated") else ""
            length = max(1, round(24 * (value - 0.5) / max(best - 0.5, 1e-9))) if value > 0.5 else 0  # noqa: PLR2004 (chance)
            table.add_row(name, f"{value:.4f}", "█" * length, style=style)
        return table

    def _run_table(self) -> Table:
        table = Table(show_header=False, title="The run")
        table.add_column()
        table.add_column(overflow="fold")
        rows = {
            "sites, rounds, parameters": f"{', '.join(self.sites)}; {self.rounds}; {self.parameters}",
            "seconds a round (median)": f"{self.round_s:.2f}, of which waiting for sites {self.exchange_s:.2f}",
            "model": f"{self.model['name']}@{self.model['version']} ({self.model['stage']}), {str(self.model['digest'])[:16]}",
            "ONNX against torch": f"largest difference {self.onnx_max_difference:.1e} on the held-out loans",
            "one application, scored": f"{self.scoring.probability:.4f} in {self.scoring.latency_ms:.1f} ms at {self.scoring.url}",
            "log, exported": str(self.audit.export),
            "memory of an agent": f"{self.agent_memory_mib:.0f} MiB",
            **{name: str(path) for name, path in self.paths.items() if name != "command"},
            "elapsed": f"{self.elapsed_s:.0f} s",
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table
