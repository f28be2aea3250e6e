"""What happens to a run that was launched, as the transparency log tells it: one kind of entry for each step; `log_runs` judges their order."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from protos.documents import FieldError, Part
from protos.frames import MAX_REASON_CHARACTERS, RefusalCode, Stage, refusal_message
from protos.keys import Signature
from protos.names import Name, Run, Sha256, Site
from protos.witness import MOST_WITNESSES, SignedWitness
from strategies.encoding import json_numbers

_LONGEST_REASON: Final = 4000

Number = Annotated[int, Field(ge=0, le=10**9)]
Attempt = Annotated[int, Field(ge=1, le=10**9)]
Sites = Annotated[tuple[Site, ...], Field(min_length=1, max_length=100_000)]
StageName = Literal["prepare", "train", "evaluate"]
STAGE_NAMES: Final[dict[Stage, StageName]] = {
    Stage.PREPARE: "prepare",
    Stage.TRAIN: "train",
    Stage.EVALUATE: "evaluate",
}
CodeName = Literal["policy", "signature", "contract", "protocol", "failed", "budget"]
CODE_NAMES: Final[dict[RefusalCode, CodeName]] = {
    RefusalCode.POLICY: "policy",
    RefusalCode.SIGNATURE: "signature",
    RefusalCode.CONTRACT: "contract",
    RefusalCode.PROTOCOL: "protocol",
    RefusalCode.FAILED: "failed",
    RefusalCode.BUDGET: "budget",
}
Reason = Annotated[str, Field(max_length=_LONGEST_REASON)]
# JSON has one kind of number: a large one that was a float comes back as an integer that has no canonical form.
Facts = Annotated[dict[str, Any], BeforeValidator(json_numbers)]


def reason_of(text: str | None) -> str:
    """A reason as an entry holds it: cut where it is longer than anybody reads."""
    text = text or "none was given"
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 4]} ..."


class Reserved(Part):
    """What a run may release at most of one population of one site: `times` the release with digest `release`, at one stage."""

    site: Site
    population: Name
    stage: StageName
    release: Sha256
    times: Attempt


class SumSettled(Part):
    """The point of no return of an attempt: from here on its sum over `sites` may be opened, and each of them is charged `releases`."""

    kind: Literal["settled"] = "settled"
    run: Run
    stage: StageName
    round: Number
    attempt: Attempt
    sites: Sites
    releases: Annotated[tuple[Sha256, ...], Field(max_length=100)] = ()
    statement: Sha256 | None = None


class AttemptVoided(Part):
    """An attempt at a round that came to nothing."""

    kind: Literal["voided"] = "voided"
    run: Run
    round: Number
    attempt: Attempt
    reason: Reason


class RoundCommitted(Part):
    """What came of a round. `aggregate` is the digest of what was opened, after noise where the coordinator adds it."""

    kind: Literal["round"] = "round"
    run: Run
    round: Number
    attempt: Attempt
    roster: Sites
    survivors: Sites
    statement: Sha256
    aggregate: Sha256
    model: Sha256
    optimizer: Sha256

    @model_validator(mode="after")
    def _survivors_were_asked(self) -> Self:
        strangers = sorted(set(self.survivors) - set(self.roster))
        if strangers:
            raise FieldError("survivors", f"{strangers[0]} is not on the roster")
        return self


class RoundPrepared(Part):
    """Round 0: the scaling and the initial model, by digest."""

    kind: Literal["prepared"] = "prepared"
    run: Run
    attempt: Attempt
    survivors: Sites
    scaling: Sha256
    model: Sha256


class RoundEvaluated(Part):
    """The metrics of a round's model; none where what the sites sent gave none. Where a class is hidden, `panels` are what else was counted."""

    kind: Literal["evaluated"] = "evaluated"
    run: Run
    round: Number
    attempt: Attempt
    survivors: Sites
    metrics: Facts | None = None
    panels: Facts | None = None

    @model_validator(mode="after")
    def _panels_are_told_once(self) -> Self:
        if self.metrics is not None and self.panels is not None:
            raise FieldError("panels", "metrics have panels in them; leave these out")
        return self


class Tripped(Part):
    """A mean update that was opened, whose L2 norm is above the plan's gate; none is one beyond float64."""

    round: Number
    attempt: Attempt
    norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class RunEnded(Part):
    """How a run ended; `tripped` if by the plan's gate."""

    kind: Literal["ended"] = "ended"
    run: Run
    state: Literal["completed", "failed", "stopped"]
    reason: Reason | None = None
    tripped: Tripped | None = None


class RunResumed(Part):
    """A person opened a failed or stopped run again; `reserved` is what it reserved anew, of the releases that it was launched with."""

    kind: Literal["resumed"] = "resumed"
    run: Run
    reserved: Annotated[tuple[Reserved, ...], Field(max_length=100_000)] = ()


class ReservationGivenUp(Part):
    """What a run had reserved and never opened, `releases` in all, went back to the accounts."""

    kind: Literal["given-up"] = "given-up"
    run: Run
    releases: Number
    reason: Reason


class RunWitnessed(Part):
    """Sites signed that they have seen the run in the log, before anything of it is settled over them; and once more its end."""

    kind: Literal["witnessed"] = "witnessed"
    run: Run
    statements: Annotated[tuple[SignedWitness, ...], Field(min_length=1, max_length=MOST_WITNESSES)]


class SiteRefused(Part):
    """A site's signed decision to take no part in a run. `request` is the digest of what it was asked, `evidence` that of what it showed."""

    kind: Literal["refused"] = "refused"
    run: Run
    site: Site
    code: CodeName
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARACTERS)]
    request: Sha256
    accused: Site | None = None
    evidence: Sha256 | None = None
    signature: Signature

    @model_validator(mode="after")
    def _tells_nothing_of_rows(self) -> Self:
        if self.code == "contract" and (self.reason or self.accused or self.evidence):
            raise FieldError("reason", "a refusal by contract says nothing more")
        return self

    @property
    def message(self) -> bytes:
        """What the site signed."""
        code = RefusalCode[self.code.upper()]
        return refusal_message(self.request, self.site, code, self.reason, self.accused, self.evidence)


RunEvent = (
    RoundPrepared
    | RunWitnessed
    | SiteRefused
    | SumSettled
    | AttemptVoided
    | RoundCommitted
    | RoundEvaluated
    | RunEnded
    | RunResumed
    | ReservationGivenUp
)
"""What happens to a run that was launched."""
