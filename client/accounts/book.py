"""The site's own account: what was released of each of its populations, charged before it leaves, and never refunded.

1. A charge is on disk before the noise of its release is drawn. What then becomes of the attempt does not matter: the site cannot know that nobody
   has opened it, and a retry is a new charge. One attempt is charged once.
2. A population is what the site calls so: its account outlives tables, files, contract versions, plans and federations. New rows do not renew it.
3. The order of the filter is fixed with the first ceiling of an account. A ceiling that changed is recorded, and holds from then on.
4. Of a federation that the site has left nothing is charged. What was charged stays, and the accounts go on from there if it returns.
5. Every process that charges shares the one file, a turn at a time; nobody charges what another has spent already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from client.journal.entries import Entry
from client.journal.file import Connect, Journal, connect
from client.journal.shared import Append, SharedJournal
from protos.site_data import AccountRule
from strategies.dp.budget import Account, BudgetRefused
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit
from strategies.ids import Digest, RunId, SiteName

_CEILING: Final = "ceiling"
_RELEASE: Final = "release"
_CHARGED: Final = "charged"
_FROZEN: Final = "frozen"
_THAWED: Final = "thawed"
_KINDS: Final = (_RELEASE, _CEILING, _CHARGED, _FROZEN, _THAWED)

Key = tuple[str, str, str | None]
"""Population, kind of unit, and the column that tells units apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """For what a site releases: one attempt at a stage of a round."""

    federation: str
    plan: Digest
    run: RunId
    stage: str
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class ChargeReceipt:
    """A charge that is on disk: outside of `simulation/`, `AccountBook.charge` is its only maker. What is released under an account takes one."""

    release: Release
    entry: int
    was: float = 0.0
    """How much of the ceiling was spent before this charge; 1 is all."""
    now: float = 0.0
    """And with it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One entry of an account, made `at` a time (UTC, ISO 8601)."""

    release: Digest
    occasion: Occasion
    at: str


