"""What the page of one run shows, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.console.reads.progress import Attempt, SiteTotals
from coordinator.console.reads.sites import cause_of
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.texts import words
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import RoundState, RunState
from coordinator.ledger.run_costs import RunCost

STATE_TONES: Final[dict[str, Tone]] = {
    RunState.SUBMITTED: "quiet",
    RunState.RUNNING: "warn",
    RunState.COMPLETED: "good",
    RunState.FAILED: "bad",
    RunState.STOPPED: "plain",
}
STEPS: Final = {
    "answer": "to compute and answer",
    "keys": "for fresh keys",
    "shares": "for shares of its keys",
    "input": "for its masked input",
    "confirmation": "to confirm who takes part",
    "opening": "for the shares that open the sum",
    "witness": "to witness the run in the log",
    "vouch": "to vouch for sites that were started",
}
STAGES: Final = {"prepare": "Preparing", "train": "Training", "evaluate": "Evaluating"}
_ROUND_TONES: Final[dict[str, Tone]] = {
    RoundState.OPEN: "warn",
    RoundState.COMMITTED: "good",
    RoundState.VOIDED: "bad",
}
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_SHOWN: Final = 140
SHOWN_SITES: Final = 60
"""Sites in a table of a page; the file has all."""
NOTHING_NOTED: Final = (
    "Nothing was noted of this run's exchanges yet. It begins with the first question to a site."
)


def data_size(count: int) -> Cell:
    """Bytes, for people in steps of 1000."""
    size, unit = float(count), 0
    while size >= 1000.0 and unit + 1 < len(_UNITS):  # noqa: PLR2004 (SI)
        size, unit = size / 1000.0, unit + 1
    return Cell(count, text=f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}")


def seconds(value: float | None) -> Cell:
    """A duration in seconds."""
    return Cell(value, text=None if value is None else f"{value:.2f} s")


def shortened(text: str) -> Cell:
    """A sentence in a list: its beginning; the whole of it in the file."""
    return Cell(text, text=text if len(text) <= _SHOWN else f"{text[:_SHOWN].rstrip()} …")


def site_cell(site: str) -> Cell:
    """A link to a site."""
    return Cell(site, href=f"/sites/{site}")


def now_table(rows: Sequence[SiteExchange], *, going: bool, most: int = SHOWN_SITES) -> Table:
    """Where each site stands in one stage of one round: first those that the round waits for or that are missing, at most so many."""
    shown = sorted(rows, key=lambda row: (row.trouble is None, not row.waiting, row.site))[:most]
    return Table(
        name="stage",
        caption="Sites in this stage"
        if len(shown) == len(rows)
        else words(
            "Sites in this stage: {shown} of {all}, the file has all", shown=len(shown), all=len(rows)
        ),
        columns=[
            Column("Site"),
            Column("State"),
            Column("Asked last"),
            Column("Answers", number=True),
            Column("Sent to it", number=True),
            Column("Came from it", number=True),
            Column("Answered in", number=True),
            Column("In its words"),
        ],
        rows=[
            (
                site_cell(row.site),
                state_of(row, going=going),
                Cell(row.step, text=STEPS.get(row.step, row.step)),
                Cell(row.answered, text=f"{row.answered} of {row.asked}"),
                data_size(row.sent),
                data_size(row.received),
                seconds(row.seconds if row.answered else None),
                Cell(row.trouble or ""),
            )
            for row in shown
        ],
        empty=NOTHING_NOTED,
    )


def state_of(row: SiteExchange, *, going: bool) -> Cell:
    """The one word about a site in a stage."""
    if row.trouble is not None:
        refused = row.trouble.startswith("refused")
        return Cell("refused" if refused else "dropped out", tone="bad")
    if row.waiting and going:
        return Cell("asked, not answered yet", tone="warn")
    return Cell("answered", tone="good") if row.answered else Cell("asked", tone="quiet")


def rounds_table(attempts: Sequence[Attempt], older: str | None, newer: str | None) -> Table:
    """Attempts at rounds, the newest first."""
    return Table(
        name="rounds",
        caption="Rounds",
        columns=[
            Column("Round", number=True),
            Column("Attempt", number=True),
            Column("State"),
            Column("Asked", number=True),
            Column("Dropped out"),
            Column("Waiting for sites", number=True),
            Column("Whole round", number=True),
            Column("AUC", number=True),
            Column("Opened"),
            Column("Why not"),
        ],
        rows=[
            (
                Cell(each.number),
                Cell(each.attempt),
                Cell(str(each.state), tone=_ROUND_TONES[each.state]),
                Cell(len(each.roster)),
                Cell(", ".join(each.left_out)),
                seconds(each.exchange_s),
                seconds(each.seconds),
                _metric(each.metrics, "auc"),
                Cell(each.opened_at),
                Cell(each.reason or ""),
            )
            for each in attempts
        ],
        empty="No round was opened yet. First the invited sites have to be online, and to witness the run in the log.",
        older=older,
        newer=newer,
    )


def sites_table(sites: Sequence[SiteTotals], most: int = SHOWN_SITES) -> Table:
    """What each site sent and took over the run: first those that were in trouble, at most so many."""
    shown = sorted(sites, key=lambda each: (each.words is None, each.site))[:most]
    return Table(
        name="sites-of-run",
        caption="Sites over the whole run"
        if len(shown) == len(sites)
        else words(
            "Sites over the whole run: {shown} of {all}, the file has all", shown=len(shown), all=len(sites)
        ),
        columns=[
            Column("Site"),
            Column("Answers", number=True),
            Column("Sent to it", number=True),
            Column("Came from it", number=True),
            Column("An answer took", number=True),
            Column("Last noted"),
            Column("Last trouble"),
        ],
        rows=[
            (
                site_cell(each.site),
                Cell(each.answered, text=f"{each.answered} of {each.asked}"),
                data_size(each.sent),
                data_size(each.received),
                seconds(each.seconds / each.answered if each.answered else None),
                Cell(each.changed_at),
                Cell(each.words or ""),
            )
            for each in shown
        ],
        empty=NOTHING_NOTED,
    )


def troubles_table(rows: Sequence[SiteExchange], most: int | None = None) -> Table:
    """Refusals and silences, with what they are a sign of; with `most` there may be earlier ones."""
    return Table(
        name="refusals",
        caption="Refusals and silences",
        columns=[
            Column("When"),
            Column("Site"),
            Column("Round", number=True),
            Column("Stage"),
            Column("In its words"),
            Column("What that means"),
            Column("Next"),
        ],
        rows=[
            (
                Cell(row.changed_at),
                site_cell(row.site),
                Cell(row.round),
                Cell(row.stage),
                Cell(row.trouble),
                Cell("" if (cause := cause_of(row.trouble or "")) is None else cause.means),
                Cell("" if cause is None else "; ".join(cause.next).format(run=row.run_id, site=row.site)),
            )
            for row in rows
        ],
        empty="No site has refused anything or kept silent, as far as was noted.",
        cut="earlier ones are in the coordinator's log, and each site's are on its own page"
        if len(rows) == most
        else "",
    )


def exchanges_table(rows: Sequence[Any], older: str | None = None) -> Table:
    """Bytes and seconds by round, stage and site: handed out as a file."""
    return Table(
        name="exchanges",
        caption="Bytes and seconds by round and site",
        columns=[
            Column("Round", number=True),
            Column("Stage"),
            Column("Site"),
            Column("Asked", number=True),
            Column("Answered", number=True),
            Column("Sent to it in bytes", number=True),
            Column("Came from it in bytes", number=True),
            Column("Answered in seconds", number=True),
            Column("Why not"),
        ],
        rows=[
            (
                Cell(row.round),
                Cell(row.stage),
                Cell(row.site),
                Cell(row.asked),
                Cell(row.answered),
                Cell(row.sent),
                Cell(row.received),
                Cell(row.seconds),
                Cell(row.trouble or ""),
            )
            for row in rows
        ],
        older=older,
    )


def privacy_table(costs: Sequence[RunCost], most: int = SHOWN_SITES) -> Table:
    """What the run has cost each account, by itself: where there are more, those that it costs most, at most so many."""
    dearest = sorted(costs, key=lambda each: -each.fraction)[:most]
    shown = costs if len(costs) <= most else dearest
    return Table(
        name="privacy",
        caption="Privacy that this run spends"
        if len(shown) == len(costs)
        else words(
            "Privacy that this run spends: {shown} of {all}, the file has all",
            shown=len(shown),
            all=len(costs),
        ),
        columns=[
            Column("Account"),
            Column("If nothing else were ever released"),
            Column("Of the ceiling", number=True),
            Column("Opened", number=True),
            Column("Still reserved", number=True),
            Column("Without noise"),
        ],
        rows=[
            (
                Cell(each.key.words, href=f"/budgets?site={each.key.site}"),
                Cell(each.alone.words),
                Cell(each.fraction, text=f"{100.0 * each.fraction:.1f} %"),
                Cell(each.settled),
                Cell(each.reserved),
                Cell("; ".join(each.exempt)),
            )
            for each in shown
        ],
        empty="This run's plan states that it releases without differential privacy, so no account is charged.",
    )


def figure(metrics: dict[str, Any] | None, key: str) -> float | None:
    """A metric of a round's model, or the AUC of its champion; None where it has none."""
    if metrics is None:
        return None
    if key == "champion":
        champion = metrics.get("champion")
        return None if champion is None else float(champion["auc"])
    found = metrics.get(key)
    return None if found is None else float(found)


def _metric(metrics: dict[str, Any] | None, key: str) -> Cell:
    found = figure(metrics, key)
    return Cell(found, text=None if found is None else f"{found:.4f}")
