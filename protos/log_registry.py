"""What becomes of registered models, as the transparency log tells it: moves between stages, and names for versions.

1. A move is one that there is (`model_stages`), from the stage that the version has by the moves before it.
2. `champion` is the version that was deployed last and still is; no entry sets it. Other aliases are set by entries of their own, to a version that
   is neither quarantined nor retired.
3. A version that is quarantined or retired loses its aliases with that move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field

from protos.documents import Part
from protos.model_stages import CHAMPION, Stage, require_move
from protos.names import Name, Sha256, matching
from strategies.errors import Refused
from strategies.ids import Digest

LONGEST_WHY: Final = 500
LONGEST_BY: Final = 128
OUT: Final = frozenset({Stage.QUARANTINED, Stage.RETIRED})
"""The stages in which a version has no alias."""

Version = Annotated[int, Field(ge=1, lt=10**9)]
Why = Annotated[str, Field(min_length=1, max_length=LONGEST_WHY)]
By = Annotated[str, Field(min_length=1, max_length=LONGEST_BY)]
Alias = Annotated[
    str, matching(r"[a-z][a-z0-9-]{0,62}", "1 to 63 characters a-z, 0-9 and '-', beginning with a letter")
]


class ModelMoved(Part):
    """A version came from one stage to another. `digest` is the version's; `on` that of the document that the move rests on, such as a verdict."""

    kind: Literal["model-moved"] = "model-moved"
    name: Name
    version: Version
    digest: Sha256
    before: Stage
    to: Stage
    why: Why
    by: By
    on: Sha256 | None = None

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"


class ModelAliased(Part):
    """An alias of a model names `version` from now on, or nothing any more."""

    kind: Literal["model-aliased"] = "model-aliased"
    name: Name
    alias: Alias
    version: Version | None = None
    by: By


RegistryEvent = ModelMoved | ModelAliased
"""What becomes of a version after it was registered."""


@dataclass
class VersionStory:
    """A registered version as the log tells it."""

    digest: Digest
    stage: Stage = Stage.CANDIDATE
    moves: list[ModelMoved] = field(default_factory=list)


@dataclass
class RegistryStory:
    """Versions by name and number, and aliases."""

    versions: dict[tuple[str, int], VersionStory] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    _deployed: list[tuple[str, int]] = field(default_factory=list)
    """The versions that are deployed, the one that was deployed last at the end."""

    def register(self, name: str, version: int, digest: Digest) -> None:
        """A new version, a candidate."""
        self.versions[name, version] = VersionStory(digest)

    def take(self, what: RegistryEvent) -> None:
        """Take an entry. Raises Refused."""
        match what:
            case ModelMoved():
                self._move(what)
            case ModelAliased():
                self._alias(what)

    def aliases(self, name: str) -> dict[str, int]:
        """The versions that the aliases of a model name."""
        found = {alias: version for (of, alias), version in self._aliases.items() if of == name}
        champion = next((version for of, version in reversed(self._deployed) if of == name), None)
        return found if champion is None else {**found, CHAMPION: champion}

    def _move(self, what: ModelMoved) -> None:
        story = self._version(what.name, what.version)
        if (what.digest, what.before) != (story.digest, story.stage):
            raise Refused(
                f"{what.ref} is moved as {what.before} {what.digest[:12]}, and is {story.stage} {story.digest[:12]}"
            )
        require_move(what.ref, what.before, what.to)
        story.stage = what.to
        story.moves.append(what)
        place = (what.name, what.version)
        if place in self._deployed:
            self._deployed.remove(place)
        if what.to is Stage.DEPLOYED:
            self._deployed.append(place)
        if what.to in OUT:
            for key in list(self._named(place)):
                del self._aliases[key]

    def _named(self, place: tuple[str, int]) -> Iterator[tuple[str, str]]:
        name, version = place
        return (key for key, named in self._aliases.items() if key[0] == name and named == version)

    def _alias(self, what: ModelAliased) -> None:
        if what.version is None:
            if self._aliases.pop((what.name, what.alias), None) is None:
                raise Refused(f"alias {what.alias} of {what.name} is taken away, and names nothing")
            return
        require_alias(what.alias, f"{what.name}@{what.version}", self._version(what.name, what.version).stage)
        self._aliases[what.name, what.alias] = what.version

    def _version(self, name: str, version: int) -> VersionStory:
        story = self.versions.get((name, version))
        if story is None:
            raise Refused(f"{name}@{version} is not registered before it")
        return story


def require_alias(alias: str, ref: str, stage: Stage) -> None:
    """Check that the version `ref` in `stage` may be given `alias` by hand. Raises Refused."""
    if alias == CHAMPION:
        raise Refused(f"{CHAMPION} is the version that was deployed last; deploy {ref} to make it that")
    if stage in OUT:
        raise Refused(f"{ref} is {stage}, and such a version has no alias; name another version")
