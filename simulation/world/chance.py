"""Everything that chance decides in a simulation and a real federation takes from its operating system.

UNSAFE: it follows from the seed, so that a run can be repeated to the bit, on whichever engine. A run that repeats has no secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from simulation.world.world import COORDINATOR
from strategies.ids import RunId, SiteName, run_id
from strategies.secagg.shamir import Entropy


def run_ids(seed: int) -> Callable[[], RunId]:
    """The names of runs, one after the other."""
    source = Random(f"runs {seed}")  # noqa: S311 (names, not secrets)
    return lambda: run_id(f"run-{source.getrandbits(64):016x}")


def unsafe_centre_entropy(seed: int) -> Entropy:
    """The coordinator's secrets, which are its noise."""
    return Random(f"secrets {seed} {COORDINATOR}").randbytes  # noqa: S311


def unsafe_site_entropy(seed: int, site: SiteName, life: int = 0) -> Entropy:
    """A site's secrets and noise. Each life of its process has others."""
    return Random(f"secrets {seed} {site} {life}").randbytes  # noqa: S311
