"""Lists in pages: how many at most, and where the next one begins."""

from __future__ import annotations

from typing import Final

from strategies.errors import UsageError

DEFAULT_PAGE: Final = 50
MOST_A_PAGE: Final = 500
_LONGEST_TOKEN: Final = 15


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


def token_after(start: int, given: int, limit: int, there_are: int) -> str:
    """The token of the page after this one; none where it was the last. `there_are` counts what was found, one beyond the page at least."""
    return str(start + given) if there_are > limit else ""
