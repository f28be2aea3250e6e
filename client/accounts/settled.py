"""What a verified log shows as settled at a site: how a site that has lost records learns what it has released.

An account is never reset by this, nor lowered: what the site's own book has stays, and what it lacks is charged, whether it fits or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from client.accounts.book import AccountBook, Occasion
from protos.log_audit import Audit
from protos.site import SiteConfig
from strategies.dp.events import Release
from strategies.ids import RunId


@dataclass(frozen=True, slots=True)
class Settled:
    """One release of a population for one attempt."""

    population: str
    release: Release
    occasion: Occasion


def settled_at(story: Audit, config: SiteConfig) -> Iterator[Settled]:
    """What `story` shows as settled at the site of `config`, in the order of its runs."""
    for name, run in story.runs.items():
        if run.releases is None:
            continue
        for (stage, number, attempt), what in run.settled.items():
            if config.site not in what.sites:
                continue
            yield Settled(
                population=run.plan.population_of(config.site),
                release=run.releases.of(stage),
                occasion=Occasion(
                    federation=config.federation.name,
                    plan=run.plan.digest,
                    run=RunId(name),
                    stage=stage,
                    round=number,
                    attempt=attempt,
                ),
            )


def restore(book: AccountBook, config: SiteConfig, found: Iterable[Settled]) -> int:
    """Charge what `book` lacks of `found`; how many charges that were. Raises `JournalBroken`."""
    rules = {config.population_of(each): each.account for each in config.data.values()}
    restored = 0
    for each in found:
        rule = rules.get(each.population)
        if rule is not None and book.restore(each.population, rule, each.release, each.occasion):
            restored += 1
    return restored
