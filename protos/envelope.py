"""A frame inside a Flower message, and nothing else inside it.

Each Flower record is an object of its own that costs one request to push and one to pull, so a frame is one record as long as
it is small, and pieces of `PIECE_BYTES` when it is not.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Message, RecordDict

from protos.codec import CodecError
from protos.frame_size import MAX_FRAME_BYTES

PIECE_BYTES = 8 << 20
_FIELD = "bytes"


def seal(frame: bytes) -> RecordDict:
    """Put a frame into the content of a Flower message."""
    pieces = [frame[start : start + PIECE_BYTES] for start in range(0, len(frame), PIECE_BYTES)] or [b""]
    return RecordDict({_name(index): ConfigRecord({_FIELD: piece}) for index, piece in enumerate(pieces)})


def unseal(message: Message) -> bytes:
    """Take the frame out of a Flower message; raises `CodecError` if it holds anything else."""
    if not message.has_content():
        raise CodecError("a Flower message without content")
    # Not through `config_records`, which ties the content into a cycle: a reply would stay in memory until the collector comes by.
    records = dict(message.content.items())
    if not records or not all(isinstance(record, ConfigRecord) for record in records.values()):
        raise CodecError("a Flower message that holds more than a frame")
    pieces: list[bytes] = []
    for index in range(len(records)):
        record = records.get(_name(index))
        piece = record.get(_FIELD) if isinstance(record, ConfigRecord) else None
        if record is None or not isinstance(piece, bytes):
            raise CodecError(f"piece {index} of a frame is missing")
        if len(record) > 1:
            raise CodecError("a Flower message that holds more than a frame")
        pieces.append(piece)
    if sum(map(len, pieces)) > MAX_FRAME_BYTES:
        raise CodecError(f"a frame of more than {MAX_FRAME_BYTES} bytes")
    return b"".join(pieces)


def _name(index: int) -> str:
    return f"frame-{index:05d}"
