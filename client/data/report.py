"""What was found wrong with a site's rows: rule, column and count, for the site's own people. There is no place for a value.

The text may name columns, files and counts. All of it depends on the data: it stays in the site's log and on its terminal, and the
centre hears `contract` and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Final

from strategies.errors import Refused

_SHOWN: Final = 5


class DataError(Refused):
    """Data that do not fit their contract, or cannot be read, in one line for the site's operator; the text may not leave the site."""


class Unreadable(DataError):  # noqa: N818 (like `Refused`)
    """Rows that could not be read this time; nothing is known about them, and a later try may succeed."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that `rows` rows break (0 where it is about the table as a whole). `column` is the site's own name, if it is about one."""

    rule: str
    column: str | None
    rows: int
    sentence: str


@dataclass(slots=True)
class Findings:
    """Violations of a table called `named`, counted while it is read; `renamed` maps contract names to the table's own."""

    named: str
    renamed: dict[str, str]
    _rows: dict[tuple[str, str | None, str], int] = field(default_factory=dict)

    def note(self, rule: str, name: str | None, rows: int, words: str) -> None:
        """Count `rows` more that break `rule` in contract column `name`; `words` ends a sentence, with {rows} for their number."""
        key = rule, name, words
        self._rows[key] = self._rows.get(key, 0) + rows

    def violations(self) -> tuple[Violation, ...]:
        """All there are, by column and rule."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[Violation]:
        for (rule, name, words), rows in sorted(
            self._rows.items(), key=lambda item: (item[0][1] or "", item[0])
        ):
            ending = words.replace("{rows}", str(rows))
            if name is None:
                yield Violation(rule, None, rows, f"{self.named} {ending}")
                continue
            stored = self.renamed.get(name, name)
            alias = "" if stored == name else f" (`{name}` in the contract)"
            yield Violation(rule, stored, rows, f"column {stored!r}{alias} of {self.named} {ending}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the rows of `source` stand to `contract`: accepted if nothing is wrong."""

    source: str
    contract: str
    contract_sha256: str
    rows: int
    seconds: float
    violations: tuple[Violation, ...]

    @property
    def accepted(self) -> bool:
        """Whether the site may take part with these rows."""
        return not self.violations

    @property
    def sentence(self) -> str:
        """What is wrong, in one line."""
        shown = [each.sentence for each in self.violations[:_SHOWN]]
        more = len(self.violations) - len(shown)
        return "; also: ".join(shown) + (
            f"; and {more} more, see `covenant-agent data check`" if more else ""
        )

    def require(self) -> None:
        """Raises `DataError` unless accepted."""
        if not self.accepted:
            raise DataError(self.sentence)

    def facts(self) -> dict[str, object]:
        """As JSON has it."""
        return {"accepted": self.accepted, **asdict(self)}
