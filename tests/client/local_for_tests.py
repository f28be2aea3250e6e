"""Private steps on made-up rows, and a plan of privacy mode local over the small bank's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from client.training.local import LocalRule, private_steps
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_training import PrivateSteps
from strategies.encoding import Vector
from strategies.models import DenseModel
from strategies.secagg.secrets import SECRET_BYTES, MaskSeed
from tests.client import loans_for_tests as loans

MODEL = DenseModel(inputs=6, hidden=(5,))

_PLAN = """\
covenant: plan/v1
name: local
purpose: credit-risk
contract: loans@1
features: [amount, income, term]
sites: {members: demo@1, invite: [east, north, south, west], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/2
  algorithm: dp-sgd
  rounds: 3
  expected_batch: 32
  nominal_rows: 160
  local_steps: 4
  learning_rate: 0.5
  round_deadline: 5m
  seed: 1
privacy:
  mode: local
  unit: UNIT
  limit: {epsilon: 40, delta: 1.0e-5}
  noise: {training: 1.25, preparation: 4.0, evaluation: 1.0}
evaluation: {every: 3, score_bins: 20, holdout: {by: BY, share: 0.3, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""

CUSTOMERS = read_document(
    loans.CONTRACT.canonical.decode().replace('"key":', '"customer":"customer_id","key":'),
    Contract,
    "loans.json",
)
"""The bank's contract, with a column that tells customers apart."""


def local_plan(*, customers: bool = False) -> Plan:
    """Four sites, three rounds of four steps each; units are records, or customers of up to five rows."""
    unit = "{kind: customer, column: customer_id, max_rows: 5}" if customers else "{kind: record}"
    by = "customer_id" if customers else "loan_id"
    return read_document(_PLAN.replace("UNIT", unit).replace("BY", by), Plan, "plan.yaml")


def seed(number: int) -> MaskSeed:
    """A secret that everybody knows."""
    return MaskSeed(number.to_bytes(SECRET_BYTES, "big"))


def rule(*, noise: float = 1.0, **changes: object) -> LocalRule:
    """One step over everybody, unless told otherwise."""
    constants: dict[str, object] = {
        "component": "tabular/2",
        "algorithm": "dp-sgd",
        "rounds": 1,
        "round_deadline": "5m",
        "seed": 1,
        "expected_batch": 40,
        "nominal_rows": 40,
        "local_steps": 1,
        "learning_rate": 0.5,
        **changes,
    }
    return LocalRule(training=PrivateSteps.model_validate(constants), noise_multiplier=noise)


@dataclass(frozen=True)
class Rows:
    """A site's rows, each a unit of its own unless told otherwise, and the model they meet."""

    x: npt.NDArray[np.float32]
    y: Vector
    unit: npt.NDArray[np.int64]
    units: int
    model: DenseModel = MODEL

    def update(self, given: LocalRule, number: int = 1, vector: Vector | None = None) -> Vector:
        """The update under seed `number`, from the initial model or from `vector`."""
        start = self.model.initial(3) if vector is None else vector
        secret = seed(number)
        return private_steps(
            given, self.model, start, self.x, self.y, self.unit, self.units, seed=secret, threads=1
        )

    def joined(self, x: npt.ArrayLike, *, rows: int = 1) -> Rows:
        """With one more unit of `rows` positive rows with features `x`, after all others."""
        more = np.broadcast_to(np.asarray(x, dtype=np.float32), (rows, self.model.inputs))
        return replace(
            self,
            x=np.concatenate([self.x, more]),
            y=np.concatenate([self.y, np.ones(rows)]),
            unit=np.concatenate([self.unit, np.full(rows, self.units)]),
            units=self.units + 1,
        )

    def of_customers(self, *sizes: int) -> Rows:
        """The same rows, dealt at random to units of these sizes."""
        unit = np.repeat(np.arange(len(sizes)), sizes)
        return replace(self, unit=np.random.default_rng(9).permutation(unit), units=len(sizes))


def rows(count: int = 40, *, model: DenseModel = MODEL) -> Rows:
    """Standard normal features and a third of positives."""
    source = np.random.default_rng(5)
    x = source.normal(size=(count, model.inputs)).astype(np.float32)
    y = (source.uniform(size=count) < 1 / 3).astype(np.float64)
    return Rows(x, y, np.arange(count), count, model)
