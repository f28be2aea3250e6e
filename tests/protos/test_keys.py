"""Public keys are points that somebody can hold the key of, each written in one way."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protos.enrolment import IdentityCard
from protos.keys import SigningKey, fingerprint, public_bytes, verify
from protos.root import Root, RootKey
from strategies.errors import UsageError
from tests.trust_for_tests import FAR, key_of

# Edwards 25519, RFC 8032, section 5.1, in affine coordinates: slow, and easy to compare with the text.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
ZERO: Point = (0, 1)


def add(one: Point, other: Point) -> Point:
    (a, b), (c, d) = one, other
    cross = D * a * b * c * d
    return (
        (a * d + b * c) * pow(1 + cross, -1, P) % P,
        (b * d + a * c) * pow(1 - cross, -1, P) % P,
    )


def times(number: int, point: Point) -> Point:
    found = ZERO
    for digit in f"{number:b}":
        found = add(found, found)
        if digit == "1":
            found = add(found, point)
    return found


def on_the_curve(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root, y
    return None


def small_points() -> set[Point]:
    """All whose order divides 8: the order of the whole group is 8 L, so what is left of a point times L is among them."""
    for y in range(2, 100):
        point = on_the_curve(y)
        found = None if point is None else times(L, point)
        if found is not None and times(4, found) != ZERO:
            return {times(number, found) for number in range(8)}
    raise AssertionError("no point of order 8 below y = 100")


def written(y: int, sign: int) -> str:
    return base64.b64encode((y | sign << 255).to_bytes(32, "little")).decode()


SMALL = sorted(
    written(form, sign)
    for y in {y for _, y in small_points()}
    for form in (y, y + P)
    if form < 2**255
    for sign in (0, 1)
)
NOT_CANONICAL = [written(y, sign) for y in range(P, 2**255) for sign in (0, 1)]


def test_there_are_eight_small_points_in_fourteen_forms() -> None:
    assert len(small_points()) == 8
    assert len(set(SMALL)) == 14


@pytest.mark.parametrize("key", SMALL)
def test_a_point_of_small_order_is_no_public_key(key: str) -> None:
    with pytest.raises(UsageError, match="no public key that somebody can hold"):
        public_bytes(key)
    with pytest.raises(UsageError, match="no public key that somebody can hold"):
        fingerprint(key)


@pytest.mark.parametrize("key", NOT_CANONICAL)
def test_a_point_is_written_in_one_way(key: str) -> None:
    with pytest.raises(UsageError, match="no public key that somebody can hold"):
        public_bytes(key)


def test_a_key_without_a_holder_shows_no_possession_and_signs_nothing() -> None:
    """The library would verify this signature over anything."""
    key, signature = written(1, 0), base64.b64encode(bytes([1]) + bytes(63)).decode()
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key)).verify(base64.b64decode(signature), b"any")
    assert not verify(key, signature, "covenant/test", b"any")
    with pytest.raises(ValueError, match="no public key that somebody can hold"):
        IdentityCard(name="ghost", public_key=key, signature=signature)
    keys = (RootKey(name="ash", key=key_of("ash").public), RootKey.model_construct(name="ghost", key=key))
    with pytest.raises(ValueError, match="no public key that somebody can hold"):
        Root.model_validate(
            {"federation": "demo", "version": 1, "quorum": 2, "expires": FAR,
             "keys": [each.model_dump() for each in keys]}
        )  # fmt: skip


def test_keys_that_are_made_are_public_keys() -> None:
    for _ in range(100):
        assert len(public_bytes(SigningKey.generate().public)) == 32
