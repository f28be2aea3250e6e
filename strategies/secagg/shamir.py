"""Shamir's secret sharing over a prime field: any `threshold` shares give the secret, fewer say nothing at all.

Shamir 1979. Shares are a Reed-Solomon code, so of m shares up to (m - threshold) / 2 may be wrong and the secret is still found (McEliece and
Sarwate 1981), here with Gao's decoder (2003). The field has the smallest prime above 2^256, so that every 32-byte secret is an element of it. Shares are of points 1, 2, ...,
never of 0, where the secret lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
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


def coefficients_at(points: Sequence[int], place: int) -> dict[int, int]:
    """Lagrange's coefficients for the value at `place`, where the secret lies if it is 0: the same for every secret over these points."""
    if len(set(points)) < len(points):
        raise Refused("two shares are of one point")
    found = {}
    for point in points:
        above = below = 1
        for other in points:
            if other != point:
                above = above * (place - other) % PRIME
                below = below * (point - other) % PRIME
        found[point] = above * pow(below, -1, PRIME) % PRIME
    return found


def coefficients_at_zero(points: Sequence[int]) -> dict[int, int]:
    """Lagrange's coefficients for the secret."""
    return coefficients_at(points, 0)


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


def value_at(shares: Mapping[int, bytes], place: int) -> int:
    """The value at `place` of the polynomial through `shares`. Raises Refused for what is no share."""
    coefficients = coefficients_at(tuple(shares), place)
    return sum(c * share_value(shares[point]) for point, c in coefficients.items()) % PRIME


def corrected(shares: Mapping[int, bytes], threshold: int) -> tuple[bytes, frozenset[int]]:
    """The secret of `shares` by point, of which up to half of those beyond `threshold` are wrong, and the points of the wrong ones.

    Raises Refused where more are wrong, or where what they share is no 32-byte secret.
    """
    valid = {point: int.from_bytes(share, "big") for point, share in shares.items() if _is_share(share)}
    if len(valid) < threshold:
        raise Refused(f"{len(valid)} shares are elements of the field; {threshold} are needed")
    found = _message(valid, threshold)
    if found is None or found[0] >> (8 * SECRET_BYTES):
        raise Refused("the shares do not fit together: too many are not of this secret")
    wrong = {point for point, value in valid.items() if _evaluate(found, point) != value}
    return found[0].to_bytes(SECRET_BYTES, "big"), frozenset(wrong | (shares.keys() - valid.keys()))


def _message(values: Mapping[int, int], threshold: int) -> list[int] | None:
    """The polynomial of degree below `threshold` that all but a few of `values` are of, lowest coefficient first; None if there is none."""
    vanishing = [1]
    for point in values:
        vanishing = _product(vanishing, [-point % PRIME, 1])
    before, now = vanishing, _interpolated(values, vanishing)
    cofactor_before, cofactor = [0], [1]
    # Euclid's algorithm, stopped half-way: `now` is then the message times the locator of the errors, which is `cofactor`.
    while 2 * (len(now) - 1) >= len(values) + threshold:
        quotient, rest = _divided(before, now)
        before, now = now, rest
        cofactor_before, cofactor = cofactor, _difference(cofactor_before, _product(quotient, cofactor))
    message, rest = _divided(now, cofactor)
    return message if not any(rest) and len(message) <= threshold else None


def _interpolated(values: Mapping[int, int], vanishing: Sequence[int]) -> list[int]:
    """The polynomial through all `values`; `vanishing` is zero at exactly their points."""
    total = [0] * len(values)
    for point, value in values.items():
        others, _ = _divided(vanishing, [-point % PRIME, 1])
        scale = value * pow(_evaluate(others, point), -1, PRIME) % PRIME
        total = [(a + scale * b) % PRIME for a, b in zip(total, others, strict=True)]
    return _trimmed(total)


def _divided(above: Sequence[int], below: Sequence[int]) -> tuple[list[int], list[int]]:
    """Quotient and remainder of polynomials, lowest coefficient first; `below` ends in a coefficient that is not zero."""
    rest, inverse = list(above), pow(below[-1], -1, PRIME)
    quotient = [0] * max(1, len(rest) - len(below) + 1)
    for place in range(len(rest) - len(below), -1, -1):
        factor = quotient[place] = rest[place + len(below) - 1] * inverse % PRIME
        for offset, coefficient in enumerate(below):
            rest[place + offset] = (rest[place + offset] - factor * coefficient) % PRIME
    return quotient, _trimmed(rest)


def _product(one: Sequence[int], other: Sequence[int]) -> list[int]:
    product = [0] * (len(one) + len(other) - 1)
    for place, a in enumerate(one):
        for offset, b in enumerate(other):
            product[place + offset] = (product[place + offset] + a * b) % PRIME
    return product


def _difference(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return _trimmed([(a - b) % PRIME for a, b in zip_longest(one, other, fillvalue=0)])


def _trimmed(polynomial: list[int]) -> list[int]:
    """Without leading zeros, but never empty."""
    while len(polynomial) > 1 and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _is_share(share: bytes) -> bool:
    return len(share) == SHARE_BYTES and int.from_bytes(share, "big") < PRIME


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
