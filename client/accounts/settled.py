"""What a verified log shows as settled at a site: how a site that has lost records learns what it has released.

An account is never reset by this, nor lowered: what the site's own book has stays, and what it lacks is charged, whether it fits or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from client.accounts.book import AccountBook, Occasion
from protos.log_audit import Audit
from protos.site import SiteConfig
from protos.site_data import AccountRule
from strategies.dp.events import Release
from strategies.errors import UsageError
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
    """Charge what `book` lacks of `found`; how many charges that were.

    Raises `JournalBroken`, and UsageError, with nothing charged, where an account that lacks something is none of `config`.
    """
    rules = {config.population_of(each): each.account for each in config.data.values()}
    lacking = [each for each in found if not book.has(each.population, each.release.unit, each.occasion)]
    restored = 0
    for rule, each in [(_rule_of(rules, each), each) for each in lacking]:
        restored += book.restore(each.population, rule, each.release, each.occasion)
    return restored


def _rule_of(rules: Mapping[str, AccountRule | None], each: Settled) -> AccountRule:
    rule = rules.get(each.population)
    unit = each.release.unit
    if rule is None or (rule.unit.unit.kind, rule.unit.unit.column) != (unit.kind, unit.column):
        told = unit.kind if unit.column is None else f"{unit.kind} ({unit.column})"
        raise UsageError(
            f"the log shows what was released of population {each.population} of this site in {each.occasion.run}, and no `account` in site.yaml takes it:"
            f" it is counted per {told}. If the account was taken out or changed, put it back as it was, then give the command again; nothing was changed"
        )
    return rule
