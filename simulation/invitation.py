"""A plan for other sites than those that it invites: all that a simulation changes of what production launches.

1. The plan that comes of it is read again as a whole, so no simulation runs what `covenant plan check` would refuse.
2. Weights and populations are the invited sites' own, so they cannot be carried over: every simulated site counts the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from protos.documents import make_document
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from strategies.errors import UsageError
from strategies.ids import SiteName, site_name
from strategies.secagg.parameters import sharing_an_honest_site


def with_sites(plan: Plan, names: Sequence[SiteName], minimum: int) -> Plan:
    """`plan` with `names` invited, of whom `minimum` must come, or as many more as secure aggregation of so many sites takes.

    Raises `DocumentError` where the plan cannot be run with so many.
    """
    facts, chosen = json.loads(plan.canonical), plan.aggregation
    fewest = minimum
    if isinstance(chosen, SecureAggregation):
        fewest = max(minimum, sharing_an_honest_site(len(names), chosen.colluding))
    sites = facts["sites"] | {"invite": list(names), "minimum": fewest}
    for theirs in ("weights", "populations"):
        sites.pop(theirs, None)
    if plan.sites.witnesses is not None:
        sites["witnesses"] = min(plan.sites.witnesses, len(names))
    return make_document(Plan, f"plan {plan.name} for {len(names)} sites", **facts | {"sites": sites})


def invited(plan: Plan, count: int | None) -> tuple[Plan, tuple[SiteName, ...]]:
    """The plan for `count` sites, and their names: the invited ones, or site-01 and so on where the count differs.

    Raises `UsageError` for fewer sites than the plan's minimum, and as `with_sites`.
    """
    sites = plan.sites
    if count is None or count == len(sites.invite):
        return plan, tuple(sites.invite)
    if count < sites.minimum:
        raise UsageError(
            f"{count} sites are fewer than the plan's `sites.minimum`, {sites.minimum}; simulate at least that many"
        )
    names = tuple(site_name(f"site-{number:0{len(str(count))}d}") for number in range(1, count + 1))
    return with_sites(plan, names, sites.minimum), names
