"""`covenant bench noise`: how many samples of discrete Gaussian noise one core draws a second, beside OpenDP's exact sampler."""

from __future__ import annotations

import math
import os
import time
from typing import Final

from simulation.bench.repeat import repeated
from simulation.bench.report import BenchResult
from strategies.dp.gaussian_layers import layers_for
from strategies.dp.noise import NoiseSeed, discrete_gaussian, total_variation
from strategies.errors import UsageError

_PEER_SAMPLES: Final = 20_000  # OpenDP takes some ten microseconds a sample


def measure(*, variance: float, samples: int, with_peer: bool) -> BenchResult:
    """Samples a second of one vector, the median of several; `layers_s` is spent once a variance. Raises UsageError as the sampler does."""
    ours = repeated(lambda: _ours(variance, samples)) | {
        "total_variation": total_variation(variance, samples),
        "variance": variance,
        "samples": float(samples),
    }
    if not with_peer:
        return BenchResult(bench="noise", ours=ours)
    peer = repeated(lambda: _opendp(variance, min(samples, _PEER_SAMPLES)))
    ratio = {"samples_per_s": ours["samples_per_s"] / peer["samples_per_s"]}
    return BenchResult(bench="noise", ours=ours, peer=peer, ratio=ratio, peer_name="OpenDP")


def _ours(variance: float, samples: int) -> dict[str, float]:
    layers_for.cache_clear()
    began = time.perf_counter()
    layers_for(variance)
    ready = time.perf_counter()
    discrete_gaussian(variance, samples, NoiseSeed(os.urandom(32)))
    return {"samples_per_s": samples / (time.perf_counter() - ready), "layers_s": ready - began}


def _opendp(variance: float, samples: int) -> dict[str, float]:
    """The same law from OpenDP's `make_gaussian` on vectors of integers."""
    try:
        import opendp.prelude as opendp
    except ImportError as error:
        raise UsageError("--peer needs OpenDP, which is not installed; `pip install opendp`") from error
    opendp.enable_features("contrib")
    space = opendp.vector_domain(opendp.atom_domain(T=int)), opendp.l2_distance(T=float)
    mechanism = opendp.m.make_gaussian(*space, scale=math.sqrt(variance))
    zeros = [0] * samples
    began = time.perf_counter()
    mechanism(zeros)
    return {"samples_per_s": samples / (time.perf_counter() - began)}
