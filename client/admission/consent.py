"""Whether a person at this site has consented to a plan, where the rule that admits it asks for that, and whether the hour is one in which this site takes part."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from client.admission.findings import Finding, Outcome, passed, refused
from protos.consent import Consent
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.site_policy import Acceptance
from protos.site_run import Window
from strategies.encoding import digest_of
from strategies.ids import Digest

_RULE: Final = "policy.accept.confirm"
SHOWN: Final = 12
"""So many digits of a plan's digest are enough for people, and for `covenant-agent plan allow`."""


def kind_of(plan: Plan, contract: Contract) -> Digest:
    """What makes a plan new to somebody who has consented before: what it is for, what it takes and shows, and how it is protected.

    Neither its name, nor whom it invites, nor how long it trains: what that costs is bounded by policy and account.
    """
    privacy = plan.privacy
    protected = (
        {"unit": privacy.unit.model_dump(mode="json"), "exempt": sorted(privacy.exempt)}
        if isinstance(privacy, Privacy)
        else None
    )
    return digest_of(
        {
            "purpose": plan.purpose,
            "contract": contract.digest,
            "features": sorted(plan.columns),
            "target": contract.target.column,
            "model": plan.model.model_dump(mode="json"),
            "component": plan.training.component,
            "algorithm": plan.training.algorithm,
            "mode": privacy.mode,
            "protected": protected,
            "aggregation": plan.aggregation.model_dump(mode="json"),
            **_compared(plan),
            **_panels(plan),
        }
    )


def _compared(plan: Plan) -> dict[str, object]:
    """That a champion is scored too. Exact counts by a model that somebody has chosen can be made to answer a question about one record, so without
    noise each champion is a kind of its own."""
    champion, privacy = plan.evaluation.champion, plan.privacy
    if champion is None:
        return {}
    has_noise = isinstance(privacy, Privacy) and "evaluation" not in privacy.exempt
    return {"champion": has_noise or champion.model_dump(mode="json")}


def _panels(plan: Plan) -> dict[str, object]:
    """What a plan reads of protected attributes, and counts beside scores: each of it is something new, and how finely is a part of that."""
    asked, reweigh = plan.evaluation, plan.training.reweigh
    found: dict[str, object] = {
        "groups": None
        if asked.fairness is None
        else {
            "by": sorted(plan.protected or ()),
            "minimum": asked.fairness.minimum_group,
            "bins": asked.fairness.bins,
        },
        "reweighed": None if reweigh is None else reweigh.attribute,
        "explanations": None if asked.explanations is None else asked.explanations.parts,
        "profile": None if asked.profile is None else asked.profile.bins,
    }
    told = {name: value for name, value in found.items() if value is not None}
    return {"panels": told} if told else {}


def judge_consent(
    rule: Acceptance,
    plan: Plan,
    contract: Contract,
    given: Iterable[Consent],
    *,
    now: datetime,
    began: datetime | None = None,
) -> Finding:
    """What people at this site have said of `plan`, the newest of each of them last, when this site `began` the run, or else `now`.

    A denial refuses whatever the rule says, and at once.
    """
    newest = {each.plan: each for each in given}
    own, kind, moment = newest.get(plan.digest), kind_of(plan, contract), began or now
    asks = f"plan {plan.name} ({plan.digest[:SHOWN]})"
    if own is not None and own.verdict == "deny":
        reason = "this site's policy does not admit this plan"
        return refused(_RULE, asks, own.words, reason, f"covenant-agent plan allow {plan.digest[:SHOWN]}")
    if rule.confirm == "never":
        return passed(_RULE, asks, "nobody need be asked")
    good = [
        each
        for each in newest.values()
        if each.expires is not None
        and moment < each.expires
        and (each.plan == plan.digest or (rule.confirm == "first-time" and each.kind == kind))
    ]
    if good:
        return passed(_RULE, asks, good[-1].words)
    what = "each plan" if rule.confirm == "always" else "each new kind of plan"
    return Finding(
        rule=_RULE,
        outcome=Outcome.AWAITS,
        asks=f"{asks} awaits consent",
        admits=f"a person here is asked for {what}",
        remedy=f"allow it with: covenant-agent plan allow {plan.digest[:SHOWN]}",
    )


def judge_hours(window: Window | None, now: datetime) -> Finding:
    """Whether this site takes part at `now`."""
    rule = "run.window"
    if window is None:
        return Finding(rule=rule, outcome=Outcome.PASSES, asks=f"{now:%Y-%m-%d %H:%M} UTC", admits="always")
    next_one = window.opening(now)
    if next_one.holds(now):
        until = f"{window.words}; open until {next_one.ends:%Y-%m-%d %H:%M} UTC"
        return Finding(rule=rule, outcome=Outcome.PASSES, asks=f"{now:%Y-%m-%d %H:%M} UTC", admits=until)
    return Finding(
        rule=rule,
        outcome=Outcome.AWAITS,
        asks=f"{now:%Y-%m-%d %H:%M} UTC is outside this site's hours",
        admits=window.words,
        remedy=f"this site takes part again at {next_one.begins:%Y-%m-%d %H:%M} UTC",
    )
