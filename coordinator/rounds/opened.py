"""What an opened sum says: moments, a mean update, or counts. The centre's noise, where a plan has such, is added before anything else sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coordinator.rounds.question import Pooled, Question, RunDocuments
from protos.frames import Stage
from protos.payloads import Payload, turning_seed
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from strategies.dp.mechanisms import MOMENT_BITS, NoisySum, centre_variance
from strategies.dp.noise import NoiseSeed
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.secagg.payloads import Counts, Integers, Moments, WeightedUpdates
from strategies.secagg.secrets import SECRET_BYTES
from strategies.secagg.server import Opened
from strategies.secagg.shamir import Entropy


@dataclass(frozen=True, slots=True)
class OpenedSums:
    """Reads the opened sums of one run; `entropy` is where the centre's noise comes from."""

    documents: RunDocuments
    entropy: Entropy

    def drawn(self, payload: Payload) -> bytes:
        """The seed of the centre's noise on a sum, before it is opened; nothing where the centre adds none.

        It is kept with what opens the sum, and erased with it: a driver that goes on after a crash must add the same noise. Two copies of one sum
        with different noise would be two releases.
        """
        noisy = payload.embedding
        adds = isinstance(noisy, NoisySum) and centre_variance(noisy.release) > 0.0
        return self.entropy(SECRET_BYTES) if adds else b""

    def pooled(self, question: Question, payload: Payload, opened: Opened, seed: bytes) -> Pooled:
        """The opened sum as moments, mean of updates (d,), or the cells of an evaluation (dimension,); with the noise of `seed`, where `drawn` gave one."""
        match payload.embedding:
            case Moments() as moments:
                return Pooled(opened.survivors, moments.value(opened.total))
            case WeightedUpdates() as updates:
                return Pooled(opened.survivors, updates.mean(opened.total, opened.survivors))
            case Counts():
                return Pooled(opened.survivors, opened.total.astype(np.int64))
            case NoisySum() as noisy:
                total = noisy.at_centre(opened.total, lambda: NoiseSeed(seed))
                return Pooled(opened.survivors, self._read(question, total, len(opened.survivors)))

    def _read(self, question: Question, total: Integers, survivors: int) -> Vector | Integers:
        match question.stage:
            case Stage.PREPARE:
                return total.astype(np.float64) * 2.0 ** (-2 * MOMENT_BITS)
            case Stage.TRAIN:
                return self._mean(question, total, survivors)
            case Stage.EVALUATE:
                return total

    def _mean(self, question: Question, total: Integers, survivors: int) -> Vector:
        """The mean step downhill: over the units that the plan expects, whoever was really taken."""
        plan, contract = self.documents.plan, self.documents.contract
        rule = plan.training
        if not isinstance(rule, GradientSums):
            raise UsageError(f"algorithm {rule.algorithm} has no gradient sums")
        sums = gradient_grid(plan, contract).value(total, turning_seed(plan, question.number))
        return sums * (rule.clip / (rule.expected_batch * survivors))
