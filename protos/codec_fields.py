"""The fields of frames, each within bounds: whatever bytes come in, a value that may be used comes out, or a `CodecError`.

Vectors are checked to be finite, because one NaN in one site's update would reach every site's next model.
"""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from protos import training_pb2 as pb
from protos.frame_size import CutShort, Layout, Vectors, cut, oversize
from strategies.encoding import Vector, vector_from_bytes
from strategies.errors import CovenantError, Refused
from strategies.features import Scaling
from strategies.ids import Digest
from strategies.pieces import Bytes

MAX_DOCUMENT_BYTES = 1 << 20
MAX_ROSTER = 10_000
MAX_FEATURES = 100_000
MAX_COMPONENT_CHARACTERS = 80
MAX_COUNTED_ROWS = 1 << 53
MAX_PANEL_CELLS = 20_000
"""More rows than this in one reply are refused, so that counts of a thousand sites add up in int64."""

_DIGEST_BYTES = 32
_FLOAT_BYTES = 8


class CodecError(CovenantError):
    """Bytes that are not a frame of this protocol version."""


def parse_as(frame: ProtoMessage, data: Bytes, layout: Layout, otherwise: str) -> Vectors:
    """Read bytes of a layout into a message, and its vectors; `CodecError` says `otherwise` where they are not one."""
    if too_large := oversize(data, layout):
        raise CodecError(too_large)
    try:
        skeleton, vectors = cut(data, layout)
        frame.ParseFromString(skeleton)
    except CutShort as short:
        raise CodecError(str(short)) from short
    except DecodeError as error:
        raise CodecError(otherwise) from error
    return vectors


def decode_digest(data: bytes, name: str) -> Digest:
    """A SHA-256 digest from its 32 bytes; raises `CodecError` for another length."""
    if len(data) != _DIGEST_BYTES:
        raise CodecError(f"{name} has {len(data)} bytes; a SHA-256 digest has {_DIGEST_BYTES}")
    return Digest(data.hex())  # which is how a digest is written


def read_document(data: bytes, name: str, *, least: int = 1, most: int = MAX_DOCUMENT_BYTES) -> bytes:
    """`data`, if it has `least` to `most` bytes; raises `CodecError` otherwise."""
    if not least <= len(data) <= most:
        raise CodecError(
            f"{'an' if name == 'evidence' else 'a'} {name} document of {len(data)} bytes; {least} to {most} are accepted"
        )
    return data


def read_floats(data: Bytes, name: str, *, least: int = 1) -> Vector:
    """Finite float64 values; raises `CodecError` otherwise."""
    if len(data) < least * _FLOAT_BYTES or len(data) % _FLOAT_BYTES:
        raise CodecError(f"{name} has {len(data)} bytes, which is not a whole number of float64 values")
    try:
        return vector_from_bytes(data, len(data) // _FLOAT_BYTES)
    except Refused as refused:
        raise CodecError(f"{name} holds a value that is not finite: {refused}") from refused


def read_counts(data: bytes) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(2, bins) rows of either class in each bin, none negative, at most `MAX_COUNTED_ROWS`; raises `CodecError` otherwise."""
    if not data or len(data) % (2 * _FLOAT_BYTES):
        raise CodecError(f"score_counts has {len(data)} bytes, which is not two rows of int64 counts")
    counts = np.frombuffer(data, dtype="<i8").astype(np.int64).reshape(2, -1)
    if (counts < 0).any():
        raise CodecError("score_counts holds a negative count")
    if counts.sum(dtype=np.float64) > MAX_COUNTED_ROWS:
        raise CodecError(f"score_counts holds more than {MAX_COUNTED_ROWS} rows")
    return counts


def read_panels(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(cells,) of panels, of either sign, none beyond `MAX_COUNTED_ROWS`; raises `CodecError` otherwise."""
    if len(data) > MAX_PANEL_CELLS * _FLOAT_BYTES or len(data) % _FLOAT_BYTES:
        raise CodecError(f"panels has {len(data)} bytes; it is at most {MAX_PANEL_CELLS} int64 values")
    cells = np.frombuffer(data, dtype="<i8").astype(np.int64)
    # In float64, where the smallest of int64 has a magnitude too.
    if (np.abs(cells.astype(np.float64)) > MAX_COUNTED_ROWS).any():
        raise CodecError(f"panels holds a value beyond {MAX_COUNTED_ROWS}")
    return cells


def read_scaling(frame: pb.Scaling) -> Scaling:
    """A scaling of finite means and positive deviations; raises `CodecError` otherwise."""
    if len(frame.mean) != len(frame.std) or len(frame.mean) > MAX_FEATURES:
        raise CodecError(f"a scaling of {len(frame.mean)} means and {len(frame.std)} standard deviations")
    values = np.asarray([*frame.mean, *frame.std], dtype=np.float64)
    if not np.isfinite(values).all() or any(std <= 0 for std in frame.std):
        raise CodecError(
            "a scaling with a value that is not finite, or a standard deviation that is not positive"
        )
    return Scaling(mean=tuple(frame.mean), std=tuple(frame.std))


def put_scaling(frame: pb.Request | pb.Champion, scaling: Scaling) -> None:
    """Put `scaling` into a request or a champion, also that of no numeric feature."""
    frame.scaling.SetInParent()
    frame.scaling.mean.extend(scaling.mean)
    frame.scaling.std.extend(scaling.std)
