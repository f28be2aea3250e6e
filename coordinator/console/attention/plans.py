"""Plans that wait: for a signature, for a launch, or for nobody much longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Final

from coordinator.console.attention.matter import FEW, LATELY, Looking, Matter, Urgency
from coordinator.console.reads.approved import Waiting
from protos.membership import Role

_LIST: Final = "covenant.governance.v1.Plans/ListPlans"
_ENDS_SOON: Final = timedelta(days=3)
_DIGITS: Final = 12


def find(looking: Looking) -> Iterator[Matter]:
    """What waits, for those who may read plans."""
    if not looking.visit.may(_LIST):
        return
    yield from islice(_to_sign(looking), FEW)
    yield from islice(_to_launch(looking), FEW)
    yield from islice(_ending(looking), FEW)
    yield from islice(_outdated(looking), FEW)


def _to_sign(looking: Looking) -> Iterator[Matter]:
    for each in looking.plans:
        lacking = [lack for lack in each.standing.missing if looking.name in lack.could]
        roles = [role.words for lack in lacking if looking.is_any(role := Role(lack.role))]
        if roles and each.current and not _over(each, looking):
            yield _matter(
                each,
                f"Plan {_named(each)} by {each.proposed_by} waits for your signature as {' or '.join(roles)}",
                "Read what it changes and what it would cost; sign at your own desk, where nobody can show you another plan.",
                desk=True,
            )


def _to_launch(looking: Looking) -> Iterator[Matter]:
    for each in looking.plans:
        if each.standing.approved and each.proposed_by == looking.name and looking.is_any(Role.ML_ENGINEER):
            until = "" if each.ends is None else f", until {each.ends:%Y-%m-%d %H:%M} UTC"
            yield _matter(
                each,
                f"Your plan {_named(each)} is approved and may be launched{until}",
                "Look at its forecast once more, and launch it.",
            )


def _ending(looking: Looking) -> Iterator[Matter]:
    """Statements that end soon, told to whoever made one, and to engineers."""
    for each in looking.plans:
        involved = looking.name in {said.officer for said in each.evidence.statements}
        ends = each.ends
        if ends is None or not each.current or not (involved or looking.is_any(Role.ML_ENGINEER)):
            continue
        if looking.now < ends <= looking.now + _ENDS_SOON:
            first = min(each.evidence.statements, key=lambda said: said.expires)
            yield _matter(
                each,
                f"{first.words} of plan {_named(each)} ends {ends:%Y-%m-%d %H:%M} UTC",
                "Launch it before, or have it signed again with a later day.",
            )


def _outdated(looking: Looking) -> Iterator[Matter]:
    """The officer's own proposals of the last days that name a member list that is in use no more."""
    for each in looking.plans:
        lately = each.proposed_at > looking.now - LATELY
        if lately and not each.current and each.proposed_by == looking.name:
            yield _matter(
                each,
                f"Your plan {_named(each)} is for member list {each.plan.sites.members}, and {each.standing.members} is in use",
                "Nobody can sign or launch it: propose it anew for the list in use.",
                Urgency.TO_KNOW,
            )


def _over(each: Waiting, looking: Looking) -> bool:
    """Whether something that was said is not good any more: then the author proposes it anew first."""
    return each.ends is not None and each.ends < looking.now


def _named(each: Waiting) -> str:
    return f"{each.plan.name} ({each.plan.digest[:_DIGITS]})"


def _matter(
    each: Waiting, what: str, todo: str, urgency: Urgency = Urgency.SOON, *, desk: bool = False
) -> Matter:
    return Matter(
        urgency=urgency,
        what=what,
        todo=todo,
        path=f"/plans/{each.plan.digest}?contract={each.contract.digest}",
        label="Open at your desk" if desk else "Open the plan",
        at=each.proposed_at,
        desk=desk,
    )
