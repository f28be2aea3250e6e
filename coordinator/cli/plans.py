"""`covenant plan`: check a plan, have it signed and approved, and launch it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.approvals import approve_plan, sign, status
from coordinator.cli.options import Access, ContractFile, Home, Json, PlanFile, PlanName, desk_at
from coordinator.cli.plan_advice import advise_plan
from coordinator.cli.plan_comment import comment
from coordinator.cli.plan_diff import diff_plans
from coordinator.cli.plan_explain import explain_page
from coordinator.cli.plan_matrix import show_matrix
from coordinator.cli.plan_new import new_plan
from coordinator.cli.policies import judge_file, require_passed
from coordinator.cli.policy_tables import said_facts, show_said
from coordinator.cli.proposals import is_digest, list_plans
from coordinator.documents import evidence_file, read_draft, read_evidence, read_plan
from coordinator.governance.policies.rejudge import Said
from coordinator.office.plans import ProposedPlan
from coordinator.settings import has_coordinator
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_releases import forecast, releases_of
from protos.plan_update_bounds import gate_words, update_bounds
from protos.shell import emit, people
from strategies.dp.units import Guarantee
from strategies.update_rules import RobustRule

app = typer.Typer(no_args_is_help=True, help="Plans: what a run does, decided before any site is asked.")
app.command("sign")(sign)
app.command("approve")(approve_plan)
app.command("status")(status)
app.command("new")(new_plan)
app.command("diff")(diff_plans)
app.command("explain")(explain_page)
app.command("matrix")(show_matrix)
app.command("comment")(comment)
app.command("advise")(advise_plan)


@app.command("check")
def check(
    plan: PlanFile,
    contract: ContractFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Check a plan against its contract; prints the digests that signatures and logs refer to.

    Where there is a coordinator in --home or behind --access, its policy packs in effect judge the plan: what they block leaves with 3.
    """
    parsed, agreed = read_plan(plan, contract)
    width = agreed.feature_spec(parsed.features).width
    model = parsed.dense_model(width)
    costs = _costs(parsed, agreed)
    facts = {
        "plan": parsed.name,
        "digest": parsed.digest,
        "contract": {"ref": agreed.ref, "digest": agreed.digest},
        "inputs": width,
        "parameters": model.size,
        "aggregation": parsed.aggregation.mode,
        "rule": parsed.aggregation.rule_kind,
        "update_gate": _gate_facts(parsed, agreed),
        "secure_aggregation": _secure_facts(parsed),
        "privacy": parsed.privacy.mode,
        "guarantee": None if costs is None else costs.facts(),
    }
    said = _judged(plan, contract, home, access)
    if json:
        emit({**facts, "policies": None if said is None else [said_facts(each) for each in said]})
        require_passed(said or ())
        return
    people.print(f"[green]ok[/] {parsed.name} {parsed.digest}", highlight=False)
    people.print(
        f"   contract {agreed.ref}, {width} inputs, {model.size} parameters, {parsed.training.rounds} rounds",
        highlight=False,
    )
    people.print(f"   aggregation is {_aggregation_words(parsed)}", highlight=False)
    people.print(f"   gate on the mean update is {gate_words(parsed, agreed)}", highlight=False)
    people.print(f"   privacy is {_privacy_words(parsed, costs)}", highlight=False)
    if said is None:
        people.print("   judged by no policy pack: no coordinator is here to ask", highlight=False)
    else:
        show_said(said)
    require_passed(said or ())


def _judged(
    plan: Path, contract: Path | None, home: Path | None, access: Path | None
) -> Sequence[Said] | None:
    """What the policy packs in effect say; None where no coordinator is there to ask."""
    if access is None and not has_coordinator(home):
        return None
    return judge_file(plan, contract, desk_at(home, access))


def _costs(plan: Plan, contract: Contract) -> Guarantee | None:
    """What the plan costs one unit at most; None without privacy."""
    releases = releases_of(plan, contract)
    if releases is None or not isinstance(plan.privacy, Privacy):
        return None
    return forecast(releases, plan.privacy)


def _limit(privacy: Privacy) -> Guarantee:
    return Guarantee(epsilon=privacy.limit.epsilon, delta=privacy.limit.delta, unit=privacy.unit.unit)


