"""Values that occur nowhere else, and a search for them in whatever form they might have leaked."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

CONTRACT = """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: EUR, range: [0, 1000]}
  income: {type: number, unit: EUR, range: [0, 100], missing: indicator}
  purpose: {type: category, vocabulary: [car, house]}
"""
RANGES = {"amount": 1000.0, "income": 100.0}
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


class Canaries:
    """Rows of one site in which every number, key and stray word is a canary."""

    def __init__(self, seed: str, rows: int = 48) -> None:
        source = Random(f"canaries {seed}")
        self.numbers = {
            name: [source.uniform(0.2 * most, 0.9 * most) for _ in range(rows)]
            for name, most in RANGES.items()
        }
        self.words = ["CANARY" + "".join(source.choices(_ALPHABET, k=12)) for _ in range(rows)]
        self.keys = ["KEY" + "".join(source.choices(_ALPHABET, k=14)) for _ in range(rows)]
        self._status = ["bad" if place % 3 == 0 else "good" for place in range(rows)]

    def table(self, **changed: list[object]) -> pa.Table:
        """The rows; one word in four of `purpose` is a canary, which the contract counts as another."""
        purpose = [word if place % 4 == 0 else "car" for place, word in enumerate(self.words)]
        columns: dict[str, object] = {
            "loan_id": self.keys, **self.numbers, "purpose": purpose, "status": self._status,
        }  # fmt: skip
        return pa.table(columns | changed)

    def needles(self) -> dict[bytes, str]:
        """What to look for, with words for it."""
        found: dict[bytes, str] = {}
        for name, values in self.numbers.items():
            for value in values:
                for form, data in forms_of_number(value, RANGES[name]):
                    found[data] = f"{name} {value!r} as {form}"
        for text in (*self.words, *self.keys):
            for form, data in forms_of_text(text):
                found[data] = f"{text} as {form}"
        return found


def forms_of_number(value: float, most: float) -> Iterable[tuple[str, bytes]]:
    """A number, and the feature that is made of it, as text and in the binary forms that numbers travel in."""
    yield "text", f"{value:.9g}"[:8].encode()
    for what, number in (("a number", value), ("a feature", value / most)):
        for form in ("<d", ">d", "<f", ">f"):
            packed = struct.pack(form, number)
            if len(packed) == 8:  # four bytes occur by chance
                yield f"{what}, {form}", packed
                yield f"{what}, {form} in base64", base64.b64encode(packed)[:10]
                yield f"{what}, {form} in hexadecimal", packed.hex().encode()


def forms_of_text(text: str) -> Iterable[tuple[str, bytes]]:
    """A word as it is, in UTF-16, in hexadecimal, and in base64 wherever it begins in what was encoded."""
    data = text.encode()
    yield "text", data
    yield "UTF-16", text.encode("utf-16-le")
    yield "hexadecimal", data.hex().encode()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + data)
        yield f"base64 from byte {before}", coded[4 if before else 0 : -4]


def leaks(places: Iterable[tuple[str, bytes]], needles: Mapping[bytes, str]) -> list[str]:
    """Where a canary is, and which: every one of `needles` is looked for in each place."""
    return [
        f"{place}: {words}" for place, content in places for data, words in needles.items() if data in content
    ]


def files_under(folder: Path, *, but: Iterable[str] = ()) -> list[tuple[str, bytes]]:
    """All files below a folder, outside of folders that are called as one of `but`."""
    left_out = set(but)
    return [
        (str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not left_out & set(path.relative_to(folder).parts)
    ]


def write_rows(table: pa.Table, path: Path) -> None:
    """Uncompressed, so that the search finds in the file itself what it must find nowhere else."""
    pq.write_table(table, path, compression="none", use_dictionary=False)
