"""A frame inside a Flower message, and nothing else inside it.

1. Each Flower record is an object of its own that costs one request to push and one to pull, so a frame is one record as long as it is small, and
   pieces of at most `PIECE_BYTES` when it is not. The pieces put together are the frame; a reader does not care where they end.
2. Of a frame with large vectors the pieces end where its vectors do. What one request has in common with another is then the same objects,
   which a SuperLink keeps once.
3. A large frame that leaves is not copied: each of its pieces is made when it is sent, and forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import ConfigRecord, Message, RecordDict

from protos.codec_fields import CodecError
from protos.frame_size import MAX_FRAME_BYTES
from strategies.pieces import Bytes, Pieces, joined, pieces_of

PIECE_BYTES = 8 << 20
MOST_PIECES = 1022
"""Several times what the largest frame travels in; with the message and its content, 1,024 objects."""
_FIELD = "bytes"
_PREFIX = "frame-"
_DIGITS = 5


class PieceRecord(ConfigRecord):
    """A record whose bytes lie where they lie, those of a message or of what came."""

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self.content = content

    def deflate(self) -> bytes:
        """As a record that holds the bytes would."""
        return ConfigRecord({_FIELD: bytes(self.content)}).deflate()


def seal(frame: Bytes) -> RecordDict:
    """Put a frame into the content of a Flower message."""
    if len(frame) <= PIECE_BYTES:
        return RecordDict({_name(0): ConfigRecord({_FIELD: joined(frame)})})
    pieces = [
        part[start : start + PIECE_BYTES]
        for part in pieces_of(frame).parts
        for start in range(0, len(part), PIECE_BYTES)
    ]
    return RecordDict({_name(index): PieceRecord(piece) for index, piece in enumerate(pieces)})


def unseal(message: Message, most_bytes: int = MAX_FRAME_BYTES) -> Bytes:
    """Take the frame out of a Flower message, in its pieces if it has several; raises `CodecError` if it is larger than `most_bytes`, or the
    message holds anything else. One object may be a piece under many names, so what came tells nothing of the frame's size.
    """
    if not message.has_content():
        raise CodecError("a Flower message without content")
    # Not through `config_records`, which ties the content into a cycle: a reply would stay in memory until the collector comes by.
    records = dict(message.content.items())
    if not records or not all(isinstance(record, ConfigRecord) for record in records.values()):
        raise CodecError("a Flower message that holds more than a frame")
    if len(records) > MOST_PIECES:
        raise CodecError(f"a frame in {len(records)} pieces; at most {MOST_PIECES} are accepted")
    pieces = [_content(records, index) for index in range(len(records))]
    if (size := sum(map(len, pieces))) > (most := min(most_bytes, MAX_FRAME_BYTES)):
        raise CodecError(f"a frame of {size} bytes; at most {most} are accepted")
    return bytes(pieces[0]) if len(pieces) == 1 and size <= PIECE_BYTES else Pieces(pieces)


def _content(records: Mapping[str, object], index: int) -> bytes | memoryview:
    """A piece of a frame; raises `CodecError` where it is missing, or something else lies in its place."""
    record = records.get(_name(index))
    if isinstance(record, PieceRecord):
        return record.content
    piece = record.get(_FIELD) if isinstance(record, ConfigRecord) else None
    if not isinstance(record, ConfigRecord) or not isinstance(piece, bytes):
        raise CodecError(f"piece {index + 1} of {_count(records)} of a frame is missing")
    if len(record) > 1:
        raise CodecError("a Flower message that holds more than a frame")
    return piece


def _count(records: Mapping[str, object]) -> int:
    """How many pieces there must have been: those that came, and those below the last. Whoever sends names them, so no other number is read than `_name` writes."""
    last = max(records)
    numbered = last.removeprefix(_PREFIX)
    is_piece = last.startswith(_PREFIX) and len(numbered) == _DIGITS
    return max(
        len(records), int(numbered) + 1 if is_piece and numbered.isascii() and numbered.isdigit() else 0
    )


def _name(index: int) -> str:
    return f"{_PREFIX}{index:0{_DIGITS}d}"
