"""Windows: what a place tells of the decisions that a model made there in one period, released once, with noise of its own (docs/adr/0036).

1. `monitor/v1` is what a place's operator agrees to: the window, the bins, the noise, and the most that a period may cost.
2. A window names model, contract and monitor by digest, so counts of other bins or another model are not taken for these.
3. A window whose period has nothing left to spend has no counts: its verdict stays at the place.
4. Windows are multiples of their duration since 1970 in UTC: those of one day begin at midnight.
5. A place numbers what it releases in one `sequence`, from 1 and without gaps, so that whoever collects asks for what came since.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from protos.documents import FROZEN, FROZEN_OR_NONE, Document, FieldError, Part
from protos.keys import Signature, Signer, verify
from protos.names import ColumnName, Name, Reference, Sha256, Word
from protos.plan_privacy import Limit
from protos.quantities import Duration
from strategies.encoding import canonical_json
from strategies.errors import Refused

MOST_BINS: Final = 1002
"""A vocabulary of 1000 words, "other", and one to spare."""
_MOST_COUNT: Final = 2**52

NoisyCount = Annotated[int, Field(ge=-_MOST_COUNT, le=_MOST_COUNT)]
NoisyCounts = Annotated[tuple[NoisyCount, ...], Field(min_length=1, max_length=MOST_BINS)]


class MonitorPrivacy(Part):
    """The unit is one decision. `limit` is what all windows of one `period` may cost a person with one decision in each of them."""

    noise: Annotated[float, Field(ge=0.5, le=1e6)]
    """Standard deviation over the most that one decision moves the counts, L2."""
    limit: Limit
    period: Duration


class Monitor(Document):
    """How one model is watched at a place."""

    covenant: Literal["monitor/v1"] = "monitor/v1"
    model: Name
    window: Duration
    profile_bins: Annotated[int, Field(ge=2, le=100)]
    """Equal bins of a number's unit values, as in the plan's evaluation."""
    score_bins: Annotated[int, Field(ge=2, le=1000)]
    score_scale: Literal["even", "logit"]
    """As the evaluation counted: even in the score (plans without privacy), or in its logit."""
    protected: tuple[ColumnName, ...] = ()
    """Attributes that files of outcomes may have; they never come with a request."""
    minimum_group: Annotated[int, Field(ge=10, le=10**6)] = 100
    """Groups whose outcomes may be fewer, as far as the noise tells, are not told."""
    privacy: MonitorPrivacy

    @model_validator(mode="after")
    def _windows_fit_the_period(self) -> Self:
        if self.window % 1.0:
            raise FieldError("window", "use whole seconds, minutes, hours or days")
        if self.window > self.privacy.period:
            raise FieldError("privacy", "a period is at least as long as a window")
        return self


class Outcomes(Part):
    """Outcomes that have arrived for decisions of one window: `counts` (2, score bins) by outcome, 0 and then 1; by group too, where a file had groups.

    `noise_std` is that of each count. `suppressed` names groups that are too small to be told.
    """

    noise_std: Annotated[float, Field(ge=0.0, le=1e9)]
    counts: tuple[NoisyCounts, NoisyCounts]
    groups: Annotated[
        Mapping[ColumnName, Mapping[Word, tuple[NoisyCounts, NoisyCounts]]] | None, *FROZEN_OR_NONE
    ] = None
    suppressed: Annotated[Mapping[ColumnName, tuple[Word, ...]] | None, *FROZEN_OR_NONE] = None


class Counted(Part):
    """Noisy counts of one window; `noise_std` is that of each count."""

    noise_std: Annotated[float, Field(ge=0.0, le=1e9)]
    scores: NoisyCounts
    profile: Annotated[Mapping[ColumnName, NoisyCounts], *FROZEN]


class Window(Document):
    """One closed window of one model version at one place. `number` counts windows of `monitor` from 1 at this place."""

    covenant: Literal["monitor-window/v1"] = "monitor-window/v1"
    place: Name
    model: Reference
    version_digest: Sha256
    contract: Sha256
    monitor: Sha256
    number: Annotated[int, Field(ge=1, lt=2**31)]
    sequence: Annotated[int, Field(ge=1, lt=2**31)]
    """Counts all that this place has released, whatever it is about."""
    begins: AwareDatetime
    ends: AwareDatetime
    counted: Counted | None = None
    """None where the period had nothing left to spend."""
    outcomes: Outcomes | None = None
    """In a window of its own kind, with the same bounds: `number` is that of the window whose decisions these are."""
    spent: Annotated[float, Field(ge=0.0)]
    """Epsilon of the period so far, this window included, at the delta of `monitor`."""

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if not self.begins < self.ends:
            raise FieldError("ends", "a window ends after it begins")
        if self.counted is not None and self.outcomes is not None:
            raise FieldError("outcomes", "decisions and outcomes are released one by one")
        return self


WINDOWS_PATH: Final = "/covenant/v1/windows"
MOST_BYTES: Final = 900 << 10
"""Of windows in one answer or file: what they are told in has fewer bytes than a document may have."""
_LABEL: Final = "covenant/monitor-windows/v1"


class Windows(Document):
    """Windows of one place: the answer of `GET /covenant/v1/windows?after=N`, or a file that is carried, which is signed where the place has a key."""

    covenant: Literal["monitor-windows/v1"] = "monitor-windows/v1"
    place: Name
    windows: Annotated[tuple[Window, ...], Field(max_length=10_000)] = ()
    last: Annotated[int, Field(ge=0, lt=2**31)]
    """The newest sequence at the place: where it is above that of the last window here, ask for more."""
    signature: Signature | None = None

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if any(each.place != self.place for each in self.windows):
            raise FieldError("windows", f"one is not from {self.place}")
        if any(a.sequence >= b.sequence for a, b in pairwise(self.windows)):
            raise FieldError("windows", "they are not in the order of their sequence")
        return self

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}, exclude_none=True))

    def signed(self, signer: Signer) -> Self:
        """The same with the place's signature."""
        return self.model_copy(update={"signature": signer.sign(_LABEL, self.message)})

    def require(self, key: str) -> None:
        """Check that the place with that `key` wrote this. Raises Refused."""
        if self.signature is None or not verify(key, self.signature, _LABEL, self.message):
            raise Refused(
                f"these windows are not signed by {self.place}; carry what `covenant score windows --export` wrote there with --key"
            )
