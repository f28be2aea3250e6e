"""Fixed-width exports of core banking systems: a code page, positions, packed and zoned decimals, as a layout describes them.

A record is a number of bytes, with or without a line's end. `packed` is COBOL's COMP-3 (two digits a byte, the sign in the last half), `zoned` is
USAGE DISPLAY (a digit a byte, the sign in the last zone), `binary` is COMP (big-endian two's complement), all with implied decimals.
IBM z/Architecture Principles of Operation, chapter 8 (decimal formats).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from client.data.connectors.interface import BATCH_ROWS
from client.data.report import DataError, Unreadable
from protos.documents import FROZEN, Document, DocumentError, FieldError, Part, load_document
from protos.names import ColumnName, matching

_MOST_DIGITS: Final = 18
_MOST_BYTES: Final = 16 << 20
"""Of a batch, however long its records are."""
_POSITIVE: Final = (0xA, 0xC, 0xE, 0xF)
_NEGATIVE: Final = (0xB, 0xD)
_BLANK: Final = 0x40
_ASCII_NEGATIVE: Final = {0x70 + digit: digit for digit in range(10)}
"""Overpunched minus in ASCII exports: p to y."""

Bytes = npt.NDArray[np.uint8]


class LayoutField(Part):
    """`bytes` bytes from position `at`, counted from 1: text, or a number with `decimals` implied digits after the point."""

    at: Annotated[int, Field(ge=1, le=100_000)]
    bytes: Annotated[int, Field(ge=1, le=1000)]
    type: Literal["text", "packed", "zoned", "binary"] = "text"
    decimals: Annotated[int, Field(ge=0, le=_MOST_DIGITS)] = 0

    @property
    def digits(self) -> int:
        """Most digits that fit."""
        return 2 * self.bytes - 1 if self.type == "packed" else self.bytes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.type == "text" and self.decimals:
            raise FieldError("decimals", "text has no implied decimals; write type: zoned, packed or binary")
        if self.type in ("packed", "zoned") and self.digits > _MOST_DIGITS + 1:
            raise FieldError(
                "bytes", f"{self.digits} digits are more than the {_MOST_DIGITS} that can be read exactly"
            )
        if self.type == "binary" and self.bytes not in (2, 4, 8):
            raise FieldError("bytes", "a binary field has 2, 4 or 8 bytes")
        return self

    @property
    def slice(self) -> slice:
        """In a record."""
        return slice(self.at - 1, self.at - 1 + self.bytes)


class Layout(Document):
    """How each record of a file is built. `line_end` is what follows a record, if anything does."""

    covenant: Literal["layout/v1"]
    code_page: Annotated[str, matching(r"[a-z0-9_-]{2,20}", "a code page, such as cp037, cp500 or cp1140")]
    record_bytes: Annotated[int, Field(ge=1, le=100_000)]
    line_end: Literal["none", "lf", "crlf"] = "none"
    fields: Annotated[Mapping[ColumnName, LayoutField], Field(min_length=1, max_length=2000), *FROZEN]

    @model_validator(mode="after")
    def _fields_are_inside(self) -> Self:
        for name, each in self.fields.items():
            if each.slice.stop > self.record_bytes:
                raise FieldError(
                    "fields", f"{name} ends at byte {each.slice.stop}; a record has {self.record_bytes}"
                )
        try:
            if len(bytes(range(256)).decode(self.code_page, errors="replace")) != 256:  # noqa: PLR2004
                raise FieldError(
                    "code_page",
                    f"{self.code_page} has characters of several bytes; positions need one byte each",
                )
        except LookupError as error:
            raise FieldError(
                "code_page", f"{self.code_page} is not known to Python; use its name there, such as cp037"
            ) from error
        return self


def load_layout(path: Path | None) -> Layout:
    """Read a layout. Raises `DataError` for one that cannot be used."""
    if path is None:
        raise DataError("a fixed-width file needs a layout")
    try:
        return load_document(path, Layout)
    except DocumentError as error:
        raise DataError(" ".join(str(error).split())) from error


@dataclass(frozen=True, slots=True)
class FixedWidthFile:
    """Records of one length, at most `BATCH_ROWS` and 16 MiB at a time."""

    path: Path
    layout: Layout

    textual = True

    @property
    def named(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def damaged(self) -> str:
        """How a sentence ends about text that is none."""
        return f"holds text that is not {self.layout.code_page}"

    def columns(self) -> list[str]:
        """Of the layout."""
        return list(self.layout.fields)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All its records."""
        fields = [self.layout.fields[name] for name in columns]
        broken = dict.fromkeys(columns, 0)
        for records in self._records():
            taken = []
            for name, each in zip(columns, fields, strict=True):
                values, bad = _decoded(each, records[:, each.slice], self.layout.code_page)
                broken[name] += bad
                taken.append(values)
            yield pa.record_batch(taken, names=list(columns))
        for name, count in broken.items():
            if count:
                kind = self.layout.fields[name].type
                raise DataError(
                    f"column {name!r} of {self.named} has {count} records that hold no {kind} number; compare the layout with the copybook"
                )

    def _records(self) -> Iterator[Bytes]:
        """(m, record bytes) of each batch; the line's end must be where it belongs."""
        ending = {"none": b"", "lf": b"\n", "crlf": b"\r\n"}[self.layout.line_end]
        length = self.layout.record_bytes + len(ending)
        at_once = length * min(BATCH_ROWS, _MOST_BYTES // length)
        try:
            with self.path.open("rb") as file:
                while data := file.read(at_once):
                    if len(data) % length:
                        raise Unreadable(
                            f"{self.named} ends within a record: its records are not {length} bytes long each"
                        )
                    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
                    if (
                        ending
                        and not (
                            records[:, self.layout.record_bytes :] == np.frombuffer(ending, np.uint8)
                        ).all()
                    ):
                        raise Unreadable(
                            f"{self.named} has records that are not {self.layout.record_bytes} bytes and {self.layout.line_end}"
                        )
                    yield records[:, : self.layout.record_bytes]
        except FileNotFoundError as error:
            raise Unreadable(
                f"{self.path} does not exist; `file` must name the export with this site's rows"
            ) from error
        except OSError as error:
            raise Unreadable(f"{self.path} cannot be read ({error.strerror})") from error


def _decoded(rule: LayoutField, raw: Bytes, code_page: str) -> tuple[pa.Array, int]:
    """The column, and how many of its values are no numbers. Blanks and binary zeros are missing, as exports write them."""
    match rule.type:
        case "text":
            return _text(raw, code_page), 0
        case "packed":
            whole, missing, bad = _packed(raw)
        case "zoned":
            whole, missing, bad = _zoned(raw, code_page)
        case "binary":
            whole = np.ascontiguousarray(raw).view(f">i{rule.bytes}")[:, 0].astype(np.int64)
            missing = bad = np.zeros(len(raw), dtype=np.bool_)
    mask = missing | bad
    if not rule.decimals:
        return pa.array(whole, mask=mask), int(bad.sum())
    # One rounding: both are exact up to 2^53, and beyond it the quotient is that of the nearest double.
    return pa.array(whole / 10**rule.decimals, mask=mask), int(bad.sum())


def _text(raw: Bytes, code_page: str) -> pa.Array:
    width = raw.shape[1]
    table = np.array(
        [ord(each) for each in bytes(range(256)).decode(code_page, errors="replace")], dtype=np.uint32
    )
    table[0] = ord(" ")  # "low values": nothing was written
    words = np.ascontiguousarray(table[raw]).view(f"<U{width}")[:, 0]
    return pc.utf8_trim_whitespace(pa.array(words, pa.string()))


def _packed(raw: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    digits = np.empty((len(raw), 2 * raw.shape[1]), dtype=np.int64)
    digits[:, 0::2], digits[:, 1::2] = raw >> 4, raw & 0xF
    sign, digits = digits[:, -1], digits[:, :-1]
    negative = np.isin(sign, _NEGATIVE)
    bad = (digits > 9).any(axis=1) | ~(negative | np.isin(sign, _POSITIVE)) | _too_long(digits)  # noqa: PLR2004
    missing = (raw == 0).all(axis=1) | (raw == _BLANK).all(axis=1)
    return np.where(negative, -_whole(digits), _whole(digits)), missing, bad & ~missing


def _zoned(
    raw: Bytes, code_page: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    zero = int(codecs.encode("0", code_page)[0])
    blank = int(codecs.encode(" ", code_page)[0])
    is_ebcdic = zero == 0xF0  # noqa: PLR2004
    digits = (raw & 0xF).astype(np.int64)
    zones = raw >> 4
    bad = (digits > 9).any(axis=1) | (zones[:, :-1] != zero >> 4).any(axis=1) | _too_long(digits)  # noqa: PLR2004
    last = zones[:, -1]
    if is_ebcdic:
        negative = np.isin(last, _NEGATIVE)
        bad |= ~(negative | np.isin(last, _POSITIVE))
    else:
        negative = np.isin(raw[:, -1], tuple(_ASCII_NEGATIVE))
        bad |= ~(negative | (last == zero >> 4))
    missing = (raw == 0).all(axis=1) | (raw == blank).all(axis=1)
    return np.where(negative, -_whole(digits), _whole(digits)), missing, bad & ~missing


def _whole(digits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    total = np.zeros(len(digits), dtype=np.int64)
    for place in range(digits.shape[1]):
        total = total * 10 + np.minimum(digits[:, place], 9)
    return total


def _too_long(digits: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """More digits than int64 holds for certain."""
    over = digits.shape[1] - _MOST_DIGITS
    return (digits[:, :over] != 0).any(axis=1) if over > 0 else np.zeros(len(digits), dtype=np.bool_)
