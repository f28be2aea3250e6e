"""Algorithm x privacy mode x aggregation, and what rule makes one update of many: which plans there are, why the others are none, and the nearest that is.

Nothing is listed here. The words are those of the plan's own types, and each cell is a whole plan that `Plan` and `check_plan` have judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Final, get_args

from pydantic import BaseModel

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_aggregation import MEAN, AnyRule
from protos.plan_draft import Kind, written
from protos.plan_fit import check_plan
from strategies.errors import UsageError

SOURCE: Final = "plan.yaml"
SITES: Final = ("site-1", "site-2", "site-3", "site-4", "site-5")
_CONTRACT: Final = """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A kind of plan; `refusal` says why it is none, and `nearest` is the legal one that differs least, preferably in its algorithm."""

    kind: Kind
    refusal: str | None
    nearest: Kind | None

    @property
    def allowed(self) -> bool:
        """Whether there are such plans."""
        return self.refusal is None


def algorithms() -> tuple[str, ...]:
    """All that a plan may name."""
    return _choices("training", "algorithm")


def privacy_modes() -> tuple[str, ...]:
    """All that a plan may name."""
    return _choices("privacy", "mode")


def aggregations() -> tuple[str, ...]:
    """All that a plan may name."""
    return _choices("aggregation", "mode")


def rules() -> tuple[str, ...]:
    """All that may be made of updates: a mean, where a plan names no rule, and the rules that a plan may name."""
    kinds = [word for model in _models(AnyRule) for word in get_args(model.model_fields["kind"].annotation)]
    return (MEAN, *kinds)


def _choices(section: str, key: str) -> tuple[str, ...]:
    """The words that members of a section's union have at `key`, in the order in which the code has them."""
    found = [
        word
        for model in _models(Plan.model_fields[section].annotation)
        for word in get_args(model.model_fields[key].annotation)
    ]
    return tuple(dict.fromkeys(found))


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def example(kind: Kind, contract: Contract | None = None, sites: tuple[str, ...] = SITES) -> str:
    """The text of a plan of `kind`, which may be none; over the columns of `contract`, or of a made-up one."""
    return written(
        kind,
        contract or example_contract(),
        name="example",
        purpose="credit-risk",
        members="demo@1",
        sites=sites,
        rounds=2,
        epsilon=50.0,
    )


@cache
def example_contract() -> Contract:
    """The contract of the examples, with one column."""
    return read_document(_CONTRACT, Contract, "contract.yaml")


def refusal_of(kind: Kind) -> str | None:
    """Why there is no plan of this kind, as whoever writes one is told; None if there is."""
    try:
        check_plan(read_document(example(kind), Plan, SOURCE), example_contract())
    except UsageError as error:
        return str(error)
    return None


@cache
def matrix() -> tuple[Cell, ...]:
    """All cells, by privacy mode, aggregation and algorithm; then each rule in the place of the mean, wherever there are plans with a mean."""
    kinds = [
        Kind(algorithm=algorithm, privacy=mode, aggregation=aggregation)
        for mode, aggregation, algorithm in product(privacy_modes(), aggregations(), algorithms())
    ]
    refusals = {kind: refusal_of(kind) for kind in kinds}
    means = [kind for kind, refusal in refusals.items() if refusal is None]
    others = [replace(kind, rule=rule) for kind, rule in product(means, rules()) if rule != MEAN]
    refusals |= {kind: refusal_of(kind) for kind in others}
    legal = [kind for kind, refusal in refusals.items() if refusal is None]
    return tuple(
        Cell(
            kind=kind,
            refusal=_reasons(refusal) if refusal is not None else None,
            nearest=None if refusal is None else min(legal, key=lambda each: _distance(kind, each)),
        )
        for kind, refusal in refusals.items()
    )


def _reasons(refusal: str) -> str:
    """A refusal without where it stands in the example."""
    lines = (line.partition(": ") for line in refusal.splitlines())
    return " ".join(text if place.startswith(SOURCE) else f"{place}: {text}" for place, _, text in lines)


def _distance(one: Kind, other: Kind) -> int:
    """Protection is changed last: a plan with another algorithm or rule is nearer than one with another privacy mode."""
    return (
        (one.rule != other.rule)
        + 2 * (one.algorithm != other.algorithm)
        + 4 * (one.aggregation != other.aggregation)
        + 8 * (one.privacy != other.privacy)
    )
