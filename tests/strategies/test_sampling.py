import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.errors import UsageError
from strategies.sampling import held_out

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(words), st.floats(0.0, 1.0))
def test_a_row_is_held_out_by_its_key_alone(keys: list[str], share: float) -> None:
    found = held_out(keys, "1", share)
    assert found.dtype == np.bool_
    assert found.shape == (len(keys),)
    for key, held in zip(keys, found, strict=True):
        assert held == held_out([key], "1", share)[0]


def test_the_hash_is_the_published_one() -> None:
    keys = [str(number) for number in range(500)]
    places = [
        int.from_bytes(hashlib.sha256(f"s\x1f{key}".encode()).digest()[:8], "big") / 2**64 for key in keys
    ]
    assert held_out(keys, "s", 0.3).tolist() == [place < 0.3 for place in places]


def test_known_keys_stay_on_their_side() -> None:
    held = held_out([str(number) for number in range(20)], "1", 0.3)
    assert np.flatnonzero(held).tolist() == [2, 8, 9, 10, 11, 13, 14, 18]


def test_the_share_is_about_right() -> None:
    held = held_out([f"loan-{number}" for number in range(20_000)], "1", 0.3)
    assert abs(held.mean() - 0.3) < 0.015


def test_the_salt_draws_another_line() -> None:
    keys = [str(number) for number in range(200)]
    assert (held_out(keys, "1", 0.5) != held_out(keys, "2", 0.5)).any()


@given(st.lists(words))
def test_share_zero_holds_out_nothing_and_share_one_everything(keys: list[str]) -> None:
    assert not held_out(keys, "1", 0.0).any()
    assert held_out(keys, "1", 1.0).all()


@given(st.lists(words), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_larger_share_keeps_what_a_smaller_one_held_out(keys: list[str], one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not (held_out(keys, "1", small) & ~held_out(keys, "1", large)).any()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="use a number from 0 to 1"):
        held_out(["a"], "1", share)


def test_a_salt_with_the_separator_is_refused() -> None:
    with pytest.raises(UsageError, match="0x1f"):
        held_out(["a"], "1\x1f2", 0.5)
