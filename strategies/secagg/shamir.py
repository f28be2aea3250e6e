"""Shamir's secret sharing over a prime field: any `threshold` shares give the secret, fewer say nothing at all.

Shamir 1979. The field has the smallest prime above 2^256, so that every 32-byte secret is an element of it. Shares are of points 1, 2, ...,
never of 0, where the secret lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from strategies.errors import Refused, UsageError
from strategies.secagg.secrets import SECRET_BYTES

PRIME: Final = 2**256 + 297
SHARE_BYTES: Final = 33
_MOST_POINTS: Final = 1 << 16
_DRAW_BYTES: Final = 48  # 128 bits more than the field: the remainder's bias is below 2^-127

Entropy = Callable[[int], bytes]
"""Gives as many fresh, uniformly random bytes as asked; the only randomness of a protocol, and an argument of whoever needs it."""


def split(secret: bytes, threshold: int, points: Sequence[int], entropy: Entropy) -> dict[int, bytes]:
    """A share of 33 bytes for each of `points`. Raises UsageError for a threshold that the points cannot reach."""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"a shared secret has {SECRET_BYTES} bytes; this one has {len(secret)}")
    if not 1 <= threshold <= len(points):
        raise UsageError(f"a threshold of {threshold} cannot be reached by {len(points)} shares")
    if len(set(points)) < len(points) or not all(0 < point < _MOST_POINTS for point in points):
        raise UsageError(f"points are distinct, from 1 to {_MOST_POINTS - 1}")
    coefficients = [int.from_bytes(secret, "big")]
    coefficients += [int.from_bytes(entropy(_DRAW_BYTES), "big") % PRIME for _ in range(threshold - 1)]
    return {point: _evaluate(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points}


def coefficients_at_zero(points: Sequence[int]) -> dict[int, int]:
    """Lagrange's coefficients for the value at 0: the same for every secret that is shared over these points."""
    if len(set(points)) < len(points):
        raise Refused("two shares are of one point")
    found = {}
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * other % PRIME
                below = below * (other - point) % PRIME
        found[point] = above * pow(below, -1, PRIME) % PRIME
    return found


def combine(shares: Mapping[int, bytes], coefficients: Mapping[int, int]) -> bytes:
    """The secret of `shares` by point. Raises Refused where they cannot be shares of one 32-byte secret.

    A share that is wrong gives another secret, which is out of range with high probability only if it is far off: whoever needs to
    know checks the secret against something public.
    """
    total = 0
    for point, coefficient in coefficients.items():
        if point not in shares:
            raise Refused(f"the share of point {point} is missing")
        total += coefficient * share_value(shares[point])
    secret = total % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise Refused("the shares do not fit together: at least one is not of this secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def share_value(share: bytes) -> int:
    """The field element of a share. Raises Refused for another length, or a value that is not in the field."""
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise Refused(f"a share has {SHARE_BYTES} bytes and is an element of the field; this one is not")
    return value


def _evaluate(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value
