"""The panels of a plan's evaluation, as plan and contract have them: which cells there are, what they are called, and what an opened sum says.

Both sides, and whoever audits the log, come to the same cells from the two documents alone.
"""

from __future__ import annotations

import math
from typing import Final

from protos.contract import BooleanColumn, CategoryColumn, Contract
from protos.plan import Plan
from protos.plan_evaluation import Explanations
from strategies.analytics.panels import NOT_GIVEN
from strategies.analytics.profiles import Profile
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.errors import UsageError
from strategies.ids import SiteName

MOST_CELLS: Final = 20_000
"""Of all panels together: each cell has noise of its own, and a site computes and masks each of them."""
MOST_PIECES: Final = 1 << 22
"""Of a model whose attributions are computed: pieces that a line through its layers may have, times its widest layer. 128 and then 64 units fit."""


def evaluation_cells(plan: Plan, contract: Contract) -> EvaluationCells:
    """What evaluation sums up: score counts of the model that the plan trains and of its champion, and then the plan's panels."""
    asked = plan.evaluation
    explained, profile = asked.explanations, profile_of(plan, contract)
    return EvaluationCells(
        bins=asked.score_bins,
        models=asked.models,
        groups=tuple(len(groups_of(contract, each)) for each in plan.protected or ()),
        group_bins=0 if asked.fairness is None else asked.fairness.bins,
        attributed=0 if explained is None else len(plan.features),
        parts=1 if explained is None else len(part_names(explained)),
        profile=() if profile is None else profile.sizes,
    )


def groups_of(contract: Contract, attribute: str) -> tuple[str, ...]:
    """The groups of a protected attribute: its words, or false and true, and then `NOT_GIVEN`. Raises UsageError for a column that has none."""
    column = contract.columns.get(attribute)
    if column is None or attribute not in (contract.protected or ()):
        raise UsageError(
            f"{attribute} is no protected attribute of {contract.ref}; it has {', '.join(contract.protected or ()) or 'none'}"
        )
    match column:
        case CategoryColumn(vocabulary=words):
            return (*(word for word in words if word != NOT_GIVEN), NOT_GIVEN)
        case BooleanColumn():
            return ("false", "true", NOT_GIVEN)
    raise UsageError(
        f"{attribute} is a {column.type} in {contract.ref}, which has no groups; protect a category or boolean, such as a band of values"
    )


def profile_of(plan: Plan, contract: Contract) -> Profile | None:
    """The bins of the plan's features; None where it asks for no profile."""
    asked = plan.evaluation.profile
    return None if asked is None else contract.profile(plan.features, asked.bins)


def part_names(explained: Explanations) -> tuple[str, ...]:
    """What the parts of attributions are called."""
    match explained.parts:
        case "none":
            return ("all rows",)
        case "rows":
            return ("first half of the rows", "second half of the rows")
        case "sites":
            return ("first group of sites", "second group of sites")


def part_of_site(plan: Plan, site: SiteName) -> int:
    """The group of an invited site, 0 or 1: every second one in the order of their names."""
    return sorted(plan.sites.invite).index(site) % 2


def part_salt(plan: Plan) -> str:
    """The salt by which rows are halved: no plan's hold-out has one with a blank in it, so the halves are independent of what is held out."""
    return f"{plan.evaluation.holdout.salt} parts of explanations"


def check_panels(plan: Plan, contract: Contract) -> None:
    """Check that the panels can be counted under `contract`. Raises UsageError."""
    for each in plan.protected_columns:
        groups_of(contract, each)
    _check_reweighing(plan, contract)
    cells = evaluation_cells(plan, contract)
    if cells.dimension - cells.scored > MOST_CELLS:
        raise UsageError(
            f"plan {plan.name} asks for {cells.dimension - cells.scored} cells of groups, attributions and profile; at most {MOST_CELLS} are summed up:"
            " use fewer bins, attributes or features"
        )
    _check_explained(plan)


def _check_reweighing(plan: Plan, contract: Contract) -> None:
    rule = plan.training.reweigh
    if rule is None:
        return
    groups = groups_of(contract, rule.attribute)
    strangers = sorted(set(rule.weights) - set(groups))
    if strangers:
        raise UsageError(
            f"plan {plan.name} reweighs group {strangers[0]!r} of {rule.attribute}, which {contract.ref} does not have; it has {', '.join(groups)}"
        )


def _check_explained(plan: Plan) -> None:
    """A line from the reference to a row has at most so many pieces as the product of the layers' widths, each one more."""
    hidden = plan.dense_model(1).hidden
    if plan.evaluation.explanations is None or not hidden:
        return
    if pieces_of(hidden) * max(hidden) > MOST_PIECES:
        raise UsageError(
            f"plan {plan.name} asks for explanations of a model with hidden layers {list(hidden)}: exact attributions of one row could take more than"
            f" {MOST_PIECES} numbers. Use smaller or fewer layers, or leave evaluation.explanations out"
        )


def pieces_of(hidden: tuple[int, ...]) -> int:
    """The most linear pieces that a network of these ReLU layers has along a line."""
    return math.prod(width + 1 for width in hidden)
