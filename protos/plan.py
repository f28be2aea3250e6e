"""The plan of a run: everything that is decided before the first site is asked.

1. A plan holds nothing that is computed from rows: weights, class weights, scores' bins and hold-out are its constants.
2. A value that would do nothing is refused (`proximal_mu` without fedprox), so that no reader takes it for granted.
3. Sizes are bounded, because a site reads plans that others wrote.
4. Its digest is over the parsed plan: comments, key order, quoting, `5m` or `300s` do not change it.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from protos.approval_rule import ApprovalRule
from protos.documents import FROZEN, FROZEN_OR_NONE, Document, FieldError, Part
from protos.names import ColumnName, Name, Reference, Site, distinct
from protos.plan_evaluation import MAX_FEATURES, Evaluation
from protos.plan_gates import MOST_GATES, Gate
from protos.plan_model import AnyModel, dense
from protos.plan_privacy import AnyPrivacy, NoPrivacy, Privacy
from protos.plan_training import Fraction, GradientSums, LocalTraining, Positive, PrivateSteps, Training
from protos.quantities import Duration
from strategies import server_optimizers
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.models import DenseModel
from strategies.secagg.parameters import Adversary, Parameters, Shape, sharing_an_honest_site
from strategies.secagg.payloads import WeightedUpdates
from strategies.secagg.suites import Suite

MAX_SITES: Final = 1000
MAX_WEIGHT: Final = 1_000_000
MOST_PRIVATE_BINS: Final = 32

# Threshold and bounds of a cohort depend on its size, not on its keys.
_ANY_DIGEST: Final = sha256_hex(b"")


class Sites(Part):
    """Who is asked, how many must come, and what each one counts."""

    members: Reference
    invite: Annotated[tuple[Site, ...], Field(min_length=1, max_length=MAX_SITES), AfterValidator(distinct)]
    minimum: Annotated[int, Field(ge=1)]
    join_within: Duration
    weights: Annotated[Mapping[Site, Annotated[int, Field(ge=1, le=MAX_WEIGHT)]], *FROZEN] = {}
    populations: Annotated[Mapping[Site, Name] | None, *FROZEN_OR_NONE] = None
    """What a site calls the population that the plan is about, where that is not the contract's name: its account goes by it."""
    witnesses: Annotated[int, Field(ge=1)] | None = None
    """How many of the sites must have witnessed the run in the log before anything of it is settled: the minimum, unless it is written down."""

    @model_validator(mode="after")
    def _fits_the_invitation(self) -> Self:
        if self.minimum > len(self.invite):
            raise FieldError(
                "minimum",
                f"{self.minimum} sites must take part but {len(self.invite)} are invited; lower it or invite more",
            )
        if self.witnesses is not None and self.witnesses > len(self.invite):
            raise FieldError(
                "witnesses",
                f"{self.witnesses} sites must be witnesses but {len(self.invite)} are invited; lower it or invite more",
            )
        for name, what, given in (
            ("weights", "weight", self.weights),
            ("populations", "population", self.populations or {}),
        ):
            strangers = sorted(set(given) - set(self.invite))
            if strangers:
                raise FieldError(
                    name, f"{strangers[0]} has a {what} but is not invited; invite it or remove the {what}"
                )
        return self


class PlainAggregation(Part):
    """The centre sees the update of every site."""

    mode: Literal["plain"]


class SecureAggregation(Part):
    """The centre sees sums only (docs/secagg.md).

    `colluding` sites may be with the coordinator. Coordinates of an update are clipped to `update_range` on either side.
    `dropouts` is the share of sites that may stop, and matters to large cohorts in semi-honest mode.
    """

    mode: Literal["secure"] = "secure"
    adversary: Literal["active", "semi-honest"] = "active"
    suite: Literal["x25519-aes256-sha256", "p256-aes256-sha256"] = "x25519-aes256-sha256"
    colluding: Annotated[int, Field(ge=0, le=MAX_SITES)] = 1
    update_range: Positive = 1.0
    dropouts: Fraction = 0.1


def _mode_of(aggregation: object) -> object:
    """Secure, unless another mode is written down."""
    if isinstance(aggregation, Mapping):
        return aggregation.get("mode", "secure")
    return getattr(aggregation, "mode", None)


