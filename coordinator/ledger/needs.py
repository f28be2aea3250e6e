"""What a run asks of the accounts: which releases, how often at most, of whose rows.

1. An account is told by site, population and unit. `max_rows` and `max_sites` belong to its ceiling, not to its key.
2. A need names releases, never an epsilon.
3. Several needs of one account are one: they are judged together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from coordinator.db.ledger_schema import NO_COLUMN
from protos.plan_releases import EVALUATE, PREPARE, TRAIN
from strategies.dp.events import Release
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.ids import SiteName

STAGES: Final = (PREPARE, TRAIN, EVALUATE)
MOST_TIMES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKey:
    """Which account: of `site`, of one `population` there, per one kind of unit, which customers have a `column` for."""

    site: SiteName
    population: str
    kind: UnitKind
    column: str | None = None

    @classmethod
    def of(cls, site: SiteName, population: str, unit: PrivacyUnit) -> Self:
        """The account that charges of `population` at `site` per `unit` go to."""
        return cls(site=site, population=population, kind=unit.kind, column=unit.column)

    @property
    def stored(self) -> tuple[str, str, str, str]:
        """The key as the database's unique constraint has it."""
        return self.site, self.population, str(self.kind), self.column or NO_COLUMN

    @classmethod
    def from_stored(cls, site: str, population: str, kind: str, column: str) -> Self:
        """Read `stored` back."""
        return cls(site=SiteName(site), population=population, kind=UnitKind(kind), column=column or None)

    @property
    def name(self) -> str:
        """The population at its site, for people: `north/retail-loans`."""
        return f"{self.site}/{self.population}"

    @property
    def unit_option(self) -> str:
        """The unit as `--unit` takes it."""
        return str(self.kind) if self.column is None else f"{self.kind}:{self.column}"

    @property
    def words(self) -> str:
        """The account, for people: with its unit."""
        return f"{self.name} per {self.kind}" + ("" if self.column is None else f" ({self.column})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`release` happens at each attempt at `stage`, `times` in all at most: rounds and their retries. Raises UsageError out of bounds."""

    stage: str
    release: Release
    times: int

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise UsageError(f"{self.stage!r} is no stage of a run; use one of {', '.join(STAGES)}")
        if not 1 <= self.times <= MOST_TIMES:
            raise UsageError(f"{self.release.what} is planned {self.times} times; use 1 to {MOST_TIMES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a run plans to release of `population` at `site`, per `unit`."""

    site: SiteName
    population: str
    unit: PrivacyUnit
    planned: Sequence[Planned]

    @property
    def key(self) -> AccountKey:
        """The account that has to bear it."""
        return AccountKey.of(self.site, self.population, self.unit)


Stages = Mapping[tuple[str, Release], int]
"""How often each release of each stage may happen: what one account is asked to bear."""


def by_account(needs: Iterable[Need]) -> Mapping[AccountKey, Stages]:
    """The needs of each account, sorted by it. Raises UsageError where there are none, or where an account is to bear nothing."""
    total: dict[AccountKey, dict[tuple[str, Release], int]] = {}
    for need in needs:
        mine = total.setdefault(need.key, {})
        for planned in need.planned:
            at = planned.stage, planned.release
            mine[at] = mine.get(at, 0) + planned.times
    for key, mine in total.items():
        if not mine:
            raise UsageError(f"nothing is planned for {key.words}; leave it out")
    if not total:
        raise UsageError("a reservation names at least one account")
    return {key: total[key] for key in sorted(total, key=lambda each: each.stored)}


def charges_of(stages: Stages) -> dict[Release, int]:
    """How often each release may happen, whatever the stage."""
    total: dict[Release, int] = {}
    for (_, release), times in stages.items():
        total[release] = total.get(release, 0) + times
    return total