def _privacy_words(plan: Plan, costs: Guarantee | None) -> str:
    if costs is None or not isinstance(plan.privacy, Privacy):
        return "none: nothing protects a person's rows"
    exempt = "".join(f"; {stage} is released without noise" for stage in plan.privacy.exempt)
    return (
        f"{plan.privacy.mode}: {costs.words} at most, {plan.privacy.retries} retries included; its limit is {_limit(plan.privacy).words}"
        f"{exempt}. `covenant privacy explain` says more"
    )


def _secure_facts(plan: Plan) -> dict[str, object] | None:
    """What secure aggregation gives the cohort of everybody invited; None if the plan aggregates in the clear."""
    chosen = plan.aggregation
    if not isinstance(chosen, SecureAggregation):
        return None
    shape = plan.secure_shape(chosen)
    bounds = {"privacy_log2": shape.privacy_log2, "correctness_log2": shape.correctness_log2}
    return {
        "adversary": chosen.adversary,
        "suite": chosen.suite,
        "colluding": chosen.colluding,
        "sites": len(plan.sites.invite),
        "neighbours": shape.graph.degree,
        "threshold": shape.threshold,
        "fewest_survivors": plan.secure_parameters(chosen).fewest_survivors(shape),
        "failure": {name: value for name, value in bounds.items() if math.isfinite(value)},
    }


def _gate_facts(plan: Plan, contract: Contract) -> dict[str, object] | None:
    """How long mean updates may be, and can be; None if the plan aggregates in the clear."""
    bounds, gate = update_bounds(plan, contract), plan.update_gate
    if bounds is None:
        return None
    return {"update_norm": None if gate is None else gate.update_norm, **asdict(bounds)}


def _aggregation_words(plan: Plan) -> str:
    facts, chosen = _secure_facts(plan), plan.aggregation
    if facts is None or not isinstance(chosen, SecureAggregation):
        rule = chosen.update_rule
        made = (
            rule.words
            if isinstance(rule, RobustRule)
            else "their mean, which one site can move as far as it likes"
        )
        return f"plain: the centre sees each site's update, and takes {made}"
    coordinator = "a malicious" if chosen.adversary == "active" else "a curious but honest"
    shape = plan.secure_shape(chosen)
    words = (
        f"secure against {coordinator} coordinator and up to {chosen.colluding} colluding of {facts['sites']} sites ({chosen.suite}): it sees"
        f" sums over at least {facts['fewest_survivors']} sites, and nothing of one site"
    )
    if math.isfinite(shape.privacy_log2):
        words += (
            f". Each site shares with {shape.graph.degree} others: that exposes a site with probability of at most"
            f" 2^{math.ceil(shape.privacy_log2)} an attempt"
        )
    if math.isfinite(shape.correctness_log2):
        words += f", and ends it as void with at most 2^{math.ceil(shape.correctness_log2)}"
    return words


@app.command("launch")
def launch(
    plan: PlanName,
    contract: ContractFile = None,
    home: Home = None,
    access: Access = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            help="A UUID of this launch, for scripts: the same one again gets the same run, and launches nothing."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Launch an approved plan on the running coordinator; prints the run's id.

    With a file, by the approvals beside it; with a digest, or over the API without such a file, by those that the coordinator has.
    """
    desk = desk_at(home, access)
    if is_digest(plan):
        run = desk.launch_proposed(str(plan), "", request_id)
    else:
        parsed, agreed = read_draft(plan, contract)
        if access is None or evidence_file(plan).exists():
            what = ProposedPlan(plan=parsed, contract=agreed, evidence=read_evidence(plan))
            run = desk.launch(what, request_id)
        else:
            run = desk.launch_proposed(parsed.digest, agreed.digest, request_id)
    if json:
        emit({"run": run})
        return
    people.print(f"launched {run}; follow it with `covenant run watch {run}`", highlight=False)


@app.command("list")
def list_proposed(home: Home = None, access: Access = None, json: Json = False) -> None:
    """Plans that were proposed to the coordinator, the latest first, and how far each is approved."""
    list_plans(desk_at(home, access), json=json)
