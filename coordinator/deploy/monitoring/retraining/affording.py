"""What the accounts of a plan's sites bear: fewer rounds, or more noise; or nothing."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.orm import Session

from coordinator.deploy.monitoring.retraining.advice import INVITE
from coordinator.deploy.monitoring.retraining.changed import (
    NOISE,
    ROUNDS,
    Fitted,
    NothingFits,
    read_changed,
    with_sites,
)
from coordinator.ledger.forecast import Forecast, forecast
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_calibration import calibrate
from protos.plan_dials import Vary, dial, fits, with_noise
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from strategies.dp.budget import largest_that
from strategies.errors import CovenantError

MOST_NOISE: Final = 8
_PARTS: Final = 8
"""Noise is raised in eighths."""
_LEAST_ROUNDS: Final = 0.5
_STAGES: Final = ("preparation", "training", "evaluation")
_MANY: Final = 1000
_EASILY: Final = "as before: every account bears it easily"


def within_limit(found: Fitted, contract: Contract) -> Fitted:
    """A plan that costs more than its own limit, as one that compares with a champion may, gets the least training noise that keeps it."""
    privacy = found.plan.privacy
    if not isinstance(privacy, Privacy) or fits(found.plan, contract):
        return found
    plan = calibrate(found.plan, contract, epsilon=privacy.limit.epsilon).plan
    return found.changed(plan, NOISE, "training noise fitted to privacy.limit, which the plan would exceed")


def within_budgets(session: Session, found: Fitted, contract: Contract) -> Fitted:
    """The plan that every account bears: as it is, with fewer rounds, or with more noise. Raises NothingFits."""
    if not isinstance(found.plan.privacy, Privacy):
        return found.changed(found.plan, ROUNDS, "as before; without privacy no account is charged")
    found = _with_ceilings(session, found, contract)
    if not (now := _forecast(session, found.plan, contract)).refusals:
        fits_ = (
            f"as before: every account bears it, {now.launches} times" if now.launches < _MANY else _EASILY
        )
        return found.changed(found.plan, ROUNDS, fits_)
    rounds, most = min(each.rounds for each in now.accounts), found.plan.training.rounds
    if rounds >= max(1.0, _LEAST_ROUNDS * most):
        plan = dial(found.plan, contract, Vary.ROUNDS).turned(found.plan, rounds)
        if not _forecast(session, plan, contract).refusals:
            says = f"was {most}; {rounds} is all that the tightest account bears, {_tightest(now)}"
            return found.changed(plan, ROUNDS, says)
    return _noisier(session, found, contract, now)


def _with_ceilings(session: Session, found: Fitted, contract: Contract) -> Fitted:
    """Without sites that have no ceiling: nothing may be released of them."""
    bare = {key.site for key in _forecast(session, found.plan, contract).missing}
    if not bare:
        return found
    sites = found.plan.sites
    plan = with_sites(found.plan, [site for site in sites.invite if site not in bare], sites.members)
    told = ", ".join(sorted(bare))
    if plan is None:
        raise NothingFits(
            f"no plan fits: {told} have no ceiling, and without them there are too few sites; their privacy officers set one with"
            " `covenant ledger ceiling draft`"
        )
    return found.changed(plan, INVITE, f"{found.why[INVITE]}; left out without a ceiling: {told}")


def _noisier(session: Session, found: Fitted, contract: Contract, before: Forecast) -> Fitted:
    """All rounds, with the least noise that every account bears."""
    most = (MOST_NOISE - 1) * _PARTS

    def with_less(steps: int) -> Plan | None:
        return _times_noise(found.plan, MOST_NOISE - steps / _PARTS)

    def bears(steps: int) -> bool:
        plan = with_less(steps)
        return plan is not None and not _refused(session, plan, contract)

    if not bears(0):
        raise NothingFits(
            f"no plan fits: the accounts bear neither half of its {found.plan.training.rounds} rounds nor {MOST_NOISE} times its noise; "
            + " ".join(before.refusals[:3])
        )
    steps = largest_that(bears, most)
    plan = with_less(steps)
    if plan is None:
        raise NothingFits("no plan fits: its noise cannot be raised")
    says = f"all noise is {MOST_NOISE - steps / _PARTS:g} times what it was: with less the accounts would not bear it, {_tightest(before)}. Figures are as much coarser"
    return found.changed(plan, NOISE, says).changed(plan, ROUNDS, "as before, with more noise")


def _times_noise(plan: Plan, factor: float) -> Plan | None:
    privacy = plan.privacy
    if not isinstance(privacy, Privacy):
        return plan
    noise: dict[str, Any] = privacy.noise.model_dump(exclude_none=True)
    raised: dict[str, float | None] = {
        stage: round(noise[stage] * factor, 3) for stage in _STAGES if stage in noise
    }
    return read_changed(with_noise(plan, raised))


def _refused(session: Session, plan: Plan, contract: Contract) -> bool:
    try:
        return bool(_forecast(session, plan, contract).refusals) or not fits(plan, contract)
    except CovenantError:  # noise that nobody can draw
        return True


def _forecast(session: Session, plan: Plan, contract: Contract) -> Forecast:
    planned = releases_of(plan, contract)
    if planned is None:
        raise NothingFits("no plan fits: it has no privacy, and no account")
    return forecast(session, plan, planned)


def _tightest(now: Forecast) -> str:
    tightest = min(now.accounts, key=lambda each: (each.rounds, -each.after.fraction))
    return f"that of {tightest.key.site}, of whose budget {tightest.before.left:.1%} is left"
