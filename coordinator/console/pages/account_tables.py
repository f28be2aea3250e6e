"""The tables of an account's own page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.console.pages.account_charts import Would
from coordinator.console.pages.budgets import epsilon, path_of, share
from coordinator.console.reads.runs import RunRow
from coordinator.console.tables import Cell, Column, Table
from coordinator.ledger.audits import KeptAudit
from coordinator.ledger.books import Book
from coordinator.ledger.forecast import Standing
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.overlaps import OverlapView
from coordinator.ledger.views import AlertView, CeilingChange, RunTotals
from strategies.dp.budget import cost_of, exempted
from strategies.dp.events import Mechanism, Release
from strategies.ids import RunId

MOST_RELEASES: Final = 40
SHOWN_DIGITS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Pages beside a table's."""

    newer: str | None = None
    older: str | None = None


def runs_table(totals: Sequence[RunTotals], rows: Mapping[RunId, RunRow], beside: Beside) -> Table:
    """Which run spent what: a line a run."""
    return Table(
        name="runs",
        caption="Runs that spent it",
        columns=[
            Column("Run"),
            Column("Plan"),
            Column("State"),
            Column("Opened", number=True),
            Column("Reserved", number=True),
            Column("Given back", number=True),
            Column("Epsilon, it alone", number=True),
            Column("Of the budget", number=True),
        ],
        rows=[_run(each, rows.get(each.run)) for each in totals],
        empty="No run has charged this account. What a plan would cost is shown by a what-if, before it is approved.",
        newer=beside.newer,
        older=beside.older,
    )


def _run(each: RunTotals, row: RunRow | None) -> Sequence[Cell]:
    return (
        Cell(each.run, href=f"/runs/{each.run}"),
        Cell(
            None if row is None else plan_words(row.plan, row.plan_digest),
            href=None if row is None else f"/plans/{row.plan_digest}",
        ),
        Cell(None if row is None else str(row.state)),
        Cell(sum(stage.settled for stage in each.stages)),
        Cell(sum(stage.reserved for stage in each.stages)),
        Cell(sum(stage.voided for stage in each.stages)),
        epsilon(each.alone),
        share(each.fraction),
    )


def releases_table(book: Book, opened: Mapping[Release, int]) -> Table:
    """What was released, and is reserved: the dearest first."""
    ceiling = book.in_force.ceiling
    bare = set(exempted(book.charges))
    costs = {
        release: 0.0 if release in bare else ceiling.fraction(cost_of({release: times}, ceiling.order))
        for release, times in book.charges.items()
    }
    dearest = sorted(costs, key=lambda each: (each not in bare, -costs[each]))[:MOST_RELEASES]
    more = len(costs) - len(dearest)
    return Table(
        name="releases",
        caption="Releases" if not more else f"Releases: the {len(dearest)} dearest of {len(costs)}",
        columns=[
            Column("What"),
            Column("Noise"),
            Column("Noise multiplier", number=True),
            Column("Sampling rate", number=True),
            Column("Opened", number=True),
            Column("Reserved", number=True),
            Column("Of the budget, alone", number=True),
            Column("Release"),
        ],
        rows=[_release(each, book, opened, costs[each]) for each in dearest],
        empty="Nothing was released or reserved.",
    )


def _release(release: Release, book: Book, opened: Mapping[Release, int], fraction: float) -> Sequence[Cell]:
    times = opened.get(release, 0)
    bare = release.mechanism is Mechanism.NONE
    return (
        Cell(release.what),
        Cell("none: exempted by name, in no figure", tone="bad") if bare else Cell(str(release.mechanism)),
        Cell(None) if bare else Cell(release.noise_multiplier, text=f"{release.noise_multiplier:.4g}"),
        Cell(release.sampling_rate, text=f"{release.sampling_rate:.4g}"),
        Cell(times),
        Cell(max(0, book.charges[release] - times)),
        Cell(None) if bare else share(fraction),
        Cell(release.digest, text=release.digest[:SHOWN_DIGITS], code=True),
    )


def history_table(history: Sequence[CeilingChange]) -> Table:
    """Every decision on the ceiling, the latest first."""
    return Table(
        name="ceilings",
        caption="Ceilings, and who signed them",
        columns=[
            Column("Decision", number=True),
            Column("Set"),
            Column("Epsilon", number=True),
            Column("Delta", number=True),
            Column("Unit"),
            Column("Signed by"),
            Column("Why"),
            Column("Alerts at"),
            Column("Overlaps"),
        ],
        rows=[
            (
                Cell(each.decided.seq),
                Cell(each.set_at),
                Cell(each.decided.ceiling.epsilon, text=f"{each.decided.ceiling.epsilon:g}"),
                Cell(each.decided.ceiling.delta, text=f"{each.decided.ceiling.delta:g}"),
                Cell(each.decided.ceiling.unit.words),
                Cell(", ".join(each.officers)),
                Cell(each.reason),
                Cell(", ".join(f"{at:.0%}" for at in each.decided.alert_at) or None),
                Cell(", ".join(each.decided.overlaps) or None),
            )
            for each in reversed(history)
        ],
    )


