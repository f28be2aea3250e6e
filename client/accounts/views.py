"""The accounts of a site as its people see them, and as it states them, signed, to the centre."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from client.accounts.book import AccountBook, Charge
from client.keystore import load_identity
from protos.account_statement import StatedAccount, StatedEntry, sign
from protos.files import new_file
from protos.site import SiteConfig
from strategies.dp.budget import Account
from strategies.dp.units import Guarantee
from strategies.encoding import digest_of
from strategies.ids import Digest, run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """One account: `spent` as the filter has it, `own_noise` if nobody else's noise counted."""

    population: str
    account: Account
    charges: tuple[Charge, ...]
    overlaps: tuple[str, ...]

    @property
    def spent(self) -> Guarantee:
        """What the filter promises for all charges."""
        return self.account.guarantee()

    def facts(self) -> dict[str, Any]:
        """As JSON: figures with unit and neighbours."""
        own = self.account.worst_own_noise()
        return {
            "population": self.population,
            "ceiling": self.account.ceiling.facts(),
            "spent": self.spent.facts(),
            "own_noise_only": own.facts(),
            "releases": len(self.charges),
            "without_noise": [each.what for each in self.account.exempted()],
            "overlaps": list(self.overlaps),
        }


def views(config: SiteConfig, book: AccountBook) -> Iterator[AccountView]:
    """The accounts that the site's configuration names, in its order."""
    sources = {config.population_of(each): each for each in config.data.values()}
    for population, source in sources.items():
        if source.account is not None:
            yield AccountView(
                population=population,
                account=book.account(population, source.account),
                charges=book.charges(population, source.account.unit.unit),
                overlaps=source.overlaps,
            )


def export_to(path: Path, config: SiteConfig, book: AccountBook) -> None:
    """Write all accounts, signed, for `covenant ledger reconcile`. Raises UsageError where there is a file already."""
    accounts = tuple(_stated(each, book, config.federation.name) for each in views(config, book))
    signed = sign(config.site, load_identity(config), book.clock(), accounts)
    with new_file(path) as file:
        file.write(signed.to_bytes())


def _stated(view: AccountView, book: AccountBook, here: str) -> StatedAccount:
    releases: Mapping[str, Any] = {each.release: book.release(each.release) for each in view.charges}
    entries = (_entry(each, here) for each in view.charges)
    return StatedAccount.of(view.population, view.account.ceiling, releases.values(), entries)


def _entry(charge: Charge, here: str) -> StatedEntry:
    """A charge as the centre of federation `here` may read it."""
    said = charge.occasion
    elsewhere = said.federation != here
    return StatedEntry(
        run=run_id(f"run-{_pseudonym(said.federation, said.run)[:16]}") if elsewhere else said.run,
        stage=said.stage,
        round=said.round,
        attempt=said.attempt,
        release=charge.release,
        plan=_pseudonym(said.federation, said.plan) if elsewhere else said.plan,
        at=datetime.fromisoformat(charge.at),
        elsewhere=elsewhere,
    )


def _pseudonym(federation: str, name: str) -> Digest:
    return digest_of({"federation": federation, "name": name})
