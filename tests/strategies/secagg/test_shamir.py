"""Shamir's sharing: any threshold of shares gives the secret, fewer fit every secret, and nothing malformed is used."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.errors import Refused, UsageError
from strategies.secagg.shamir import (
    PRIME,
    SHARE_BYTES,
    coefficients_at_zero,
    combine,
    corrected,
    share_value,
    split,
)

SECRET = bytes(range(32))


def entropy(seed: int):
    return random.Random(seed).randbytes


@given(st.binary(min_size=32, max_size=32), st.integers(1, 20), st.integers(0, 20), st.integers(0, 10**9))
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, threshold: int, more: int, seed: int
) -> None:
    points = random.Random(seed).sample(range(1, 60_000), threshold + more)
    shares = split(secret, threshold, points, entropy(seed))
    chosen = random.Random(seed + 1).sample(points, threshold)
    assert combine({p: shares[p] for p in chosen}, coefficients_at_zero(chosen)) == secret
    assert combine(shares, coefficients_at_zero(points)) == secret


@given(st.binary(min_size=32, max_size=32))
def test_fewer_shares_fit_every_secret_alike(other: bytes) -> None:
    """For each secret there is exactly one polynomial through two shares of a threshold of three: they say nothing."""
    shares = split(SECRET, 3, [1, 2, 3], entropy(7))
    at_zero = int.from_bytes(other, "big")
    # The value at point 3 of the parabola through (0, other), (1, s1), (2, s2).
    s1, s2 = share_value(shares[1]), share_value(shares[2])
    third = (at_zero - 3 * s1 + 3 * s2) % PRIME
    forged = {1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}
    assert combine(forged, coefficients_at_zero([1, 2, 3])) == other


# Wrong shares: of m, up to half of those beyond the threshold.


@st.composite
def codes(draw: st.DrawFn) -> tuple[int, dict[int, bytes], list[int]]:
    """A threshold, the shares of a secret by point, and an order of the points in which some are to be spoiled."""
    threshold, count = draw(st.integers(1, 12)), draw(st.integers(1, 24))
    seed = draw(st.integers(0, 2**32))
    points = random.Random(seed).sample(range(1, 60_000), max(threshold, count))
    return threshold, split(SECRET, threshold, points, entropy(seed)), points


def spoiled(shares: dict[int, bytes], points: list[int], seed: int) -> dict[int, bytes]:
    """Other shares at some points: unrelated, or off by one, as a bit that flips or a site that thinks it is clever makes them."""
    source = random.Random(seed)
    wrong = {
        point: (share_value(shares[point]) + source.choice([1, PRIME - 1, source.randrange(1, PRIME)]))
        % PRIME
        for point in points
    }
    return shares | {point: value.to_bytes(SHARE_BYTES, "big") for point, value in wrong.items()}


@settings(max_examples=150, deadline=None)
@given(codes(), st.integers(0, 2**32), st.data())
def test_wrong_shares_up_to_the_radius_are_found_and_the_secret_is_right(
    code: tuple[int, dict[int, bytes], list[int]], seed: int, data: st.DataObject
) -> None:
    threshold, shares, points = code
    wrong = points[: data.draw(st.integers(0, (len(points) - threshold) // 2))]
    assert corrected(spoiled(shares, wrong, seed), threshold) == (SECRET, frozenset(wrong))


@settings(max_examples=150, deadline=None)
@given(codes(), st.integers(0, 2**32), st.integers(1, 3))
def test_wrong_shares_beyond_the_radius_are_refused_and_no_other_secret_comes_of_them(
    code: tuple[int, dict[int, bytes], list[int]], seed: int, more: int
) -> None:
    """Of unrelated shares; those of another polynomial of the same degree would of course give its secret."""
    threshold, shares, points = code
    count = min(len(points), (len(points) - threshold) // 2 + more)
    source = random.Random(seed)
    drawn = {point: source.randrange(2**256).to_bytes(SHARE_BYTES, "big") for point in points[:count]}
    try:
        found = corrected(shares | drawn, threshold)
    except Refused:
        return
    # Every share is one of a polynomial if no more than a threshold is there.
    assert len(points) == threshold
    assert found[0] != SECRET
    assert found[1] == frozenset()


@settings(max_examples=80, deadline=None)
@given(codes(), st.integers(0, 2**32), st.data())
def test_what_is_no_share_costs_no_more_than_a_missing_one(
    code: tuple[int, dict[int, bytes], list[int]], seed: int, data: st.DataObject
) -> None:
    threshold, shares, points = code
    cut = data.draw(st.integers(0, len(points) - threshold))
    wrong = data.draw(st.integers(0, (len(points) - cut - threshold) // 2))
    broken = {p: data.draw(st.sampled_from([b"", bytes(32), b"\xff" * 33])) for p in points[:cut]}
    found = corrected(spoiled(shares, points[cut : cut + wrong], seed) | broken, threshold)
    assert found == (SECRET, frozenset(points[: cut + wrong]))


def test_fewer_shares_than_a_threshold_are_not_decoded() -> None:
    shares = split(SECRET, 3, [1, 2, 3, 4], entropy(1))
    with pytest.raises(Refused, match="2 shares are elements of the field; 3 are needed"):
        corrected({**shares, 1: b"", 2: b""}, 3)


def test_shares_of_what_is_no_secret_are_not_decoded() -> None:
    """Of an element of the field that has 33 bytes."""
    shares = {point: (2**256 + 5).to_bytes(SHARE_BYTES, "big") for point in (1, 2, 3)}
    with pytest.raises(Refused, match="do not fit together"):
        corrected(shares, 1)


def test_shares_of_two_secrets_give_the_one_that_more_are_of() -> None:
    """Colluding holders may agree on another polynomial: no secret is right by itself, and whoever decodes checks what comes out."""
    ours, theirs = (split(bytes([seed]) * 32, 3, range(1, 8), entropy(seed)) for seed in (1, 2))
    assert corrected(ours | {p: theirs[p] for p in (1, 2)}, 3) == (bytes([1]) * 32, frozenset({1, 2}))
    assert corrected(ours | {p: theirs[p] for p in range(1, 6)}, 3)[0] == bytes([2]) * 32


def test_shares_of_one_secret_are_unrelated_from_one_sharing_to_the_next() -> None:
    first, second = (split(SECRET, 2, [1, 2, 3], entropy(seed)) for seed in (1, 2))
    assert all(first[p] != second[p] for p in (1, 2, 3))


def test_a_share_by_hand() -> None:
    """Threshold 2, secret 5, slope 3: the line is 5 + 3 x."""
    secret = (5).to_bytes(32, "big")
    shares = split(secret, 2, [1, 2, 10], lambda count: (3).to_bytes(count, "big"))
    assert [share_value(shares[p]) for p in (1, 2, 10)] == [8, 11, 35]


def test_the_field_is_a_field() -> None:
    """Fermat to a few bases, and the smallest prime above 2^256: no odd number before it passes.

    To base 3, because to base 2 the Fermat number 2^256 + 1 passes, which is not prime.
    """
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))
    assert all(pow(3, n - 1, n) != 1 for n in range(2**256 + 1, PRIME, 2))


@pytest.mark.parametrize(("threshold", "points"), [(0, [1]), (3, [1, 2]), (-1, [1])])
def test_a_threshold_that_cannot_be_reached_is_refused(threshold: int, points: list[int]) -> None:
    with pytest.raises(UsageError, match="cannot be reached"):
        split(SECRET, threshold, points, entropy(1))


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [1, 1 << 16], [-1, 2]])
def test_a_point_is_never_zero_and_never_twice(points: list[int]) -> None:
    """The share of point 0 would be the secret itself."""
    with pytest.raises(UsageError, match="points are distinct, from 1"):
        split(SECRET, 1, points, entropy(1))


def test_a_secret_of_another_length_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError, match="this one has 5") as refused:
        split(b"abcde", 1, [1], entropy(1))
    assert "abcde" not in str(refused.value)


@pytest.mark.parametrize(
    "share",
    [b"", b"\x00" * 32, b"\x00" * 34, b"\xff" * 33, PRIME.to_bytes(33, "big")],
    ids=lambda s: s[:2].hex(),
)
def test_what_is_no_share_is_refused(share: bytes) -> None:
    with pytest.raises(Refused, match="element of the field"):
        combine({1: share}, coefficients_at_zero([1]))


def test_a_missing_share_is_named() -> None:
    with pytest.raises(Refused, match="point 2 is missing"):
        combine(split(SECRET, 1, [1], entropy(1)), coefficients_at_zero([1, 2]))


def test_two_shares_of_one_point_are_refused() -> None:
    with pytest.raises(Refused, match="of one point"):
        coefficients_at_zero([1, 2, 1])


def test_a_wrong_share_gives_another_secret_or_is_refused() -> None:
    """Sharing alone does not tell who lied; the protocol checks what comes out against a public key."""
    shares = split(SECRET, 2, [1, 2], entropy(3))
    shares[2] = ((share_value(shares[2]) + 1) % PRIME).to_bytes(SHARE_BYTES, "big")
    try:
        found = combine(shares, coefficients_at_zero([1, 2]))
    except Refused:
        return
    assert found != SECRET
