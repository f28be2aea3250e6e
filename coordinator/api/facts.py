"""Facts that the control API answers with, as JSON in one field of a message: read back, and held to the form that was asked for."""

from __future__ import annotations

import json
from typing import Any, Protocol

from strategies.errors import Refused


class Told(Protocol):
    """A message with facts."""

    facts: bytes


def one(answer: Told, server: str) -> dict[str, Any]:
    """An object. Raises Refused for anything else that `server` sent."""
    found = json.loads(answer.facts)
    if not isinstance(found, dict):
        raise Refused(f"{server} sent no facts")
    return found


def listed(answer: Told, server: str) -> list[dict[str, Any]]:
    """A list of objects. Raises Refused for anything else that `server` sent."""
    found = json.loads(answer.facts)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise Refused(f"{server} sent no list of facts")
    return found
