"""What people say of registered versions, as the transparency log tells it: notes whole, the last of each kind in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from protos.documents import Part
from protos.log_registry import VersionStory
from protos.membership import Trusted
from protos.model_notes import ModelNote, NoteKind, require_note
from strategies.errors import Refused
from strategies.ids import Digest


class ModelNoted(Part):
    """An officer said something of a version."""

    kind: Literal["model-noted"] = "model-noted"
    note: ModelNote


@dataclass
class NoteStory:
    """The notes of all versions. `take` entries in order; raises Refused."""

    in_force: dict[tuple[str, int, NoteKind], ModelNote] = field(default_factory=dict)
    _said: set[Digest] = field(default_factory=set)

    def kinds(self, name: str, version: int) -> tuple[NoteKind, ...]:
        """What is stated of a version."""
        return tuple(kind for *place, kind in self.in_force if place == [name, version])

    def take(
        self,
        what: ModelNoted,
        versions: Mapping[tuple[str, int], VersionStory],
        trusted: Trusted | None,
        at: datetime,
    ) -> None:
        """Take a note that was logged at `at`, by the member list in force."""
        said = what.note
        if trusted is None:
            raise Refused("the log has no member list before this, so nobody could have signed it")
        story = versions.get((said.model, said.version))
        if story is None:
            raise Refused(f"{said.ref} is not registered before it")
        place = (said.model, said.version, said.kind)
        require_note(said, story.digest, story.author, self.in_force.get(place), trusted, at)
        if said.digest in self._said:
            raise Refused(f"{said.words} is told twice")
        self._said.add(said.digest)
        self.in_force[place] = said
