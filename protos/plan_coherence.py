"""What the parts of a plan must be together: each of them may be right and the plan still promise what it cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protos.documents import FieldError
from protos.plan_aggregation import PlainAggregation, SecureAggregation
from protos.plan_evaluation import MOST_PRIVATE_BINS
from protos.plan_privacy import NoPrivacy, Privacy
from protos.plan_training import GradientSums, LocalTraining, PrivateSteps
from strategies.errors import CovenantError
from strategies.secagg.parameters import sharing_an_honest_site
from strategies.secagg.payloads import WeightedUpdates
from strategies.update_rules import RobustRule

if TYPE_CHECKING:
    from protos.plan import Plan

_FEWEST_GROUPED_SITES: Final = 4


def is_one_of_the_matrix(plan: Plan) -> Plan:
    """Algorithm, privacy and aggregation go together in four ways."""
    own = {"dp-fedsgd": "mode distributed", "dp-sgd": "mode local"}.get(plan.training.algorithm)
    or_own = "" if own is None else f", or {own}"
    match plan.privacy:
        case NoPrivacy():
            _require(
                isinstance(plan.training, LocalTraining),
                "training",
                f"algorithm {plan.training.algorithm} adds noise, which privacy mode none has not: use fedavg or fedprox{or_own}",
            )
        case Privacy(mode="local"):
            _require(
                isinstance(plan.training, PrivateSteps),
                "training",
                f"algorithm {plan.training.algorithm} does not exist in privacy mode local; use dp-sgd{or_own}",
            )
        case Privacy(mode=mode):
            _require(
                isinstance(plan.training, GradientSums),
                "training",
                f"algorithm {plan.training.algorithm} does not exist in privacy mode {mode}, which opens one clipped gradient sum a round;"
                f" use dp-fedsgd{or_own}",
            )
    if isinstance(plan.privacy, Privacy):
        _check_private(plan, plan.privacy)
    return plan


def _check_private(plan: Plan, privacy: Privacy) -> None:
    _require(
        isinstance(plan.aggregation, SecureAggregation),
        "aggregation",
        f"privacy mode {privacy.mode} goes with secure aggregation only; leave aggregation out, or write mode: secure",
    )
    _require(
        not plan.sites.weights or not isinstance(plan.training, GradientSums),
        "sites",
        "weights do nothing where every unit of every site counts alike; remove them",
    )
    _require(
        plan.evaluation.every >= plan.training.rounds,
        "evaluation",
        f"every is {plan.evaluation.every}, but held-out rows are scored once, after round {plan.training.rounds}: each time is a release."
        f" Use every: {plan.training.rounds}",
    )
    _require(
        plan.evaluation.score_bins <= MOST_PRIVATE_BINS,
        "evaluation",
        f"{plan.evaluation.score_bins} score bins would hold more noise than rows; use at most {MOST_PRIVATE_BINS}",
    )
    if privacy.unit.kind == "site" and isinstance(plan.training, GradientSums | PrivateSteps):
        _require(
            plan.training.expected_batch == plan.training.nominal_rows == 1,
            "training",
            "a site is one unit, and is always in the sum; use expected_batch: 1 and nominal_rows: 1",
        )


def _require(holds: bool, field: str, sentence: str) -> None:  # noqa: FBT001 (reads as a sentence)
    if not holds:
        raise FieldError(field, sentence)


def has_panels_that_go_together(plan: Plan) -> Plan:
    """Fairness and explanations count what the plan names, in groups that hide a site."""
    fairness, explanations = plan.evaluation.fairness, plan.evaluation.explanations
    _require(
        (plan.protected is None) == (fairness is None),
        "evaluation" if fairness is None else "protected",
        "protected attributes are counted as evaluation.fairness says, and it counts nothing else: write both, or neither",
    )
    seen = set(plan.protected_columns) & set(plan.columns)
    _require(
        not seen,
        "protected",
        f"{', '.join(sorted(seen))} is a feature too; a protected attribute is never one, remove it from features",
    )
    if explanations is not None and explanations.parts == "sites":
        _require(
            isinstance(plan.privacy, Privacy)
            and plan.privacy.mode != "central"
            and "evaluation" not in plan.privacy.exempt,
            "evaluation",
            "explanations.parts: sites opens sums of a few sites, which only noise of the sites' own protects: use privacy mode distributed or"
            " local without exempting evaluation, or parts: rows",
        )
        _require(
            len(plan.sites.invite) >= _FEWEST_GROUPED_SITES,
            "evaluation",
            f"explanations.parts: sites makes two groups of at least two of the {len(plan.sites.invite)} invited sites; invite at least"
            f" {_FEWEST_GROUPED_SITES}, or use parts: rows",
        )
    return plan


def has_a_figure_for_each_gate(plan: Plan) -> Plan:
    """Each gate is about a figure that the plan computes, once."""
    judged = [(gate.metric, gate.over) for gate in plan.gates or ()]
    figures = [
        (*each, gate.group, gate.reference) for each, gate in zip(judged, plan.gates or (), strict=True)
    ]
    _require(
        len(set(figures)) == len(figures),
        "gates",
        "two gates are about the same figure; keep the stricter",
    )
    _require(
        plan.evaluation.champion is not None or all(over is None for _, over in judged),
        "gates",
        "a gate compares with a champion that the plan does not name; name it in evaluation.champion, or leave `over` out",
    )
    _require(
        ("stability", None) not in judged or len(plan.evaluated) > 1,
        "gates",
        f"stability compares rounds, and the plan evaluates once, after round {plan.training.rounds}; leave the gate out"
        + (", or evaluate more often" if isinstance(plan.privacy, NoPrivacy) else ""),
    )
    explained = plan.evaluation.explanations
    _require(
        ("explanation_stability", None) not in judged
        or (explained is not None and explained.parts != "none"),
        "gates",
        "explanation_stability compares two parts of explanations, which the plan does not have; write evaluation.explanations with parts: rows or sites, or leave the gate out",
    )
    _require(
        ("epsilon", None) not in judged or isinstance(plan.privacy, Privacy),
        "gates",
        "epsilon is about a privacy mode, and the plan has none; leave the gate out",
    )
    uncounted = sorted(
        {str(group) for *_, group, _ in figures if group is not None} - set(plan.protected or ())
    )
    _require(
        not uncounted,
        "gates",
        f"a gate is about the groups of {', '.join(uncounted)}, which the plan does not count; name it in `protected`",
    )
    return plan


def can_be_aggregated(plan: Plan) -> Plan:
    """Everybody invited, the fewest who must come, and what each counts make sums that show nobody's input."""
    chosen = plan.aggregation
    if not isinstance(chosen, SecureAggregation):
        _check_rule(plan, chosen)
        return plan
    _check_minimum(plan, chosen)
    try:
        plan.secure_shape(chosen)
        weights = {site: plan.weight_of(site) for site in plan.sites.invite}
        WeightedUpdates.of(chosen.update_rule, chosen.update_range, weights)
    except CovenantError as error:
        raise FieldError(
            "aggregation",
            f"{error}. Change `sites` or `aggregation`, or choose aggregation: {{mode: plain}}",
        ) from error
    return plan


