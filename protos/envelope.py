"""A frame inside a Flower message, and nothing else inside it.

Each Flower record is an object of its own that costs one request to push and one to pull, so a frame is one record as long as
it is small, and pieces of `PIECE_BYTES` when it is not.
"""

from __future__ import annotations

from flwr.app import ConfigRecord, Message, RecordDict

from protos.codec import MAX_FRAME_BYTES, CodecError

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
    records = message.content.config_records
    if len(records) != len(message.content) or not records:
        raise CodecError("a Flower message that holds more than a frame")
    pieces: list[bytes] = []
    for index in range(len(records)):
        record = records.get(_name(index))
        piece = None if record is None else record.get(_FIELD)
        if not isinstance(piece, bytes):
            raise CodecError(f"piece {index} of a frame is missing")
        if record is None or len(record) > 1:
            raise CodecError("a Flower message that holds more than a frame")
        pieces.append(piece)
    if sum(map(len, pieces)) > MAX_FRAME_BYTES:
        raise CodecError(f"a frame of more than {MAX_FRAME_BYTES} bytes")
    return b"".join(pieces)


def _name(index: int) -> str:
    return f"frame-{index:05d}"
