"""The section on how the version is watched where it runs: by which rules, which alarms came of it, and what was drafted because of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from coordinator.governance.evidence.about_production import production
from coordinator.governance.evidence.content import Block, Cell, Section, Words, table
from coordinator.governance.evidence.facts import fact, show_number
from coordinator.governance.evidence.story import Story
from protos.log_loop import RetrainingDecided, RetrainingDrafted, RetrainingLaunched
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded

_MOST_TOLD: Final = 8
_SHOWN: Final = 12
_TITLE: Final = "How it is watched"
_NOBODY: Final = Words("The log tells of nobody who watches this version where it runs.")
_READ: Final = Words(
    "The false-alarm rate is the probability, at most, that so many windows in a row raise any alarm though nothing drifts further than is tolerated. An"
    " alarm names its probable cause; windows that raise none are not in the log."
)


def monitoring(story: Story) -> Section:
    """Rules, alarms with their cause and who saw them, drafted plans with what became of them, and fairness where it runs, which is not in the log."""
    if not story.places(MonitorAdded):
        return Section(_TITLE, (_NOBODY,))
    rules = ("since", "false-alarm rate", "in windows", "tolerated PSI", "a window, hours", "by", "why")
    tables = (
        table("Watched by these rules", rules, _rules(story), (1, 2, 3, 4)),
        table("Alarms", ("alarm", "raised at", "place", "cause", "seen by", "why"), _alarms(story)),
        table("What alarms say", ("alarm", "about", "in words"), _said(story)),
        table(
            "Plans to retrain it", ("draft", "because of", "plan", "decision", "by", "why"), _drafts(story)
        ),
    )
    blocks: list[Block] = [_READ, *(each for each in tables if each.rows)]
    if not story.places(DriftAlarm):
        blocks.append(Words("No window has raised an alarm."))
    blocks += production(story)
    return Section(_TITLE, tuple(blocks))


def _rules(story: Story) -> Iterator[list[Cell]]:
    for each, what in story.of(MonitorAdded):
        name, place, rules = f"watched.{each.seq}", (each.seq,), what.rules
        hours = what.monitor.window / timedelta(hours=1).total_seconds()
        yield [
            fact(f"{name}.since", "since", each.at, place),
            fact(f"{name}.rate", "rate of false alarms", rules.false_alarm_rate, place),
            fact(f"{name}.horizon", "windows that the rate is for", rules.horizon, place),
            fact(f"{name}.tolerated", "tolerated PSI", rules.tolerated_psi, place),
            fact(f"{name}.window", "a window, hours", hours, place, shown=show_number(hours)),
            fact(f"{name}.by", "by", _by(what), place),
            fact(f"{name}.why", "why", what.why, place),
        ]


def _by(what: MonitorAdded) -> str:
    if what.approvals is None:
        return what.by
    return f"{what.by}, loosened as {' and '.join(each.officer for each in what.approvals)} signed"


def _alarms(story: Story) -> Iterator[list[Cell]]:
    seen = {what.alarm: (each.seq, what) for each, what in story.of(DriftAcknowledged)}
    for each, what in story.of(DriftAlarm):
        name, place = f"alarms.{what.alarm}", (each.seq,)
        row: list[Cell] = [
            what.alarm,
            fact(f"{name}.at", "raised at", each.at, place),
            fact(f"{name}.place", "place", what.place, place),
            fact(f"{name}.cause", "cause", str(what.cause), place),
        ]
        if what.alarm not in seen:
            yield [*row, "nobody yet", ""]
            continue
        seq, said = seen[what.alarm]
        yield [
            *row,
            fact(f"{name}.seen", "seen by", said.by, (seq,)),
            fact(f"{name}.why", "why", said.why, (seq,)),
        ]


def _listed(moved: Sequence[str]) -> str:
    more = len(moved) - _MOST_TOLD
    return ", ".join(moved[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _said(story: Story) -> Iterator[list[Cell]]:
    for each, what in story.of(DriftAlarm):
        name, place = f"alarms.{what.alarm}", (each.seq,)
        yield [what.alarm, "cause", fact(f"{name}.words", "in words", what.words, place)]
        yield [what.alarm, "moved", fact(f"{name}.moved", "moved", _listed(what.moved), place)]
        for number, said in enumerate(what.evidence, start=1):
            yield [what.alarm, "evidence", fact(f"{name}.evidence.{number}", "evidence", said, place)]


def _short(what: RetrainingDrafted) -> str:
    return "none fits" if what.plan is None else what.plan[:_SHOWN]


def _drafts(story: Story) -> Iterator[list[Cell]]:
    decided = {what.draft: (each.seq, what) for each, what in story.of(RetrainingDecided)}
    launched = {what.draft: each.seq for each, what in story.of(RetrainingLaunched)}
    for each, what in story.of(RetrainingDrafted):
        name, place = f"drafts.{what.draft}", (each.seq,)
        row: list[Cell] = [
            what.draft,
            fact(f"{name}.alarm", "because of", what.alarm or what.by, place),
            fact(f"{name}.plan", "plan", what.plan, place, shown=_short(what)),
        ]
        if what.draft not in decided:
            yield [*row, "open", "", ""]
            continue
        seq, said = decided[what.draft]
        then: str = said.decision
        places: tuple[int, ...] = (seq,)
        if what.draft in launched:
            then, places = f"{said.decision}, launched by the coordinator", (seq, launched[what.draft])
        yield [
            *row,
            fact(f"{name}.then", "then", then, places),
            fact(f"{name}.by", "by", said.by, (seq,)),
            fact(f"{name}.why", "why", said.why, (seq,)),
        ]
