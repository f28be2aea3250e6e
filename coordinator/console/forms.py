"""Forms as browsers send them, bounded in size, fields and time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from strategies.errors import UsageError

_MOST_BODY_BYTES: Final = 2 << 20
MOST_FIELDS: Final = 200
_BODY_S: Final = 20.0


def require_typed(form: Mapping[str, str], word: str) -> None:
    """Raise UsageError unless `word` was typed, which confirms what there is no undo for."""
    if form.get("confirmed", "").strip() != word:
        raise UsageError(f"nothing is done: type the word `{word}` into the form to confirm it")


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form. Raises UsageError where they are too many or too long, TimeoutError where they do not come."""
    body = bytearray()
    async with asyncio.timeout(_BODY_S):
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY_BYTES:
                raise UsageError(f"a form has at most {_MOST_BODY_BYTES >> 20} MiB; send less")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise UsageError(f"a form has at most {MOST_FIELDS} fields, in UTF-8") from error
