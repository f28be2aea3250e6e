"""What stands in the transparency log: one entry for each decision and each effect, of public facts only.

1. An entry is canonical JSON; the tree's leaf is over exactly these bytes.
2. A document is in the log whole, beside its digest, in the form that it had: a later version of this program reads it as well.
3. No entry holds anything of rows that is not released under the plan: digests of sums after noise, rosters, names, charges, metrics.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from protos.documents import Document, FieldError, Part
from protos.frames import MAX_REASON_CHARACTERS, RefusalCode, Stage, refusal_message
from protos.keys import Signature
from protos.log_office import OfficeEvent
from protos.names import Name, Sha256, Site, checked
from protos.witness import MOST_LEAF_BYTES, MOST_WITNESSES, SignedWitness
from strategies.encoding import digest_of, json_numbers
from strategies.errors import UsageError
from strategies.ids import RunId, run_id

_LONGEST_REASON: Final = 4000

MOST_ENTRY_BYTES: Final = MOST_LEAF_BYTES
Run = Annotated[RunId, checked(run_id)]
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


class LoggedDocument(Part):
    """A document and the digest by which others name it."""

    digest: Sha256
    document: Facts

    @classmethod
    def of(cls, document: Document) -> Self:
        """As it is logged."""
        return cls(digest=document.digest, document=document.model_dump(mode="json", exclude_none=True))

    @model_validator(mode="after")
    def _is_its_own(self) -> Self:
        try:
            found = digest_of(self.document)
        except UsageError as error:
            raise FieldError("document", str(error)) from error
        if found != self.digest:
            raise FieldError("digest", f"it is of another document; this one has {found}")
        return self


class MembersSigned(Part):
    """The member list that the coordinator uses from now on, with its signatures and the roots that lead to it."""

    kind: Literal["members"] = "members"
    members: LoggedDocument


class PlanRecorded(Part):
    """A plan, its data contract, and who signed and approved them, before the first run of them is launched."""

    kind: Literal["plan"] = "plan"
    plan: LoggedDocument
    contract: LoggedDocument
    evidence: LoggedDocument | None = None


class Reserved(Part):
    """What a run may release at most of one population of one site: `times` the release with digest `release`, at one stage."""

    site: Site
    population: Name
    stage: StageName
    release: Sha256
    times: Attempt


class AdoptedCharge(Part):
    """A release that a site charged to a population `times` times."""

    population: Name
    release: Sha256
    times: Attempt


class RunLaunched(Part):
    """A run of a recorded plan. `releases` are the facts of those that are reserved; both are empty without privacy."""

    kind: Literal["launch"] = "launch"
    run: Run
    plan: Sha256
    contract: Sha256
    members: Sha256
    evidence: Sha256 | None = None
    releases: dict[Sha256, Facts]
    reserved: Annotated[tuple[Reserved, ...], Field(max_length=100_000)]

    @model_validator(mode="after")
    def _releases_are_those_reserved(self) -> Self:
        if {each.release for each in self.reserved} != set(self.releases):
            raise FieldError("releases", "they are not those that `reserved` names")
        for digest, facts in self.releases.items():
            if digest_of(facts) != digest:
                raise FieldError("releases", f"{digest} is of another release")
        return self


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
    """The metrics of a round's model; none where what the sites sent gave none."""

    kind: Literal["evaluated"] = "evaluated"
    run: Run
    round: Number
    attempt: Attempt
    survivors: Sites
    metrics: Facts | None = None


class RunEnded(Part):
    """How a run ended."""

    kind: Literal["ended"] = "ended"
    run: Run
    state: Literal["completed", "failed", "stopped"]
    reason: Reason | None = None


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


class CeilingSet(Part):
    """A decision on an account, with the signatures of the officers who made it (`ceilings`)."""

    kind: Literal["ceiling"] = "ceiling"
    decision: LoggedDocument


class ModelRegistered(Part):
    """A version of a model, with the digest of every artifact; `weights` is that of the run's last model, which the artifacts hold."""

    kind: Literal["model"] = "model"
    name: Name
    version: Attempt
    digest: Sha256
    run: Run
    weights: Sha256
    artifacts: dict[str, Sha256]

    @model_validator(mode="after")
    def _digest_is_of_the_artifacts(self) -> Self:
        if digest_of(self.artifacts) != self.digest:
            raise FieldError("digest", "it is not of these artifacts")
        return self


class GapLogged(Part):
    """That entries after this place are lost, as the officers signed it: the first entry after the head that was kept."""

    kind: Literal["gap"] = "gap"
    gap: LoggedDocument


class AccountsAdopted(Part):
    """After a gap: what a `site` has charged, by its own signed `statement`, and this log does not have. Its accounts may be charged again.

    `adopted` is charged for good, as opened: releases by digest, how often, of which population; `releases` are their facts.
    """

    kind: Literal["adopted"] = "adopted"
    site: Site
    statement: Sha256
    made_at: AwareDatetime
    releases: Annotated[dict[Sha256, Facts], Field(default_factory=dict)]
    adopted: Annotated[tuple[AdoptedCharge, ...], Field(max_length=100_000)] = ()

    @model_validator(mode="after")
    def _releases_are_those_adopted(self) -> Self:
        if {each.release for each in self.adopted} != set(self.releases):
            raise FieldError("releases", "they are not those that `adopted` names")
        for digest, facts in self.releases.items():
            if digest_of(facts) != digest:
                raise FieldError("releases", f"{digest} is of another release")
        return self


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


class Halted(Part):
    """An officer or a site stopped a site's part, a run or everything; the order is a `HaltOrder`."""

    kind: Literal["halted"] = "halted"
    order: LoggedDocument


class HaltLifted(Part):
    """Officers let go on what was halted; the lift is a `HaltLift`, which names the order."""

    kind: Literal["halt-lifted"] = "halt-lifted"
    lift: LoggedDocument


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
What = Annotated[
    MembersSigned
    | PlanRecorded
    | RunLaunched
    | RunEvent
    | CeilingSet
    | ModelRegistered
    | GapLogged
    | AccountsAdopted
    | Halted
    | HaltLifted
    | OfficeEvent,
    Field(discriminator="kind"),
]


class LogEntry(Document):
    """One entry: what was decided or done, and when by the coordinator's clock."""

    covenant: Literal["entry/v1"] = "entry/v1"
    at: AwareDatetime
    what: What
