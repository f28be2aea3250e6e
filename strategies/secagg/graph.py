"""Who shares with whom: everybody in active mode, k random neighbours in large semi-honest cohorts.

1. A graph follows from the sites and from the public digest of their signed keys. Nobody chooses it, the coordinator least of all.
2. The random graph is a ring of the sites in random order, each linked to the k/2 nearest on either side. Bell et al. 2020, section 3.
3. Its degree and threshold come from three events that are to be rare (`semi_honest_parameters`), each bounded by a union over all sites.
   That paper proves security against a coordinator that follows the protocol; nothing else is claimed here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

from strategies.errors import UsageError
from strategies.ids import Digest, SiteName

MOST_ACTIVE_SITES: Final = 128
_PURPOSE: Final = b"covenant/secagg/1 graph"
_DRAW_BYTES: Final = 8
_FEWEST_SHARES: Final = 3


@dataclass(frozen=True)
class Graph:
    """`sites`, sorted, and for each the places of its neighbours, sorted. Symmetric, and nobody is its own neighbour."""

    sites: tuple[SiteName, ...]
    near: tuple[tuple[int, ...], ...]

    @property
    def degree(self) -> int:
        """Neighbours of a site; the same for all."""
        return len(self.near[0])

    @property
    def is_complete(self) -> bool:
        """Whether everybody is everybody's neighbour."""
        return self.degree == len(self.sites) - 1

    @cached_property
    def _places(self) -> dict[SiteName, int]:
        return {site: place for place, site in enumerate(self.sites)}

    def place(self, site: SiteName) -> int:
        """Where `site` stands among the sites, from 0."""
        return self._places[site]

    def neighbours(self, site: SiteName) -> tuple[SiteName, ...]:
        """With whom `site` shares secrets and masks, sorted."""
        return self._named[self._places[site]]

    @cached_property
    def _named(self) -> tuple[tuple[SiteName, ...], ...]:
        return tuple(tuple(self.sites[place] for place in places) for places in self.near)


def complete_graph(sites: Sequence[SiteName]) -> Graph:
    """Everybody with everybody."""
    _check(sites)
    everyone = range(len(sites))
    return Graph(
        tuple(sites), tuple(tuple(other for other in everyone if other != each) for each in everyone)
    )


def regular_graph(sites: Sequence[SiteName], degree: int, seed: Digest) -> Graph:
    """A ring under a random order that follows from `seed`, `degree` (even) neighbours each; complete if the degree reaches everybody."""
    return _regular_graph(tuple(sites), degree, seed)


