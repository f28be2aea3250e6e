"""One sequence of bytes for every document and vector, so that digests agree everywhere.

1. A document is encoded as canonical JSON (RFC 8785): neither key order nor layout changes its digest.
2. A vector is encoded as little-endian IEEE 754 float64, whatever the machine.
3. Bytes from another party are checked for length and finiteness before they become a vector.
"""

import hashlib
from json.encoder import encode_basestring
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import rfc8785

from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from strategies.pieces import Bytes, Pieces, pieces_of

Vector: TypeAlias = npt.NDArray[np.float64]
"""A (d,) float64 array: a model, an update, or sums that travel."""

_FLOAT64_BYTES = 8
_BLOCK = 1 << 16
"""Values that are looked at together: so many that stay in the cache."""
_MOST_INTEGER = 2**53 - 1
_WORDS = {None: "null", True: "true", False: "false"}
_LEAST_PLAIN, _END_PLAIN = 1e-4, 1e16
"""Python writes a float's shortest digits without an exponent from here, and up to there; RFC 8785 does in a wider range."""


def canonical_json(value: object) -> bytes:
    """Encode `value` (dict, list, tuple, str, int, float, bool, None) by RFC 8785.

    Raises UsageError for NaN, infinities, integers beyond 2^53 - 1, keys that are not text, and other types.
    """
    try:
        return _canonical(value).encode()
    except ValueError as error:  # rfc8785's own errors, and lone surrogates
        raise UsageError(f"the value has no canonical JSON form (RFC 8785): {error}") from error


def _canonical(value: object) -> str:
    """`canonical_json` as text."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        # Of ASCII, Python's order is that of UTF-16 units.
        names = sorted(value, key=None if all(map(str.isascii, value)) else _utf16)
        return (
            "{" + ",".join([f"{encode_basestring(name)}:{_canonical(value[name])}" for name in names]) + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join([_canonical(each) for each in value]) + "]"
    return _canonical_leaf(value)


def _canonical_leaf(value: object) -> str:
    """What Python writes as RFC 8785 does, in a fraction of the time that rfc8785 takes; all else is left to that."""
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int) and -_MOST_INTEGER <= value <= _MOST_INTEGER:
        return int.__repr__(value)
    if isinstance(value, float) and _LEAST_PLAIN <= abs(value) < _END_PLAIN:
        return float.__repr__(value).removesuffix(".0")
    return rfc8785.dumps(cast("float", value)).decode()


def _utf16(text: str) -> bytes:
    return text.encode("utf-16be")


def json_numbers(value: object) -> Any:  # noqa: ANN401  (of the shape that `value` has)
    """Give numbers of parsed canonical JSON back the type that they were written from: integers beyond 2^53 - 1 become floats, at any depth.

    RFC 8785 writes a float of 2^53 up to 10^21 as digits, which parsers take for an integer; of an integer so large it has no form, so there
    is no doubt. What no float can hold stays as it is, for `canonical_json` to refuse.
    """
    match value:
        case dict():
            return {key: json_numbers(each) for key, each in value.items()}
        case list():
            return [json_numbers(each) for each in value]
        case int() if abs(value) > _MOST_INTEGER:
            try:
                return float(value)
            except OverflowError:
                return value
    return value


def sha256_hex(data: Bytes) -> Digest:
    """SHA-256 of `data` in lower-case hexadecimal."""
    return Digest(data.sha256() if isinstance(data, Pieces) else hashlib.sha256(data).hexdigest())


def digest_of(value: object) -> Digest:
    """SHA-256 of the canonical JSON of `value`. Raises UsageError as `canonical_json` does."""
    return sha256_hex(canonical_json(value))


def vector_bytes(vector: Vector) -> bytes:
    """Encode `vector`, (d,) float64, as 8 d bytes, little-endian. Raises UsageError for another shape or dtype."""
    return vector_pieces(vector).joined()


def vector_pieces(vector: Vector) -> Pieces:
    """The same bytes where they lie: they change with the vector. Raises UsageError as `vector_bytes` does."""
    if vector.ndim != 1 or vector.dtype != np.float64:
        raise UsageError(f"a vector is (d,) float64; this array is {vector.shape} {vector.dtype}")
    return Pieces((np.ascontiguousarray(vector, dtype="<f8").data,))


def vector_digest(vector: Vector) -> Digest:
    """SHA-256 of `vector_bytes(vector)`: equal only for vectors equal to the bit (-0.0 and 0.0 differ)."""
    return sha256_hex(vector_pieces(vector))


def vector_from_bytes(data: Bytes, size: int) -> Vector:
    """Decode `size` little-endian float64 values into a fresh (size,) float64 array.

    Raises Refused when the length is not 8 x size bytes or a value is NaN or infinite.
    """
    if len(data) != _FLOAT64_BYTES * size:
        raise Refused(f"the vector has {len(data)} bytes; {size} float64 values take {_FLOAT64_BYTES * size}")
    read = np.empty(size, dtype="<f8")
    target, begin = read.data.cast("B"), 0
    for part in pieces_of(data).parts:
        target[begin : begin + len(part)] = part
        begin += len(part)
    vector = read.astype(np.float64, copy=False)
    bad = first_not_finite(vector)
    if bad is not None:
        raise Refused(f"value {bad} of the vector is {vector[bad]}; every value must be finite")
    return vector


def first_not_finite(vector: Vector) -> int | None:
    """Where `vector`, (d,) float64, first holds a NaN or an infinity; None where it does not."""
    for first in range(0, len(vector), _BLOCK):
        bad = np.flatnonzero(~np.isfinite(vector[first : first + _BLOCK]))
        if bad.size:
            return first + int(bad[0])
    return None
