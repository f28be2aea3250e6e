"""Four subsidiaries out of one book of loans: the census regions of the United States.

Regions: U.S. Census Bureau, "Census Regions and Divisions of the United States".
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import pyarrow as pa

from strategies.errors import Refused
from strategies.ids import SiteName, site_name

STATE_COLUMN: Final = "addr_state"

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


def split_by_region(table: pa.Table) -> dict[SiteName, pa.Table]:
    """The rows of each region in their order; every region is there, and every row is in exactly one.

    Raises Refused for a state that is not one of the 50 or DC.
    """
    states = table.column(STATE_COLUMN).to_pylist()
    unknown = sorted({str(state) for state in states if state not in REGION_OF})
    if unknown:
        raise Refused(
            f"column {STATE_COLUMN} holds {', '.join(unknown[:5])}; use the two-letter codes of states and DC"
        )
    regions = [REGION_OF[state] for state in states]
    return {region: table.filter(pa.array([found == region for found in regions])) for region in REGIONS}
