"""What a plan decides about secure aggregation, and what follows from it for a cohort.

1. `active`: the coordinator may deviate from the protocol in any way. Everybody shares with everybody, cohorts have at most 128 sites,
   and with threshold t at most 2t - n - 1 of n sites may collude with it: two contradicting sets of survivors would need t signatures
   each, an honest site signs one, and 2(t - c) > n - c. Bonawitz et al. 2017, section 6.
2. `semi-honest`: the coordinator follows the protocol and looks at all it gets. Large cohorts share with k random neighbours each; the
   probability that this fails is stated (`Shape`). Bell et al. 2020 claim nothing against a coordinator that deviates.
3. Nothing is opened for fewer than three survivors, nor for so few that colluding sites, having subtracted their own inputs, would be left
   with the input of one site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strategies.errors import Refused, UsageError
from strategies.ids import Digest, SiteName
from strategies.secagg.graph import (
    MOST_ACTIVE_SITES,
    Graph,
    complete_graph,
    regular_graph,
    semi_honest_parameters,
)
from strategies.secagg.suites import Suite

FEWEST_SURVIVORS: Final = 3
FEWEST_HONEST: Final = 2


def sharing_an_honest_site(sites: int, colluding: int) -> int:
    """How many of `sites` make any two sets share a site that does not collude."""
    return (sites + colluding) // 2 + 1


class Adversary(StrEnum):
    """What the coordinator is believed capable of."""

    ACTIVE = "active"
    SEMI_HONEST = "semi-honest"


@dataclass(frozen=True, slots=True)
class Shape:
    """Who shares with whom, and how many shares rebuild a secret.

    `privacy_log2` and `correctness_log2` bound the probability, as logarithms to base 2, that an attempt exposes an honest site, or
    cannot be opened, by the graph's bad luck alone: never where everybody shares with everybody.
    """

    graph: Graph
    threshold: int
    privacy_log2: float = -math.inf
    correctness_log2: float = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Constants of a plan. `minimum` survivors are opened at least; `colluding` sites may be with the coordinator.

    `dropouts` is the share of sites that may stop in an attempt, and shapes the random graph of a large semi-honest cohort.
    """

    adversary: Adversary
    suite: Suite
    minimum: int
    colluding: int
    dropouts: float = 0.1

    def __post_init__(self) -> None:
        if self.minimum < FEWEST_SURVIVORS:
            raise UsageError(
                f"secure aggregation opens nothing below {FEWEST_SURVIVORS} survivors; the minimum is {self.minimum}"
            )
        if not 0 <= self.colluding <= self.minimum - FEWEST_HONEST:
            raise UsageError(
                f"with {self.colluding} colluding sites among at least {self.minimum} survivors, fewer than {FEWEST_HONEST} inputs would"
                f" stay in the sum; colluding may be 0 to {self.minimum - FEWEST_HONEST}"
            )
        if not 0 <= self.dropouts < 1:
            raise UsageError(f"the share of dropouts is {self.dropouts}; use a number from 0 to below 1")

    @property
    def is_active(self) -> bool:
        """Whether survivors are confirmed by signatures before anything is opened."""
        return self.adversary is Adversary.ACTIVE

    def threshold(self, sites: int) -> int:
        """Shares that rebuild a secret of a complete cohort of `sites`, and survivors that are opened at least."""
        if self.is_active:
            return max(self.minimum, 2 * sites // 3 + 1, sharing_an_honest_site(sites, self.colluding))
        return max(self.minimum, sites // 2 + 1)

    def fewest_survivors(self, shape: Shape) -> int:
        """The fewest survivors whose sum is opened.

        Where everybody shares with everybody, fewer than the threshold could not open it. In a random graph more dropouts than planned
        would be beyond what its bounds are about: the survivors could be in several pieces, each a sum of its own.
        """
        if shape.graph.is_complete:
            return max(self.minimum, shape.threshold)
        sites = len(shape.graph.sites)
        return max(self.minimum, sites - math.ceil(self.dropouts * sites))

    def shape(self, sites: tuple[SiteName, ...], seed: Digest) -> Shape:
        """The graph and threshold of a cohort; `seed` is the digest of its signed keys, so that nobody chooses the graph. Raises Refused."""
        if len(sites) < self.minimum:
            raise Refused(f"a cohort of {len(sites)} sites is below the plan's minimum of {self.minimum}")
        if len(sites) > MOST_ACTIVE_SITES:
            if self.is_active:
                raise Refused(
                    f"a cohort of {len(sites)} sites; against an active adversary at most {MOST_ACTIVE_SITES} take part"
                )
            try:
                found = semi_honest_parameters(
                    len(sites), corrupt=self.colluding / len(sites), dropouts=self.dropouts
                )
            except UsageError as error:
                raise Refused(str(error)) from error
            graph = regular_graph(sites, found.degree, seed)
            return Shape(graph, found.threshold, found.privacy_log2, found.correctness_log2)
        threshold = self.threshold(len(sites))
        if threshold > len(sites):
            raise Refused(
                f"a cohort of {len(sites)} sites cannot reach the threshold of {threshold} that {self.colluding} colluding sites call for"
            )
        return Shape(complete_graph(sites), threshold)
