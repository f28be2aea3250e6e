"""What sites state of their personal models, handed in at the centre, each request once."""

from __future__ import annotations

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from coordinator.registry import personal
from protos.personal import PersonalStatement


def tell(
    centre: Centre, actor: Actor, statement: PersonalStatement, asked: Asked | None = None
) -> tuple[str, ...]:
    """Record a site's statement, whoever brings it, and say which versions it is about, as NAME@VERSION. Raises `CovenantError`."""
    del actor  # the site has signed it

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        personal.tell(centre, statement, listed, first=lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
    return personal.versions_of(centre.engine, statement)
