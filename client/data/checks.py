"""The rules of a data contract, judged on one batch of rows after the other, all of them, without stopping at the first.

1. The contract decides: which columns, which type, whether values may be missing, what the two classes are called.
2. Nothing is guessed or repaired: text in a number column, a third class, an empty table are refused. Formats that have nothing but
   text (`textual`) are read as numbers, dates and truth values where every character fits.
3. A value that breaks a rule is counted, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.data.report import Findings
from protos.contract import BooleanColumn, CategoryColumn, Contract, DateColumn, NumberColumn
from strategies.encoding import Vector

_NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?(inf|nan)$"
_COMPACT_DATE: Final = r"^([0-9]{4})([0-9]{2})([0-9]{2})$"
_TRUTH: Final = {"true": True, "false": False, "1": True, "0": False}
_LISTED: Final = 5
_DAY_S: Final = 86400


@dataclass
class Checks:
    """What the rows read so far are like. `today` is None where nobody says which day it is; then no date is too late or too old."""

    contract: Contract
    found: Findings
    today: date | None
    textual: bool = False
    rows: int = 0
    _classes: list[int] = field(default_factory=lambda: [0, 0])
    _newest: dict[str, date] = field(default_factory=dict)
    _words: dict[str, list[int]] = field(default_factory=dict)
    """Of each category: words that the contract knows, and others."""

    def take(self, batch: Mapping[str, pa.Array]) -> tuple[dict[str, npt.NDArray[Any]], list[pa.Array]]:
        """The contract's columns of one batch, by contract name: (m,) each, and what tells rows apart. What breaks a rule is noted."""
        contract = self.contract
        self.rows += len(batch[contract.key])
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, column in contract.columns.items():
            values = _plain(batch[name])
            match column:
                case NumberColumn():
                    columns[name] = self._number(name, column, values)
                case BooleanColumn():
                    columns[name] = self._boolean(name, column, values)
                case CategoryColumn():
                    columns[name] = self._category(name, column, values)
                case DateColumn():
                    self._date(name, column, values)
        columns[contract.target.column] = self._target(_plain(batch[contract.target.column]))
        told = [contract.key] if contract.customer is None else [contract.key, contract.customer]
        return columns, [self._keys(name, _plain(batch[name])) for name in told]

    def finish(self, repeated: int) -> None:
        """Judge the table as a whole; `repeated` rows have a key that another row has."""
        contract, found = self.contract, self.found
        if not self.rows:
            found.note("rows", None, 0, "has no rows; it must hold at least one row of each class")
            return
        if repeated:
            found.note(
                "unique",
                contract.key,
                repeated,
                "has {rows} rows with a key that another row has; a key names one row",
            )
        if contract.minimum_rows is not None and self.rows < contract.minimum_rows:
            words = "has {rows} rows; the contract asks for at least " + str(contract.minimum_rows)
            found.note("minimum_rows", None, self.rows, words)
        for name, (known, others) in self._words.items():
            # Each stray word is "other", but no word at all in common is a coding that the contract does not know.
            if others and not known:
                words = f"holds no word of the contract's vocabulary, {_listed(self._vocabulary(name))}; use the contract's words"
                found.note("vocabulary", name, others, words)
        self._both_classes()
        self._fresh()

    # --- columns -------------------------------------------------------------------------------------------------------

    def _number(self, name: str, column: NumberColumn, values: pa.Array) -> Vector:
        """(m,) float64, NaN for missing."""
        if self.textual and _is_text(values):
            values = self._parsed(name, values)
        if not (_is_number(values.type) or pa.types.is_null(values.type)):
            return self._wrong_type(name, values, column.type)
        numbers = np.array(
            pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
        )
        if column.missing == "refuse":
            self._missing(name, int(np.isnan(numbers).sum()), "the contract refuses them")
        infinite = np.isinf(numbers)
        if infinite.any():
            words = "has {rows} infinite values; a number must be finite or missing"
            self.found.note("finite", name, int(infinite.sum()), words)
            numbers[infinite] = np.nan
        low, high = column.range
        if column.outside == "refuse" and (outside := int(((numbers < low) | (numbers > high)).sum())):
            words = f"has {{rows}} values outside [{low:g}, {high:g}]; the contract refuses them"
            self.found.note("range", name, outside, words)
        if column.type == "integer" and (
            broken := int((np.trunc(numbers) != numbers)[~np.isnan(numbers)].sum())
        ):
            self.found.note(
                "integer", name, broken, "has {rows} values with a fraction; the contract says integer"
            )
        return numbers

    def _boolean(self, name: str, column: BooleanColumn, values: pa.Array) -> Vector:
        """(m,) float64 of 0 and 1, NaN for missing."""
        if self.textual and _is_text(values):
            words = pc.utf8_lower(_trimmed(values))
            places = pc.index_in(words, pa.array(list(_TRUTH), words.type))
            strays = _count(pc.and_(pc.is_valid(words), pc.is_null(places)))
            if strays:
                self.found.note("type", name, strays, "has {rows} values that are neither true nor false")
            values = pa.array(list(_TRUTH.values())).take(places)
        if not (
            pa.types.is_boolean(values.type)
            or pa.types.is_integer(values.type)
            or pa.types.is_null(values.type)
        ):
            return self._wrong_type(name, values, "boolean")
        numbers = np.array(
            pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64
        )
        strays = int(np.count_nonzero(~np.isin(numbers, (0.0, 1.0)) & ~np.isnan(numbers)))
        if strays:
            self.found.note(
                "type", name, strays, "has {rows} values that are neither 0 nor 1; the contract says boolean"
            )
        if column.missing == "refuse":
            self._missing(name, int(np.isnan(numbers).sum()), "the contract refuses them")
        return numbers

    def _category(self, name: str, column: CategoryColumn, values: pa.Array) -> npt.NDArray[np.uint16]:
        """(m,) codes; what is in no vocabulary, and nothing, is the code after the last."""
        words = self._text(name, values, "category")
        places = pc.index_in(words, pa.array(column.vocabulary, pa.large_string()))
        present, unknown = len(words) - words.null_count, len(words) - places.null_count
        seen = self._words.setdefault(name, [0, 0])
        seen[0] += unknown
        seen[1] += present - unknown
        if column.unknown == "refuse" and present > unknown:
            words_ = "has {rows} words that are not in the contract's vocabulary; the contract refuses them"
            self.found.note("category", name, present - unknown, words_)
        if column.missing == "refuse":
            self._missing(name, words.null_count, "the contract refuses them")
        codes = pc.fill_null(places, len(column.vocabulary)).to_numpy(zero_copy_only=False)
        return np.asarray(codes, dtype=np.uint16)

    def _target(self, values: pa.Array) -> npt.NDArray[np.uint8]:
        """(m,) 1 for the positive class."""
        target = self.contract.target
        words = self._text(target.column, values, "category")
        places = pc.index_in(words, pa.array([target.negative, target.positive], pa.large_string()))
        self._missing(target.column, words.null_count, "every row needs its class")
        strays = places.null_count - words.null_count
        if strays:
            classes = f"the contract's classes are {target.positive!r} and {target.negative!r}"
            self.found.note("classes", target.column, strays, "has {rows} rows of another class; " + classes)
        labels = np.asarray(pc.fill_null(places, 0).to_numpy(zero_copy_only=False), dtype=np.uint8)
        positives = int(labels.sum())
        self._classes[1] += positives
        self._classes[0] += len(labels) - places.null_count - positives
        return labels

    def _keys(self, name: str, values: pa.Array) -> pa.Array:
        """One text a row; the same record has the same key wherever it is stored."""
        words = self._text(name, values, "key")
        self._missing(name, words.null_count, "every row needs its key")
        return pc.fill_null(words, "")

    def _date(self, name: str, column: DateColumn, values: pa.Array) -> None:
        if self.textual and (_is_text(values) or pa.types.is_integer(values.type)):
            written = pc.replace_substring_regex(
                _trimmed(pc.cast(values, pa.string())), _COMPACT_DATE, r"\1-\2-\3"
            )
            days = pc.strptime(
                pc.utf8_slice_codeunits(written, 0, 10), format="%Y-%m-%d", unit="s", error_is_null=True
            )
            if days.null_count > written.null_count:
                words = "has {rows} values that are no dates; write them as 2026-01-31 or 20260131"
                self.found.note("type", name, days.null_count - written.null_count, words)
            values = days
        if not (pa.types.is_temporal(values.type) or pa.types.is_null(values.type)) or pa.types.is_time(
            values.type
        ):
            self._wrong_type(name, values, "date")
            return
        days = pc.cast(values, pa.date32(), safe=False)
        if column.missing == "refuse":
            self._missing(name, days.null_count, "the contract refuses them")
        if self.today is None:
            return
        # Wherever on Earth a row was written, its date is at most tomorrow's in UTC.
        latest = self.today + timedelta(days=1)
        in_future = pc.greater(days, pa.scalar(latest, pa.date32()))
        if column.future == "refuse" and (late := _count(in_future)):
            self.found.note("future", name, late, "has {rows} dates in the future; the contract refuses them")
        newest = pc.max(pc.if_else(in_future, pa.scalar(None, pa.date32()), days)).as_py()
        if newest is not None:
            self._newest[name] = max(newest, self._newest.get(name, newest))

    # --- parts of rules ------------------------------------------------------------------------------------------------

    def _parsed(self, name: str, values: pa.Array) -> pa.Array:
        """Text as float64; what is no number is noted, and missing."""
        words = _trimmed(values)
        try:
            return pc.cast(words, pa.float64())
        except pa.ArrowInvalid:
            fits = pc.match_substring_regex(words, _NUMBER, ignore_case=True)
            strays = _count(pc.invert(fits))
            self.found.note(
                "type", name, strays, "has {rows} values that are no numbers; the contract says number"
            )
            return pc.cast(pc.if_else(fits, words, pa.scalar(None, words.type)), pa.float64())

    def _text(self, name: str, values: pa.Array, wanted: str) -> pa.Array:
        """Text or whole numbers as text, null for missing or empty."""
        kind = values.type
        if pa.types.is_null(kind):
            return pa.nulls(len(values), pa.large_string())
        # Decimal and float codes are refused: 1, 1.0 and 1.00 would be three words for one code.
        if not (_is_text(values) or pa.types.is_integer(kind)):
            self._wrong_type(name, values, wanted, "text or whole numbers")
            return pa.nulls(len(values), pa.large_string())
        words = pc.cast(values, pa.large_string())
        return pc.if_else(pc.equal(words, ""), pa.scalar(None, pa.large_string()), words)

    def _wrong_type(self, name: str, values: pa.Array, wanted: str, stored: str = "one") -> Vector:
        words = f"holds {values.type}; the contract says {wanted}, store it as {stored}"
        self.found.note("type", name, len(values), words)
        return np.full(len(values), np.nan)

    def _missing(self, name: str, missing: int, rule: str) -> None:
        if missing:
            self.found.note("missing", name, missing, f"has {{rows}} missing values; {rule}")

    def _both_classes(self) -> None:
        target = self.contract.target
        if 0 in self._classes and any(self._classes):
            # Not which: it would be the class of every row.
            words = "has one class in all rows; training needs rows of both classes"
            self.found.note("classes", target.column, self.rows, words)

    def _fresh(self) -> None:
        rule = self.contract.freshness
        if rule is None or self.today is None:
            return
        newest = self._newest.get(rule.column)
        days = rule.newest_within / _DAY_S
        if newest is None or (self.today - newest).days > days:
            self.found.note(
                "freshness",
                rule.column,
                0,
                f"has no date of the last {days:g} days; the contract asks for one",
            )

    def _vocabulary(self, name: str) -> tuple[str, ...]:
        column = self.contract.columns[name]
        return column.vocabulary if isinstance(column, CategoryColumn) else ()


def _plain(values: pa.Array) -> pa.Array:
    """Without a dictionary."""
    return pc.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _trimmed(words: pa.Array) -> pa.Array:
    """Without blanks around them, null where nothing is left."""
    words = pc.utf8_trim_whitespace(words)
    return pc.if_else(pc.equal(words, ""), pa.scalar(None, words.type), words)


def _is_text(values: pa.Array) -> bool:
    kind = values.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _count(flags: pa.Array) -> int:
    return int(pc.sum(flags, min_count=0).as_py() or 0)


def _listed(words: tuple[str, ...]) -> str:
    shown = ", ".join(words[:_LISTED])
    return f"{shown}, ..." if len(words) > _LISTED else shown
