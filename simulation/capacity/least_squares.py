"""Coefficients that are not negative, of terms that measurements are sums of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from strategies.errors import UsageError


def least_squares(
    terms: Sequence[str],
    rows: Sequence[Sequence[float]],
    measured: Sequence[float],
    sizes: Sequence[str],
    what: str,
) -> dict[str, float]:
    """Coefficients by term, of `rows` with a value a term, relative to what was `measured`; `sizes` says of what, in words.

    What was not measured, or as nothing, has no relative error, and says nothing. Raises UsageError for fewer measurements than terms.
    """
    used = [(row, value, size) for row, value, size in zip(rows, measured, sizes, strict=True) if value > 0]
    if len(used) < len(terms):
        there = "; ".join(size for _, _, size in used) or "none"
        raise UsageError(
            f"{what} has {len(terms)} terms and {len(used)} measurements ({there}); measure {_more(terms)}"
        )
    matrix = np.array([[each / value for each in row] for row, value, _ in used])
    # Columns of one size, for terms are from 1 to 1e10.
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    found, _ = nnls(matrix / size, np.ones(len(used)))
    return {term: float(each) for term, each in zip(terms, found / size, strict=True)}


def _more(terms: Sequence[str]) -> str:
    """Of what there must be more values to tell `terms` apart."""
    words = " ".join(terms)
    by = (
        ("numbers of sites (--sites)", "site" in words or "neighbour" in words),
        ("sizes of the model (--parameters)", "parameter" in words),
    )
    asked = [name for name, needed in by if needed] or [name for name, _ in by]
    return f"more {' or '.join(asked)}"
