"""What an evidence document is made of, before it has a form: sections of facts, tables, charts, words that people signed, and what is missing.

Every form is written from the one `view` of a document, so no two forms can differ in a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from coordinator.governance.evidence.facts import Fact, Missing, one_line
from coordinator.governance.evidence.story import Story

VIEW: Final = "evidence/v1"
Cell = Fact | str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Facts one below the other, each with its label."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Points:
    """Facts that are sentences."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of facts; the first cell of a row says what the row is about. `numbers` are the columns that are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing of facts that stand beside it in a table; `words` say what it shows to whoever does not see it."""

    title: str
    words: str
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What somebody signed, line by line; `by` is who, as what and when."""

    title: str
    lines: tuple[str, ...]
    by: Fact


@dataclass(frozen=True, slots=True)
class Lacks:
    """What is missing."""

    lacks: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence of this program's own, without a figure."""

    text: str


Block = Pairs | Points | Table | Chart | Quote | Lacks | Words


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceDocument:
    """One document on one version. `about` says whom it is for."""

    kind: str
    title: str
    about: str
    story: Story
    sections: tuple[Section, ...]

    def facts(self) -> Iterator[Fact]:
        """Every fact in it, in order; one that is shown twice comes once."""
        seen: set[str] = set()
        for each in self._all():
            if each.name not in seen:
                seen.add(each.name)
                yield each

    def missing(self) -> tuple[Missing, ...]:
        """All that is missing."""
        blocks = (block for section in self.sections for block in section.blocks)
        return tuple(each for block in blocks if isinstance(block, Lacks) for each in block.lacks)

    def _all(self) -> Iterator[Fact]:
        for section in self.sections:
            for block in section.blocks:
                match block:
                    case Pairs(facts) | Points(facts):
                        yield from facts
                    case Table(rows=rows):
                        yield from (cell for row in rows for cell in row if isinstance(cell, Fact))
                    case Quote(by=by):
                        yield by
                    case _:
                        pass

    def view(self) -> dict[str, Any]:
        """The document as JSON values: what all forms are written from."""
        sources = _Sources(self.story)
        sections = [
            {"title": each.title, "blocks": [_block(block, sources) for block in each.blocks]}
            for each in self.sections
        ]
        return {
            "covenant": VIEW,
            "kind": self.kind,
            "title": self.title,
            "about": self.about,
            "model": self.story.ref,
            "digest": self.story.model.digest,
            "federation": self.story.federation,
            "log": {"entries": self.story.size, "root": self.story.root},
            "sections": sections,
            "sources": sources.listed(),
            "facts": [each.facts() for each in self.facts()],
            "missing": [{"what": each.what, "supply": each.supply} for each in self.missing()],
            "entries": sources.entries(),
        }


@dataclass
class _Sources:
    """Numbers the sources of facts in the order in which a reader meets them."""

    story: Story
    _numbers: dict[tuple[tuple[int, ...], str | None], int] = field(default_factory=dict)

    def number(self, fact: Fact) -> int:
        return self._numbers.setdefault((fact.entries, fact.derived), len(self._numbers) + 1)

    def listed(self) -> list[dict[str, Any]]:
        kinds = {each.seq: each for each in self.story.told}
        found = []
        for (entries, derived), number in self._numbers.items():
            told = [kinds[each] for each in entries]
            words = f"{'entry' if len(entries) == 1 else 'entries'} {ranges(entries)}"
            words += f" ({', '.join(dict.fromkeys(each.what.kind for each in told))})"
            words += f", {told[-1].at:%Y-%m-%d %H:%M:%S} UTC" if len(told) == 1 else ""
            text = words if derived is None else f"{words}; computed: {derived}"
            found.append({"number": number, "entries": list(entries), "text": text})
        return found

    def entries(self) -> list[dict[str, Any]]:
        used = {place for entries, _ in self._numbers for place in entries}
        return [
            {"entry": each.seq, "kind": each.what.kind, "at": each.at.isoformat(), "leaf": each.leaf}
            for each in self.story.told
            if each.seq in used
        ]


def ranges(entries: Sequence[int]) -> str:
    """`3, 5 to 7`: rising numbers, those that follow each other as one."""
    starts = [entries[0], *(after for before, after in pairwise(entries) if after != before + 1)]
    ends = [*(before for before, after in pairwise(entries) if after != before + 1), entries[-1]]
    return ", ".join(
        f"{start}" if start == end else f"{start} to {end}" for start, end in zip(starts, ends, strict=True)
    )


def _block(block: Block, sources: _Sources) -> dict[str, Any]:
    match block:
        case Pairs(facts):
            return {
                "type": "pairs",
                "pairs": [{"label": each.label, **_cell(each, sources)} for each in facts],
            }
        case Points(facts):
            return {"type": "points", "points": [_cell(each, sources) for each in facts]}
        case Table():
            return {
                "type": "table",
                "title": block.title,
                "columns": [
                    {"name": name, "number": place in block.numbers}
                    for place, name in enumerate(block.columns)
                ],
                "rows": [[_cell(each, sources) for each in row] for row in block.rows],
            }
        case Chart():
            return {"type": "chart", "title": block.title, "words": block.words, "svg": block.svg}
        case _:
            return _text_block(block, sources)


def _text_block(block: Quote | Lacks | Words, sources: _Sources) -> dict[str, Any]:
    match block:
        case Quote():
            return {
                "type": "quote",
                "title": block.title,
                "lines": list(block.lines),
                "by": _cell(block.by, sources),
            }
        case Lacks(lacks):
            return {"type": "lacks", "lacks": [{"what": each.what, "supply": each.supply} for each in lacks]}
        case Words(text):
            return {"type": "words", "text": text}


def _cell(cell: Cell, sources: _Sources) -> dict[str, Any]:
    if isinstance(cell, str):
        return {"shown": one_line(cell), "source": None}
    return {"shown": cell.shown, "source": sources.number(cell)}


def pairs(*facts: Fact | None) -> Pairs:
    """Those that there are."""
    return Pairs(tuple(each for each in facts if each is not None))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: Iterable[int] = ()
) -> Table:
    """A table of any rows."""
    return Table(
        title=title,
        columns=tuple(columns),
        rows=tuple(map(tuple, rows)),
        numbers=frozenset(numbers),
    )
