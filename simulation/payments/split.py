"""Payments before and after a day: what a bank trains on, with the labels that it had then, and what models are scored on, with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from client.data import Table, table_from
from client.data.table import texts
from protos.contract import Contract
from simulation.payments.blocks import FRAUD, ORDINARY, blocks_of
from simulation.payments.rows import Flags, Integers
from simulation.payments.setting import SEASON_DAYS, Setting
from simulation.payments.typology import TYPOLOGIES
from strategies.errors import UsageError

_FEWEST_DAYS: Final = 2 * SEASON_DAYS


@dataclass(frozen=True, slots=True)
class Rows:
    """One bank: `early` rows with the labels known at the split; `late` rows, which of them are `fraud`, and of which `kind`, (n,) words.

    `seen`: payments of each typology that the bank knew of at the split.
    """

    early: Table
    late: Table
    fraud: Flags
    kind: np.ndarray
    seen: Mapping[str, int]


def split_day(setting: Setting) -> int:
    """The first day of the last season: what is before trains, the rest is scored. Raises UsageError for fewer than 60 days."""
    if setting.days < _FEWEST_DAYS:
        raise UsageError(
            f"days is {setting.days}; a comparison trains on all seasons of {SEASON_DAYS} days but the last, use {_FEWEST_DAYS} or more"
        )
    return (setting.seasons - 1) * SEASON_DAYS


def rows_of(setting: Setting, bank: int, agreed: Contract) -> Rows:
    """One bank's rows before and after the split."""
    day, blocks = split_day(setting), list(blocks_of(setting, bank))
    table = pa.concat_tables([each.payments for each in blocks])
    truth = pa.concat_tables([each.truth for each in blocks])
    early, fraud = np.asarray(truth["day"]) < day, np.asarray(truth["fraud"])
    known = np.asarray(pc.fill_null(truth["reported_day"], day)) < day
    kind = np.asarray(truth["typology"].to_pylist(), dtype=object)
    # Later rows have the truth for a label: it is what scores are held against, and nobody trains on it.
    labels = pa.array(np.where(np.where(early, known, fraud), FRAUD, ORDINARY).tolist())
    table = table.set_column(table.column_names.index("label"), "label", labels)
    whole = table_from(table, agreed, renamed={}, named=f"the payments of {setting.names[bank]}")
    place, told = _places(whole, truth), early & known & fraud
    return Rows(
        early=whole.rows(early[place]),
        late=whole.rows(~early[place]),
        fraud=fraud[place][~early[place]],
        kind=kind[place][~early[place]],
        seen={each.typology.word: int((told & (kind == each.typology.word)).sum()) for each in TYPOLOGIES},
    )


def _places(table: Table, truth: pa.Table) -> Integers:
    """Where each row of a table, which is in the order of its keys, is in the truth: (n,)."""
    found = pc.index_in(texts(table.keys).arrow, value_set=pc.cast(truth["payment_id"], pa.large_string()))
    return np.asarray(found, dtype=np.int64)