@lru_cache(maxsize=8)
def _regular_graph(sites: tuple[SiteName, ...], degree: int, seed: Digest) -> Graph:
    """Kept for the attempts that are under way: all sites of one process, and the centre, derive the same."""
    _check(sites)
    count = len(sites)
    if degree < 2 or degree % 2:  # noqa: PLR2004 (one on either side)
        raise UsageError(f"a ring graph has an even degree of at least 2; this one would have {degree}")
    if degree >= count - 1:
        return complete_graph(sites)
    order = _permutation(count, seed)
    near: list[tuple[int, ...]] = [()] * count
    steps = [step for step in range(-degree // 2, degree // 2 + 1) if step]
    for position, place in enumerate(order):
        near[place] = tuple(sorted([order[(position + step) % count] for step in steps]))
    return Graph(sites, tuple(near))


def _check(sites: Sequence[SiteName]) -> None:
    if len(sites) < 2 or any(a >= b for a, b in pairwise(sites)):  # noqa: PLR2004
        raise UsageError("a graph is over at least two sites, sorted, each named once")


def _permutation(count: int, seed: Digest) -> list[int]:
    """Fisher and Yates's shuffle with draws from SHA-256 in counter mode; draws that would favour some places are thrown away."""
    order = list(range(count))
    counter = 0
    for last in range(count - 1, 0, -1):
        limit = (1 << 64) - (1 << 64) % (last + 1)
        while True:
            block = hashlib.sha256(_PURPOSE + bytes.fromhex(seed) + counter.to_bytes(8, "big")).digest()
            counter += 1
            drawn = int.from_bytes(block[:_DRAW_BYTES], "big")
            if drawn < limit:
                break
        chosen = drawn % (last + 1)
        order[last], order[chosen] = order[chosen], order[last]
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParameters:
    """`degree` neighbours each, `threshold` shares rebuild a secret. The bounds are logarithms to base 2 of probabilities of an attempt."""

    degree: int
    threshold: int
    privacy_log2: float
    correctness_log2: float


@lru_cache(maxsize=64)
def semi_honest_parameters(
    sites: int, *, corrupt: float, dropouts: float, privacy_log2: float = -40, correctness_log2: float = -20
) -> GraphParameters:
    """The smallest degree, with a threshold, for which, with `corrupt` and `dropouts` as shares of all sites,

    - no honest site has a threshold of corrupt neighbours, and the honest survivors stay connected, but for 2^privacy_log2;
    - every site has a threshold of surviving neighbours, but for 2^correctness_log2.

    The neighbours of a site are a uniform sample of the others, so both counts are hypergeometric; a ring falls apart only if k/2
    sites in a row are corrupt or gone. Bell et al. 2020, section 4.1. A site also holds one share of its own secret, which only
    helps. Raises UsageError where no degree below that of the complete graph will do.
    """
    if not 0 <= corrupt < 1 or not 0 <= dropouts < 1 or corrupt + dropouts >= 1:
        raise UsageError(f"{corrupt} corrupt and {dropouts} dropped sites; together less than all")
    bad = math.ceil(corrupt * sites)
    gone = math.ceil(dropouts * sites)
    union = math.log2(sites)
    for degree in range(2, sites - 1, 2):
        falls_apart = union + _run_log2(sites, min(sites - 1, bad + gone), degree // 2)
        if falls_apart > privacy_log2 - 1:
            continue
        corrupted = _upper_tails_log2(sites - 1, bad, degree)
        lost = _upper_tails_log2(sites - 1, gone, degree)
        # As few shares as privacy allows leave the most room for dropouts.
        fitting = (t for t in range(_FEWEST_SHARES, degree + 1) if union + corrupted[t] <= privacy_log2 - 1)
        threshold = next(fitting, None)
        if threshold is not None and union + lost[degree - threshold + 1] <= correctness_log2:
            private = _sum_log2(falls_apart, union + corrupted[threshold])
            return GraphParameters(
                degree=degree,
                threshold=threshold,
                privacy_log2=private,
                correctness_log2=union + lost[degree - threshold + 1],
            )
    raise UsageError(
        f"no random graph among {sites} sites stands {bad} colluding and {gone} dropped ones; expect fewer, or share with everybody"
    )


def _run_log2(sites: int, marked: int, length: int) -> float:
    """log2 of the probability that `length` given places of a random order all hold marked sites."""
    if marked < length:
        return -math.inf
    return sum(math.log2((marked - each) / (sites - each)) for each in range(length))


def _upper_tails_log2(others: int, marked: int, drawn: int) -> list[float]:
    """log2 P(X >= x) for x from 0 to drawn + 1, X the marked ones among `drawn` of `others`."""
    tails = [-math.inf] * (drawn + 2)
    for count in range(drawn, -1, -1):
        tails[count] = _sum_log2(tails[count + 1], _hypergeometric_log2(others, marked, drawn, count))
    return tails


def _hypergeometric_log2(others: int, marked: int, drawn: int, count: int) -> float:
    if count > marked or drawn - count > others - marked:
        return -math.inf
    return (
        _binomial_log2(marked, count)
        + _binomial_log2(others - marked, drawn - count)
        - _binomial_log2(others, drawn)
    )


def _binomial_log2(above: int, below: int) -> float:
    return (math.lgamma(above + 1) - math.lgamma(below + 1) - math.lgamma(above - below + 1)) / math.log(2)


def _sum_log2(one: float, other: float) -> float:
    """log2(2^one + 2^other)."""
    larger, smaller = max(one, other), min(one, other)
    return larger if smaller == -math.inf else larger + math.log2(1 + 2 ** (smaller - larger))
