"""Whether a plan can be run on data under a contract: what neither document can tell alone."""

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_panels import check_panels, groups_of
from protos.plan_privacy import CustomerUnit, Privacy
from protos.plan_releases import require_limit
from protos.plan_update_bounds import check_gate
from strategies.errors import UsageError


def check_plan(plan: Plan, contract: Contract) -> None:
    """Check that `plan` can be run on data under `contract`; UsageError names the first thing that does not fit."""
    check_contract(plan, contract)
    require_limit(plan, contract)


def check_contract(plan: Plan, contract: Contract) -> None:
    """`check_plan`, but for what the plan costs: of a draft that may be above its own limit."""
    if plan.contract != contract.ref:
        raise UsageError(
            f"plan {plan.name} is for contract {plan.contract}, but this is {contract.ref}; give the plan's own"
        )
    contract.feature_spec(plan.features)
    _check_champion(plan, contract)
    _check_holdout(plan, contract)
    _check_gates(plan, contract)
    check_panels(plan, contract)
    check_gate(plan, contract)


def _check_gates(plan: Plan, contract: Contract) -> None:
    """A gate by group names groups that there are."""
    for gate in plan.gates or ():
        if gate.group is None:
            continue
        groups = groups_of(contract, gate.group)
        named = (*(gate.only or ()), *(() if gate.reference is None else (gate.reference,)))
        if strangers := sorted(set(named) - set(groups)):
            raise UsageError(
                f"gate {gate.words} of plan {plan.name} names group {strangers[0]!r}, which {contract.ref} does not have; it has {', '.join(groups)}"
            )


def _check_champion(plan: Plan, contract: Contract) -> None:
    """A champion's weights mean something over the ranges and words of its own contract only."""
    champion = plan.evaluation.champion
    if champion is None:
        return
    if champion.contract != contract.digest:
        raise UsageError(
            f"champion {champion.model} of plan {plan.name} is of contract {champion.contract[:12]}, but {contract.ref} is {contract.digest[:12]}:"
            " under other ranges its weights are another model. Compare with a champion of this contract, or leave evaluation.champion out"
        )
    contract.feature_spec(champion.features)


def _check_holdout(plan: Plan, contract: Contract) -> None:
    """Held-out rows are told apart by the unit, so that no unit both trains and evaluates."""
    role, column = "key", contract.key
    if isinstance(plan.privacy, Privacy) and isinstance(plan.privacy.unit, CustomerUnit):
        unit = plan.privacy.unit
        if contract.customer is None or unit.column != contract.customer:
            raise UsageError(
                f"plan {plan.name} tells customers by {unit.column!r}, but "
                + (
                    f"contract {contract.ref} has no customer column"
                    if contract.customer is None
                    else f"{contract.ref} does by {contract.customer!r}"
                )
                + "; name the contract's, or use unit: {kind: record}"
            )
        role, column = "customer column", contract.customer
    if plan.evaluation.holdout.by != column:
        raise UsageError(
            f"plan {plan.name} holds out rows by {plan.evaluation.holdout.by!r}, but the {role} of {contract.ref} is {column!r};"
            f" set evaluation.holdout.by: {column}"
        )
