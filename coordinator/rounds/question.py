"""What is to be pooled over the sites: moments, updates or score counts, about which model, and how the sums are had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from protos.contract import Contract
from protos.frames import ChampionModel, Stage, Statement, Task, Testimony, scaling_digest
from protos.identities import Identities
from protos.membership import MemberList, Membership
from protos.plan import Plan
from strategies.encoding import Vector, sha256_hex, vector_digest
from strategies.features import FeatureSpec, Scaling
from strategies.ids import Digest, RunId, SiteName
from strategies.server_optimizers import OptimizerState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDocuments:
    """What a run was approved with. `members` is the signed list with its roots (`Membership`) as canonical JSON, and `evidence` who signed and
    approved the plan (`PlanEvidence`), or empty where nobody did."""

    run: RunId
    plan: Plan
    contract: Contract
    members: bytes
    evidence: bytes = b""
    champion: ChampionModel | None = None
    """The model that the plan names as its champion, from the registry (`coordinator.registry.champions`): what sites score beside the run's own."""

    @property
    def task(self) -> Task:
        """The documents as they travel."""
        return Task(
            plan=self.plan.canonical,
            contract=self.contract.canonical,
            members=self.members,
            evidence=self.evidence,
        )

    @property
    def member_list(self) -> MemberList:
        """The member list that the plan names."""
        return Membership.from_canonical(self.members).signed.list

    @property
    def identities(self) -> Identities:
        """The identity keys of the sites that the plan invites, as the signed list names them."""
        keys = {member.site: member.identity_key for member in self.member_list.members}
        return Identities({site: keys[site] for site in self.plan.sites.invite})

    def champion_in(self, stage: Stage) -> ChampionModel | None:
        """The champion that sites are sent in `stage`."""
        return self.champion if stage is Stage.EVALUATE else None

    @property
    def features(self) -> FeatureSpec:
        """How the plan's features become the model's inputs."""
        return self.contract.feature_spec(self.plan.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One attempt at one sum over `roster`. `model`, `optimizer` and `scaling` are None in the prepare stage."""

    stage: Stage
    number: int
    attempt: int
    roster: tuple[SiteName, ...]
    model: Vector | None = None
    optimizer: OptimizerState | None = None
    scaling: Scaling | None = None

    def statement(
        self, documents: RunDocuments, roster: tuple[SiteName, ...], *, with_optimizer: bool
    ) -> Statement:
        """What all sites of `roster` are told alike."""
        state = self.optimizer if with_optimizer else None
        return Statement(
            plan_digest=documents.plan.digest,
            contract_digest=documents.contract.digest,
            members_digest=sha256_hex(documents.members),
            run=documents.run,
            stage=self.stage,
            round=self.number,
            attempt=self.attempt,
            roster=roster,
            component=documents.plan.training.component,
            model_digest=None if self.model is None else vector_digest(self.model),
            scaling_digest=None if self.scaling is None else scaling_digest(self.scaling),
            optimizer_digest=None if state is None else state.digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Who survived an attempt, under which statement: what is recorded before anything is opened."""

    survivors: tuple[SiteName, ...]
    statement: Digest
    testimony: Testimony | None = None
    opening: bytes | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """That an attempt is settled, and its release charged, in the database: `RoundStore` makes one when that is committed, and where it reads
    what was settled before. Nothing is opened without.
    """

    stage: Stage
    number: int
    attempt: int


Settle = Callable[[Settled], Receipt]


@dataclass(frozen=True, slots=True)
class Pooled:
    """The survivors' sum of moments (3k,), mean of updates (d,), or sum of an evaluation's cells (dimension,), as `EvaluationCells` orders them.

    Under a rule that compares sites the moments are each survivor's, (n, 3k), and the update is what the rule makes of theirs."""

    survivors: tuple[SiteName, ...]
    values: Vector | npt.NDArray[np.int64]


class Sums(Protocol):
    """How sums over sites are had. Raises `TooFewSurvivors` before `settle`, when nothing was opened, and `StaysClosed` after."""

    def pool(self, question: Question, settle: Settle) -> Pooled:
        """Ask, `settle` once the survivors are known and nothing is opened yet, and open."""
        ...

    def reopen(self, question: Question, opening: bytes, receipt: Receipt) -> Pooled:
        """Open what an earlier driver had settled, by the very request that it sent."""
        ...
