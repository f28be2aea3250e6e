"""A caller's inputs held against the data contract, as training held its rows: what a site refuses is refused, what it clips is clipped.

1. A request is wrong in one sentence that names the input, the row and the rule. Values are never repeated: they describe a person.
2. Every input is [N, 1], N from 1 to 10 000. Numbers may be missing as null or NaN, words as null or "", where the contract allows it.
3. Numbers beyond a `range` are clipped within the model's graph, unless the contract says `outside: refuse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import NoneType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.model import Columns
from coordinator.deploy.scoring.operators import Judged
from coordinator.deploy.scoring.words import Words
from protos.contract import BooleanColumn, CategoryColumn, Contract, NumberColumn
from strategies.errors import Refused

MAX_ROWS: Final = 10_000
_FLOATS: Final = ("FP64", "FP32")
_INTEGERS: Final = ("INT64", "INT32")
_TYPES: Final[Mapping[str, frozenset[type]]] = {
    **dict.fromkeys(_FLOATS, frozenset({int, float, NoneType})),
    **dict.fromkeys(_INTEGERS, frozenset({int, NoneType})),
    "BOOL": frozenset({bool, NoneType}),
    "BYTES": frozenset({str, NoneType}),
}


class ProtocolError(Exception):
    """A request that is answered with `status`, as of HTTP, and one sentence."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One input as a caller sent it: a list of values, or numbers in an array or words where they came in binary."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: list[Any] | npt.NDArray[Any] | Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Applications that the contract admits: `numbers` (k, N) float64 with NaN for missing, and for each text input N words."""

    numbers: npt.NDArray[np.float64]
    words: tuple[Words, ...]

    @property
    def rows(self) -> int:
        """N."""
        return int(self.numbers.shape[1])

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """All rows of batches of one model, in order."""
        if len(batches) == 1:
            return batches[0]
        words = zip(*(each.words for each in batches), strict=True)
        return cls(
            numbers=np.concatenate([each.numbers for each in batches], axis=1),
            words=tuple(map(Words.joined, words)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a model with its column of the contract."""

    name: str
    column: NumberColumn | BooleanColumn | CategoryColumn

    @property
    def accepted(self) -> tuple[str, ...]:
        """The protocol's datatypes that it may have; the first is the one that metadata names."""
        match self.column:
            case NumberColumn(type="integer"):
                return (*_INTEGERS, *_FLOATS)
            case NumberColumn():
                return _FLOATS
            case BooleanColumn():
                return ("BOOL", *_FLOATS)
            case CategoryColumn():
                return ("BYTES",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The inputs of a model in order, and what their numbers must keep to, as (k, 1) columns."""

    inputs: tuple[Input, ...]
    numeric: tuple[Input, ...]
    texts: tuple[Input, ...]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    required: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]
    truth: npt.NDArray[np.bool_]
    known: Mapping[str, Input] = field(default_factory=dict)

    @classmethod
    def of(cls, judged: Judged, contract: Contract, source: str) -> Self:
        """The rules of a model's inputs. Raises Refused when model and contract do not belong together."""
        if judged.contract != contract.ref:
            raise Refused(f"{source} was trained under {judged.contract}, and its package has {contract.ref}")
        inputs = tuple(_input(each.name, contract, source) for each in judged.inputs)
        numeric = tuple(each for each in inputs if not isinstance(each.column, CategoryColumn))
        told = [(each.name, each.kind == "text", each.required) for each in judged.inputs]
        said = [
            (each.name, each not in numeric, each in numeric and each.column.missing == "refuse")
            for each in inputs
        ]
        if told != said:
            raise Refused(f"{source} has inputs of other kinds than {contract.ref} has columns")
        bounds = [_bounds(each) for each in numeric]

        def column(values: list[Any], dtype: type) -> npt.NDArray[Any]:
            return np.array(values, dtype=dtype).reshape(-1, 1)

        return cls(
            inputs=inputs,
            numeric=numeric,
            texts=tuple(each for each in inputs if each not in numeric),
            low=column([low for low, _ in bounds], np.float64),
            high=column([high for _, high in bounds], np.float64),
            required=column([each.column.missing == "refuse" for each in numeric], np.bool_),
            whole=column([each.column.type == "integer" for each in numeric], np.bool_),
            truth=column([each.column.type == "boolean" for each in numeric], np.bool_),
            known={each.name: each for each in inputs},
        )

    def batch(self, inputs: Sequence[Given], others: frozenset[str] = frozenset()) -> Batch:
        """The rows of a request. `others` are inputs of another model on trial, which this one ignores. Raises ProtocolError."""
        given: dict[str, Given] = {}
        for each in inputs:
            if each.name not in self.known and each.name not in others:
                raise ProtocolError(f"there is no input {each.name[:100]!r}{self._nearest(each.name)}")
            if each.name in given:
                raise ProtocolError(f"the input {each.name} is given twice; give it once")
            given[each.name] = each
        if absent := [each.name for each in self.inputs if each.name not in given]:
            raise ProtocolError(
                f"the inputs {', '.join(absent)} are missing; the model needs all {len(self.inputs)}"
            )
        rows = _rows(given[self.inputs[0].name])
        columns = {each.name: _values(each, given[each.name], rows) for each in self.inputs}
        numbers = np.empty((len(self.numeric), rows))
        for place, one in enumerate(self.numeric):
            numbers[place] = columns[one.name]
        self._judge(numbers, given)
        return Batch(numbers=numbers, words=tuple(_admitted(each, columns[each.name]) for each in self.texts))

    def feed(self, batch: Batch) -> Columns:
        """The batch as the model takes it: one (N, 1) array an input."""
        numbers = {
            each.name: column.reshape(-1, 1) for each, column in zip(self.numeric, batch.numbers, strict=True)
        }
        words = {each.name: column.objects() for each, column in zip(self.texts, batch.words, strict=True)}
        return {**numbers, **words}

    def _judge(self, numbers: npt.NDArray[np.float64], given: Mapping[str, Given]) -> None:
        """Raise ProtocolError for the first number that breaks a rule."""
        if not self._narrow and np.isfinite(numbers).all():
            return
        missing = np.isnan(numbers)
        for broken, rule in (
            (
                np.isinf(numbers),
                "is beyond {datatype}",
            ),
            (missing & self.required, "is missing"),
            ((numbers < self.low) | (numbers > self.high), "is outside {range}"),
            (self.whole & (np.trunc(numbers) != numbers) & ~missing, "has a fraction"),
            (self.truth & (numbers != 0.0) & (numbers != 1.0) & ~missing, "is neither 0 nor 1"),
        ):
            if broken.any():
                place, row = np.argwhere(broken)[0]
                each = self.numeric[place]
                words = rule.format(
                    datatype=given[each.name].datatype, range=list(getattr(each.column, "range", (0, 1)))
                )
                raise ProtocolError(f"the input {each.name} {words} in row {row}; {_REMEDIES[rule]}")

    @property
    def _narrow(self) -> bool:
        """Whether a finite number can break a rule."""
        bounded = np.isfinite(self.low).any() or np.isfinite(self.high).any()
        return bool(bounded or self.whole.any() or self.truth.any())

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name[:100], self.known, n=1)
        return f"; the nearest is {near[0]}" if near else f"; the model's inputs are {', '.join(self.known)}"


