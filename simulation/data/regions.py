"""Four subsidiaries out of one book of loans: the census regions of the United States.

Regions: U.S. Census Bureau, "Census Regions and Divisions of the United States".
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from strategies.errors import Refused
from strategies.ids import SiteName, site_name

STATE_COLUMN: Final = "addr_state"
REGION_COLUMN: Final = "region"

_STATES: Final = {
    "west": "AK AZ CA CO HI ID MT NV NM OR UT WA WY",
    "midwest": "IA IL IN KS MI MN MO ND NE OH SD WI",
    "northeast": "CT MA ME NH NJ NY PA RI VT",
    "south": "AL AR DC DE FL GA KY LA MD MS NC OK SC TN TX VA WV",
}

REGIONS: Final = tuple(site_name(region) for region in _STATES)

REGION_OF: Final = MappingProxyType(
    {state: site_name(region) for region, states in _STATES.items() for state in states.split()}
)
"""Two-letter code of each of the 50 states and DC, to its region."""


def region_of(state: str) -> SiteName:
    """The region of a state. Raises Refused for what is not one of the 50 or DC."""
    if state not in REGION_OF:
        raise Refused(f"column {STATE_COLUMN} holds {state}; use the two-letter codes of states and DC")
    return REGION_OF[state]