def _check_rule(plan: Plan, chosen: PlainAggregation) -> None:
    """A robust rule holds at the fewest survivors, and counts sites alike."""
    rule = chosen.update_rule
    if not isinstance(rule, RobustRule):
        return
    _require(
        not plan.sites.weights,
        "sites",
        f"{rule.words} counts sites, and a weight is no number of sites: one that lies would lie so many times. Remove the weights, or the rule",
    )
    _require(
        plan.sites.minimum >= rule.fewest,
        "sites",
        f"minimum is {plan.sites.minimum}, but {rule.words} takes at least {rule.fewest} sites in a round;"
        f" use a minimum of at least {rule.fewest}, or a rule for fewer",
    )


def _check_minimum(plan: Plan, chosen: SecureAggregation) -> None:
    """So many that two sums of one round share an honest site, which gives its shares for one of them only."""
    needed = sharing_an_honest_site(len(plan.sites.invite), chosen.colluding)
    if chosen.adversary == "active" and plan.sites.minimum < needed:
        raise FieldError(
            "sites",
            f"minimum is {plan.sites.minimum} of {len(plan.sites.invite)} invited sites with {chosen.colluding} colluding: a malicious"
            f" coordinator could open two sums of one round over different sites. Use a minimum of at least {needed}, or invite fewer",
        )
