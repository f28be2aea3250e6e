"""Sections on privacy: what protects whom, what was released, what each site's account was charged, and what nothing protects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.governance.evidence.charts import bars
from coordinator.governance.evidence.content import Block, Cell, Chart, Points, Section, Words, pairs, table
from coordinator.governance.evidence.facts import Fact, fact, names, show_guarantee, show_number
from coordinator.governance.evidence.story import Story
from protos.ceilings import SignedCeiling
from protos.log_budgets import AccountName, Budget
from protos.log_entries import CeilingSet, PlanRecorded, RunLaunched
from protos.log_run_events import ReservationGivenUp, RunResumed, SumSettled
from protos.plan_explanation import Explanation, StageExplained, explain
from protos.plan_privacy import Privacy
from strategies.dp.budget import cost_of
from strategies.dp.events import Release
from strategies.dp.units import Guarantee

_COMPOSED = "composed from all releases of the plan, with every planned retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What the run settled at one account: so many sums, told by `places`; `alone` is what they cost, and `budget` where the account stands."""

    account: AccountName
    sums: int
    places: tuple[int, ...]
    alone: Guarantee
    budget: Budget
    decided: tuple[int, ...]


def protection(story: Story) -> Section:
    """Mode, unit and what the plan may cost."""
    found, planned = explain(story.plan, story.contract), story.places(PlanRecorded)
    return Section(
        "What protects whom",
        (
            pairs(
                fact("privacy.mode", "Mode", found.mode, planned),
                *_figures(story, found, planned),
                fact(
                    "privacy.fewest", "Fewest sites whose sum is opened", found.survivors, planned,
                    derived="the plan's minimum and its aggregation",
                ),
                fact(
                    "privacy.honest", "Of these counted on as honest", found.honest, planned,
                    derived="the plan's minimum less those who may collude",
                ),
            ),
            Points((fact("privacy.words", "Who is trusted", found.words, planned, derived="the plan's mode in words"),)),
        ),
    )  # fmt: skip


def releases(story: Story) -> Section:
    """What is released, stage by stage."""
    found, planned = explain(story.plan, story.contract), story.places(PlanRecorded)
    rows = [_stage(each, planned) for each in found.stages]
    columns = ("stage", "what is released, and who sees it", "times at most", "noise", "alone")
    return Section("What is released", (table("Releases of the plan", columns, rows, (2,)),))


def accounts(story: Story) -> Section:
    """What each account was charged for this version, beside where the account stands at the end of the log."""
    found = list(charged(story))
    if not found:
        return Section("Accounts", (Words("The run charged no account."),))
    columns = ("account", "sums opened", "δ", "ε of this run", "ε of the account", "its ceiling")
    rows = [_account(each) for each in found]
    return Section(
        "Accounts of the sites",
        (
            Words(
                "Each ε is at its account's δ, for adding or removing one unit. Stages that a plan exempts are in none."
            ),
            *_chart(found),
            table("Charged to each account", columns, rows, range(1, len(columns))),
        ),
    )


def unprotected(story: Story) -> Section:
    """What no figure is about, exemptions by name among it."""
    found, planned = explain(story.plan, story.contract), story.places(PlanRecorded)
    told = [
        fact(
            f"unprotected.{number}",
            "not protected",
            each,
            planned,
            derived="what the plan's mode leaves open",
        )
        for number, each in enumerate(found.not_protected, start=1)
    ]
    return Section("What nothing protects", (Points(tuple(told)),))


def charged(story: Story) -> Iterator[Charged]:
    """What this version's run settled, account by account."""
    described = {
        digest: Release.from_facts(dict(facts))
        for _, what in story.of(RunLaunched)
        for digest, facts in what.releases.items()
    }
    counts: dict[AccountName, Counter[Release]] = {}
    places: dict[AccountName, list[int]] = {}
    for each, what in story.of(SumSettled):
        for site in what.sites:
            for digest in what.releases:
                name = AccountName.of(site, story.plan.population_of(site), described[digest].unit)
                counts.setdefault(name, Counter())[described[digest]] += 1
                places.setdefault(name, []).append(each.seq)
    standing = {each.account: each for each in story.audit.budgets.standing()}
    launched = story.places(RunLaunched, RunResumed)
    for name, times in sorted(counts.items()):
        budget = standing[name]
        yield Charged(
            account=name,
            sums=times.total(),
            places=(*launched, *places[name]),
            alone=budget.ceiling.guarantee(cost_of(times, budget.ceiling.order)),
            budget=budget,
            decided=tuple(_decided(story, name)),
        )


