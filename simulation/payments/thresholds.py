"""F1, and the threshold that gives the highest on given rows."""

from __future__ import annotations

import numpy as np

from simulation.payments.rows import Flags, Floats

NEVER = np.inf
"""The threshold of who flags nothing."""


def f1(flagged: Flags, fraud: Flags) -> float:
    """2 TP / (2 TP + FP + FN) of n decisions: 0 where nothing is fraud and something is flagged, 1 where neither is."""
    hits, wrong = int((flagged & fraud).sum()), int((flagged != fraud).sum())
    return 2 * hits / (2 * hits + wrong) if hits or wrong else 1.0


def best_threshold(scores: Floats, fraud: Flags) -> float:
    """The score from which on flagging gives the highest F1 on n rows; halfway to the next lower score. `NEVER` where no row is fraud."""
    total = int(fraud.sum())
    if not total:
        return float(NEVER)
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(fraud[order])
    found = 2.0 * hits / (np.arange(1, len(order) + 1) + total)
    ends = np.append(ranked[1:] < ranked[:-1], True)  # rows with one score are flagged together
    best = int(np.argmax(np.where(ends, found, -1.0)))
    after = ranked[best + 1] if best + 1 < len(ranked) else ranked[best]
    return float((ranked[best] + after) / 2.0)
