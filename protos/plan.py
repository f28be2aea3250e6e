"""The plan of a run: everything that is decided before the first site is asked.

1. A plan holds nothing that is computed from rows: weights, class weights, scores' bins and hold-out are its constants.
2. A value that would do nothing is refused (`proximal_mu` without fedprox), so that no reader takes it for granted.
3. Sizes are bounded, because a site reads plans that others wrote.
4. Its digest is over the parsed plan: comments, key order, quoting, `5m` or `300s` do not change it.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from protos import plan_coherence as coherence
from protos.approval_rule import ApprovalRule
from protos.documents import Document
from protos.names import ColumnName, Name, Reference, distinct
from protos.plan_aggregation import AnyAggregation, SecureAggregation
from protos.plan_evaluation import MAX_FEATURES, Evaluation
from protos.plan_gates import MOST_GATES, Gate
from protos.plan_model import AnyModel, dense
from protos.plan_privacy import AnyPrivacy
from protos.plan_sites import Sites
from protos.plan_training import Training
from strategies import server_optimizers
from strategies.encoding import Vector, sha256_hex
from strategies.ids import SiteName
from strategies.models import DenseModel
from strategies.secagg.parameters import Adversary, Parameters, Shape
from strategies.secagg.suites import Suite
from strategies.update_gate import UpdateGate

MOST_PROTECTED: Final = 20

# Threshold and bounds of a cohort depend on its size, not on its keys.
_ANY_DIGEST: Final = sha256_hex(b"")


def _distinct(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else distinct(names)


class Plan(Document):
    """One run, decided in full."""

    covenant: Literal["plan/v1"]
    name: Name
    purpose: Name
    contract: Reference
    features: Annotated[
        tuple[ColumnName, ...], Field(min_length=1, max_length=MAX_FEATURES), AfterValidator(distinct)
    ]
    protected: Annotated[
        tuple[ColumnName, ...] | None,
        Field(min_length=1, max_length=MOST_PROTECTED),
        AfterValidator(_distinct),
    ] = None
    """Protected attributes by whose groups held-out rows are counted: read at the site for that alone, and never a feature."""
    sites: Sites
    model: AnyModel
    training: Training
    aggregation: AnyAggregation = SecureAggregation()
    privacy: AnyPrivacy
    evaluation: Evaluation
    gates: Annotated[tuple[Gate, ...], Field(min_length=1, max_length=MOST_GATES)] | None = None
    """What the model must reach to be validated; without, nobody has said, and nothing is validated by this plan."""
    approvals: ApprovalRule | None = None

    _is_of_the_matrix = model_validator(mode="after")(coherence.is_one_of_the_matrix)
    _has_panels_that_go_together = model_validator(mode="after")(coherence.has_panels_that_go_together)
    _has_a_figure_for_each_gate = model_validator(mode="after")(coherence.has_a_figure_for_each_gate)
    _can_be_aggregated = model_validator(mode="after")(coherence.can_be_aggregated)

    def secure_parameters(self, chosen: SecureAggregation) -> Parameters:
        """What secure aggregation is run with. Raises UsageError for a combination that protects nobody."""
        return Parameters(
            adversary=Adversary(chosen.adversary),
            suite=Suite(chosen.suite),
            minimum=self.sites.minimum,
            colluding=chosen.colluding,
            dropouts=chosen.dropouts,
        )

    def secure_shape(self, chosen: SecureAggregation) -> Shape:
        """Threshold and bounds of the cohort of everybody invited. Raises Refused where there is none; which graph depends on keys."""
        return self.secure_parameters(chosen).shape(tuple(sorted(self.sites.invite)), _ANY_DIGEST)

    def dense_model(self, inputs: int) -> DenseModel:
        """The model over `inputs` encoded features (`FeatureSpec.width`)."""
        return dense(self.model, inputs)

    def server_optimizer(self) -> server_optimizers.ServerOptimizer:
        """The rule that turns a mean update into the next model."""
        return self.training.server_optimizer()

    def require_gate(self, mean_update: Vector, number: int) -> None:
        """Raise `GateTripped` where the mean update that round `number` came to, (d,) float64, is above the plan's gate, if it has one."""
        if self.update_gate is not None:
            self.update_gate.require(mean_update, number)

    @property
    def update_gate(self) -> UpdateGate | None:
        """What the mean update of each round must keep to, where the plan says it."""
        chosen = self.aggregation
        return chosen.gate.rule if isinstance(chosen, SecureAggregation) and chosen.gate is not None else None

    @property
    def approval_rule(self) -> ApprovalRule:
        """Who must approve this plan: one of each role, unless it says something else."""
        return self.approvals or ApprovalRule()

    @property
    def witnesses(self) -> int:
        """How many sites must have witnessed a run of this plan before anything of it is settled."""
        return self.sites.witnesses or self.sites.minimum

    @property
    def honest_survivors(self) -> int:
        """How many survivors of an opened sum do not collude, at least: all that noise may be counted on."""
        chosen = self.aggregation
        return self.sites.minimum - chosen.colluding if isinstance(chosen, SecureAggregation) else 1

    def evaluates(self, number: int) -> bool:
        """Whether the model after round `number` is scored on held-out rows."""
        last = self.training.rounds
        return number == last or (0 < number < last and number % self.evaluation.every == 0)

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The rounds whose model is scored on held-out rows."""
        every, last = self.evaluation.every, self.training.rounds
        return (*range(every, last, every), last)

    @property
    def columns(self) -> tuple[ColumnName, ...]:
        """The columns that models read of a site's rows: those of the plan's own, and of its champion."""
        champion = self.evaluation.champion
        return tuple(dict.fromkeys((*self.features, *(() if champion is None else champion.features))))

    @property
    def protected_columns(self) -> tuple[ColumnName, ...]:
        """The protected attributes that are read at a site, to count groups or to reweigh them; no model sees one."""
        reweigh = self.training.reweigh
        return tuple(
            dict.fromkeys((*(self.protected or ()), *(() if reweigh is None else (reweigh.attribute,))))
        )

    def population_of(self, site: SiteName) -> str:
        """What `site` calls the population that the plan is about: what its account goes by."""
        return (self.sites.populations or {}).get(site, self.contract.partition("@")[0])

    def weight_of(self, site: SiteName) -> int:
        """What `site` counts in the mean: its weight in the plan, or 1."""
        return self.sites.weights.get(site, 1)
