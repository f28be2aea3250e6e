"""Lists in pages: how many at most, and where the next one begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from google.protobuf.message import Message

from strategies.errors import UsageError

DEFAULT_PAGE: Final = 50
MOST_A_PAGE: Final = 500
FULL_BYTES: Final = 2 << 20
_LONGEST_TOKEN: Final = 15
M = TypeVar("M", bound=Message)


def limit_of(page_size: int) -> int:
    """How many are given for a `page_size`."""
    return min(page_size or DEFAULT_PAGE, MOST_A_PAGE)


def start_of(page_token: str) -> int:
    """Where a page begins: 0 without a token. Raises UsageError for a token that was never given."""
    if not page_token:
        return 0
    if len(page_token) > _LONGEST_TOKEN or not (page_token.isascii() and page_token.isdecimal()):
        raise UsageError(
            f"page_token is {page_token[:40]!r}; use `next_page_token` of the page before, or none for the first page"
        )
    return int(page_token)


def page_of(start: int, limit: int, found: Iterable[M]) -> tuple[list[M], str]:
    """The messages of a page that begins at `start`, and the token of the next one; `found` goes one further than `limit`, if there are so many.

    A page ends early once it is full, so that it fits one message of the wire.
    """
    page: list[M] = []
    given = 0
    for each in found:
        if len(page) == limit or given > FULL_BYTES:
            return page, str(start + len(page))
        page.append(each)
        given += each.ByteSize()
    return page, ""
