"""A plan that was approved before, made to fit today: the sites that stand, what their accounts bear, and what history advises.

1. Only what must change, or what history advises with enough observations, is changed, and each change has its reason.
2. A site is left out that is not on the member list, is halted, does not fit the contract, has no ceiling, or surely stays away often; but those that only
   stay away are kept where without them the plan would have too few.
3. Rounds are cut, to half of them at least, until every account bears the plan; else all noise is raised, up to `affording.MOST_NOISE` times. Where that does
   not help either, nothing fits, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from coordinator.db.progress_schema import SiteHeard
from coordinator.deploy.monitoring.retraining.advice import (
    BATCH,
    DEADLINE,
    INVITE,
    MINIMUM,
    Proposal,
    advise,
)
from coordinator.deploy.monitoring.retraining.affording import within_budgets, within_limit
from coordinator.deploy.monitoring.retraining.changed import (
    CHAMPION,
    MEMBERS,
    WITNESSES,
    Fitted,
    NothingFits,
    read_changed,
    with_sites,
)
from coordinator.deploy.monitoring.retraining.history import History, history_of
from coordinator.governance.halted import halted_sites, standing
from protos.contract import Contract
from protos.membership import MemberList
from protos.plan import Plan
from protos.plan_evaluation import Champion
from protos.plan_fit import check_plan
from protos.quantities import parse_duration
from strategies.errors import CovenantError
from strategies.ids import SiteName


def fitted(
    session: Session, base: Plan, contract: Contract, members: MemberList, champion: Champion | None
) -> Fitted:
    """`base` as it could be launched today, against `champion`. Raises NothingFits."""
    found = Fitted(base, {})
    try:
        found = _with_sites(session, found, contract, members)
        found = _with_champion(found, champion)
        found = within_limit(found, contract)
        found = within_budgets(session, found, contract)
        found = _with_history(session, found)
        check_plan(found.plan, contract)
    except NothingFits:
        raise
    except CovenantError as error:
        raise NothingFits(f"no plan fits: {error}") from error
    return found


# --- sites ------------------------------------------------------------------------------------------------------------


def _with_sites(session: Session, found: Fitted, contract: Contract, members: MemberList) -> Fitted:
    base, history = found.plan, history_of(session, found.plan)
    gone = dict(_gone(session, base, contract, members))
    away = {each.site for each in history.often_away}
    kept = [site for site in base.sites.invite if site not in gone and site not in away]
    reason = ""
    if with_sites(base, kept, members.ref) is None and away:
        kept = [site for site in base.sites.invite if site not in gone]
        away, reason = (
            set(),
            "; sites that stay away often are kept, since without them there would be too few",
        )
    plan = with_sites(base, kept, members.ref)
    if plan is None:
        told = "; ".join(f"{site} {why}" for site, why in gone.items()) or "none is left out"
        raise NothingFits(
            f"no plan fits: of {len(base.sites.invite)} sites {len(kept)} stand, too few for its aggregation ({told})"
        )
    left = [f"{site} {why}" for site, why in gone.items()]
    left += [_away(history, site) for site in base.sites.invite if site in away and site not in gone]
    says = ("left out: " + "; ".join(left) if left else "all sites of the plan before stand") + reason
    found = found.changed(plan, INVITE, says)
    if members.ref != base.sites.members:
        found = found.changed(plan, MEMBERS, f"the list in use; before it was {base.sites.members}")
    if plan.sites.minimum != base.sites.minimum:
        found = found.changed(
            plan,
            MINIMUM,
            f"was {base.sites.minimum} of {len(base.sites.invite)}; as few as {len(kept)} allow",
        )
    if plan.sites.witnesses != base.sites.witnesses:
        found = found.changed(
            plan, WITNESSES, f"was {base.sites.witnesses}; of {len(kept)} sites no more can be asked"
        )
    return found


def _gone(
    session: Session, plan: Plan, contract: Contract, members: MemberList
) -> Iterator[tuple[SiteName, str]]:
    """Sites that could not take part, and why."""
    listed = {each.site for each in members.members}
    halted = halted_sites(standing(session))
    for site in plan.sites.invite:
        heard = session.get(SiteHeard, site)
        if site not in listed:
            yield site, f"is not on member list {members.ref}"
        elif site in halted:
            yield site, "is halted"
        elif heard is not None and heard.fits is False and heard.contract == contract.ref:
            yield site, f"said last that its rows do not fit {contract.ref}"


def _away(history: History, site: str) -> str:
    absence = history.sites[site].absence
    return f"{site} brought nothing of use in {absence.missed} of {absence.asked} stages of rounds"


# --- the model that serves --------------------------------------------------------------------------------------------


def _with_champion(found: Fitted, champion: Champion | None) -> Fitted:
    evaluation = found.plan.evaluation.model_copy(update={"champion": champion})
    plan = read_changed(found.plan.model_copy(update={"evaluation": evaluation}))
    if plan is None:
        raise NothingFits(
            "no plan fits: its gates compare with a champion, and the model that serves cannot be one"
        )
    says = (
        f"{champion.model}, which serves now" if champion is not None else "none: what serves cannot be one"
    )
    return found.changed(plan, CHAMPION, says)


# --- history ----------------------------------------------------------------------------------------------------------


def _with_history(session: Session, found: Fitted) -> Fitted:
    """Deadline and minimum as history advises, where it has enough to advise anything."""
    advice = advise(session, found.plan)
    for each in (advice.of(DEADLINE), advice.of(MINIMUM)):
        plan = None if each.proposed is None else _with_value(found.plan, each)
        if plan is None:
            before = found.why.get(each.what, "as before")
            found = found.changed(found.plan, each.what, f"{before}; {each.says}")
            continue
        was = "" if each.now == each.proposed else f"; was {each.now}"
        says = f"learnt from {each.rests_on} observations: {each.says}{was}"
        found = found.changed(plan, each.what, says)
    return _with_batch_told(session, found)


def _with_batch_told(session: Session, found: Fitted) -> Fitted:
    """How large a batch keeps to the deadline that the plan has now. It is told and not changed: the privacy and the steps of a plan rest on its batch."""
    for each in advise(session, found.plan).proposals:
        if each.what == BATCH:
            found = found.changed(found.plan, BATCH, f"as before; {each.says}")
    return found


def _with_value(plan: Plan, proposal: Proposal) -> Plan | None:
    if proposal.what == DEADLINE:
        deadline = {"round_deadline": parse_duration(str(proposal.proposed))}
        return read_changed(plan.model_copy(update={"training": plan.training.model_copy(update=deadline)}))
    minimum = {"minimum": proposal.proposed}
    return read_changed(plan.model_copy(update={"sites": plan.sites.model_copy(update=minimum)}))
