"""A plan on one page, for whoever is no engineer and has to agree to it: what is done with whose data, who sees what, and what is not protected.

1. Sentences about privacy are those of `plan_words` and figures those of `plan_explanation`: a plan is not explained in two ways.
2. An epsilon stands with its delta, unit and neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_explanation import Explanation, StageExplained, explain
from protos.plan_model import MlpModel
from protos.plan_privacy import Privacy
from protos.plan_training import GradientSums, LocalTraining, PrivateSteps
from protos.plan_update_bounds import update_bounds
from strategies.update_rules import RobustRule

_DAY_S: Final = 86400
_STAGES: Final = {"prepare": "Before the first round", "train": "In training", "evaluate": "At evaluation"}


@dataclass(frozen=True, slots=True)
class Section:
    """A question that somebody has to have answered before they agree, and the answer in sentences."""

    title: str
    sentences: tuple[str, ...]


def page(plan: Plan, contract: Contract) -> tuple[Section, ...]:
    """The page of `plan` under `contract`, also of a plan above its own limit. Raises as `explain`."""
    found = explain(plan, contract, in_full=False)
    return (
        Section("What is computed", tuple(_computed(plan, contract))),
        Section("From whose data", tuple(_whose(plan, contract))),
        Section("What leaves a site", tuple(_leaves(found))),
        Section("Who sees what", tuple(_seen(plan, found))),
        Section("What it costs", tuple(_costs(plan, found))),
        Section("Who must agree", tuple(_agree(plan))),
        Section("What happens when sites drop out", tuple(_dropouts(plan))),
        Section("What a site that lies can do", tuple(_lies(plan, contract))),
        Section("What is not protected", found.not_protected),
    )


def _computed(plan: Plan, contract: Contract) -> Iterator[str]:
    target = contract.target
    kind = "a small neural network" if isinstance(plan.model, MlpModel) else "a logistic regression"
    yield (
        f"The model {plan.name} is {kind}. For {plan.purpose}, it tells how likely {target.column} is {target.positive!r} rather than"
        f" {target.negative!r}."
    )
    yield f"It is computed in {plan.training.rounds} rounds. {_how(plan)}"
    held = plan.evaluation.holdout
    yield (
        f"{held.share:.0%} of the rows, told apart by {held.by}, are never trained on. The model is tried on them after round"
        f" {plan.training.rounds}"
        + (
            f" and every {plan.evaluation.every} rounds."
            if plan.evaluation.every < plan.training.rounds
            else "."
        )
    )
    champion = plan.evaluation.champion
    if champion is not None:
        yield f"The champion {champion.model} is tried on the same rows, in the same release, beside it."
    if plan.gates is not None:
        yield f"To be validated the model must have: {'; '.join(gate.words for gate in plan.gates)}."


def _how(plan: Plan) -> str:
    match plan.training:
        case LocalTraining(local_epochs=epochs):
            return f"In each, every site goes over its rows {_times(epochs)} and sends how the model should change."
        case GradientSums(expected_batch=batch, nominal_rows=rows):
            return f"In each, every site draws about {batch} of {rows} units by chance and sends the sum of how each would change the model."
        case PrivateSteps(local_steps=steps, expected_batch=batch, nominal_rows=rows):
            return (
                f"In each, every site takes {steps} small noisy steps, each on about {batch} of {rows} units drawn by chance, and sends how the"
                " model should change."
            )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _whose(plan: Plan, contract: Contract) -> Iterator[str]:
    sites = plan.sites
    yield f"{', '.join(sites.invite)} are invited, as on member list {sites.members}; no sum is over fewer than {sites.minimum} of them."
    yield f"They read {len(plan.columns)} columns of data that is as contract {contract.ref} says: {', '.join(plan.columns)}."
    if plan.protected:
        yield f"Protected attributes are read to count groups by, and no model sees them: {', '.join(plan.protected)}."
    if plan.training.reweigh is not None:
        yield f"{plan.training.reweigh.attribute} is read to weigh examples in training by constants of the plan, and no model sees it."
    yield "Rows stay at their site."


def _leaves(found: Explanation) -> Iterator[str]:
    for stage in found.stages:
        often = f"{_times(stage.times)} at most" if stage.release is not None else _times(stage.times)
        yield f"{_STAGES[stage.stage]}, {often}: {stage.what}. Noise: {stage.noise}."


def _seen(plan: Plan, found: Explanation) -> Iterator[str]:
    yield f"Privacy mode {found.words}"
    for seen, stages in _by_words(found.stages):
        yield f"{', '.join(stages)}: {seen}."
    chosen = plan.aggregation
    if isinstance(chosen, SecureAggregation):
        kind = (
            "breaks the protocol" if chosen.adversary == "active" else "is curious, but follows the protocol"
        )
        yield (
            f"One site's own contribution stays hidden from a coordinator that {kind}, even together with {chosen.colluding} of the"
            f" {len(plan.sites.invite)} sites."
        )


def _by_words(stages: tuple[StageExplained, ...]) -> Iterator[tuple[str, list[str]]]:
    """What is said of more than one stage is said once."""
    names: dict[str, list[str]] = {}
    for each in stages:
        names.setdefault(each.seen, []).append(_STAGES[each.stage])
    yield from names.items()


def _costs(plan: Plan, found: Explanation) -> Iterator[str]:
    figures = found.figures
    if figures is None:
        yield "There is no figure: nothing is promised, and no account is charged. Sites with an account for these rows take no part."
        return
    yield f"All that the plan releases costs {figures.whole.words} at most. Its limit is {figures.limit.words}."
    if figures.over_limit is not None:
        yield f"It may not be run as it is: {figures.over_limit}."
    yield figures.words
    yield "Epsilon 0 would tell nothing of anybody. What is spent does not come back, and every later plan on the same data adds to it."
    charged = ", ".join(f"{site}/{plan.population_of(site)}" for site in plan.sites.invite)
    yield f"It is charged to the accounts of {charged}, at the coordinator and at each site, before anything is opened."


def _agree(plan: Plan) -> Iterator[str]:
    rule = plan.approval_rule
    yield (
        "The plan's author signs it. Then it is approved by"
        f" {_people(rule.privacy_officer, 'privacy officer')} and {_people(rule.model_risk, 'person')} of model risk, none of them its author, each"
        f" with their own key; an approval is good for {rule.valid_for / _DAY_S:g} days at most."
    )
    yield "Each site's own policy must admit purpose, privacy mode and aggregation, and its people may ask for more approvals."
    if isinstance(plan.privacy, Privacy):
        yield "The ceilings of all accounts that are charged, which privacy officers have signed, must leave room."


def _people(count: int, what: str) -> str:
    words = f"{what[:-6]}people" if what.endswith("person") else f"{what}s"
    return f"{count or 'no'} {what if count == 1 else words}"


def _dropouts(plan: Plan) -> Iterator[str]:
    yield (
        f"The run begins once {plan.sites.minimum} sites have joined within {plan.sites.join_within:g} seconds. A site that does not answer within"
        f" {plan.training.round_deadline:g} seconds is left out of the round."
    )
    yield f"With fewer than {plan.sites.minimum} left, nothing is opened, and the attempt comes to nothing. It is made again."
    if isinstance(plan.privacy, Privacy):
        yield (
            f"{plan.privacy.retries} such attempts are paid for in advance. A site counts each as spent, because its bytes have left it."
        )


def _lies(plan: Plan, contract: Contract) -> Iterator[str]:
    rule, gate, bounds = plan.aggregation.update_rule, plan.update_gate, update_bounds(plan, contract)
    if isinstance(rule, RobustRule):
        yield f"The coordinator sees each update, and takes {rule.words}: a few sites that send something else move the model only so far."
        return
    if bounds is None:
        yield "The coordinator sees each update, and takes their mean: one site that sends something else moves the model as far as it likes."
        return
    yield "Nobody sees what one site sends. Clipping is done at the sites, so it does not bind one that lies."
    if gate is None:
        yield (
            f"There is no gate on the sum: one such site can make the model of a round what it likes (a mean update of norm {bounds.reach:.3g}, where honest"
            f" sites stay within {bounds.honest:.3g})."
        )
    else:
        yield (
            f"A mean update above norm {gate.update_norm:g} is not taken, and ends the run; below it, such a site moves the model where it likes, round by round."
            f" Honest sites stay within {bounds.honest:.3g}."
        )


def lines_of(sections: tuple[Section, ...]) -> Iterator[str]:
    """The page as Markdown."""
    for section in sections:
        yield f"## {section.title}"
        yield ""
        for sentence in section.sentences:
            yield f"- {sentence}"
        yield ""
