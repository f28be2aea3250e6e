"""Accounts that have come to an alert of their ceilings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from coordinator.console.attention.matter import FEW, Looking, Matter, Urgency
from coordinator.console.pages.budgets import LIST, path_of
from coordinator.console.reads.accounts import past_alerts, rows_of
from coordinator.db.engine import reading
from protos.membership import Role

_HIGH: Final = 0.8
_FULL: Final = 0.999


def find(looking: Looking) -> Iterator[Matter]:
    """The accounts that have reached the most, for those who may read accounts."""
    if not looking.visit.may(LIST):
        return
    with reading(looking.visit.centre.engine, "looking for accounts past an alert") as session:
        past = past_alerts(session, FEW + 1)
        spent = {each.key: each.fraction for each in rows_of(session, [each.key for each in past[:FEW]])}
    for each in past[:FEW]:
        left = max(0.0, 1.0 - spent[each.key])
        yield Matter(
            urgency=Urgency.SOON if each.fraction >= _HIGH and left < 1.0 - _HIGH else Urgency.TO_KNOW,
            what=f"{each.key.words} has come to {each.fraction:.0%} of its ceiling; {left:.1%} of its filter's budget is left",
            todo=_todo(looking, full=spent[each.key] >= _FULL),
            path=path_of(each.key),
            label="Open the account",
            at=each.at,
        )
    if len(past) > FEW:
        yield Matter(
            urgency=Urgency.TO_KNOW,
            what="More accounts are past an alert",
            todo="See which, and what spent them.",
            path="/budgets?alerts=1",
            label="See all of them",
        )


def _todo(looking: Looking, *, full: bool) -> str:
    if looking.is_any(Role.PRIVACY_OFFICER):
        return "See what spent it. Whether the ceiling stays is decided by you and another privacy officer, with your own keys."
    if full:
        return "No further plan fits. The site's privacy officers decide whether the ceiling stays."
    return "Plan fewer rounds or more noise, and try it with a what-if before it is proposed."
