"""What drift is measured by: the rules of its alarms, and the reference that windows are compared with (docs/adr/0036).

1. The false-alarm rate is for `horizon` windows in a row, of whatever places, and holds for every drift that is tolerated. Windows of outcomes count as well.
2. The reference is what the evaluation of the registered version released. It has a digest, so that it is known which one an alarm was judged by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from protos.documents import FROZEN, Document, FieldError, make_document
from protos.names import ColumnName, Reference, Sha256
from protos.quantities import format_duration
from protos.windows import MOST_BINS, Monitor, NoisyCounts, Outcomes, Window
from strategies.analytics.outcome_drift import OutcomeCounts
from strategies.analytics.panels import MISSING, Panels
from strategies.analytics.two_histograms import Histogram
from strategies.errors import Refused, UsageError

OTHER: Final = "other"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_ROUNDED: Final = 1e-9
_FLAG: Final = ("false", "true", MISSING)
Label = Annotated[str, Field(min_length=1, max_length=200)]
Form = Literal["number", "words", "flag"]


class DriftRules(Document):
    """When a model's windows raise an alarm, and from which figures on people speak of drift."""

    covenant: Literal["drift-rules/v1"] = "drift-rules/v1"
    false_alarm_rate: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05
    """The probability, at most, that `horizon` windows in a row raise any alarm though nothing drifts further than is tolerated. Less than 1e-6
    would be a monitor that hardly anything wakes."""
    horizon: Annotated[int, Field(ge=1, le=100_000)] = 60
    tolerated_psi: Annotated[float, Field(ge=0.0, le=0.1)] = 0.02
    tolerated_drop: Annotated[float, Field(ge=0.0, le=0.2)] = 0.02
    """How much worse each metric may be than the reference's, in its own units."""
    threshold_psi: Annotated[float, Field(gt=0.0, le=10.0)] = 0.2
    """What the forecast looks for; it raises no alarm."""

    @model_validator(mode="after")
    def _tolerates_less_than_it_looks_for(self) -> Self:
        if not self.tolerated_psi < self.threshold_psi:
            raise FieldError("tolerated_psi", f"it is not below threshold_psi, {self.threshold_psi:g}")
        return self


class DriftReference(Document):
    """What one version's evaluation released: counts by bin of the score, (2, bins) by label, each with noise of `noise_std`, and of each feature, with `profile_noise_std`."""

    covenant: Literal["drift-reference/v1"] = "drift-reference/v1"
    model: Reference
    version_digest: Sha256
    contract: Sha256
    noise_std: Annotated[float, Field(ge=0.0, le=1e9)]
    profile_noise_std: Annotated[float, Field(ge=0.0, le=1e9)]
    scores: tuple[NoisyCounts, NoisyCounts]
    profile: Annotated[Mapping[ColumnName, NoisyCounts], *FROZEN]
    labels: Annotated[Mapping[ColumnName, Annotated[tuple[Label, ...], Field(max_length=MOST_BINS)]], *FROZEN]

    @model_validator(mode="after")
    def _counts_have_labels(self) -> Self:
        if {name: len(each) for name, each in self.profile.items()} != {
            name: len(each) for name, each in self.labels.items()
        }:
            raise FieldError("labels", "they are not of the bins of the profile")
        if len(self.scores[0]) != len(self.scores[1]):
            raise FieldError("scores", "labels have other bins")
        return self

    @classmethod
    def of_panels(cls, panels: Panels | None, *, model: str, version_digest: str, contract: str) -> Self:
        """Raises Refused where the evaluation released no profile, DocumentError for counts that are too large to be compared with."""
        profile = None if panels is None else panels.profile
        if profile is not None and not profile.scores:
            raise Refused(
                f"the evaluation of {model} had more score bins than the {MOST_BINS} that a window can have; train with fewer `evaluation.score_bins`"
            )
        if panels is None or profile is None or len(profile.scores) != 2:  # noqa: PLR2004  (outcomes)
            raise Refused(
                f"the evaluation of {model} released no profile of inputs and scores, so there is nothing to compare windows with; train with"
                " `evaluation.profile` in the plan"
            )
        return make_document(
            cls,
            f"the reference of {model}",
            model=model,
            version_digest=version_digest,
            contract=contract,
            noise_std=panels.noise_std,
            profile_noise_std=profile.noise_std,
            scores=(profile.scores[0], profile.scores[1]),
            profile=profile.counts,
            labels=profile.labels,
        )

    def score_histogram(self) -> Histogram:
        """Rows by score bin, of both labels: noise of both."""
        return Histogram(np.array(self.scores).sum(axis=0), self.noise_std * np.sqrt(2.0))

    def histogram(self, feature: str) -> Histogram:
        """Rows by bin of a feature."""
        return Histogram(np.array(self.profile[feature]), self.profile_noise_std)

    def outcomes(self) -> OutcomeCounts:
        """Rows by outcome and score bin."""
        return OutcomeCounts(np.array(self.scores), self.noise_std)

    def form_of(self, feature: str) -> Form:
        """What kind of input a feature is, by the names of its bins."""
        labels = self.labels[feature]
        if labels == _FLAG:
            return "flag"
        return "words" if labels[-1] == OTHER else "number"

    def require_fits(self, monitor: Monitor) -> None:
        """Check that windows of `monitor` have the bins of this reference. Raises UsageError."""
        if len(self.scores[0]) != monitor.score_bins:
            raise UsageError(
                f"the monitor has {monitor.score_bins} score bins, the evaluation of {self.model} had {len(self.scores[0])}; use as many"
            )
        numbers = {len(self.labels[each]) - 1 for each in self.labels if self.form_of(each) == "number"}
        if numbers - {monitor.profile_bins}:
            raise UsageError(
                f"the monitor has {monitor.profile_bins} bins a number, the evaluation of {self.model} had {max(numbers)}; use as many"
            )


