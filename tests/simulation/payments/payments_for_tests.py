"""Small payments that several tests look at."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from simulation.payments.blocks import blocks_of
from simulation.payments.setting import Setting

SMALL = Setting(banks=4, accounts=1_200, days=60, fraud_share=0.02, alpha=1.0, seed=3)


@cache
def both() -> tuple[pa.Table, pa.Table]:
    """All payments of `SMALL`, and the truth about them."""
    blocks = list(blocks_of(SMALL))
    return pa.concat_tables([each.payments for each in blocks]), pa.concat_tables(
        [each.truth for each in blocks]
    )


def column(name: str) -> np.ndarray:
    """A column of the payments, or of the truth."""
    payments, truth = both()
    table = payments if name in payments.column_names else truth
    return table[name].to_numpy(zero_copy_only=False)


def of(typology: str) -> np.ndarray:
    """Which payments are of a typology."""
    return column("typology") == typology