@dataclass
class AccountBook:
    """The accounts of one site, in a journal that its agents share."""

    site: SiteName
    clock: Callable[[], datetime]
    _shared: SharedJournal = field(init=False)
    _releases: dict[Digest, Release] = field(default_factory=dict)
    _charges: dict[Key, list[Charge]] = field(default_factory=dict)
    _times: dict[Key, dict[Release, int]] = field(default_factory=dict)
    """How often each release was charged: what `_charges` adds up to."""
    _ceilings: dict[Key, list[Ceiling]] = field(default_factory=dict)
    _attempts: dict[tuple[Key, RunId, str], int] = field(default_factory=dict)
    """By account, run and stage: how many inputs were charged."""
    _occasions: dict[Key, set[Occasion]] = field(default_factory=dict)
    _frozen: set[str] = field(default_factory=set)
    """The federations that this site has left."""

    @classmethod
    def open(
        cls, path: Path, site: SiteName, *, clock: Callable[[], datetime], connect: Connect = connect
    ) -> AccountBook:
        """Open the book at `path`, or begin it. Raises as `Journal.open` does."""
        book = cls(site, clock)
        book._shared = SharedJournal.open(path, site, _KINDS, book._remember, connect=connect)
        return book

    @property
    def journal(self) -> Journal:
        """What the book is kept in. Answers name its head, so that a book that was set back is found out."""
        return self._shared.journal

    def charge(
        self, population: str, rule: AccountRule, release: Release, occasion: Occasion
    ) -> ChargeReceipt:
        """Charge `release` of `population` durably. Raises `BudgetRefused` over the ceiling, and for an attempt that is charged already, with
        nothing charged; and `JournalBroken`."""
        key = _key(population, rule.unit.unit)
        with self._shared.turn() as append:
            self._require_thawed(occasion)
            self._require_uncharged(key, occasion)
            self._require_one_unit(key)
            account = self._account(key, self._ceiling(key, rule))
            account.require({release: 1})
            ceiling, after = account.ceiling, account.charged({release: 1})
            was, now = ceiling.fraction(account.cost), ceiling.fraction(after.cost)
            entry = self._append_charge(append, key, rule, release, occasion)
        return ChargeReceipt(release, entry.seq, was, now)

    def restore(self, population: str, rule: AccountRule, release: Release, occasion: Occasion) -> bool:
        """Charge what others know to be released, whether it fits or not; False where this book has it. Raises `JournalBroken`."""
        key = _key(population, rule.unit.unit)
        with self._shared.turn() as append:
            if occasion in self._occasions.get(key, ()):
                return False
            self._append_charge(append, key, rule, release, occasion)
        return True

    def freeze(self, federation: str, reason: str) -> None:
        """Take no charge for `federation` from now on: the site has left it. What was charged stays. Raises `JournalBroken`."""
        self._say(_FROZEN, federation, reason)

    def thaw(self, federation: str, reason: str) -> None:
        """Take charges for `federation` again, from where the accounts are. Raises `JournalBroken`."""
        self._say(_THAWED, federation, reason)

    def _say(self, kind: str, federation: str, reason: str) -> None:
        with self._shared.turn() as append:
            append(kind, {"federation": federation, "reason": reason, "at": self.clock().isoformat()})

    def _require_thawed(self, occasion: Occasion) -> None:
        if occasion.federation in self._frozen:
            raise BudgetRefused(
                f"{self.site}: its accounts are frozen for {occasion.federation}, which it has left; `covenant-agent return` lets them go on where they are"
            )

    def require(self, population: str, rule: AccountRule, planned: Mapping[Release, int]) -> None:
        """Raise `BudgetRefused` unless all of `planned` would fit now; charges nothing."""
        key = _key(population, rule.unit.unit)
        with self._shared.turn():
            self._require_one_unit(key)
            self._account(key, self._ceiling(key, rule)).require(planned)

    def account(self, population: str, rule: AccountRule) -> Account:
        """The account as it stands."""
        key = _key(population, rule.unit.unit)
        with self._shared.turn():
            return self._account(key, self._ceiling(key, rule))

    def charges(self, population: str, unit: PrivacyUnit) -> tuple[Charge, ...]:
        """All charges of an account, the oldest first."""
        return tuple(self._charges.get(_key(population, unit), ()))

    def has(self, population: str, unit: PrivacyUnit, occasion: Occasion) -> bool:
        """Whether `occasion` is charged to an account."""
        return occasion in self._occasions.get(_key(population, unit), ())

    def attempts(self, population: str, unit: PrivacyUnit, run: RunId, stage: str) -> int:
        """How many inputs of a run's stage were charged to an account."""
        return self._attempts.get((_key(population, unit), run, stage), 0)

    def release(self, digest: Digest) -> Release:
        """The release of a charge."""
        return self._releases[digest]

    def close(self) -> None:
        """Close the file."""
        self._shared.close()

    def _require_uncharged(self, key: Key, occasion: Occasion) -> None:
        if occasion in self._occasions.get(key, ()):
            raise BudgetRefused(
                f"{self.site}/{key[0]}: attempt {occasion.attempt} at {occasion.stage} of round {occasion.round} of {occasion.run} is charged already;"
                " a retry takes the next attempt"
            )

    def _account(self, key: Key, ceiling: Ceiling) -> Account:
        return Account(name=f"{self.site}/{key[0]}", ceiling=ceiling, charges=self._times.get(key, {}))

    def _require_one_unit(self, key: Key) -> None:
        """What was released per one unit says nothing per another, so another would begin from nothing what was begun already."""
        others = [each for each in self._times if each[0] == key[0] and each != key]
        if others:
            told = others[0][1] if others[0][2] is None else f"{others[0][1]} ({others[0][2]})"
            raise BudgetRefused(
                f"{self.site}/{key[0]}: this population was charged per {told}, and goes on so: figures for another unit would not count what"
                " is known already"
            )

    def _ceiling(self, key: Key, rule: AccountRule) -> Ceiling:
        """The ceiling of the site's configuration, at the order that the account has had from the start."""
        known = self._ceilings.get(key)
        if not known:
            return rule.ceiling
        order = known[0].order
        if rule.order not in {None, order}:
            raise BudgetRefused(
                f"{self.site}/{key[0]}: the account's filter has order {order} since its first ceiling, and keeps it; the configuration says"
                f" {rule.order}: leave `order` out"
            )
        return Ceiling.fixed(epsilon=rule.epsilon, delta=rule.delta, unit=rule.unit.unit, order=order)

    def _append_charge(
        self, append: Append, key: Key, rule: AccountRule, release: Release, occasion: Occasion
    ) -> Entry:
        """Append a charge, after what must be known to read it: the release, and a ceiling that is new."""
        ceiling, at = self._ceiling(key, rule), self.clock().isoformat()
        if release.digest not in self._releases:
            append(_RELEASE, {"release": release.facts()})
        if not self._ceilings.get(key) or self._ceilings[key][-1] != ceiling:
            append(_CEILING, {"key": list(key), "ceiling": ceiling.facts()})
        body = {"key": list(key), "release": release.digest, "occasion": asdict(occasion), "at": at}
        return append(_CHARGED, body)

    def _remember(self, entry: Entry) -> None:
        body = entry.body
        match entry.kind:
            case "release":
                release = Release.from_facts(body["release"])
                self._releases[release.digest] = release
            case "ceiling":
                self._ceilings.setdefault(_read_key(body), []).append(Ceiling.from_facts(body["ceiling"]))
            case "charged":
                charge = Charge(Digest(body["release"]), Occasion(**body["occasion"]), body["at"])
                key, release = _read_key(body), self._releases[charge.release]
                times = self._times.setdefault(key, {})
                times[release] = times.get(release, 0) + 1
                of_run = (key, charge.occasion.run, charge.occasion.stage)
                self._attempts[of_run] = self._attempts.get(of_run, 0) + 1
                self._charges.setdefault(key, []).append(charge)
                self._occasions.setdefault(key, set()).add(charge.occasion)
            case "frozen":
                self._frozen.add(body["federation"])
            case "thawed":
                self._frozen.discard(body["federation"])


def _key(population: str, unit: PrivacyUnit) -> Key:
    return (population, str(unit.kind), unit.column)


def _read_key(body: Mapping[str, Any]) -> Key:
    population, kind, column = body["key"]
    return (population, kind, column)