class Plan(Document):
    """One run, decided in full."""

    covenant: Literal["plan/v1"]
    name: Name
    purpose: Name
    contract: Reference
    features: Annotated[
        tuple[ColumnName, ...], Field(min_length=1, max_length=MAX_FEATURES), AfterValidator(distinct)
    ]
    sites: Sites
    model: AnyModel
    training: Training
    aggregation: Annotated[
        Annotated[PlainAggregation, Tag("plain")] | Annotated[SecureAggregation, Tag("secure")],
        Discriminator(_mode_of),
    ] = SecureAggregation()
    privacy: AnyPrivacy
    evaluation: Evaluation
    gates: Annotated[tuple[Gate, ...], Field(min_length=1, max_length=MOST_GATES)] | None = None
    """What the model must reach to be validated; without, nobody has said, and nothing is validated by this plan."""
    approvals: ApprovalRule | None = None

    @model_validator(mode="after")
    def _is_one_of_the_matrix(self) -> Self:
        """Algorithm, privacy and aggregation go together in four ways."""
        own = {"dp-fedsgd": "mode distributed", "dp-sgd": "mode local"}.get(self.training.algorithm)
        or_own = "" if own is None else f", or {own}"
        match self.privacy:
            case NoPrivacy():
                self._require(
                    isinstance(self.training, LocalTraining),
                    "training",
                    f"algorithm {self.training.algorithm} adds noise, which privacy mode none has not: use fedavg or fedprox{or_own}",
                )
            case Privacy(mode="local"):
                self._require(
                    isinstance(self.training, PrivateSteps),
                    "training",
                    f"algorithm {self.training.algorithm} does not exist in privacy mode local; use dp-sgd{or_own}",
                )
            case Privacy(mode=mode):
                self._require(
                    isinstance(self.training, GradientSums),
                    "training",
                    f"algorithm {self.training.algorithm} does not exist in privacy mode {mode}, which opens one clipped gradient sum a round;"
                    f" use dp-fedsgd{or_own}",
                )
        if isinstance(self.privacy, Privacy):
            self._check_private(self.privacy)
        return self

    def _check_private(self, privacy: Privacy) -> None:
        self._require(
            isinstance(self.aggregation, SecureAggregation),
            "aggregation",
            f"privacy mode {privacy.mode} goes with secure aggregation only; leave aggregation out, or write mode: secure",
        )
        self._require(
            not self.sites.weights or not isinstance(self.training, GradientSums),
            "sites",
            "weights do nothing where every unit of every site counts alike; remove them",
        )
        self._require(
            self.evaluation.every >= self.training.rounds,
            "evaluation",
            f"every is {self.evaluation.every}, but held-out rows are scored once, after round {self.training.rounds}: each time is a release."
            f" Use every: {self.training.rounds}",
        )
        self._require(
            self.evaluation.score_bins <= MOST_PRIVATE_BINS,
            "evaluation",
            f"{self.evaluation.score_bins} score bins would hold more noise than rows; use at most {MOST_PRIVATE_BINS}",
        )
        if privacy.unit.kind == "site" and isinstance(self.training, GradientSums | PrivateSteps):
            self._require(
                self.training.expected_batch == self.training.nominal_rows == 1,
                "training",
                "a site is one unit, and is always in the sum; use expected_batch: 1 and nominal_rows: 1",
            )

    @staticmethod
    def _require(holds: bool, field: str, sentence: str) -> None:  # noqa: FBT001 (reads as a sentence)
        if not holds:
            raise FieldError(field, sentence)

    @model_validator(mode="after")
    def _has_a_figure_for_each_gate(self) -> Self:
        judged = [(gate.metric, gate.over) for gate in self.gates or ()]
        self._require(
            len(set(judged)) == len(judged), "gates", "two gates are about the same figure; keep the stricter"
        )
        self._require(
            self.evaluation.champion is not None or all(over is None for _, over in judged),
            "gates",
            "a gate compares with a champion that the plan does not name; name it in evaluation.champion, or leave `over` out",
        )
        self._require(
            ("stability", None) not in judged or len(self.evaluated) > 1,
            "gates",
            f"stability compares rounds, and the plan evaluates once, after round {self.training.rounds}; leave the gate out"
            + (", or evaluate more often" if isinstance(self.privacy, NoPrivacy) else ""),
        )
        self._require(
            ("epsilon", None) not in judged or isinstance(self.privacy, Privacy),
            "gates",
            "epsilon is about a privacy mode, and the plan has none; leave the gate out",
        )
        return self

    @model_validator(mode="after")
    def _can_be_aggregated(self) -> Self:
        """Everybody invited, the fewest who must come, and what each counts make sums that show nobody's input."""
        if isinstance(self.aggregation, SecureAggregation):
            self._check_minimum(self.aggregation)
            try:
                self.secure_shape(self.aggregation)
                WeightedUpdates(
                    self.aggregation.update_range, {s: self.weight_of(s) for s in self.sites.invite}
                )
            except CovenantError as error:
                raise FieldError(
                    "aggregation",
                    f"{error}. Change `sites` or `aggregation`, or choose aggregation: {{mode: plain}}",
                ) from error
        return self

    def _check_minimum(self, chosen: SecureAggregation) -> None:
        """So many that two sums of one round share an honest site, which gives its shares for one of them only."""
        needed = sharing_an_honest_site(len(self.sites.invite), chosen.colluding)
        if chosen.adversary == "active" and self.sites.minimum < needed:
            raise FieldError(
                "sites",
                f"minimum is {self.sites.minimum} of {len(self.sites.invite)} invited sites with {chosen.colluding} colluding: a malicious"
                f" coordinator could open two sums of one round over different sites. Use a minimum of at least {needed}, or invite fewer",
            )

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

    def population_of(self, site: SiteName) -> str:
        """What `site` calls the population that the plan is about: what its account goes by."""
        return (self.sites.populations or {}).get(site, self.contract.partition("@")[0])

    def weight_of(self, site: SiteName) -> int:
        """What `site` counts in the mean: its weight in the plan, or 1."""
        return self.sites.weights.get(site, 1)
