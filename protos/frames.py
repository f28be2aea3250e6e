"""What travels between the coordinator and a site, as types.

A `Request` is self-contained: it carries the documents a site judges, so an agent that has just restarted can answer it. Its
`Statement` is what all sites of a round are told alike; every reply echoes the statement's digest, so a reply can never be
counted in another round, attempt, run or plan.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from protos.log_proofs import Grown, LogLeaf
from protos.vouching import SignedStart, SignedVoucher
from protos.witness import SignedWitness, View
from strategies.encoding import Vector, canonical_json, digest_of, sha256_hex, vector_digest
from strategies.features import Scaling
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.messages import Frame
from strategies.server_optimizers import OptimizerState

PROTOCOL_VERSION = 1
"""Version of the frames of `training.proto`. A site answers this version and no other."""


class Stage(enum.IntEnum):
    """What a request asks a site to compute. The numbers are those of `training.proto`."""

    PREPARE = 1
    TRAIN = 2
    EVALUATE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What every site of one attempt of one round is told alike. Nothing in it differs per site."""

    plan_digest: Digest
    contract_digest: Digest
    members_digest: Digest
    run: RunId
    stage: Stage
    round: int
    attempt: int
    roster: tuple[SiteName, ...]
    component: str
    model_digest: Digest | None = None
    scaling_digest: Digest | None = None
    optimizer_digest: Digest | None = None
    protocol: int = PROTOCOL_VERSION

    @property
    def digest(self) -> Digest:
        """SHA-256 over the canonical JSON of all fields."""
        return digest_of(
            {
                "protocol": self.protocol,
                "plan": self.plan_digest,
                "contract": self.contract_digest,
                "members": self.members_digest,
                "run": self.run,
                "stage": self.stage.name,
                "round": self.round,
                "attempt": self.attempt,
                "roster": list(self.roster),
                "component": self.component,
                "model": self.model_digest,
                "scaling": self.scaling_digest,
                "optimizer": self.optimizer_digest,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The documents of a run, each as canonical JSON, the member list with the root's signature.

    `evidence` says who signed and approved the plan; it is empty where nobody did. `witness` is a `WitnessBundle`; it is empty where a site is
    only asked to become a witness.
    """

    plan: bytes
    contract: bytes
    members: bytes
    evidence: bytes = b""
    witness: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRequest:
    """Asks a site to witness `run`: `note` is the signed head of the log, `grown` shows what it extends, `launch` and `plan` are in it.

    `statements` are the newest that are known of the sites, this one among them; `views` are what they name. It is asked `again` when the site
    has said how much of the log it has seen. `entries` of the log, from number `first`, are for the site's copy; `gaps` say what of it is lost.
    With `starts` the site is asked to vouch for those sites, and with `vouchers` it is told who vouches for it; then it is asked for nothing else.
    """

    run: RunId
    note: str
    task: Task
    launch: LogLeaf
    plan: LogLeaf
    grown: tuple[Grown, ...] = ()
    statements: tuple[SignedWitness, ...] = ()
    views: tuple[View, ...] = ()
    again: bool = False
    first: int = 0
    entries: tuple[bytes, ...] = ()
    gaps: tuple[LogLeaf, ...] = ()
    starts: tuple[SignedStart, ...] = ()
    vouchers: tuple[SignedVoucher, ...] = ()


@dataclass(frozen=True, slots=True)
class ChampionModel:
    """The champion that a plan names, as it travels: its `model`, (d,) float64, and the scaling of its inputs."""

    model: Vector
    scaling: Scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to one site.

    Shapes: `model` (d,) float64. It and `scaling` are None in the prepare stage and required in the other two. `champion` comes with a request to
    evaluate under a plan that names one.
    """

    statement: Statement
    task: Task
    scaling: Scaling | None = None
    model: Vector | None = None
    champion: ChampionModel | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A survivor's signature over its masked input, by digest, and the statement."""

    packed: Digest
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """Who signed, with its input to an attempt, that it was told `statement`. `cohort` is the digest of the attempt's keys."""

    statement: Statement
    cohort: Digest
    uploads: Mapping[SiteName, Upload]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state before a committed round, `model` (d,) float64, and who says that it was told of it."""

    model: Vector
    optimizer: OptimizerState
    testimony: Testimony


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureRequest:
    """One request to one site in secure aggregation: steps of the protocol, and what they need.

    `statement` and `scaling` come with a request to mask, `task` with one for fresh keys. `aggregate`, (d,) float64, is of the last
    committed round; `checkpoint` is for a site that has missed rounds; `champion` is to be scored beside the model.
    """

    frames: tuple[Frame, ...]
    task: Task | None = None
    statement: Statement | None = None
    scaling: Scaling | None = None
    aggregate: Vector | None = None
    checkpoint: Checkpoint | None = None
    champion: ChampionModel | None = None


@dataclass(frozen=True, slots=True)
class SecureAnswer:
    """A site's steps of the protocol. `holds` is the digest of the model that it has."""

    frames: tuple[Frame, ...]
    holds: Digest | None = None


@dataclass(frozen=True, slots=True)
class Moments:
    """Counts, sums and sums of squares of the site's numeric features in unit values: (3k,) float64."""

    vector: Vector


@dataclass(frozen=True, slots=True)
class Update:
    """The site's model minus the round's model: (d,) float64."""

    vector: Vector


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """Held-out rows by score: (2, bins) int64, negatives then positives; (4, bins) with a champion, whose rows come last.

    What arrives is in two rows, because bytes do not tell how many bins there are. `panels`, (m,) int64, are the cells behind them in the order and steps
    of `EvaluationCells`; of a plan without panels there are none.
    """

    counts: npt.NDArray[np.int64]
    panels: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class RefusalCode(enum.IntEnum):
    """Why a site does not take part. The numbers are those of `training.proto`."""

    POLICY = 1
    SIGNATURE = 2
    CONTRACT = 3
    PROTOCOL = 4
    FAILED = 5
    BUDGET = 6
    HALTED = 7
    AWAY = 8
    LATER = 9


MAX_REASON_CHARACTERS: Final = 500
MAX_EVIDENCE_BYTES: Final = 64 * 1024
REFUSAL: Final = "covenant refusal/1"
"""The purpose of a refusal's signature."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal; `reason` is empty for `CONTRACT`, because a named rule could be tripped by one record.

    `accused` is the site whose envelope could not be used. `evidence` shows that a history was split or set back. `signature` is the site's identity's over `message`; refusals are equal
    if they say the same, whoever signed them.
    """

    code: RefusalCode
    reason: str = ""
    accused: SiteName | None = None
    signature: bytes = field(default=b"", compare=False)
    evidence: bytes = b""

    def message(self, echo: Digest, site: SiteName) -> bytes:
        """What `site` signs when it answers the request of digest `echo` with this refusal, as it travels."""
        sent = self.as_sent
        evidence = sha256_hex(sent.evidence) if sent.evidence else None
        return refusal_message(echo, site, sent.code, sent.reason, sent.accused, evidence)

    @property
    def as_sent(self) -> Refusal:
        """Without what the centre may not hear, or is too long."""
        if self.code is RefusalCode.CONTRACT:
            return Refusal(self.code, signature=self.signature)
        return replace(self, reason=self.reason[:MAX_REASON_CHARACTERS])


def refusal_message(
    echo: Digest,
    site: SiteName,
    code: RefusalCode,
    reason: str,
    accused: SiteName | None,
    evidence: Digest | None,
) -> bytes:
    """What a site signs that refuses; the digest of the evidence is a part of it where there is some."""
    said = {"request": echo, "site": site, "code": int(code), "reason": reason, "accused": accused}
    return canonical_json(said if evidence is None else {**said, "evidence": evidence})


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """A site's statement and the view that it names; without a statement, the `size` of the log from which it needs a proof.

    It has a copy of the first `copied` entries. `start` says that it was started and is not vouched for yet; `vouchers` are its own for others.
    `version` is the release of its agent; nothing is decided by it.
    """

    size: int
    statement: SignedWitness | None = None
    view: View = field(default_factory=dict)
    copied: int = 0
    start: SignedStart | None = None
    vouchers: tuple[SignedVoucher, ...] = ()
    version: str = ""


Body = Moments | Update | ScoreCounts | Refusal | SecureAnswer | WitnessAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A site's answer to the request whose statement has digest `statement_digest`."""

    statement_digest: Digest
    site: SiteName
    body: Body


def scaling_digest(scaling: Scaling) -> Digest:
    """SHA-256 of the pooled scaling, means first."""
    return vector_digest(np.asarray([*scaling.mean, *scaling.std], dtype=np.float64))
