"""What there is to see of a plan, as tables and a chart: the same at the hosted console and at an officer's desk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.texts import words
from coordinator.governance.policies.rejudge import Said
from coordinator.ledger.forecast import MOST_LAUNCHES, AccountForecast, Forecast, Standing
from coordinator.office.comments import Comment
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_diff import PlanDiff
from strategies.dp.units import Guarantee
from strategies.ids import Digest

SHOWN: Final = 12
"""Digits of a digest that people look at."""
SHOWN_ACCOUNTS: Final = 60
"""Accounts in a table of a page; the file has all."""
CHANGE_COLUMNS: Final = (Column("About"), Column("Change"), Column("Protection"))


def changes_table(found: PlanDiff, before: str) -> Table:
    """What changed since the plan that `before` names, in sentences."""
    rows = change_rows(found)
    if rows:
        cost = f"the whole plan cost {_cost(found.cost_old)}, and costs {_cost(found.cost_new)}"
        rows.append((Cell("what it costs in all"), Cell(cost), _protects(loosens=found.costs_more)))
    return Table(
        name="changes",
        caption=f"What changed since {before}",
        columns=CHANGE_COLUMNS,
        rows=rows,
        empty="Nothing changed: it is the same plan.",
    )


def change_rows(found: PlanDiff) -> list[Sequence[Cell]]:
    """A row a change, for `CHANGE_COLUMNS`."""
    return [
        (Cell(str(each.part)), Cell(each.sentence), _protects(loosens=each.loosens)) for each in found.changes
    ]


def _protects(*, loosens: bool) -> Cell:
    return Cell("protects less", tone="warn") if loosens else Cell("as before, or more", tone="quiet")


def _cost(cost: Guarantee | None) -> str:
    return "everything (privacy mode none promises nothing)" if cost is None else cost.words


def statements_table(plan: Digest, contract: Digest, evidence: PlanEvidence) -> Table:
    """Who has signed."""
    return Table(
        name="statements",
        caption="Signed so far",
        columns=[Column("Officer"), Column("As"), Column("About"), Column("Good until")],
        rows=[
            (
                Cell(each.officer),
                Cell("author") if each.act == "author" else Cell(str(each.role), text=each.role.words),
                Cell("this plan", tone="good")
                if (each.plan, each.contract) == (plan, contract)
                else Cell("another plan or contract", tone="bad"),
                Cell(each.expires),
            )
            for each in evidence.statements
        ],
        empty="Nobody has signed it. Its author does, with `covenant plan sign --access`.",
    )


def verdicts_table(said: Sequence[Said]) -> Table:
    """What the policy packs in effect say: what does not pass first, with who must do what."""
    rows: list[tuple[bool, Sequence[Cell]]] = []
    for pack, found in said:
        severity = {each.id: each.severity for each in pack.rules}
        for each in found.verdicts:
            tone: Tone = "good" if each.passes else "bad" if severity[each.rule] == "blocking" else "warn"
            outcome = {"passes": "passes", "fails": "fails", "error": "not decided"}[each.outcome]
            remedy = "" if each.passes else ". ".join(filter(None, (each.why, each.remedy)))
            cells = (
                Cell(pack.ref),
                Cell(each.rule),
                Cell(str(severity[each.rule])),
                Cell(outcome, tone=tone),
                Cell(None if each.acts is None else str(each.acts)),
                Cell(remedy or None),
            )
            rows.append((each.passes, cells))
    return Table(
        name="verdicts",
        caption="What the policies in effect say",
        columns=[
            Column("Pack"),
            Column("Rule"),
            Column("Severity"),
            Column("Verdict"),
            Column("Who acts"),
            Column("How"),
        ],
        rows=[cells for _, cells in sorted(rows, key=lambda each: each[0])],
        empty="No policy pack is in effect: nothing blocks.",
    )


def forecast_table(found: Forecast, most: int | None = None) -> Table:
    """What a launch does to each account that it needs; at most to so many, the tightest."""
    shown = found if most is None else found.tightest(most)
    rows = [*(_account(each) for each in shown.accounts), *_missing(shown)]
    return Table(
        name="forecast",
        caption="What a launch does to the privacy accounts"
        if shown is found
        else words(
            "What a launch does to the {shown} tightest of {all} privacy accounts; the file has all",
            shown=len(rows),
            all=len(found.accounts) + len(found.missing),
        ),
        columns=[
            Column("Account"),
            Column("Ceiling"),
            Column("Spent now"),
            Column("Spent with this plan"),
            Column("Left then", number=True),
            Column("Launches that fit", number=True),
            Column("This launch"),
        ],
        rows=rows,
        empty="No account is charged: the plan has privacy mode none, and promises nothing.",
    )


def _account(each: AccountForecast) -> Sequence[Cell]:
    fits = f"{each.launches} or more" if each.launches >= MOST_LAUNCHES else str(each.launches)
    refused = f"refused; {each.rounds or 'none'} of its rounds would fit"
    return (
        Cell(each.key.words),
        Cell(each.ceiling.words),
        Cell(_spent(each.before)),
        Cell(_spent(each.after)),
        Cell(round(each.after.left, 4), text=f"{each.after.left:.1%}"),
        Cell(each.launches, text=fits),
        Cell("fits", tone="good") if each.refusal is None else Cell(refused, tone="bad"),
    )


def _missing(found: Forecast) -> Iterator[Sequence[Cell]]:
    for key in found.missing:
        refused = Cell("refused: no ceiling is signed", tone="bad")
        yield (Cell(key.words), Cell(None), Cell(None), Cell(None), Cell(None), Cell(0), refused)


def _spent(standing: Standing) -> str:
    return f"epsilon {standing.spent.epsilon:.3g}, {standing.fraction:.1%} of the filter's budget"


def forecast_chart(found: Forecast) -> Chart:
    """Of each account's ceiling, or the tightest ones', what is spent and what this plan takes."""
    there_are = len(found.accounts)
    found = replace(found, missing=()).tightest(SHOWN_ACCOUNTS)
    names = [each.key.words for each in found.accounts]
    before = [_percent(each.before) for each in found.accounts]
    after = [_percent(each.after) for each in found.accounts]
    takes = [None if b is None or a is None else round(a - b, 3) for b, a in zip(before, after, strict=True)]
    return Chart(
        name="forecast-chart",
        title="Of each ceiling: spent, and with this plan"
        if len(found.accounts) == there_are
        else words(
            "Of the {shown} tightest of {all} ceilings: spent, and with this plan",
            shown=len(found.accounts),
            all=there_are,
        ),
        x="account",
        y="% of the filter's budget",
        axis="category",
        series=[
            Series(
                name="spent now",
                points=list(zip(names, before, strict=True)),
                kind="bar",
                stack="all",
            ),
            Series(name="this plan", points=list(zip(names, takes, strict=True)), kind="bar", stack="all"),
        ],
        bounds=[Bound(name="ceiling", at=100.0)],
        y_from=0.0,
        empty="No account is charged.",
    )


def _percent(standing: Standing) -> float | None:
    return round(100.0 * standing.fraction, 3) if math.isfinite(standing.fraction) else None


def comments_table(said: Sequence[Comment]) -> Table:
    """What officers said."""
    return Table(
        name="comments",
        caption="Comments",
        columns=[Column("Officer"), Column("At"), Column("Comment")],
        rows=[(Cell(each.officer), Cell(each.at), Cell(each.text)) for each in said],
        empty="Nobody has said anything about this plan. Whoever may read it may, below.",
    )


def content_facts(plan: Plan, contract: Contract) -> Sequence[tuple[str, Cell]]:
    """What identifies a plan."""
    return (
        ("Digest", Cell(plan.digest, code=True)),
        ("Contract", Cell(contract.ref)),
        ("Contract's digest", Cell(contract.digest, code=True)),
        ("Member list", Cell(plan.sites.members)),
    )