_REMEDIES: Final = {
    "is beyond {datatype}": "use finite numbers",
    "is missing": "its contract requires a value",
    "is outside {range}": "its contract refuses that",
    "has a fraction": "its contract says integer",
    "is neither 0 nor 1": "its contract says boolean",
}


def _input(name: str, contract: Contract, source: str) -> Input:
    column = contract.columns.get(name)
    if not isinstance(column, NumberColumn | BooleanColumn | CategoryColumn):
        raise Refused(f"{source} has an input {name[:100]!r} that is no feature of {contract.ref}")
    return Input(name=name, column=column)


def _bounds(each: Input) -> tuple[float, float]:
    """What a value must lie in; everything where the contract clips."""
    if isinstance(each.column, NumberColumn) and each.column.outside == "refuse":
        return each.column.range
    return -np.inf, np.inf


def _rows(given: Given) -> int:
    """N, by the first input's shape; every other must say the same."""
    match list(given.shape):
        case [rows, 1] if 1 <= rows <= MAX_ROWS:
            return rows
        case shape:
            raise ProtocolError(
                f"the input {given.name} has the shape {shape[:4]}; use [N, 1] with N from 1 to {MAX_ROWS}"
            )


def _values(each: Input, given: Given, rows: int) -> Any:  # noqa: ANN401  (numbers or words)
    """The values of one input: (rows,) float64, or words. Raises ProtocolError."""
    if given.datatype not in each.accepted:
        raise ProtocolError(
            f"the input {each.name} has the datatype {given.datatype[:20]!r}; use {' or '.join(each.accepted)}"
        )
    if list(given.shape) != [rows, 1]:
        raise ProtocolError(
            f"the input {each.name} has the shape {list(given.shape)[:4]}; every input of this request is [{rows}, 1]"
        )
    values = given.values
    if len(values) != rows:
        raise ProtocolError(
            f"the input {each.name} holds {len(values)} values; its shape [{rows}, 1] needs {rows}"
        )
    if isinstance(values, np.ndarray | Words):
        return values
    allowed = _TYPES[given.datatype]
    if not allowed.issuperset(map(type, values)):
        row = next(place for place, value in enumerate(values) if type(value) not in allowed)
        kind = (
            "text" if given.datatype == "BYTES" else given.datatype if given.datatype == "BOOL" else "number"
        )
        use = (
            "strings or null"
            if kind == "text"
            else "true, false or null"
            if kind == "BOOL"
            else "numbers or null"
        )
        raise ProtocolError(f"the input {each.name} holds no {kind} in row {row}; use {use}")
    return values if given.datatype == "BYTES" else _numbers(each, given.datatype, values)


def _numbers(each: Input, datatype: str, values: list[Any]) -> npt.NDArray[np.float64]:
    """(n,) float64 with NaN for null."""
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ProtocolError(f"the input {each.name} holds a number beyond float64") from error
    if datatype == "FP32":
        with np.errstate(over="ignore"):
            return array.astype(np.float32).astype(np.float64)
    return array


def _admitted(each: Input, given: Words | list[str | None]) -> Words:
    """Words with "" for missing. Raises ProtocolError for one that the contract refuses."""
    found = given if isinstance(given, Words) else Words.of(word or "" for word in given)
    column = each.column
    if not isinstance(column, CategoryColumn):
        return found
    if column.missing == "refuse" and (row := found.first([""])) is not None:
        raise ProtocolError(f"the input {each.name} is missing in row {row}; its contract requires a value")
    strays = set(found.table) - {"", *column.vocabulary} if column.unknown == "refuse" else set()
    if (row := found.first(strays)) is not None:
        raise ProtocolError(
            f"the input {each.name} has a word in row {row} that is not in its contract's vocabulary, which refuses others"
        )
    return found
