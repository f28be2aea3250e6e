"""The privacy accounts as the transparency log tells them: replayed by whoever reads it, with the mathematics that the centre is bound to.

1. A ceiling opens an account; a later one replaces it, is never below what is charged, and allows more only if two officers decided so.
2. What a launch or a resumption reserves is charged at once, is about the account's own unit, and must fit under the ceiling in force.
3. Only what was reserved is settled. What a run gives up is what it reserved and never settled.
4. What is adopted from a site after a gap was opened already, and is charged whether it fits or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from protos.ceilings import CeilingDecision, DecidedCeiling
from protos.log_entries import AccountsAdopted
from protos.log_run_events import Reserved
from strategies.dp.budget import Account
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee, PrivacyUnit
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName

QUORUM: Final = 2
"""How many officers it takes to allow more."""


class AccountName(NamedTuple):
    """Whose account: a population of a site, and the kind of person that it is about."""

    site: SiteName
    population: str
    unit: str
    column: str

    @classmethod
    def of(cls, site: SiteName, population: str, unit: PrivacyUnit) -> AccountName:
        """The account of releases per `unit`."""
        return cls(site, population, str(unit.kind), unit.column or "")

    @property
    def words(self) -> str:
        """As people call it."""
        return f"{self.site}/{self.population} per {self.column or self.unit}"


@dataclass(slots=True)
class _Held:
    """What a run has reserved at one stage, in one account: so many of one release, and how many of them are settled."""

    account: AccountName
    release: Digest
    reserved: int = 0
    settled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Where an account stands: `opened` is what was settled, and so may have been opened; `charged` is that and what is still reserved."""

    account: AccountName
    ceiling: Ceiling
    opened: Guarantee
    charged: Guarantee
    sums: int
    decisions: tuple[DecidedCeiling, ...]
    """All ceilings that it had, the one in force last."""


