"""What stands in the transparency log: one entry for each decision and each effect, of public facts only.

1. An entry is canonical JSON; the tree's leaf is over exactly these bytes.
2. A document is in the log whole, beside its digest, in the form that it had: a later version of this program reads it as well.
3. No entry holds anything of rows that is not released under the plan: digests of sums after noise, rosters, names, charges, metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AwareDatetime, Field, model_validator

from protos.documents import Document, FieldError, Part
from protos.log_deploy_events import DeployEvent
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_loop import LoopEvent
from protos.log_monitor import MonitorEvent
from protos.log_office import OfficeEvent
from protos.log_policies import PolicyEvent
from protos.log_registry_events import RegistryEvent
from protos.log_run_events import Attempt, Facts, Reserved, RunEvent
from protos.names import Name, Run, Sha256, Site
from strategies.encoding import canonical_json, digest_of
from strategies.errors import UsageError
from strategies.ids import Digest, SiteName

D = TypeVar("D", bound=Document)


class LoggedDocument(Part):
    """A document and the digest by which others name it."""

    digest: Sha256
    document: Facts

    @classmethod
    def of(cls, document: Document) -> Self:
        """As it is logged."""
        return cls(digest=document.digest, document=document.model_dump(mode="json", exclude_none=True))

    def read_as(self, kind: type[D]) -> D:
        """The document, as the `kind` that it is said to be. Raises Refused where it is none."""
        return kind.from_canonical(canonical_json(self.document))

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


class AdoptedCharge(Part):
    """A release that a site charged to a population `times` times."""

    population: Name
    release: Sha256
    times: Attempt


def _require_facts(
    releases: Mapping[Digest, Facts], named: Iterable[Reserved | AdoptedCharge], field: str
) -> None:
    """Check that `releases` are the facts of those that are `named` in a field, and of no others. Raises FieldError."""
    if {each.release for each in named} != set(releases):
        raise FieldError("releases", f"they are not those that `{field}` names")
    for digest, facts in releases.items():
        if digest_of(facts) != digest:
            raise FieldError("releases", f"{digest} is of another release")


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
        _require_facts(self.releases, self.reserved, "reserved")
        return self


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

    def holds(self, digest: Digest) -> bool:
        """Whether `digest` is of its weights or of one of its artifacts."""
        return digest == self.weights or digest in self.artifacts.values()

    @model_validator(mode="after")
    def _digest_is_of_the_artifacts(self) -> Self:
        if digest_of(self.artifacts) != self.digest:
            raise FieldError("digest", "it is not of these artifacts")
        return self


class PersonalTold(Part):
    """A site personalises a registered model, by its own signed statement (`protos.personal`); what came of it is told to nobody."""

    kind: Literal["personal"] = "personal"
    statement: LoggedDocument

    def is_of(self, site: SiteName, model: Digest) -> bool:
        """Whether it is about that site and model."""
        return (self.statement.document.get("site"), self.statement.document.get("model")) == (site, model)


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
        _require_facts(self.releases, self.adopted, "adopted")
        return self


class Halted(Part):
    """An officer or a site stopped a site's part, a run or everything; the order is a `HaltOrder`."""

    kind: Literal["halted"] = "halted"
    order: LoggedDocument


class HaltLifted(Part):
    """Officers let go on what was halted; the lift is a `HaltLift`, which names the order."""

    kind: Literal["halt-lifted"] = "halt-lifted"
    lift: LoggedDocument


What = Annotated[
    MembersSigned
    | PlanRecorded
    | RunLaunched
    | RunEvent
    | CeilingSet
    | ModelRegistered
    | PersonalTold
    | GapLogged
    | AccountsAdopted
    | Halted
    | HaltLifted
    | RegistryEvent
    | PolicyEvent
    | GateJudged
    | DeployEvent
    | MonitorEvent
    | LoopEvent
    | ModelNoted
    | OfficeEvent,
    Field(discriminator="kind"),
]


class LogEntry(Document):
    """One entry: what was decided or done, and when by the coordinator's clock."""

    covenant: Literal["entry/v1"] = "entry/v1"
    at: AwareDatetime
    what: What
