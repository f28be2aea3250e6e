"""The value of a version as sheets that a person can check with a pocket calculator: the same for the terminal, the page and the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coordinator.worth.figures import AtThreshold, Value, Valued, a_year
from coordinator.worth.spent import Charged, RunCost
from protos.costs import Costs
from protos.quantities import thousands
from strategies.analytics.estimates import Estimate
from strategies.analytics.value import Best, Line, Part

_FLATTERED = (
    "It was chosen on the counts that it is judged by, so luck chose with it: on average it looks cheaper there than it is, by what is estimated here, which may be"
    " more. The interval holds for all thresholds at once, so it holds for the one that was chosen. Judge it on other rows before you rely on it."
)
_SAME = 1e-6
"""Nearer than is printed."""
_WHOLE = {Part.APPROVED_GOOD, Part.APPROVED_BAD, Part.DECLINED_GOOD, Part.DECLINED_BAD, Part.REVIEWED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table of texts: the first column names the row, and `sums` says whether the last row is the sum of those above it. `notes` follow."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sums: bool = False
    notes: Sequence[str] = ()


def money(amount: float, currency: str) -> str:
    """`EUR -1,234.50`."""
    return f"{currency} {thousands(amount, 2)}"


def whole(amount: float, currency: str) -> str:
    """`EUR -1,234`: a year is not known to the cent."""
    return f"{currency} {thousands(amount)}"


def sheets_of(value: Value) -> Iterator[tuple[Valued | None, Sequence[Sheet]]]:
    """The sheets of each source, and then (None) those of what it cost."""
    for number, found in enumerate(value.sources, start=1):
        sheets = [
            sheet
            for place, each in enumerate(found.thresholds, start=1)
            for sheet in of_threshold(f"source-{number}-{place}", each, value.costs)
        ]
        if found.best is not None:
            sheets.append(of_best(f"source-{number}-best", found.best, found.best_at, value.costs.currency))
        yield found, sheets
    yield None, tuple(_spent(value))


def cautions(value: Value) -> Iterator[str]:
    """What the figures rest on, and what they cannot say."""
    yield (
        "Costs are positive, income is negative. Amounts are those of the document, the same for every decision: they are assumptions, and no interval counts them."
    )
    yield (
        "Good and bad are the outcomes of rows that have one. What would have become of an application that was declined then is in no row, so a model that approves"
        " otherwise than the one before may do otherwise than is said here."
    )
    noises = [each.noise_std for each in value.sources if each.best is not None]
    if any(noises):
        yield (
            f"Counts are released with noise (standard deviation {max(noises):.1f} each), so a count may be a little off, or below zero. Intervals are 95 % and"
            " count the noise, and that rows are a sample."
        )
    elif noises:
        yield "Counts are exact. Intervals are 95 % and count that rows are a sample."
    if any(each.champion for each in value.sources):
        yield (
            "Model and champion are compared at the same threshold, on the same rows, but counted apart: no count says which rows both would decline. The interval of"
            " the difference holds whatever those are, and is wider than counts of both together would make it."
        )


def of_threshold(name: str, found: AtThreshold, costs: Costs) -> Iterator[Sheet]:
    """The lines at a threshold, and what they come to for a decision and for a year."""
    currency, looks = costs.currency, found.reviews_from is not None
    total = sum(each.amount for each in found.lines)
    lines = [_line(each, currency) for each in found.lines if looks or "reviewed" not in each.part]
    nearest = (
        ""
        if abs(found.at - found.asked) < _SAME
        else f" (asked for {found.asked:g}; scores are counted in bins, and one begins there)"
    )
    notes = [
        f"Scores from {found.at:.4g} on are declined{nearest}."
        + (f" Scores from {found.reviews_from:.4g} to there go to a person." if looks else "")
    ]
    if costs.review is not None and not looks:
        notes.append(
            f"Review begins at {costs.review.from_score:g}, which is not below this threshold: nobody looks."
        )
    yield Sheet(
        name=name,
        title=f"Line by line, declining from {found.at:.4g}",
        columns=("rows that are", "rows", "share", "each", "amount"),
        rows=[*lines, ("all", thousands(found.rows), "", "", money(total, currency))],
        sums=True,
        notes=notes,
    )
    yield _summary(f"{name}-year", found, costs, total)


def _line(each: Line, currency: str) -> tuple[str, ...]:
    return (
        str(each.part),
        thousands(each.rows),
        "" if each.part in _WHOLE else f"{each.share:g}",
        money(each.each, currency),
        money(each.amount, currency),
    )


def _summary(name: str, found: AtThreshold, costs: Costs, total: float) -> Sheet:
    """For a decision, and for a year."""
    currency, volume = costs.currency, costs.volume_per_year
    years = f"{thousands(volume.least)} to {thousands(volume.most)} decisions a year"

    def row(label: str, each: Estimate) -> tuple[str, ...]:
        least, most, low, high = a_year(each, volume)
        return (
            label,
            money(each.value, currency),
            f"{money(each.low, currency)} to {each.high:,.2f}",
            f"{whole(least, currency)} to {most:,.0f}",
            f"{whole(low, currency)} to {high:,.0f}",
        )

    shares = [("approved at once", found.approved), ("declined (alerts)", found.declined)]
    if found.reviews_from is not None:
        shares.insert(1, ("reviewed by a person", found.reviewed))
    counted = ", ".join(f"{label} {_percent(each)}" for label, each in shares)
    return Sheet(
        name=name,
        title=f"A decision and a year, declining from {found.at:.4g}",
        columns=("what", "a decision", "95 % interval", f"a year, {years}", "a year, at least and at most"),
        rows=[
            row("cost of decisions", found.decision),
            *(row(f"saved against {other}", each) for other, each in found.saved.items()),
        ],
        notes=(
            f"A decision is the sum above divided by its rows: {money(total, currency)} / {thousands(found.rows)} = {money(found.decision.value, currency)}. A year is the same before rounding, times the volume.",
            f"Of all rows: {counted}.",
        ),
    )


def _percent(each: Estimate) -> str:
    return f"{each.value:.1%} ({each.low:.1%} to {each.high:.1%})"


def of_best(name: str, best: Best, at: float, currency: str) -> Sheet:
    """The cheapest threshold, which begins `at` a score, and how much it is flattered."""
    return Sheet(
        name=name,
        title="The threshold that costs least on these counts",
        columns=(
            "declining from",
            "a decision, on these counts",
            "looks cheaper than it is by",
            "to expect of it",
            "95 % interval",
        ),
        rows=[
            (
                f"{at:.4g}",
                money(best.cost.value, currency),
                money(best.flattered, currency),
                money(best.expected, currency),
                f"{money(best.cost.low, currency)} to {best.cost.high:,.2f}",
            )
        ],
        notes=(_FLATTERED,),
    )


def _spent(value: Value) -> Iterator[Sheet]:
    currency, spent = value.costs.currency, value.spent
    left = f" {spent.left_out} older runs of the plan are not listed." if spent.left_out else ""
    yield Sheet(
        name="spent-runs",
        title="What it cost: runs of its plan",
        columns=(
            "run",
            "state",
            "rounds",
            "attempts again",
            "seconds of rounds",
            "seconds waited for sites",
            "sent",
            "received",
        ),
        rows=[_run(each) for each in spent.runs],
        notes=(
            "Seconds waited for sites are how long the coordinator waited for answers, of all sites together: no site computed for longer than that, and some of it is the network."
            + left,
        ),
    )
    charges = [(each.run, charge) for each in spent.runs for charge in each.charges]
    yield Sheet(
        name="spent-epsilon",
        title="What it cost: privacy",
        columns=("account", "run", "releases charged", "opened", "what the run would cost alone"),
        rows=[
            (charge.account, run, str(charge.charged), str(charge.settled), charge.alone.words)
            for run, charge in charges
        ],
        notes=(
            "No account was charged."
            if not charges
            else "Epsilon is no sum and has no price. Several runs on one account come to less than their figures added; the account says to how much.",
        ),
    )
    lines = spent.charged(value.costs.rates)
    yield Sheet(
        name="spent-money",
        title="What it cost: at the rates of the document",
        columns=("what", "number", "each", "amount"),
        rows=[
            *(_charged(each, currency) for each in lines),
            ("all, once", "", "", money(sum(each.amount for each in lines), currency)),
        ],
        sums=True,
        notes=(
            "Signatures: "
            + "; ".join(f"{what}: {number}" for what, number in spent.signatures.items())
            + ".",
        ),
    )


def _run(each: RunCost) -> tuple[str, ...]:
    return (
        f"{each.run}{' (made it)' if each.made_it else ''}",
        each.state,
        str(each.rounds),
        str(each.again),
        thousands(each.round_s, 1),
        thousands(each.waited_s, 1),
        f"{thousands(each.sent_bytes / 1e6, 3)} MB",
        f"{thousands(each.received_bytes / 1e6, 3)} MB",
    )


def _charged(each: Charged, currency: str) -> tuple[str, ...]:
    return (
        each.what,
        f"{thousands(each.number, 4).rstrip('0').rstrip('.')} {each.unit}",
        money(each.rate, currency),
        money(each.amount, currency),
    )
