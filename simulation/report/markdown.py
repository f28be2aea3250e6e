"""The report as GitHub-flavoured Markdown, for a comment on a merge request or the summary of a job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from simulation.report.gates import Verdict
from simulation.report.tables import Table, facts, figures, gates_table, rounds_table, sites_table
from simulation.report.words import has_passed, printable, protections, summary
from simulation.result import SimulationResult

_ACTIVE: Final = re.compile(r"([\\`*_{}\[\]<>#|~&$])")


def markdown(result: SimulationResult, verdicts: Sequence[Verdict]) -> str:
    """The verdict first, then gates, figures, protection, sites, rounds and facts. Ends in a newline."""
    word = "PASSED" if has_passed(result, verdicts) else "FAILED"
    parts = [f"## {word}: simulation of {escape(result.plan)}", escape(summary(result, verdicts))]
    if verdicts:
        parts += ["### Gates", markdown_table(gates_table(verdicts))]
    parts += ["### Figures", _pairs(figures(result))]
    parts += ["### What is and what is not protected"]
    parts += ["\n".join(f"- **{escape(who)}.** {escape(what)}" for who, what in protections(result))]
    parts += _section("Sites", sites_table(result)) if result.sites else []
    parts += _section("Rounds", rounds_table(result)) if result.rounds else []
    parts += ["### The run", _pairs(facts(result))]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """`text` on one line, showing its own characters: nothing in it is taken as markup, HTML or the end of a cell."""
    return _ACTIVE.sub(r"\\\1", " ".join(printable(text).split()))


def _section(heading: str, table: Table) -> Iterator[str]:
    yield f"### {heading}"
    yield markdown_table(table)
    if table.note:
        yield escape(table.note)


def markdown_table(table: Table) -> str:
    """A table of text cells, each escaped."""
    lines = [
        _line(column.name for column in table.columns),
        "|" + "|".join("---:" if column.number else "---" for column in table.columns) + "|",
        *map(_line, table.rows),
    ]
    return "\n".join(lines)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *map(_line, pairs)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"
