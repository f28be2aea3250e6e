"""Personal models as the transparency log tells them: a site on the newest member list says, once, that it personalises a model that is registered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protos.log_entries import ModelRegistered
from protos.membership import MemberList
from protos.personal import PersonalStatement, require_personal
from strategies.errors import Refused
from strategies.ids import Digest, SiteName


@dataclass
class PersonalStory:
    """What sites told: `told` has site and model, by the digest that the site used."""

    told: set[tuple[SiteName, Digest]] = field(default_factory=set)

    def take(
        self,
        said: PersonalStatement,
        models: Iterable[ModelRegistered],
        members: MemberList | None,
        federation: Digest,
    ) -> None:
        """Take a statement. Raises Refused."""
        if members is None:
            raise Refused(f"{said.site} tells of a personal model before any member list has its key")
        require_personal(said, members, federation)
        if not any(each.holds(said.model) for each in models):
            raise Refused(
                f"{said.site} is said to personalise {said.model}, which is not registered before it"
            )
        if (said.site, said.model) in self.told:
            raise Refused(f"{said.site} tells of {said.model} twice")
        self.told.add((said.site, said.model))
