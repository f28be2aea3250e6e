"""A column of words as its distinct words and the place of each row's among them: what is checked, digested or decoded is so once a word, not once a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

LENGTH_BYTES: Final = 4
"""In binary form each word follows its length, little-endian."""
_CONTROLS: Final = 32
_CONTROLS_TO_ZERO: Final = bytes(_CONTROLS) + bytes(range(_CONTROLS, 256))


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """N words: `table[places[row]]` is a row's. `places` is (N,) intp; every word of the table has a row."""

    table: tuple[str, ...]
    places: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.places)

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
        """Words from one a row."""
        table: dict[str, int] = {}
        places = [table.setdefault(word, len(table)) for word in words]
        return cls(tuple(table), np.array(places, dtype=np.intp))

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> Words:
        """The rows of all parts, in order; a word that two parts have is in the table twice."""
        starts = np.cumsum([0, *(len(each.table) for each in parts)])
        places = [each.places + start for each, start in zip(parts, starts[:-1], strict=True)]
        return cls(tuple(word for each in parts for word in each.table), np.concatenate(places))

    @classmethod
    def from_binary(cls, data: bytes, rows: int) -> Self | None:
        """`rows` words that each follow their length, and no more; else None. Raises UnicodeDecodeError for one that is not UTF-8."""
        # Where words are short and hold no control characters, each begins after four of those. Whether that was so is seen by writing them again.
        words = data.translate(_CONTROLS_TO_ZERO).split(bytes(LENGTH_BYTES), rows)[1:]
        found = defaultdict[bytes, int](count().__next__)
        places = np.array(list(map(found.__getitem__, words)), dtype=np.intp)
        written = {word: len(word).to_bytes(LENGTH_BYTES, "little") + word for word in found}
        if len(words) != rows or b"".join(map(written.__getitem__, words)) != data:
            return cls._one_by_one(data, rows)
        return cls(tuple([word.decode() for word in found]), places)

    @classmethod
    def _one_by_one(cls, data: bytes, rows: int) -> Self | None:
        """The same for words of any length that hold anything."""
        found: list[bytes] = []
        at = 0
        for _ in range(rows):
            start = at + LENGTH_BYTES
            at = start + int.from_bytes(data[at:start], "little")
            found.append(data[start:at])
        return cls.of(word.decode() for word in found) if at == len(data) else None

    def objects(self) -> npt.NDArray[Any]:
        """One word a row, (N, 1), as the runtime takes them."""
        return np.array(self.table, dtype=object)[self.places].reshape(-1, 1)

    def first(self, words: Iterable[str]) -> int | None:
        """The first row that has one of `words`, or None."""
        of = set(words)
        sought = [place for place, word in enumerate(self.table) if word in of]
        return int(np.isin(self.places, sought).argmax()) if sought else None
