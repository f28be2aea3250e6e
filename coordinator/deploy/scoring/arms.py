"""Models in force, and which of them answers: what a serving state becomes once its packages are opened, loaded and warmed."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.columns import Batch, ProtocolError, Rules
from coordinator.deploy.scoring.model import CHUNK, ScoringModel
from coordinator.deploy.scoring.prepared import Prepared, prepare
from coordinator.deploy.scoring.reasons import Explainer
from coordinator.deploy.scoring.serving import LATENCY_BOUNDS_MS, SCORE_BINS, ArmStatus, Opened
from coordinator.deploy.scoring.words import Words
from protos.contract import Contract
from strategies.errors import Refused
from strategies.ids import Digest

Role = Literal["stable", "challenger"]
UNAVAILABLE: Final = 503
NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A package's model, ready to score; arms of either role may use it. Without a `prepared` form the file's graph runs as it is."""

    name: str
    version: int
    digest: Digest
    expires: datetime | None
    contract: Contract
    model: ScoringModel
    prepared: Prepared | None
    rules: Rules
    explainer: Explainer

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"

    def score(self, batch: Batch) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Probabilities, (N, 1), and what the first layer took, (N, width), both float32."""
        if self.prepared is not None:
            return self.prepared.score(batch)
        return self.model.score_and_encode(self.rules.feed(batch))


def load(opened: Opened) -> Loaded:
    """Load and warm what an opener verified: the first request is as fast as the next. Raises Refused for a model that does not fit its contract."""
    source = f"{opened.name}@{opened.version}"
    model = ScoringModel.from_bytes(opened.onnx, source)
    rules = Rules.of(model.judged, opened.contract, source)
    if len(model.judged.scaling.mean) != len(rules.numeric):
        raise Refused(
            f"{source} scales {len(model.judged.scaling.mean)} numbers and has {len(rules.numeric)}"
        )
    loaded = Loaded(
        name=opened.name,
        version=opened.version,
        digest=opened.digest,
        expires=opened.expires,
        contract=opened.contract,
        model=model,
        prepared=prepare(model, rules, source),
        rules=rules,
        explainer=Explainer.of(model.judged, opened.contract, rules, source),
    )
    for rows in (1, CHUNK):
        blank = Batch(
            numbers=np.zeros((len(rules.numeric), rows)),
            words=tuple(Words.of([""] * rows) for _ in rules.texts),
        )
        _, encoded = loaded.score(blank)
        loaded.explainer.reasons(encoded)
    return loaded


@dataclass(slots=True)
class Counts:
    """What an arm did since it took its role. Changed by one thread alone."""

    requests: int = 0
    rows: int = 0
    declined: int = 0
    errors: int = 0
    latency_sum_ms: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    scores: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, dtype=np.int64))

    def note(self, scores: npt.NDArray[np.float32], declined: int, took_s: float) -> None:
        """One request that was scored."""
        self.requests += 1
        self.rows += len(scores)
        self.declined += declined
        self.scores += np.bincount(bands_of(scores), minlength=SCORE_BINS)
        self.latency_sum_ms += 1000.0 * took_s
        self.latencies[bisect_left(LATENCY_BOUNDS_MS, 1000.0 * took_s)] += 1


def bands_of(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The bin of each score, (N,), of SCORE_BINS; 1.0 is in the last."""
    return np.minimum((scores.ravel() * SCORE_BINS).astype(np.intp), SCORE_BINS - 1)


@dataclass(slots=True, kw_only=True)
class Arm:
    """One role and the model that has it."""

    role: Role
    loaded: Loaded
    since: datetime
    counts: Counts = field(default_factory=Counts)

    def expired(self, now: datetime) -> bool:
        """Whether its package is good no more."""
        return self.loaded.expires is not None and now >= self.loaded.expires

    def status(self) -> ArmStatus:
        """What is told of it."""
        counts = self.counts
        return ArmStatus(
            name=self.loaded.name,
            version=self.loaded.version,
            digest=self.loaded.digest,
            since=self.since,
            requests=counts.requests,
            rows=counts.rows,
            declined=counts.declined,
            errors=counts.errors,
            latencies=tuple(counts.latencies),
            latency_sum_ms=counts.latency_sum_ms,
            scores=tuple(counts.scores.tolist()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A serving state with its models. Replaced as a whole; who took one keeps it to the end of a request."""

    revision: int = 0
    stable: Arm | None = None
    challenger: Arm | None = None
    mode: Literal["none", "shadow", "canary"] = "none"
    share: float = 0.0
    decline_at: float | None = None

    @property
    def arms(self) -> Sequence[Arm]:
        """Those there are."""
        return [each for each in (self.stable, self.challenger) if each is not None]

    @property
    def answering(self) -> Sequence[Arm]:
        """Those that callers may name: a shadow answers nobody, by whatever version it is asked for."""
        return [each for each in self.arms if each is self.stable or self.mode == "canary"]

    def why_not_ready(self, now: datetime) -> str | None:
        """Why nothing can be scored, or None."""
        if self.stable is None:
            return "no model is deployed to this service"
        if self.stable.expired(now):
            return f"the package of {self.stable.loaded.ref} expired at {self.stable.loaded.expires:%Y-%m-%d %H:%M} UTC; deploy a newer one"
        return None

    def serving(self, now: datetime) -> Arm:
        """The stable arm. Raises ProtocolError while it cannot serve."""
        why = self.why_not_ready(now)
        if self.stable is None or why is not None:
            raise ProtocolError(why or "no model is deployed", status=UNAVAILABLE)
        return self.stable

    def named(self, name: str, version: str | None, now: datetime) -> Arm:
        """The arm of a model's name, and of its version if one is asked for. Raises ProtocolError."""
        stable = self.serving(now)
        for each in self.answering:
            if (
                each.loaded.name == name
                and version in {None, str(each.loaded.version)}
                and not each.expired(now)
            ):
                return each
        raise ProtocolError(
            f"this server has one model, {stable.loaded.name}, in version {self._versions}", NOT_FOUND
        )

    def chosen(self, name: str, version: str | None, key: str, now: datetime) -> Arm:
        """The arm that answers a request about `key`. Raises ProtocolError."""
        arm = self.named(name, version, now)
        challenger = self.challenger
        if (
            version is None
            and self.mode == "canary"
            and challenger is not None
            and not challenger.expired(now)
        ):
            return challenger if position_of(challenger.loaded.digest, key) < self.share else arm
        return arm

    def shadow_of(self, arm: Arm, now: datetime) -> Arm | None:
        """The arm that scores the same request unseen."""
        if (
            self.mode != "shadow"
            or arm is not self.stable
            or self.challenger is None
            or self.challenger.expired(now)
        ):
            return None
        return self.challenger

    @property
    def _versions(self) -> str:
        return " and ".join(str(each.loaded.version) for each in self.answering)


def position_of(digest: Digest, key: str) -> float:
    """Where a key stands in [0, 1) for one challenger: the same at every service, and another for the next challenger."""
    hashed = hashlib.sha256(f"{digest}:{key}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(hashed[:8], "big") / 2.0**64
