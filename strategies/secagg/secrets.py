"""Secrets that are not bytes: they print nothing, cannot be pickled or copied, and compare in constant time."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, Self

from strategies.errors import UsageError

SECRET_BYTES: Final = 32


class Secret:
    """32 bytes that nobody but its owner may learn. Subclasses say what they open; one kind is never taken for another."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        """Take 32 bytes. Raises UsageError for another length, without repeating them."""
        if len(content) != SECRET_BYTES:
            raise UsageError(
                f"a {type(self).__name__} has {SECRET_BYTES} bytes; this one would have {len(content)}"
            )
        self._content = bytes(content)

    def reveal(self) -> bytes:
        """The bytes. Every call of this is a place to look at in a review."""
        return self._content

    def __eq__(self, other: object) -> bool:
        # The type itself, not a subclass: a mask seed is no envelope key, whatever its bytes.
        return (
            isinstance(other, Secret)
            and type(other) is type(self)
            and hmac.compare_digest(self._content, other._content)
        )

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret has no hash, which would leave a trace of it in a set's order")

    def __repr__(self) -> str:
        return f"<secret {type(self).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __copy__(self) -> Self:
        raise TypeError("a secret cannot be pickled or copied")


class MaskSeed(Secret):
    """Expands to a mask over a whole vector. Known to two sites (pairwise), or to one (its own)."""

    __slots__ = ()


class EnvelopeKey(Secret):
    """Seals what one site sends to another through the coordinator."""

    __slots__ = ()
