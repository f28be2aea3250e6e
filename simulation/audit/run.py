"""The runs of an audit, and the guesses of its adversaries.

1. Coins, samples and noise come from `entropy`; a seed decides rows and nothing else.
2. A model tells no more canaries apart than it has parameters, and a quarter as many well. So the canaries are dealt to as many runs as that
   takes. Each is in one run, so that all runs together are one mechanism with the privacy of one.
3. Three adversaries guess: one believes that the code does what the plan says, one that there is a quarter of the noise, one that nothing is
   clipped. How many guesses each makes follows from the plan, before any run; each has a third of the chance of error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from simulation.audit.adversary import Adversary, Belief, Sampling
from simulation.audit.cast import Cast
from simulation.audit.result import Attack, AuditResult, conclude
from simulation.audit.setting import BELIEFS, Audit
from strategies.dp.audit import Flags, most_telling
from strategies.dp.events import Release
from strategies.secagg.shamir import Entropy

_IMAGINED: Final = 4000
_IMAGINED_NUMBERS: Final = 1 << 21

Progress = Callable[[int, int], None]


def audit(setting: Audit, entropy: Entropy, *, progress: Progress = lambda _, __: None) -> AuditResult:
    """Run the audit; `progress` hears of rounds done, and of how many there are. Raises `CovenantError` where the plan cannot run."""
    began = time.perf_counter()
    cast = Cast.of(setting)
    runs, rounds = math.ceil(setting.canaries / cast.size), setting.rounds
    attacks = [_attack(cast, belief, runs * cast.size) for belief in BELIEFS]
    charges: Mapping[Release, int] = {}
    for run in range(runs):
        coins = _coins(cast.size, entropy)
        listeners = [_adversary(setting, belief) for belief in BELIEFS]

        def told(done: int, before: int = run * rounds) -> None:
            progress(before + done, runs * rounds)

        # Matrices of a hundred rows: threads would only wait for each other.
        with threadpool_limits(limits=1):
            charges = cast.play(coins, listeners, entropy, told)
        for attack, listener in zip(attacks, listeners, strict=True):
            attack.add(listener, coins)
    return conclude(setting, attacks, runs, charges, time.perf_counter() - began)


def _adversary(setting: Audit, belief: Belief) -> Adversary:
    rate, steps = setting.rule.sampling_rate, setting.steps
    return Adversary(
        canary=Sampling(rate=rate, times=steps * setting.places),
        row=Sampling(rate=rate, times=steps),
        deviation=setting.deviation,
        belief=belief,
    )


def _attack(cast: Cast, belief: Belief, number: int) -> Attack:
    """An attack with as many guesses as would tell most if the belief were right, and if canaries did not disturb each other."""
    setting, lengths = cast.setting, cast.canaries.lengths
    adversary, rounds = _adversary(setting, belief), setting.rounds
    imagined = np.resize(np.repeat(lengths, 2), max(200, min(_IMAGINED, _IMAGINED_NUMBERS // rounds)))
    signals = adversary.undisturbed(rounds, imagined)
    sample = adversary.imagine(signals, belief.scale, np.random.default_rng(0))
    delta = setting.privacy.limit.delta
    made = most_telling(sample, canaries=number, delta=delta, confidence=setting.confidence_each)
    return Attack(
        adversary=adversary, canaries=number, made=made, delta=delta, confidence=setting.confidence_each
    )


def _coins(number: int, entropy: Entropy) -> Flags:
    """(number,) fair coins."""
    bits = np.unpackbits(np.frombuffer(entropy((number + 7) // 8), dtype=np.uint8))
    return np.asarray(bits[:number] == 1)
