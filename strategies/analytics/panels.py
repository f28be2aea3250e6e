"""What one evaluation release says beside score counts: counts by protected group, attributions by feature, and a profile of the inputs.

1. Everything here has been released: noisy where the plan is private, with small groups suppressed before anybody kept it. Looking at it costs nothing more.
2. Counts may be negative where noise is large; what reads them says what cannot be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

NOT_GIVEN: Final = "not given"
"""The group of rows whose protected attribute is missing or no word of the contract."""
MISSING: Final = "missing"
"""The last bin of a profiled number: no value. A category's last bin is "other"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPanel:
    """One protected attribute: `counts` by group, each (2, bins) as tuples, label 0 and then label 1, by score bin.

    `edges` are the bins' bounds, (bins + 1,) ascending from 0 to 1; rows in bins from `declines` on score at or above the plan's threshold, which is
    the edge there. `suppressed` names groups whose counts are not told.
    """

    attribute: str
    edges: tuple[float, ...]
    declines: int
    counts: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    suppressed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionPanel:
    """Sums over rows of each row's contributions to the logit by feature, clipped together to an L2 norm of `clip`.

    `absolute` and `signed` have a tuple of `features` sums for each part, in logits: one part, or several that the plan divides rows or sites into (`parts`
    names them). `noise_std` is that of one sum, in logits; `rows` the rows of each part as the counts tell them.
    """

    features: tuple[str, ...]
    clip: float
    parts: tuple[str, ...]
    absolute: tuple[tuple[float, ...], ...]
    signed: tuple[tuple[float, ...], ...]
    rows: tuple[int, ...]
    noise_std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePanel:
    """Rows by bin of each feature: a number's equal bins of its unit values and then `MISSING`; a category's words and then "other"; a boolean's false, true, `MISSING`.

    `labels` names the bins; `noise_std` is that of one count, 0 where counts are exact: larger than that of other counts of the release. `scores` are the
    score counts of the same release, (2, bins) by label, 0 and then 1, with the noise of other counts: what windows of scores and outcomes are compared with;
    empty where there are more bins than a window can have. `champion` are the champion's, on the same rows; empty without one.
    """

    counts: Mapping[str, tuple[int, ...]]
    labels: Mapping[str, tuple[str, ...]]
    noise_std: float
    scores: tuple[tuple[int, ...], ...] = ()
    champion: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """The panels of one evaluation; `noise_std` is that of one count of a group, 0 where counts are exact."""

    noise_std: float
    groups: tuple[GroupPanel, ...] = ()
    attributions: AttributionPanel | None = None
    profile: ProfilePanel | None = None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """Read back what `dataclasses.asdict` made, through JSON or not."""
        attributions, profile = facts["attributions"], facts["profile"]
        return cls(
            noise_std=facts["noise_std"],
            groups=tuple(
                GroupPanel(
                    attribute=each["attribute"],
                    edges=tuple(each["edges"]),
                    declines=each["declines"],
                    counts={
                        group: (tuple(counts[0]), tuple(counts[1]))
                        for group, counts in each["counts"].items()
                    },
                    suppressed=tuple(each["suppressed"]),
                )
                for each in facts["groups"]
            ),
            attributions=None
            if attributions is None
            else AttributionPanel(
                features=tuple(attributions["features"]),
                clip=attributions["clip"],
                parts=tuple(attributions["parts"]),
                absolute=tuple(tuple(each) for each in attributions["absolute"]),
                signed=tuple(tuple(each) for each in attributions["signed"]),
                rows=tuple(attributions["rows"]),
                noise_std=attributions["noise_std"],
            ),
            profile=None
            if profile is None
            else ProfilePanel(
                counts={name: tuple(counts) for name, counts in profile["counts"].items()},
                labels={name: tuple(labels) for name, labels in profile["labels"].items()},
                scores=tuple(tuple(each) for each in profile.get("scores", ())),
                noise_std=profile["noise_std"],
                champion=tuple(tuple(each) for each in profile.get("champion", ())),
            ),
        )


def released_panels(metrics: Mapping[str, Any] | None, alone: Mapping[str, Any] | None) -> Panels | None:
    """The panels in recorded `metrics`, or those recorded `alone`, without metrics, where noise hid a class."""
    found = alone if metrics is None else metrics.get("panels")
    return None if found is None else Panels.from_facts(found)
