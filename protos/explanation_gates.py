"""What a gate on the stability of explanations comes to, from the panels of the last evaluation.

1. The lower end of the rank correlation decides: a pair of features whose order noise or sampling leaves open counts as if the parts disagreed.
2. Features that noise hides are in no pair. Where they may have more than `MOST_HIDDEN` of all contributions, the model does not pass: agreement on the rest
   would say little.
"""

from __future__ import annotations

from typing import Final

from strategies.analytics.agreement import agreement
from strategies.analytics.explanations import parts_of
from strategies.analytics.panels import Panels
from strategies.analytics.shares import Interval

MOST_HIDDEN: Final = 0.2


def agreement_of_parts(panels: Panels | None) -> Interval | str:
    """The rank correlation between the two parts, or why there is none to judge."""
    panel = None if panels is None else panels.attributions
    parts = () if panel is None else parts_of(panel)
    if panel is None or not parts:
        return "the last evaluation gave no contributions in parts"
    found = agreement((panel.parts[0], panel.parts[1]), parts[0], parts[1], sampled=True)
    if found.correlation is None:
        return f"it cannot be said: {found.cannot}"
    if not found.covered >= 1.0 - MOST_HIDDEN:  # phrased so that NaN does not pass
        return f"it cannot be said: noise hides features that may have {1.0 - found.covered:.0%} of all contributions; at most {MOST_HIDDEN:.0%} may be hidden"
    return found.correlation
