"""What stands between one site's lie and the model: rules that compare updates, where they are seen, and a gate on the sum, where they are not.

1. Secure aggregation opens sums, so its rule is a mean, and what can be judged is the sum that was opened: `gate`.
2. Plain aggregation shows the centre each update, so it may have a `rule` that compares them.
3. What is left out leaves the digests of plans as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from protos.documents import FieldError, Part
from protos.plan_sites import MAX_SITES
from protos.plan_training import Fraction, Positive
from strategies.update_gate import UpdateGate
from strategies.update_rules import LinearRule, Median, MultiKrum, RobustRule, TrimmedMean, WeightedMean

MEAN: Final = "mean"
"""What is made of updates where a plan names no rule."""


class TrimmedMeanRule(Part):
    """In each coordinate the mean without the `trim` largest and smallest values (Yin et al. 2018)."""

    kind: Literal["trimmed-mean"]
    trim: Annotated[int, Field(ge=1, le=MAX_SITES)]

    @property
    def rule(self) -> RobustRule:
        """As it is computed."""
        return TrimmedMean(self.trim)


class MedianRule(Part):
    """In each coordinate the median (Yin et al. 2018)."""

    kind: Literal["median"]

    @property
    def rule(self) -> RobustRule:
        """As it is computed."""
        return Median()


class MultiKrumRule(Part):
    """The mean of the updates with the nearest neighbours, against up to `attackers` sites (Blanchard et al. 2017)."""

    kind: Literal["multi-krum"]
    attackers: Annotated[int, Field(ge=1, le=MAX_SITES)]

    @property
    def rule(self) -> RobustRule:
        """As it is computed."""
        return MultiKrum(self.attackers)


AnyRule = Annotated[TrimmedMeanRule | MedianRule | MultiKrumRule, Field(discriminator="kind")]


class OpenedGate(Part):
    """What an opened sum must keep to, or the run ends: the L2 norm of the mean update is at most `update_norm`."""

    update_norm: Positive

    @property
    def rule(self) -> UpdateGate:
        """As it is judged."""
        return UpdateGate(update_norm=self.update_norm)


def refuse_rule(given: Any) -> Any:  # noqa: ANN401  (whatever stands in the document)
    """Raise FieldError for a rule under secure aggregation: masks cancel in sums alone."""
    rule = given.get("rule") if isinstance(given, Mapping) else None
    if rule is not None:
        kind = rule.get("kind") if isinstance(rule, Mapping) else rule
        raise FieldError(
            "rule",
            f"{kind} compares the sites' updates, which mode secure hides: only their sum is ever opened. Leave the rule out, and judge the sum by a gate,"
            " such as gate: {update_norm: 2.5}; or keep the rule under mode: plain, where the coordinator sees each site's update",
        )
    return given


def refuse_gate(given: Any) -> Any:  # noqa: ANN401  (whatever stands in the document)
    """Raise FieldError for a gate under plain aggregation, where sites follow no aggregate that they could hold to it."""
    if isinstance(given, Mapping) and given.get("gate") is not None:
        raise FieldError(
            "gate",
            "a gate judges a sum that hides whose update was what; under mode plain the coordinator sees each update. Use a rule, such as"
            " rule: {kind: median}, or mode: secure",
        )
    return given


class PlainAggregation(Part):
    """The centre sees the update of every site. Without a `rule` it takes their weighted mean."""

    mode: Literal["plain"]
    rule: AnyRule | None = None

    _has_no_gate = model_validator(mode="before")(refuse_gate)

    @property
    def update_rule(self) -> LinearRule | RobustRule:
        """What is made of the updates."""
        return WeightedMean() if self.rule is None else self.rule.rule

    @property
    def rule_kind(self) -> str:
        """The word for it."""
        return MEAN if self.rule is None else self.rule.kind


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
    gate: OpenedGate | None = None
    """What an opened mean update must keep to; without, whatever is opened is taken."""

    _has_no_rule = model_validator(mode="before")(refuse_rule)

    @property
    def update_rule(self) -> LinearRule:
        """What is made of the updates, unseen."""
        return WeightedMean()

    @property
    def rule_kind(self) -> str:
        """The word for it."""
        return MEAN


def _mode_of(aggregation: object) -> object:
    """Secure, unless another mode is written down."""
    if isinstance(aggregation, Mapping):
        return aggregation.get("mode", "secure")
    return getattr(aggregation, "mode", None)


AnyAggregation = Annotated[
    Annotated[PlainAggregation, Tag("plain")] | Annotated[SecureAggregation, Tag("secure")],
    Discriminator(_mode_of),
]