def alerts_table(alerts: Sequence[AlertView]) -> Table:
    """The alerts of the ceiling in force."""
    return Table(
        name="alerts",
        caption="Alerts",
        columns=[Column("At"), Column("State"), Column("Reached"), Column("By")],
        rows=[
            (
                Cell(each.fraction, text=f"{each.fraction:.0%} of the ceiling"),
                Cell("not reached", tone="quiet") if each.at is None else Cell("reached", tone="warn"),
                Cell(each.at),
                Cell(each.run, href=None if each.run is None else f"/runs/{each.run}"),
            )
            for each in alerts
        ],
        empty="The ceiling in force has no alerts: `covenant ledger ceiling draft --alert-at 0.8` sets one with the next decision.",
    )


def overlaps_table(overlap: OverlapView | None) -> Table:
    """Persons whose rows are at several sites."""
    found = () if overlap is None else overlap.sites
    missing = () if overlap is None else overlap.without_account
    return Table(
        name="overlaps",
        caption="Sites that share persons with this one",
        columns=[Column("Site"), Column("In the worst case above")],
        rows=[
            (
                Cell(site, href=f"/budgets?q={site}"),
                Cell("no account for this unit, so not counted", tone="warn")
                if site in missing
                else Cell("counted", tone="good"),
            )
            for site in found
        ],
        empty="No overlap is declared. Where persons have rows at several sites and no plan bounds at how many, `covenant ledger ceiling draft --overlap SITE` declares it.",
    )


def forecast_table(book: Book, approved: Sequence[Would]) -> Table:
    """Plans that may be launched now, and what each would do here, alone."""
    return Table(
        name="forecast",
        caption="Approved and not launched",
        columns=[
            Column("Plan"),
            Column("Launch until"),
            Column("Spent then", number=True),
            Column("Left then", number=True),
            Column("Fits"),
        ],
        rows=[_would(book, each) for each in approved],
        empty="No approved plan waits to be launched here. What any plan would cost: try a what-if.",
    )


def _would(book: Book, each: Would) -> Sequence[Cell]:
    after = Standing.of(book.account.charged(each.charges))
    fits = after.fraction <= 1.0
    return (
        Cell(plan_words(each.name, each.digest), href=f"/budgets/what-if?plan={each.digest}"),
        Cell(each.until),
        epsilon(after.spent),
        share(after.left),
        Cell("fits", tone="good") if fits else Cell("would be refused", tone="bad"),
    )


def audits_table(audits: Iterable[KeptAudit]) -> Table:
    """The empirical audit beside the claim, for plans that charged the account."""
    return Table(
        name="audits",
        caption="Claimed, and shown by an audit",
        columns=[
            Column("Plan"),
            Column("Claimed at most", number=True),
            Column("Shown at least", number=True),
            Column("Delta", number=True),
            Column("Confidence", number=True),
            Column("Verdict"),
            Column("Would notice"),
            Column("What was audited"),
            Column("At"),
        ],
        rows=[_audit(each) for each in audits],
        empty="No plan that charged this account was audited.",
    )


def _audit(audit: KeptAudit) -> Sequence[Cell]:
    claimed, power = audit.claimed, audit.power
    faults = {
        "a quarter of the noise": power.a_quarter_of_the_noise,
        "no noise": power.no_noise,
        "no clipping": power.no_clipping,
    }
    noticed = [
        fault for fault, shown in faults.items() if claimed.epsilon is not None and shown > claimed.epsilon
    ]
    return (
        Cell(plan_words(audit.plan, audit.plan_digest), href=f"/plans/{audit.plan_digest}"),
        _claimed(claimed.epsilon),
        Cell(audit.epsilon_at_least, text=f"{audit.epsilon_at_least:.3f}"),
        Cell(claimed.delta, text=f"{claimed.delta:g}"),
        Cell(audit.confidence, text=f"{audit.confidence:.1%}"),
        Cell("the claim is wrong", tone="bad") if audit.refuted else Cell("not contradicted", tone="good"),
        Cell(", ".join(noticed) or "none of the faults that it imagines"),
        Cell(
            f"{audit.rounds} of {audit.planned_rounds} rounds, {audit.canaries} canaries among {audit.crowd}"
        ),
        Cell(audit.at),
    )


def plan_words(name: str, digest: str) -> str:
    """A plan among others of the same name."""
    return f"{name} {digest[:SHOWN_DIGITS]}"


def _claimed(value: float | None) -> Cell:
    return Cell("unbounded", tone="bad") if value is None else Cell(value, text=f"{value:.3f}")


def others_table(others: Sequence[AccountKey]) -> Table:
    """Accounts of the same rows for other units: what is charged to one is in no figure of the other."""
    return Table(
        name="other-units",
        caption="The same rows, for other units",
        columns=[Column("Account")],
        rows=[(Cell(each.words, href=path_of(each)),) for each in others],
    )
