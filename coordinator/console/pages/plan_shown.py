"""What a plan's page showed an officer who decides: it comes back with the form, and is compared with what is so then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coordinator.console.plan_tables import SHOWN
from coordinator.governance.policies.rejudge import Said
from coordinator.office.standing import PlanStanding
from strategies.errors import UsageError
from strategies.ids import Digest


def shown(standing: PlanStanding, said: Sequence[Said], newest_of_name: Digest) -> dict[str, Any]:
    """What an officer who launches must have seen: it goes with the form, and is compared when that comes back."""
    return {
        "plan": standing.digest,
        "contract": standing.contract_digest,
        "newest": newest_of_name,
        "members": standing.members,
        "approvals": [f"{each.officer} as {each.role} until {each.expires}" for each in standing.approvals],
        "refused": standing.reason or "",
        "policies": [
            f"{pack.ref}: {each.rule} {each.outcome}" for pack, found in said for each in found.verdicts
        ],
    }


def read(text: str) -> Mapping[str, Any]:
    """What a form says that its page showed. Raises UsageError where it does not say."""
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise UsageError(
            "the form does not say what its page showed; open the plan again, and act from there"
        )
    return told


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was shown, in sentences."""
    for key, what in (("plan", "plan"), ("contract", "contract"), ("members", "member list")):
        if before.get(key) != now[key]:
            yield f"The {what} was {_words(before.get(key))}, and is {_words(now[key])}."
    if before.get("newest") != now["newest"]:
        yield f"A newer plan of this name was proposed: {_words(now['newest'])}."
    if before.get("refused") != now["refused"]:
        yield (
            f"It can no longer be launched: {now['refused']}."
            if now["refused"]
            else "It can be launched now."
        )
    for key, what in (("approvals", "approval"), ("policies", "policy's verdict")):
        old, new = _texts(before.get(key)), _texts(now[key])
        yield from (f"This {what} was there, and is not any more: {each}." for each in sorted(old - new))
        yield from (f"This {what} is new: {each}." for each in sorted(new - old))


def _words(value: object) -> str:
    return str(value)[:SHOWN]


def _texts(value: object) -> set[str]:
    return {str(each)[:300] for each in value[:500]} if isinstance(value, list) else set()