@dataclass
class Budgets:
    """All accounts of a log, entry by entry. Methods raise `Refused` at the first that contradicts the rules."""

    _releases: dict[Digest, Release] = field(default_factory=dict)
    _ceilings: dict[AccountName, Ceiling] = field(default_factory=dict)
    _decisions: dict[AccountName, list[DecidedCeiling]] = field(default_factory=dict)
    _held: dict[RunId, dict[str, list[_Held]]] = field(default_factory=dict)
    _charged: dict[AccountName, Counter[Digest]] = field(default_factory=dict)
    _opened: dict[AccountName, Counter[Digest]] = field(default_factory=dict)

    def know(self, releases: Mapping[Digest, Mapping[str, object]]) -> None:
        """Take up the mathematics of releases, by digest."""
        for digest, facts in releases.items():
            self._releases[digest] = Release.from_facts(dict(facts))

    def set_ceiling(self, decided: DecidedCeiling) -> None:
        """A decision of an account's officers."""
        decision, ceiling = decided.decision, decided.decision.terms
        name = AccountName.of(decision.site, decision.population, ceiling.unit)
        before = self._ceilings.get(name)
        due = len(self._decisions.get(name, ())) + 1
        if decision.number != due:
            raise Refused(
                f"the next decision on {name.words} is number {due}, and this is number {decision.number}: a decision counts once"
            )
        if before is not None and before.order != ceiling.order:
            raise Refused(
                f"the ceiling of {name.words} changes its order from {before.order} to {ceiling.order}; it is fixed with the first"
            )
        loosened = (
            ""
            if before is None
            else ceiling.loosens(before) or told_less(self._decisions[name][-1].decision, decision)
        )
        if loosened and len(decided.officers) < QUORUM:
            raise Refused(
                f"{loosened} of {name.words} is for {QUORUM} officers, and {decided.officers[0]} is one"
            )
        self._account(name, ceiling, self._charged).require_held()
        self._ceilings[name] = ceiling
        self._decisions.setdefault(name, []).append(decided)

    def reserve(self, run: RunId, reserved: Iterable[Reserved]) -> None:
        """What a run may release, charged at once to every account that it names."""
        asked: dict[AccountName, Counter[Digest]] = {}
        for each in reserved:
            name = AccountName.of(each.site, each.population, self._known(each.release).unit)
            if name not in self._ceilings:
                raise Refused(f"{run} reserves at {name.words}, which has no ceiling")
            self._holding(run, each.stage, name, each.release).reserved += each.times
            asked.setdefault(name, Counter())[each.release] += each.times
        for name, times in sorted(asked.items()):
            account = self._account(name, self._ceilings[name], self._charged)
            account.require({self._known(release): count for release, count in times.items()})
            self._charged.setdefault(name, Counter()).update(times)

    def adopt(self, what: AccountsAdopted) -> None:
        """What a site had charged and a gap has lost."""
        for each in what.adopted:
            name = AccountName.of(what.site, each.population, self._known(each.release).unit)
            if name not in self._ceilings:
                raise Refused(f"a charge of {name.words} is adopted, which has no ceiling")
            for counted in (self._charged, self._opened):
                counted.setdefault(name, Counter())[each.release] += each.times

    def held(self, run: RunId) -> Iterator[tuple[SiteName, str, str, Digest, int]]:
        """What a run has settled and still holds: site, population, stage, release and how often in all."""
        for stage, held in self._held.get(run, {}).items():
            for each in held:
                if each.reserved:
                    yield each.account.site, each.account.population, stage, each.release, each.reserved

    def settle(self, run: RunId, stage: str, sites: Iterable[SiteName], releases: Iterable[Digest]) -> None:
        """One attempt at a stage, opened over `sites`: each is charged each of `releases`."""
        asked = [(site, release) for site in sites for release in releases]
        mine = self._held.get(run, {}).get(stage, [])
        for site, release in asked:
            found = [each for each in mine if (each.account.site, each.release) == (site, release)]
            if len(found) != 1 or found[0].settled >= found[0].reserved:
                raise Refused(f"{run} settles at {site} what it has not reserved there, or more often")
            found[0].settled += 1
            self._opened.setdefault(found[0].account, Counter())[release] += 1

    def give_up(self, run: RunId, releases: int) -> None:
        """What a run reserved and never settled goes back."""
        mine = [each for stages in self._held.get(run, {}).values() for each in stages]
        left = sum(each.reserved - each.settled for each in mine)
        if left != releases:
            raise Refused(f"{run} gives {releases} releases back; it has {left} that are not settled")
        for each in mine:
            self._charged[each.account][each.release] -= each.reserved - each.settled
            each.reserved = each.settled

    def standing(self) -> Iterator[Budget]:
        """Every account, by name."""
        for name, ceiling in sorted(self._ceilings.items()):
            yield Budget(
                account=name,
                ceiling=ceiling,
                opened=self._account(name, ceiling, self._opened).guarantee(),
                charged=self._account(name, ceiling, self._charged).guarantee(),
                sums=self._opened.get(name, Counter()).total(),
                decisions=tuple(self._decisions[name]),
            )

    def _holding(self, run: RunId, stage: str, name: AccountName, release: Digest) -> _Held:
        mine = self._held.setdefault(run, {}).setdefault(stage, [])
        for each in mine:
            if (each.account, each.release) == (name, release):
                return each
        mine.append(_Held(name, release))
        return mine[-1]

    def _account(
        self, name: AccountName, ceiling: Ceiling, counted: Mapping[AccountName, Counter[Digest]]
    ) -> Account:
        charges: Counter[Release] = Counter()
        for release, times in counted.get(name, Counter()).items():
            if times:  # what was given up whole is none of the account's any more
                charges[self._known(release)] += times
        return Account(name=name.words, ceiling=ceiling, charges=charges)

    def _known(self, digest: Digest) -> Release:
        if digest not in self._releases:
            raise Refused(f"release {digest} is nowhere described")
        return self._releases[digest]


def told_less(before: CeilingDecision, after: CeilingDecision) -> str:
    """In which respect a decision tells less of an account than the one before; empty if in none."""
    if set(before.alert_at) - set(after.alert_at):
        return "taking an alert away"
    if set(before.overlaps) - set(after.overlaps):
        return "taking an overlap away"
    return ""
