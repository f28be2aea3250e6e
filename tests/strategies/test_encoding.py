import hashlib
import json
import math
import struct
from enum import IntEnum, StrEnum

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.encoding import (
    canonical_json,
    digest_of,
    json_numbers,
    sha256_hex,
    vector_bytes,
    vector_digest,
    vector_from_bytes,
)
from strategies.errors import Refused, UsageError

finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**53) + 1, 2**53 - 1)
digits = st.floats(
    2.0**53, 1e21, exclude_max=True
)  # what RFC 8785 writes without a point and without an exponent
leaves = st.none() | st.booleans() | st.text("abc") | whole | finite | digits | digits.map(lambda each: -each)
trees = st.recursive(leaves, lambda each: st.lists(each) | st.dictionaries(st.text("abc"), each))
vectors = hnp.arrays(np.float64, st.integers(0, 40), elements=finite)


def test_canonical_json_follows_the_rfc_8785_example() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical_json(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**53) + 1, 2**53 - 1))
)
def test_a_digest_does_not_depend_on_key_order(value: dict[str, int]) -> None:
    assert digest_of(value) == digest_of(dict(reversed(value.items())))


class _Word(StrEnum):
    ONE = "one"


class _Number(IntEnum):
    ONE = 1


any_text = st.text(st.characters(exclude_categories=["Cs"]))
any_leaf = (
    st.none()
    | st.booleans()
    | any_text
    | whole
    | finite
    | digits
    | st.sampled_from([*_Word, *_Number, np.float64(0.5)])
)
anything = st.recursive(
    any_leaf, lambda each: st.lists(each) | st.tuples(each, each) | st.dictionaries(any_text, each)
)


@given(anything)
def test_canonical_json_is_what_rfc8785_writes(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("exponent", range(-12, 24))
def test_numbers_about_where_exponents_begin_are_as_rfc8785_writes_them(exponent: int) -> None:
    for base in (1.0, 1.5, 9.999999999999998, 1.2345678901234567, 3.0):
        number = base * 10.0**exponent
        for value in (number, -number, math.nextafter(number, 0), math.nextafter(number, math.inf)):
            assert canonical_json(value) == rfc8785.dumps(value)
    for whole_number in (10**exponent, 2**53 - 1) if 0 <= exponent < 16 else (0.0, -0.0):
        assert canonical_json([whole_number]) == rfc8785.dumps([whole_number])


def test_keys_are_in_the_order_of_their_utf16_units() -> None:
    value = {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "\r": 4, "1": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical_json(value)).values()) == [4, 5, 6, 7, 3, 2, 1]
    assert canonical_json(value) == rfc8785.dumps(value)


def test_a_digest_is_sha256_of_the_canonical_bytes() -> None:
    assert digest_of({"b": 1, "a": 2.0}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53,
        {1: 2},
        {"\ud800": 1},
        "\ud800",
        b"x",
        object(),
        {"a": 1, 2: 3},
        {"a": {"\ud800", 1}},
        [{"a": -(2**53)}],
        {"a": [float("-inf")]},
        {None: 1},
        {1, 2},
    ],
)
def test_what_json_cannot_say_has_no_canonical_form(value: object) -> None:
    with pytest.raises(UsageError, match="no canonical JSON form"):
        canonical_json(value)


@given(trees)
def test_parsed_canonical_json_has_the_same_canonical_json(value: object) -> None:
    text = canonical_json(value)
    assert canonical_json(json_numbers(json.loads(text))) == text


def test_numbers_that_were_floats_are_floats_again_at_any_depth() -> None:
    value = {"a": [7.4e16, {"b": -(2.0**53), "c": 1e300}], "d": 2**53 - 1, "e": True, "f": "7"}
    text = canonical_json(value)
    assert b"74000000000000000" in text
    read = json_numbers(json.loads(text))
    assert read == value
    assert [type(each) for each in (*read["a"], read["a"][1]["b"], read["d"], read["e"])] == [
        float, dict, float, int, bool,
    ]  # fmt: skip


def test_a_number_that_no_float_holds_has_no_canonical_form_either() -> None:
    with pytest.raises(UsageError, match="no canonical JSON form"):
        canonical_json(json_numbers([10**400]))


@given(vectors)
def test_a_vector_survives_its_bytes_to_the_bit(vector: np.ndarray) -> None:
    data = vector_bytes(vector)
    back = vector_from_bytes(data, len(vector))
    assert data == struct.pack(f"<{len(vector)}d", *vector)
    assert vector_bytes(back) == data
    assert vector_digest(back) == hashlib.sha256(data).hexdigest()
    assert back.flags.writeable


def test_a_strided_vector_has_the_bytes_of_its_values() -> None:
    whole = np.arange(10.0)
    assert vector_bytes(whole[::2]) == vector_bytes(np.array([0.0, 2.0, 4.0, 6.0, 8.0]))


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros(3, np.float32), np.zeros(3, np.int64), np.float64(1.0)]
)
def test_only_flat_float64_is_a_vector(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"a vector is \(d,\) float64"):
        vector_bytes(array)


@pytest.mark.parametrize("data", [b"", bytes(7), bytes(15), bytes(17), bytes(24)])
def test_bytes_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(Refused, match=f"has {len(data)} bytes; 2 float64 values take 16"):
        vector_from_bytes(data, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_bytes_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(Refused, match="value 1 of the vector is"):
        vector_from_bytes(struct.pack("<2d", 0.0, value), 2)
