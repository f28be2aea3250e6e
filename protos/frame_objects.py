"""The Flower message that a frame travels in, put together from objects that other parties made, and nothing else put together.

flwr makes whatever objects say: an array that names one chunk a million times, a record of a million entries, each many times as large as what
came. Here

1. a message, its content, and records of one entry of bytes are all that is read, each record byte for byte as flwr writes what `seal` makes;
2. what is parsed, the message's head and the names of its records, is bounded before that;
3. pieces are not copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from flwr.app import Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_head_values_from_object_content,
)
from google.protobuf.message import DecodeError

from protos.codec_fields import CodecError
from protos.envelope import MOST_PIECES, PieceRecord

MOST_PARSED_BYTES: Final = 256 << 10
"""Of a message without its content, or of a content without its records: names and ids of all pieces take 100 kB."""
_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
"""What flwr raises on bytes that make no message."""
_RECORD: Final = b"ConfigRecord  %d\0"
_ITEM, _KEY, _VALUE, _BYTES = b"\x0a", b"\x0a\x05bytes", b"\x12", b"\x32"
"""Tags of flwr's `ConfigRecord`: its first item, the key of that, its value, and bytes as a value."""
_LEAST_HEAD, _MOST_HEAD = 30, 64


def message_of(object_id: str, contents: Mapping[str, bytes]) -> Message:
    """The message of that id. Raises `CodecError` where `contents`, by id, are not those of an error or a frame, or lack one."""
    kind, children = _parsed(object_id, contents)
    if kind != "Message" or len(children) > 1:
        raise CodecError(f"no Flower message: {kind[:40]!r} with {len(children)} contents")
    try:
        return Message.inflate(contents[object_id], {child: _content(child, contents) for child in children})
    except _MALFORMED as error:
        raise CodecError(f"no Flower message: {type(error).__name__}") from error


def _content(object_id: str, contents: Mapping[str, bytes]) -> RecordDict:
    """The records of a frame, by name."""
    kind, children = _parsed(object_id, contents)
    if kind != "RecordDict" or len(children) > MOST_PIECES:
        raise CodecError(
            f"a Flower message that holds no frame, but {kind[:40]!r} of {len(children)} records"
        )
    try:
        named = json.loads(get_object_body(contents[object_id], RecordDict))
    except _MALFORMED as error:
        raise CodecError(f"no Flower message: its records have no names ({type(error).__name__})") from error
    if not isinstance(named, dict) or not all(isinstance(each, str) for each in named.values()):
        raise CodecError("no Flower message: its records have no names")
    if set(named.values()) != set(children) or len(named) > MOST_PIECES:
        raise CodecError("no Flower message: it names other records than it has")
    return RecordDict({name: PieceRecord(_piece(_object(each, contents))) for name, each in named.items()})


def _parsed(object_id: str, contents: Mapping[str, bytes]) -> tuple[str, list[str]]:
    """The kind and the children of an object that is small enough to be parsed."""
    content = _object(object_id, contents)
    if len(content) > MOST_PARSED_BYTES:
        raise CodecError(
            f"a Flower message of {len(content)} bytes beside its pieces; at most {MOST_PARSED_BYTES} are accepted"
        )
    try:
        kind, children, _ = get_object_head_values_from_object_content(content)
    except _MALFORMED as error:
        raise CodecError(f"no Flower message: {type(error).__name__}") from error
    return kind, children


def _object(object_id: str, contents: Mapping[str, bytes]) -> bytes:
    if (content := contents.get(object_id)) is None:
        raise CodecError("no Flower message: an object that it names has not come")
    return content


def _piece(record: bytes) -> memoryview:
    """The bytes in an object that is a record of nothing else, where they lie."""
    for head in range(_LEAST_HEAD, min(_MOST_HEAD, len(record)) + 1):
        if record.startswith(expected := _head_of(len(record) - head)) and len(expected) == head:
            return memoryview(record)[head:]
    raise CodecError("a Flower message that holds more than a frame")


def _head_of(size: int) -> bytes:
    """How flwr begins a record of `size` bytes under the name `bytes`."""
    value = _BYTES + _varint(size)
    item = _KEY + _VALUE + _varint(len(value) + size) + value
    body = _ITEM + _varint(len(item) + size) + item
    return _RECORD % (len(body) + size) + body


def _varint(number: int) -> bytes:
    """A number as protobuf writes lengths."""
    parts = bytearray()
    while number > 0x7F:  # noqa: PLR2004 (seven bits a byte)
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
