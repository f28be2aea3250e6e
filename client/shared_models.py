"""The shared models of finished runs, as this site received them: the one thing that an agent does for personal models.

1. What is kept is what every site of the run has: plan, contract, scaling and the model. Nothing of this site's rows is in it.
2. The agent writes here and never reads. A model that cannot be kept is a line in the log, and costs no answer.
3. Files are replaced as a whole; the oldest go when there are more than `MOST_KEPT`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import structlog
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from client.admission.documents import Accepted
from protos.contract import Contract
from protos.documents import Document
from protos.files import replace_file
from protos.frames import Stage, Statement
from protos.plan import Plan
from strategies.encoding import Vector, canonical_json, sha256_hex, vector_digest
from strategies.errors import CovenantError, Refused, UsageError
from strategies.features import FeatureSpec, Scaling
from strategies.ids import Digest, RunId, run_id
from strategies.models import DenseModel

MOST_KEPT: Final = 100
_MODE: Final = 0o600
_MOST_BYTES: Final = 1 << 30
_SUFFIX: Final = ".safetensors"
_VECTOR: Final = "model"
_HEADER: Final = "shared"
_WEIGHTS_FILE: Final = "model.safetensors"
KeepModel = Callable[[Accepted, Statement, Vector, Scaling], None]
"""Is shown what a site accepted, a statement, and the model and scaling that it is about."""
_log = structlog.get_logger(__name__)


def keep_nothing(*_: object) -> None:
    """Of a site that has no personal models."""


class ScalingDocument(Document):
    """A scaling in a file."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, scaling: Scaling) -> Self:
        """As it is written."""
        return cls(mean=scaling.mean, std=scaling.std)

    @property
    def scaling(self) -> Scaling:
        """As it is used."""
        return Scaling(mean=self.mean, std=self.std)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedModel:
    """The model that came of a run, `vector` (d,) finite float64, with all that encoding rows for it needs.

    `digest` is one by which the registry knows it: of the run's last weights, or of the artifact that it was read from. `run` is None for the latter.
    """

    plan: Plan
    contract: Contract
    scaling: Scaling
    vector: Vector
    digest: Digest
    run: RunId | None = None

    def __post_init__(self) -> None:
        if self.plan.contract != self.contract.ref:
            raise Refused(
                f"the model's plan is for contract {self.plan.contract}, and {self.contract.ref} is beside it"
            )
        if self.vector.shape != (self.shape.size,) or not np.isfinite(self.vector).all():
            raise Refused(
                f"the model has {self.vector.size} values, or one that is not finite; its plan's model has {self.shape.size}"
            )
        if len(self.scaling.mean) != len(self.features.numeric):
            raise Refused(
                f"the scaling is for {len(self.scaling.mean)} numeric features; the plan has {len(self.features.numeric)}"
            )

    @property
    def features(self) -> FeatureSpec:
        """How rows are encoded."""
        return self.contract.feature_spec(self.plan.features)

    @property
    def shape(self) -> DenseModel:
        """What `vector` is the parameters of."""
        return self.plan.dense_model(self.features.width)

    @property
    def header(self) -> dict[str, str]:
        """All but the vector, under one key: of several the library writes a random order, and equal models would have unequal files."""
        facts = {
            "plan": self.plan.canonical.decode(),
            "contract": self.contract.canonical.decode(),
            "scaling": ScalingDocument.of(self.scaling).canonical.decode(),
            "digest": self.digest,
            "run": self.run or "",
        }
        return {_HEADER: canonical_json(facts).decode()}

    @classmethod
    def from_header(cls, header: Mapping[str, str], vector: Vector) -> Self:
        """Read what `header` gave. Raises Refused."""
        try:
            facts: dict[str, str] = json.loads(header[_HEADER])
            return cls(
                plan=Plan.from_canonical(facts["plan"].encode()),
                contract=Contract.from_canonical(facts["contract"].encode()),
                scaling=ScalingDocument.from_canonical(facts["scaling"].encode()).scaling,
                vector=vector,
                digest=Digest(facts["digest"]),
                run=run_id(facts["run"]) if facts["run"] else None,
            )
        except (KeyError, ValueError) as error:
            raise Refused(
                "the model file's header was not written by this program; remove the file"
            ) from error