def _decided(story: Story, name: AccountName) -> Iterator[int]:
    """Where the ceiling in force was decided."""
    found = [
        each.seq
        for each, what in story.of(CeilingSet)
        for decision in [what.decision.read_as(SignedCeiling).decision]
        if AccountName.of(decision.site, decision.population, decision.terms.unit) == name
    ]
    return iter(found[-1:])


def _figures(story: Story, found: Explanation, planned: tuple[int, ...]) -> Iterator[Fact]:
    privacy = story.plan.privacy
    if found.figures is None or not isinstance(privacy, Privacy):
        return
    yield fact("privacy.unit", "Unit", privacy.unit.unit.words, planned)
    yield fact("privacy.neighbours", "Neighbours", privacy.neighbours, planned)
    limit = found.figures.limit
    yield fact("privacy.limit", "Limit of the plan", limit.epsilon, planned, shown=show_guarantee(limit))
    whole = found.figures.whole
    if privacy.exempt:
        yield fact(
            "privacy.exempt", "Released without noise, and in no ε here", names(privacy.exempt), planned
        )
    launched = story.places(RunLaunched)
    yield fact(
        "privacy.forecast",
        "The whole plan at most",
        whole.epsilon,
        (*planned, *launched),
        derived=_COMPOSED,
        shown=show_guarantee(whole) + _left_out(privacy),
    )
    given = story.places(ReservationGivenUp)
    if given:
        back = sum(what.releases for _, what in story.of(ReservationGivenUp))
        yield fact("privacy.given_up", "Releases reserved and given back", back, given)


def _left_out(privacy: Privacy) -> str:
    """What no figure counts, said beside each."""
    return (
        f", without the exempt {' and '.join(privacy.exempt)}, whose ε is unbounded" if privacy.exempt else ""
    )


def _stage(each: StageExplained, planned: tuple[int, ...]) -> list[Cell]:
    name = f"releases.{each.stage}"
    alone = f"ε {show_number(math.inf if each.alone is None else each.alone.epsilon)}"
    if each.alone is None and each.release is not None:
        alone = "exempt"
    return [
        each.stage,
        fact(f"{name}.what", "what", each.what, planned, derived="the plan's releases in words", shown=f"{each.what}; {each.seen}"),
        fact(f"{name}.times", "times", each.times, planned, derived="rounds and retries of the plan"),
        fact(f"{name}.noise", "noise", each.noise, planned, derived="the plan's noise in words"),
        fact(
            f"{name}.alone", "alone", None if each.alone is None else each.alone.epsilon, planned,
            derived="the cost if nothing else were released", shown=alone,
        ),
    ]  # fmt: skip


def _account(each: Charged) -> list[Cell]:
    name, ceiling = f"accounts.{each.account.words}", each.budget.ceiling
    return [
        each.account.words,
        fact(f"{name}.sums", "sums", each.sums, each.places, derived="a count of settled sums"),
        fact(f"{name}.delta", "delta", ceiling.delta, each.decided),
        fact(
            f"{name}.alone",
            "epsilon",
            each.alone.epsilon,
            each.places,
            derived="composed from the sums of this run that were settled",
        ),
        fact(
            f"{name}.charged",
            "epsilon",
            each.budget.charged.epsilon,
            each.decided,
            derived="all that the log charges to the account, replayed to its end",
        ),
        fact(f"{name}.ceiling", "epsilon", ceiling.epsilon, each.decided),
    ]


def _chart(found: list[Charged]) -> tuple[Block, ...]:
    drawn = [each for each in found if math.isfinite(each.alone.epsilon)]
    if not drawn:
        return ()
    title = "ε by site: this run, and the ceiling of the account"
    words = "A bar for each account, a dashed line at its ceiling. The table below has the figures."
    rows = [
        (
            each.account.words,
            each.alone.epsilon,
            each.budget.ceiling.epsilon,
            f"{show_number(each.alone.epsilon)} of {show_number(each.budget.ceiling.epsilon)}",
        )
        for each in drawn
    ]
    return (Chart(title=title, words=words, svg=bars(rows, title, words)),)
