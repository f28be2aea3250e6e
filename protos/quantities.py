"""Durations and sizes as people write them: always with a unit, so that no reader has to guess it."""

import re
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)", re.ASCII)
_SECONDS_PER: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_DECIMAL_PREFIXES: Final = {
    prefix + "B": 1000**power for power, prefix in enumerate(("", "k", "M", "G", "T"))
}
_BINARY_PREFIXES: Final = {
    prefix + "iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), start=1)
}
_BYTES_PER: Final = _DECIMAL_PREFIXES | _BINARY_PREFIXES
_LONGEST_S: Final = 366 * 86400
_FINEST_S: Final = Decimal("0.000001")


def parse_duration(text: str) -> float:
    """Seconds in a text such as `5m`, `90s`, `1.5h` or `250ms`; ValueError if it is none, zero or above a year."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("should be a number with a unit (ms, s, m, h or d), such as 90s or 5m")
    # Decimal, so that 25ms and 0.025s are the same float to the bit: plans are compared by digest.
    seconds = Decimal(found[1]) * _SECONDS_PER[found[2]]
    if not 0 < seconds <= _LONGEST_S or seconds % _FINEST_S:
        raise ValueError("should be longer than 0s, at most 366d, and a whole number of microseconds")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The one canonical text of a duration: `300s`, `0.025s`.

    Microseconds, the finest that `parse_duration` reads, so what is written can be read back.
    """
    digits = f"{Decimal(repr(seconds)):.6f}".rstrip("0").rstrip(".")
    return f"{digits}s"


def parse_size(text: str) -> int:
    """Bytes in a text such as `2 GiB` or `500 MB`; ValueError if it is none, zero or not a whole number of bytes."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(
            "should be a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB or TiB), such as 2 GiB"
        )
    size = Decimal(found[1]) * _BYTES_PER[found[2]]
    if size < 1 or size != int(size):
        raise ValueError("should be a whole number of bytes, at least 1 B")
    return int(size)


def format_size(size: int) -> str:
    """The one canonical text of a size: the largest binary unit that divides it, as in `2 GiB` or `1500 B`."""
    for unit, scale in sorted(_BINARY_PREFIXES.items(), key=lambda item: -item[1]):
        if size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def _duration(value: object, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    # A bare number has lost its unit: fine between two lines of Python, where the field says seconds, never in a file.
    if info.mode == "python" and isinstance(value, int | float) and not isinstance(value, bool):
        return parse_duration(format_duration(value))
    raise ValueError("should be a number with a unit (ms, s, m, h or d), such as 90s or 5m")


def _size(value: object, info: ValidationInfo) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if info.mode == "python" and isinstance(value, int) and not isinstance(value, bool):
        return parse_size(f"{value} B")
    raise ValueError("should be a number with a unit, such as 2 GiB")


# Seconds in Python; text with a unit in documents and in canonical JSON.
Duration = Annotated[
    float, BeforeValidator(_duration), PlainSerializer(format_duration, return_type=str, when_used="json")
]

# Bytes in Python; text with a unit in documents and in canonical JSON.
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_size, return_type=str, when_used="json")]


def thousands(value: float, places: int = 0) -> str:
    """A number as people read it in text and tables: commas at thousands, and `places` decimal places."""
    return f"{value:,.{places}f}"