@dataclass(frozen=True, slots=True)
class SharedModels:
    """The kept models, in `folder`."""

    folder: Path

    def keep(self, plan: Plan, contract: Contract, run: RunId, vector: Vector, scaling: Scaling) -> None:
        """Keep the model of a finished run, or say in the log why that is not possible."""
        try:
            kept = SharedModel(
                plan=plan,
                contract=contract,
                scaling=scaling,
                vector=vector,
                digest=vector_digest(vector),
                run=run,
            )
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            data = save({_VECTOR: vector}, metadata=kept.header)
            replace_file(self.folder / f"{run}{_SUFFIX}", data, mode=_MODE)
            self._let_go()
        except (CovenantError, OSError) as trouble:
            _log.warning(
                "the shared model is not kept; take it from the registry", run=run, reason=str(trouble)
            )
        else:
            _log.info("shared model kept", run=run, digest=kept.digest)

    def keep_last(self, accepted: Accepted, said: Statement, vector: Vector, scaling: Scaling) -> None:
        """Keep the model that a run ends with: the one that is scored after its last round."""
        if said.stage is Stage.EVALUATE and said.round == accepted.plan.training.rounds:
            self.keep(accepted.plan, accepted.contract, said.run, vector, scaling)

    def all(self) -> Iterator[SharedModel]:
        """Those that are kept, the newest first. Raises `CovenantError` for a file that cannot be read."""
        for path in self._files():
            yield _read_kept(path)

    def find(self, name: str) -> SharedModel:
        """The newest that `name` is the plan, the run, or the beginning of the digest of. Raises UsageError where there is none."""
        found = list(self.all())
        for each in found:
            if name in {each.plan.name, each.run} or (len(name) >= 8 and each.digest.startswith(name)):  # noqa: PLR2004
                return each
        known = (
            ", ".join(f"{each.plan.name} ({each.run})" for each in found)
            or "none yet: the agent keeps one when a run ends"
        )
        raise UsageError(
            f"{name!r} is neither a folder that `covenant model export` wrote, nor a plan, run or digest of a shared model in {self.folder}; there: {known}"
        )

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        files = [each for each in self.folder.iterdir() if each.suffix == _SUFFIX]
        return sorted(files, key=lambda each: (each.stat().st_mtime_ns, each.name), reverse=True)

    def _let_go(self) -> None:
        for path in self._files()[MOST_KEPT:]:
            path.unlink(missing_ok=True)


def read_exported(folder: Path) -> SharedModel:
    """The model in a folder that `covenant model export` wrote. Raises `CovenantError`.

    Its weights are the registered float32 ones; the files must belong together, and whether they are the registry's, their digests say.
    """
    weights = folder / _WEIGHTS_FILE
    facts, tensors = read_tensors(weights)
    plan = Plan.from_canonical(_bytes(folder / "plan.json"))
    contract = Contract.from_canonical(_bytes(folder / "contract.json"))
    if facts.get("plan_digest") != plan.digest:
        raise Refused(f"{weights} names another plan than plan.json beside it; export the model again")
    shape = plan.dense_model(contract.feature_spec(plan.features).width)
    try:
        parts = [tensors[f"{layer.name}.{part}"] for layer in shape.layers for part in ("weight", "bias")]
    except KeyError as error:
        raise Refused(f"{weights} has no tensor {error}; its plan's model needs it") from error
    scaling = ScalingDocument.from_canonical(facts.get("scaling", "").encode()).scaling
    vector = np.concatenate([each.ravel() for each in parts]).astype(np.float64)
    digest = sha256_hex(_bytes(weights))
    return SharedModel(plan=plan, contract=contract, scaling=scaling, vector=vector, digest=digest)


def read_tensors(
    path: Path,
) -> tuple[dict[str, str], dict[str, np.ndarray[tuple[int, ...], np.dtype[np.floating]]]]:
    """Header and tensors of a safetensors file of at most 1 GiB. Raises UsageError where it cannot be read, Refused for a damaged one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Refused(f"{path} is larger than {_MOST_BYTES} bytes, the most a model may have")
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise Refused(f"{path} is no safetensors file, or is damaged: {error}") from error


def _read_kept(path: Path) -> SharedModel:
    facts, tensors = read_tensors(path)
    if _VECTOR not in tensors:
        raise Refused(f"{path} holds no model; remove it")
    model = SharedModel.from_header(facts, tensors[_VECTOR].astype(np.float64))
    if vector_digest(model.vector) != model.digest:
        raise Refused(f"{path} was changed after it was written: its model has another digest; remove it")
    return model


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
