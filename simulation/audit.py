"""An audit of a private plan: canaries in the very code path that the plan uses, and how much an adversary finds out about them.

1. The sums are the production code's (`simulation.unmasked`). Coins, samples and noise come from `entropy`; a seed decides rows and nothing else.
2. The sum is the worst that the claim covers: over as few sites as must be honest in an opened sum, with their shares of noise and no other's,
   as it is left to a coordinator with whom the other sites collude. A person who may be known to k sites is at k of them.
3. A model tells no more canaries apart than it has parameters, and half as many well. So the canaries are dealt to as many runs as
   that takes; each is in one run, so that all runs together are one mechanism with the privacy of one run.
4. Two adversaries guess: one believes in the plan's noise, one in a quarter of it. How many guesses each makes follows from the plan, before the
   run; each has half of the chance of error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from client.data import Table
from protos.contract import Contract
from protos.frames import Stage
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_releases import PlannedReleases, fitting_ceiling, forecast, gradient_grid, releases_of
from protos.plan_training import GradientSums, PrivateSteps
from simulation.adversary import Adversary, Heard, Sampling, Signals
from simulation.canaries import Rows, canaries, crowd, gradients, training_keys
from simulation.unmasked import UnmaskedRun
from strategies.dp.audit import (
    Flags,
    Guesses,
    Sample,
    epsilon_lower_bound,
    gaussian_sample,
    gaussian_separation,
    most_telling,
    right_guesses,
    typical_bound,
)
from strategies.dp.budget import cost_of
from strategies.dp.events import Release
from strategies.dp.mechanisms import centre_variance, site_variance
from strategies.dp.units import Guarantee, UnitKind
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName
from strategies.sampling import held_out
from strategies.secagg.shamir import Entropy

CANARIES: Final = 1000
BELIEFS: Final = (1.0, 0.25)
"""Scales of the noise that the adversaries believe in."""
MOST_A_RUN: Final = 256
_LARGEST_CROWD: Final = 2000
_CROWD_NUMBERS: Final = 1 << 20
"""Gradient coordinates of a given crowd that the adversary looks at, at most."""
_IMAGINED: Final = 4000
