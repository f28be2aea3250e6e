"""What history advises about a plan: its deadline, its batch, its minimum, and the sites that it invites. Advice, beside what the plan says.

1. Each proposal says how many observations it rests on; with too few there is none, and that is said.
2. A minimum is never below what the plan's aggregation asks for, and the largest one is proposed that rounds reach nearly always: the more sites must
   answer, the less each must add in noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.orm import Session

from coordinator.deploy.monitoring.retraining.history import History, batch_of, history_of
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.quantities import format_duration
from strategies.analytics.learnt import (
    CONFIDENCE,
    LEAST_ASKED,
    LEAST_ROUNDS,
    MARGIN,
    OFTEN,
    QUANTILE,
    WANTED,
    bound_on_quantile,
    deadline_from,
    enough_with,
    largest_batch,
    largest_minimum,
)
from strategies.secagg.parameters import sharing_an_honest_site

DEADLINE: Final = "training.round_deadline"
BATCH: Final = "training.expected_batch"
MINIMUM: Final = "sites.minimum"
INVITE: Final = "sites.invite"
Value = str | int | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """About one value of a plan, `now`: what is `proposed`, or None, the number of observations that `rests_on`, and why in words."""

    what: str
    now: Value
    proposed: Value | None
    rests_on: int
    says: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "what": self.what,
            "now": self.now,
            "proposed": self.proposed,
            "rests_on": self.rests_on,
            "says": self.says,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Proposals about a plan, from its `history`."""

    history: History
    proposals: tuple[Proposal, ...]

    def proposed(self, what: str) -> Value | None:
        """What is proposed for a value; None where nothing is."""
        return next((each.proposed for each in self.proposals if each.what == what), None)

    def of(self, what: str) -> Proposal:
        """The proposal about a value."""
        return next(each for each in self.proposals if each.what == what)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "runs": len(self.history.runs),
            "proposals": [each.facts() for each in self.proposals],
            "sites": [
                {
                    "site": each.site,
                    "asked": each.absence.asked,
                    "missed": each.absence.missed,
                    "refused": each.refusals,
                    "longest_seconds": round(each.longest_s, 3),
                    "often": each.absence.is_often,
                }
                for each in self.history.sites.values()
            ],
        }


def advise(session: Session, plan: Plan) -> Advice:
    """What the history of runs like `plan` advises."""
    history = history_of(session, plan)
    return Advice(
        history=history,
        proposals=(
            _deadline(plan, history),
            *_batch(plan, history),
            _minimum(plan, history),
            _invite(plan, history),
        ),
    )


def least_minimum(plan: Plan) -> int:
    """The smallest minimum that a plan of so many sites may have."""
    chosen = plan.aggregation
    if isinstance(chosen, SecureAggregation) and chosen.adversary == "active":
        return sharing_an_honest_site(len(plan.sites.invite), chosen.colluding)
    return min(plan.sites.minimum, len(plan.sites.invite))


def _deadline(plan: Plan, history: History) -> Proposal:
    now, known = format_duration(plan.training.round_deadline), len(history.round_s)
    bound = bound_on_quantile(history.round_s)
    if bound is None:
        says = _too_few(known, LEAST_ROUNDS, "rounds of runs like it")
        return Proposal(what=DEADLINE, now=now, proposed=None, rests_on=known, says=says)
    says = (
        f"the slowest site of a round took at most {bound:.1f} s in {QUANTILE:.0%} of rounds, at {CONFIDENCE:.0%} confidence;"
        f" {MARGIN:g} times that, rounded up"
    )
    proposed = format_duration(float(deadline_from(bound)))
    return Proposal(what=DEADLINE, now=now, proposed=proposed, rests_on=known, says=says)


def _batch(plan: Plan, history: History) -> Iterator[Proposal]:
    whole = batch_of(plan)
    now = getattr(plan.training, "expected_batch", None)
    if whole is None or now is None:
        return
    known, steps = len(history.per_unit_s), whole // now
    most = largest_batch(history.per_unit_s, plan.training.round_deadline)
    if most is None:
        says = _too_few(known, LEAST_ROUNDS, "rounds of training with its model and features")
        yield Proposal(what=BATCH, now=now, proposed=None, rests_on=known, says=says)
        return
    limit = max(1, most // steps)
    fits = "keeps to it" if now <= limit else "is above it"
    says = f"at most {limit} keeps to the plan's own deadline, {format_duration(plan.training.round_deadline)}, {MARGIN:g} times over; {now} {fits}"
    yield Proposal(what=BATCH, now=now, proposed=min(now, limit), rests_on=known, says=says)


def _minimum(plan: Plan, history: History) -> Proposal:
    now, absences = plan.sites.minimum, []
    for site in plan.sites.invite:
        known = history.sites.get(site)
        if known is None or not known.absence.is_known:
            asked = 0 if known is None else known.absence.asked
            says = f"{site}: {_too_few(asked, LEAST_ASKED, 'stages of rounds that it was asked in')}"
            return Proposal(what=MINIMUM, now=now, proposed=None, rests_on=asked, says=says)
        absences.append(known.absence.probability)
    rests_on = min(history.sites[site].absence.asked for site in plan.sites.invite)
    least = least_minimum(plan)
    proposed = largest_minimum(absences, least)
    chance = f"a round has {now} of {len(absences)} sites with probability {enough_with(absences, now):.3f}, if they stay away independently"
    if proposed is None:
        says = f"{chance}; even {least}, the fewest that this plan may ask for, are had less often than {WANTED:.0%}. Invite others, or see to those that are away"
    elif proposed == now:
        says = f"{chance}; no larger minimum is had in {WANTED:.0%} of rounds"
    else:
        says = f"{chance}; {proposed} is the largest that is had in {WANTED:.0%} of rounds"
    return Proposal(what=MINIMUM, now=now, proposed=proposed, rests_on=rests_on, says=says)


def _invite(plan: Plan, history: History) -> Proposal:
    invited = list(plan.sites.invite)
    known = [history.sites[site] for site in invited if site in history.sites]
    enough = [each for each in known if each.absence.is_known]
    rests_on = sum(each.absence.asked for each in enough)
    if not enough:
        asked = max((each.absence.asked for each in known), default=0)
        says = _too_few(asked, LEAST_ASKED, "stages of rounds that any of its sites was asked in")
        return Proposal(what=INVITE, now=invited, proposed=None, rests_on=asked, says=says)
    away = [each for each in enough if each.absence.is_often]
    if not away:
        says = f"none of the {len(enough)} sites that are known surely stays away from more than {OFTEN:.0%}"
        return Proposal(what=INVITE, now=invited, proposed=invited, rests_on=rests_on, says=says)
    told = ", ".join(
        f"{each.site} ({each.absence.missed} of {each.absence.asked}, {each.refusals} of them refusals)"
        for each in away
    )
    gone = {each.site for each in away}
    return Proposal(
        what=INVITE,
        now=invited,
        proposed=[site for site in invited if site not in gone],
        rests_on=rests_on,
        says=f"these surely stay away from more than {OFTEN:.0%}: {told}. Ask them why, or leave them out",
    )


def _too_few(known: int, least: int, what: str) -> str:
    return f"not enough history: {known} {what}, and it takes {least}"
