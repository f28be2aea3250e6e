"""How large a federation is, and by which terms what it takes grows.

1. A figure is a sum of terms, each a product of sizes, with coefficients that are not negative: nothing gets cheaper by being more.
2. The terms are those of the protocol. A frame that all sites get is stored once and fetched by each; everybody's masks cover every
   parameter once for each neighbour; a site's shares go to its neighbours.
3. Where everybody is everybody's neighbour a measurement cannot tell what grows with sites from what grows with neighbours. Keys of the whole
   cohort go to each site, which checks them all, so those terms are of sites; shares and masks are of neighbours.
4. A SuperLink's work grows with the square of the sites: the longer a round takes, the more polls there are, and each looks through the messages of
   all sites. So do shares, which pass through the centre.
5. Figures are of one round in steady state, training and aggregation, without evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from protos.frame_size import MAX_FRAME_BYTES
from protos.plan_aggregation import SecureAggregation
from protos.plan_sites import MAX_SITES
from strategies.errors import UsageError
from strategies.secagg.graph import MOST_ACTIVE_SITES, semi_honest_parameters
from strategies.secagg.parameters import FEWEST_SURVIVORS

MOST_PARAMETERS: Final = MAX_FRAME_BYTES // 8
"""A model travels as one frame of float64."""


class Mode(StrEnum):
    """How updates are summed."""

    PLAIN = "plain"
    SECURE = "secure"


@dataclass(frozen=True)
class Scale:
    """`sites` that take part and `parameters` of the model. Raises UsageError for what no plan can have."""

    mode: Mode
    sites: int
    parameters: int

    def __post_init__(self) -> None:
        fewest = FEWEST_SURVIVORS if self.mode is Mode.SECURE else 1
        if not fewest <= self.sites <= MAX_SITES:
            raise UsageError(
                f"{self.sites} sites; a plan with {self.mode} aggregation invites {fewest} to {MAX_SITES}"
            )
        if not 1 <= self.parameters <= MOST_PARAMETERS:
            raise UsageError(
                f"{self.parameters} parameters; a frame of {MAX_FRAME_BYTES} bytes holds a model of 1 to {MOST_PARAMETERS}"
            )

    @property
    def is_active(self) -> bool:
        """Whether secure aggregation bears a coordinator that deviates."""
        return self.mode is Mode.SECURE and self.sites <= MOST_ACTIVE_SITES

    @cached_property
    def neighbours(self) -> int:
        """With how many others a site shares secrets and masks, by a plan's usual share of dropouts and colluding sites."""
        if self.mode is Mode.PLAIN:
            return 0
        if self.is_active:
            return self.sites - 1
        usual = SecureAggregation()
        found = semi_honest_parameters(
            self.sites, corrupt=usual.colluding / self.sites, dropouts=usual.dropouts
        )
        return found.degree

    def value(self, term: str) -> float:
        """What a coefficient of `term` is multiplied by."""
        sites, parameters, near = float(self.sites), float(self.parameters), float(self.neighbours)
        return {
            "round": 1.0,
            "site": sites,
            "site by site": sites * sites,
            "neighbour": near,
            "parameter": parameters,
            "site by parameter": sites * parameters,
            "neighbour by parameter": near * parameters,
        }[term]


_PLAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "superlink_cpu_s": ("round", "site", "site by site", "site by parameter"),
    "server_cpu_s": ("round", "site", "parameter", "site by parameter"),
    "agent_cpu_s": ("round", "site", "parameter"),
    "superlink_peak_mib": ("round", "site", "parameter", "site by parameter"),
    "server_peak_mib": ("round", "site", "parameter", "site by parameter"),
    "coordinator_peak_mib": ("round", "site"),
    "agent_peak_mib": ("round", "parameter"),
    "site_up_bytes": ("round", "parameter"),
    "site_down_bytes": ("round", "site", "parameter"),
    "requests": ("site", "site by site", "site by parameter"),
    "database_bytes": ("round", "site"),
    "artifact_bytes": ("round", "parameter"),
}
TERMS: Final[Mapping[Mode, Mapping[str, tuple[str, ...]]]] = {
    Mode.PLAIN: _PLAIN,
    Mode.SECURE: {
        **_PLAIN,
        "agent_cpu_s": ("round", "site", "parameter", "neighbour by parameter"),
        "agent_peak_mib": ("round", "site", "parameter"),
        "site_up_bytes": ("round", "neighbour", "parameter"),
    },
}
"""By which terms each figure grows, by mode."""
IDLE: Final[Mapping[str, tuple[str, ...]]] = {
    "requests_a_s": ("site",),
    "superlink_cores": ("round", "site", "site by site"),
}
"""The same of a second in which no run goes on."""


def at_rest(term: str, sites: int) -> float:
    """What a coefficient of `term` is multiplied by where no run goes on."""
    return {"round": 1.0, "site": float(sites), "site by site": float(sites) ** 2}[term]


CLOCK: Final = ("waiting", "computing")
"""Of what seconds of a round are put together where one machine carries everybody."""
