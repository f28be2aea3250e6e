"""A mapping that lets go of what is oldest: for what can be made again, and is kept because that takes time."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Newest(OrderedDict[K, V]):
    """At most the `most` entries that were put in last."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        """Keep `value`, and let go of the oldest beyond the most."""
        super().__setitem__(key, value)
        while len(self) > self._most:
            self.popitem(last=False)