def require_released(window: Window, monitor: Monitor) -> None:
    """Check that `window` is a span of `monitor`, tells of no other groups, and left with the noise and within the limit that `monitor` states, as far as it says.

    Raises Refused.

    A place that lies about its noise or its spending is not found by this.
    """
    told = f"window {window.number} of {window.place}"
    begins, lasts = (window.begins - _EPOCH).total_seconds(), (window.ends - window.begins).total_seconds()
    if lasts != monitor.window or begins % monitor.window:
        raise Refused(
            f"{told} is from {window.begins:%Y-%m-%d %H:%M:%S} to {window.ends:%Y-%m-%d %H:%M:%S} UTC, which is no window of its monitor:"
            f" those last {format_duration(monitor.window)} and are multiples of that since 1970, so that none overlaps another"
        )
    counts = window.counted or window.outcomes
    if counts is None:
        return
    if window.outcomes is not None:
        _require_groups(window, window.outcomes, monitor)
    cells = 1 + (
        len((window.outcomes and window.outcomes.groups) or ())
        if window.counted is None
        else len(window.counted.profile)
    )
    least = monitor.privacy.noise * math.sqrt(cells)
    if counts.noise_std < least * (1.0 - _ROUNDED):
        raise Refused(
            f"{told} says that its counts have noise of {counts.noise_std:g}, and its monitor asks for {least:g}: whose decisions these are is not"
            " protected as was agreed. Mend the service there; this window is not taken in"
        )
    limit = monitor.privacy.limit.epsilon
    if window.spent > limit * (1.0 + _ROUNDED):
        raise Refused(
            f"{told} says that its period has spent epsilon {window.spent:g}, above its monitor's limit of {limit:g}, and has counts all the same;"
            " a place whose period is spent tells none"
        )


def _require_groups(window: Window, told: Outcomes, monitor: Monitor) -> None:
    """Check that outcomes are told by attributes that `monitor` names, in its bins: whoever adds them up relies on it."""
    for attribute in sorted({*(told.groups or ()), *(told.suppressed or ())}):
        if attribute not in monitor.protected:
            raise Refused(
                f"window {window.number} of {window.place} tells outcomes by {attribute}, and its monitor lets outcomes be told by"
                f" {', '.join(monitor.protected) or 'no attribute'}. Give the place the same monitor"
            )
    bins = (0,) * monitor.score_bins
    for attribute, groups in (told.groups or {}).items():
        for group, counts in groups.items():
            for outcome in counts:
                _require_bins(window, {f"{attribute} {group}": outcome}, {f"{attribute} {group}": bins})


def require_window(window: Window, reference: DriftReference, monitor: Monitor) -> None:
    """Check that `window` is of the model, contract, monitor and bins that `reference` is of. Raises Refused."""
    expected = {
        "model": (window.model, reference.model),
        "version": (window.version_digest, reference.version_digest),
        "contract": (window.contract, reference.contract),
        "monitor": (window.monitor, monitor.digest),
    }
    for name, (found, known) in expected.items():
        if found != known:
            raise Refused(
                f"window {window.number} of {window.place} is of {name} {found[:24]}, and {known[:24]} is watched; counts of one are not"
                " taken for the other's. Give the place the same monitor and version"
            )
    if window.counted is not None:
        _require_bins(window, {"score": window.counted.scores}, {"score": reference.scores[0]})
        _require_bins(window, window.counted.profile, reference.profile)
    if window.outcomes is not None:
        names = ("outcome 0", "outcome 1")
        _require_bins(
            window,
            dict(zip(names, window.outcomes.counts, strict=True)),
            dict.fromkeys(names, reference.scores[0]),
        )


def _require_bins(
    window: Window, found: Mapping[str, Sequence[int]], known: Mapping[str, Sequence[int]]
) -> None:
    for name in sorted({*found, *known}):
        ours, theirs = found.get(name, ()), known.get(name, ())
        if len(ours) != len(theirs):
            raise Refused(
                f"window {window.number} of {window.place} has {len(ours)} bins of {name}, and {len(theirs)} are expected; they are not of the same bins"
            )
