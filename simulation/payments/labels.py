"""What a bank comes to know of its fraud, and when: late, not all of it, and sometimes wrongly."""

from __future__ import annotations

from typing import Final

import numpy as np

from simulation.payments.rows import DAY, NOBODY, Integers, Payments
from simulation.payments.setting import Setting
from simulation.payments.streams import chance, stream
from simulation.payments.typology import FALSE_REPORTS, FOUND_SPREAD, NEVER_FOUND, TYPOLOGIES

UNKNOWN: Final = 2**31 - 1
"""The day of what is never reported."""
_FALSE_REPORT_DAYS: Final = 20


def reported_days(setting: Setting, bank: int, block: int, rows: Payments) -> Integers:
    """(n,) the day on which each payment is reported as fraud, or `UNKNOWN`. All payments of an incident are found out together, after its last one."""
    source = stream(setting.seed, "reports", bank, block)
    day = rows.second // DAY
    false = chance(source, FALSE_REPORTS, len(rows))
    reported = np.where(false, day + source.integers(0, _FALSE_REPORT_DAYS, len(rows)), UNKNOWN)
    fraud = rows.incident != NOBODY
    count = int(rows.incident.max(initial=NOBODY)) + 1
    last, kind = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    np.maximum.at(last, rows.incident[fraud], day[fraud])
    kind[rows.incident[fraud]] = rows.typology[fraud]
    median = np.array([each.found_days for each in TYPOLOGIES])[kind - 1]
    after = source.lognormal(np.log(median), FOUND_SPREAD, count)
    found = np.where(chance(source, NEVER_FOUND, count), UNKNOWN, last + after.astype(np.int64))
    reported[fraud] = found[rows.incident[fraud]]
    return reported
