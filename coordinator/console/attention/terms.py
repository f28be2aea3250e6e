"""Keys and roots that end soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from coordinator.console.attention.matter import Looking, Matter, Urgency
from protos.membership import Role

_ENDS_SOON: Final = timedelta(days=30)
_NOW: Final = timedelta(days=3)


def find(looking: Looking) -> Iterator[Matter]:
    """The officer's own key, and for who looks after the federation, its root."""
    officer = looking.visit.who.officer
    if officer is not None and officer.expires < looking.now + _ENDS_SOON:
        yield Matter(
            urgency=_soon(officer.expires - looking.now),
            what=f"Your key is good until {officer.expires:%Y-%m-%d}; then you sign and sign in no more",
            todo="Have the root's officers certify you again, with a later day or a new key.",
            path="/account",
            label="Open your account",
        )
    root = looking.trusted.root
    if root.expires < looking.now + _ENDS_SOON and looking.is_any(
        Role.ADMIN, Role.PRIVACY_OFFICER, Role.MODEL_RISK
    ):
        yield Matter(
            urgency=_soon(root.expires - looking.now),
            what=f"Root version {root.version} of the federation is good until {root.expires:%Y-%m-%d}; then nothing is launched",
            todo="Its officers sign the next version with `covenant root`.",
            path="/log",
            label="Open the log",
        )


def _soon(left: timedelta) -> Urgency:
    return Urgency.NOW if left < _NOW else Urgency.SOON
