"""What every report says in the same words: the verdict, what is protected, and how figures are written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

from simulation.report.gates import Verdict
from simulation.result import SimulationResult

NONE: Final = "–"
"""Stands in a table where there is no value."""

_EPSILON_STEP: Final = Decimal("0.001")
_EXACT_THOUSANDTHS: Final = 1e12
# XML 1.0, production 2; HTML and UTF-8 refuse most of the rest as well.
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def printable(text: str) -> str:
    """`text` with every character that XML may not hold, such as NUL or half a surrogate pair, shown as U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def has_passed(result: SimulationResult, verdicts: Sequence[Verdict]) -> bool:
    """Whether the run completed and every gate holds."""
    return result.completed and all(verdict.passed for verdict in verdicts)


def summary(result: SimulationResult, verdicts: Sequence[Verdict]) -> str:
    """The verdict's reason: how the run ended, and how many gates hold."""
    rounds = f"{len(result.rounds):,} of {counted(result.planned_rounds, 'round')}"
    if result.completed:
        ended = f"The run completed {rounds} with {counted(len(result.sites), 'site')}."
    else:
        ended = f"The run did not complete: it committed {rounds}. " + _closed(
            result.reason or "No reason was recorded"
        )
    if not verdicts:
        return f"{ended} No gate was asked for."
    failed = [str(verdict.gate) for verdict in verdicts if not verdict.passed]
    if not failed:
        return f"{ended} {'The gate holds' if len(verdicts) == 1 else f'All {len(verdicts):,} gates hold'}."
    fail = "does not hold" if len(failed) == 1 else "do not hold"
    return f"{ended} {len(failed):,} of {counted(len(verdicts), 'gate')} {fail}: {', '.join(failed)}."


def protections(result: SimulationResult) -> tuple[tuple[str, str], ...]:
    """What is and what is not protected: pairs of a subject and a sentence on it, for readers who know no jargon."""
    return (
        (
            "Rows",
            (
                "In a federation they stay at their site; what leaves it is sums for scaling, an update a round and, where the "
                "plan evaluates, counts of scores, with counts by group, sums of attributions and a profile of inputs if it "
                "asks for them. In this simulation one machine held the rows of all sites."
            ),
        ),
        ("Updates", _aggregation(result.aggregation)),
        ("Persons", _privacy(result)),
        (
            "Sites' own figures",
            (
                "Rows, share of positives and AUC of a site are shown because this is a simulation; no site of a real "
                "federation tells them."
            ),
        ),
    )


def _aggregation(mode: str) -> str:
    if mode == "plain":
        return "Not protected from the coordinator: aggregation is plain, so it would see each site's update."
    if mode == "secure":
        return "Aggregation is secure: the coordinator would see sums over at least three sites, and no site's own update."
    return f"Aggregation is {mode}: the coordinator would see what this mode of the plan shows it."


def _privacy(result: SimulationResult) -> str:
    total = spent(result)
    if total is None:
        return f"Privacy is {result.privacy}: no round was committed, so no model was released."
    if math.isinf(total):
        return (
            f"Not protected: privacy is {result.privacy} and epsilon is infinite, so nothing bounds what the model tells "
            "of a person."
        )
    return f"Privacy is {result.privacy}: epsilon is {epsilon(total)} {result.whose} after the last committed round."


def counted(number: int, noun: str) -> str:
    """`1 round`, `2,000 rounds`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def decimals(value: float | None, digits: int = 4) -> str:
    """`value` with `digits` decimals; a dash for None, words for what is no number."""
    if value is None:
        return NONE
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    return f"{value:,.{digits}f}"


def epsilon(value: float) -> str:
    """Epsilon in three decimals, rounded up so that no report shows less than was spent; `infinite` in words."""
    if value < _EXACT_THOUSANDTHS:  # beyond it, a float has none to round
        value = float(Decimal(repr(value)).quantize(_EPSILON_STEP, ROUND_CEILING))
    return decimals(value, 3)


def spent(result: SimulationResult) -> float | None:
    """Epsilon after the last committed round: infinite without privacy, None where no round released anything."""
    if result.privacy == "none":
        return math.inf
    return result.epsilon if result.rounds else None


def percent(share: float) -> str:
    """A share of 1 as percent."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else decimals(share)


@dataclass(frozen=True, slots=True)
class ByteUnit:
    """A decimal unit of bytes."""

    name: str
    size: int

    def show(self, size: int) -> str:
        """`size` bytes in this unit, without its name."""
        return f"{size:,}" if self.size == 1 else f"{size / self.size:,.2f}"


def byte_unit(largest: int) -> ByteUnit:
    """The unit in which `largest` bytes have one to three digits before the point."""
    for unit in (ByteUnit("GB", 10**9), ByteUnit("MB", 10**6), ByteUnit("kB", 10**3)):
        if largest >= unit.size:
            return unit
    return ByteUnit("B", 1)


def _closed(text: str) -> str:
    """`text` as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
