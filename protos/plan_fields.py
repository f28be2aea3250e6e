"""The fields of a plan as a difference tells them: what each is about, its words, and when a change of it protects less.

1. Every field of a plan is here (a test walks them), so that no change goes untold.
2. A change protects less if, all else alike, more is released, to more parties, with less noise, for another purpose, fewer people agree to it, or less
   stands between a site that lies and the model.
   Where a field cannot be compared, such as another contract, it is told as if it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Gates = tuple[Mapping[str, Any], ...]
Loosens = Callable[[Any, Any], bool]


class Part(StrEnum):
    """What a field is about, in the order in which it is told."""

    WHO = "who takes part"
    WHAT = "what for, and from which data"
    RELEASED = "what is released, and what it costs"
    SEEN = "who sees what"
    TRAINING = "training"
    GATES = "how the model is judged"
    APPROVALS = "who must approve"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `words` begin the sentence of a change, and `loosens` says of its values, old and new, whether the change protects less."""

    part: Part
    words: str
    loosens: Loosens


def _never(_old: object, _new: object) -> bool:
    return False


def _always(_old: object, _new: object) -> bool:
    return True


def _more(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and not new <= old


def _less(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and not new >= old


def _gone_or_another(old: object, _new: object) -> bool:
    return old is not None


def _gone_or_more(old: float | None, new: float | None) -> bool:
    return old is not None and (new is None or not new <= old)


def _further(old: tuple[object, ...] | None, new: tuple[object, ...] | None) -> bool:
    return bool(set(new or ()) - set(old or ()))


def _further_bins(old: int | None, new: int | None) -> bool:
    return new is not None and (old is None or new > old)


def _appears(old: object, new: object) -> bool:
    return old is None and new is not None


def _further_back(old: Gates | None, new: Gates | None) -> bool:
    """Whether a gate is gone, asks for less, or compares other groups."""

    def key(gate: Mapping[str, Any]) -> tuple[object, ...]:
        return gate["metric"], gate["over"], gate["group"], gate["reference"]

    after = {key(each): each for each in new or ()}
    return any(key(each) not in after or _asks_less(each, after[key(each)]) for each in old or ())


def _asks_less(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    def strict(gate: Mapping[str, Any]) -> float:
        return float(-gate["at_most"] if gate["at_least"] is None else gate["at_least"])

    spared = new["only"] is not None and (old["only"] is None or not set(old["only"]) <= set(new["only"]))
    return spared or not strict(new) >= strict(old)


def _towards(*order: str) -> Loosens:
    """Whether a word comes later in `order`, from what protects most to what protects least; what is not in it counts last."""

    def loosens(old: str, new: str) -> bool:
        places = [order.index(each) if each in order else len(order) for each in (old, new)]
        return places[1] > places[0]

    return loosens


FIELDS: Final[Mapping[str, Field]] = {
    "covenant": Field(Part.WHAT, "The version of the document", _always),
    "name": Field(Part.WHAT, "The name of the plan and its model", _never),
    "purpose": Field(Part.WHAT, "The purpose", _always),
    "contract": Field(Part.WHAT, "The data contract", _always),
    "features": Field(Part.WHAT, "The columns that are read", _further),
    "protected": Field(
        Part.RELEASED,
        "The protected attributes that are read, and by whose groups held-out rows are counted",
        _further,
    ),
    "sites.members": Field(Part.WHO, "The member list", _never),
    "sites.invite": Field(Part.WHO, "The invited sites", _never),
    "sites.minimum": Field(Part.WHO, "The fewest sites in a sum", _less),
    "sites.witnesses": Field(Part.WHO, "The fewest sites that witness a run in the log", _less),
    "sites.join_within": Field(Part.WHO, "The seconds that sites have to join", _never),
    "sites.weights": Field(Part.WHO, "What each site counts in the mean", _never),
    "sites.populations": Field(Part.WHO, "The populations whose accounts are charged", _always),
    "model.kind": Field(Part.TRAINING, "The kind of model", _never),
    "model.hidden": Field(Part.TRAINING, "The widths of the model's layers", _never),
    "training.component": Field(Part.TRAINING, "The training's behaviour version", _never),
    "training.algorithm": Field(Part.TRAINING, "The algorithm", _towards("dp-sgd", "dp-fedsgd")),
    "training.server_optimiser.kind": Field(Part.TRAINING, "The server's optimiser", _never),
    "training.server_optimiser.learning_rate": Field(Part.TRAINING, "The server's learning rate", _never),
    "training.server_optimiser.momentum": Field(Part.TRAINING, "The server's momentum", _never),
    "training.server_optimiser.beta1": Field(Part.TRAINING, "The server's beta1", _never),
    "training.server_optimiser.beta2": Field(Part.TRAINING, "The server's beta2", _never),
    "training.server_optimiser.tau": Field(Part.TRAINING, "The server's tau", _never),
    "training.rounds": Field(Part.RELEASED, "The rounds, each of which is released", _more),
    "training.class_weights.negative": Field(
        Part.TRAINING, "What an example of the negative class counts", _never
    ),
    "training.class_weights.positive": Field(
        Part.TRAINING, "What an example of the positive class counts", _never
    ),
    "training.reweigh.attribute": Field(
        Part.WHAT, "The protected attribute by which examples are reweighed", _always
    ),
    "training.reweigh.weights": Field(Part.TRAINING, "What an example of each group counts", _never),
    "training.round_deadline": Field(Part.TRAINING, "The seconds until the deadline of a round", _never),
    "training.seed": Field(Part.TRAINING, "The seed", _never),
    "training.proximal_mu": Field(Part.TRAINING, "The proximal term", _never),
    "training.local_epochs": Field(Part.TRAINING, "The passes of a site over its rows in a round", _never),
    "training.batch_size": Field(Part.TRAINING, "The batch size", _never),
    "training.learning_rate": Field(Part.TRAINING, "The sites' learning rate", _never),
    "training.l2": Field(Part.TRAINING, "The weight of the L2 penalty", _never),
    "training.expected_batch": Field(Part.RELEASED, "The units expected in a step", _more),
    "training.nominal_rows": Field(Part.RELEASED, "The units that a site is taken to have", _less),
    "training.clip": Field(Part.TRAINING, "The norm that gradients are clipped to", _never),
    "training.rotation": Field(Part.TRAINING, "The rotation of gradient sums", _never),
    "training.local_steps": Field(Part.RELEASED, "The noisy steps of a site in a round", _more),
    "aggregation.mode": Field(Part.SEEN, "Aggregation", _towards("secure", "plain")),
    "aggregation.adversary": Field(
        Part.SEEN, "The coordinator that secure aggregation withstands", _towards("active", "semi-honest")
    ),
    "aggregation.suite": Field(Part.SEEN, "The ciphers of secure aggregation", _never),
    "aggregation.colluding": Field(Part.SEEN, "The sites that may collude with the coordinator", _less),
    "aggregation.update_range": Field(Part.TRAINING, "The range that updates are clipped to", _never),
    "aggregation.dropouts": Field(Part.SEEN, "The share of sites that may stop", _more),
    "aggregation.gate.update_norm": Field(
        Part.TRAINING, "The most that the norm of an opened mean update may be", _gone_or_more
    ),
    "aggregation.rule.kind": Field(Part.TRAINING, "The rule that compares updates", _gone_or_another),
    "aggregation.rule.trim": Field(
        Part.TRAINING, "The values that a trimmed mean leaves out on either side", _less
    ),
    "aggregation.rule.attackers": Field(Part.TRAINING, "The lying sites that Multi-Krum is for", _less),
    "privacy.mode": Field(
        Part.RELEASED, "The privacy mode", _towards("local", "distributed", "central", "none")
    ),
    "privacy.unit.kind": Field(Part.RELEASED, "Whom figures protect", _towards("site", "customer", "record")),
    "privacy.unit.column": Field(Part.RELEASED, "The column that tells customers apart", _always),
    "privacy.unit.max_rows": Field(Part.RELEASED, "The rows of a unit that count", _never),
    "privacy.unit.max_sites": Field(
        Part.RELEASED, "The sites at which a person's rows may be, and are charged", _less
    ),
    "privacy.neighbours": Field(Part.RELEASED, "What neighbours are", _always),
    "privacy.limit.epsilon": Field(Part.RELEASED, "The limit's epsilon", _more),
    "privacy.limit.delta": Field(Part.RELEASED, "The limit's delta", _more),
    "privacy.noise.training": Field(Part.RELEASED, "The noise multiplier of training", _less),
    "privacy.noise.preparation": Field(Part.RELEASED, "The noise multiplier of preparation", _less),
    "privacy.noise.evaluation": Field(Part.RELEASED, "The noise multiplier of evaluation", _less),
    "privacy.retries": Field(Part.RELEASED, "The failed attempts that are paid for in advance", _more),
    "privacy.exempt": Field(Part.RELEASED, "The stages that are released without noise", _further),
    "evaluation.every": Field(
        Part.GATES, "The rounds from one evaluation, which is released, to the next", _less
    ),
    "evaluation.score_bins": Field(Part.GATES, "The score bins of an evaluation", _more),
    "evaluation.holdout.by": Field(Part.GATES, "The column that tells held-out rows apart", _never),
    "evaluation.holdout.share": Field(Part.GATES, "The share of rows that is held out", _never),
    "evaluation.holdout.salt": Field(Part.GATES, "The salt of the hold-out", _never),
    "evaluation.champion.model": Field(
        Part.GATES,
        "The champion that scores the held-out rows beside the model, a second set of counts",
        _appears,
    ),
    "evaluation.champion.weights": Field(Part.GATES, "The champion's weights", _never),
    "evaluation.champion.scaling": Field(Part.GATES, "The champion's scaling", _never),
    "evaluation.champion.contract": Field(Part.GATES, "The contract of the champion", _never),
    "evaluation.champion.features": Field(Part.WHAT, "The columns that the champion reads", _further),
    "evaluation.champion.shape.kind": Field(Part.GATES, "The champion's kind of model", _never),
    "evaluation.champion.shape.hidden": Field(Part.GATES, "The widths of the champion's layers", _never),
    "evaluation.fairness.decline_at": Field(
        Part.GATES, "The score from which rows are counted as declined", _never
    ),
    "evaluation.fairness.minimum_group": Field(
        Part.RELEASED, "The fewest rows of a group whose counts are told", _less
    ),
    "evaluation.fairness.bins": Field(Part.RELEASED, "The score bins of each group", _more),
    "evaluation.explanations.clip": Field(
        Part.RELEASED,
        "The norm that a row's attributions are clipped to, in logits, whose sums are released",
        _appears,
    ),
    "evaluation.explanations.parts": Field(
        Part.RELEASED, "The parts that attributions are summed up in", _towards("none", "rows", "sites")
    ),
    "evaluation.profile.bins": Field(
        Part.RELEASED,
        "The bins of each number in the profile of held-out rows, which is released",
        _further_bins,
    ),
    "gates": Field(Part.GATES, "What the model must reach to be validated", _further_back),
    "approvals.privacy_officer": Field(Part.APPROVALS, "The privacy officers who must approve", _less),
    "approvals.model_risk": Field(Part.APPROVALS, "The people of model risk who must approve", _less),
    "approvals.valid_for": Field(Part.APPROVALS, "The seconds that an approval may be good at most", _more),
}
"""By the path of the field in the document."""
