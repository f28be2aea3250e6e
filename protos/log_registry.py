"""Registered models as the transparency log tells them: in which order a version may be judged, signed, approved, moved between stages and named.

1. A move is one that there is (`model_stages`), from the stage that the version has by the moves before it.
2. `champion` is the version that was deployed last and still is; no entry sets it. Other aliases are set by entries of their own, to a version that
   is neither quarantined nor retired.
3. A version that is quarantined or retired loses its aliases with that move.
4. A candidate is validated by the gate alone: the move rests on the newest verdict that the gate has given since it became a candidate, which passes.
5. A version is approved once the officers that it takes have approved it since it was validated, and its files are signed with the key that the member
   list in force leads to (`model_approvals`, `artifact_keys`). What they signed is in the log whole. While the gate's newest verdict does not pass, nobody
   approves. The approvals of an approved version are renewed as they were given.
6. What is released to run lasts no longer than the approvals that count when it is released.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from protos.artifact_keys import require_artifact_key
from protos.log_registry_events import ModelAliased, ModelApproved, ModelMoved, ModelSigned, RegistryEvent
from protos.membership import Trusted
from protos.model_approvals import (
    ModelStatement,
    Subject,
    counting,
    require_covered,
    require_model_statement,
    require_new,
    verify_approvals,
)
from protos.model_release import ModelRelease
from protos.model_stages import CHAMPION, Stage, require_move
from strategies.errors import Refused
from strategies.ids import Digest

OUT: Final = frozenset({Stage.QUARANTINED, Stage.RETIRED})
"""The stages in which a version has no alias."""
JUDGED: Final = frozenset({Stage.CANDIDATE, Stage.VALIDATED})
"""The stages in which the gate judges a version."""
APPROVABLE: Final = frozenset({Stage.VALIDATED, Stage.APPROVED, Stage.DEPLOYED})
"""The stages in which officers approve a version, or renew what they said."""


@dataclass(frozen=True, slots=True)
class Judged:
    """That the gate has judged a version: the digest of its verdict, and whether that passes."""

    verdict: Digest
    passed: bool


@dataclass
class VersionStory:
    """A registered version as the log tells it."""

    digest: Digest
    author: str | None = None
    """Who wrote the plan, if anybody signed it."""
    stage: Stage = Stage.CANDIDATE
    moves: list[ModelMoved] = field(default_factory=list)
    judged: Judged | None = None
    """What the gate said last since it became a candidate."""
    validated: Digest | None = None
    """The verdict that it was validated on last."""
    approvals: list[ModelStatement] = field(default_factory=list)
    """Since it was validated, the oldest first, also those that count no more."""
    signed: ModelSigned | None = None

    @property
    def returned(self) -> int:
        """How often it has come back from quarantine."""
        return sum(each.to is Stage.CANDIDATE for each in self.moves)

    def subject(self, name: str, version: int) -> Subject:
        """What officers approve. Raises Refused before it was validated."""
        if self.validated is None:
            raise Refused(f"{name}@{version} was never validated")
        return Subject(name=name, version=version, digest=self.digest, on=self.validated, author=self.author)


@dataclass
class RegistryStory:
    """Versions by name and number, and aliases."""

    versions: dict[tuple[str, int], VersionStory] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], int] = field(default_factory=dict)
    _deployed: list[tuple[str, int]] = field(default_factory=list)
    """The versions that are deployed, the one that was deployed last at the end."""

    def register(self, name: str, version: int, digest: Digest, author: str | None = None) -> None:
        """A new version, a candidate of a plan that `author` wrote."""
        self.versions[name, version] = VersionStory(digest, author)

    def judge(self, name: str, version: int, verdict: Digest, *, passed: bool) -> None:
        """The gate has judged a version, which counts until it becomes a candidate again. Raises Refused."""
        story = self._version(name, version)
        require_judgeable(f"{name}@{version}", story.stage)
        story.judged = Judged(verdict, passed)

    def require_approved(
        self, releases: Iterable[ModelRelease], trusted: Trusted | None, at: datetime
    ) -> None:
        """Check that officers have approved what `releases`, which are made at `at`, let run, for as long as they do. Raises Refused."""
        for each in releases:
            if each.mode != "recall":
                name, version = each.released.model, each.released.version
                story, known = self._version(name, version), _known(trusted)
                about = story.subject(name, version)
                said = counting(story.approvals, about, known, at)
                require_covered(each.words, each.expires, verify_approvals(said, known, at, about))

    def take(self, what: RegistryEvent, trusted: Trusted | None, at: datetime) -> None:
        """Take an entry that was written at `at`, by the member list in force. Raises Refused."""
        match what:
            case ModelMoved():
                self._move(what, trusted, at)
            case ModelAliased():
                self._alias(what)
            case ModelSigned():
                self._sign(what, _known(trusted))
            case ModelApproved():
                self._approve(what.statement, _known(trusted), at)

    def aliases(self, name: str) -> dict[str, int]:
        """The versions that the aliases of a model name."""
        found = {alias: version for (of, alias), version in self._aliases.items() if of == name}
        champion = next((version for of, version in reversed(self._deployed) if of == name), None)
        return found if champion is None else {**found, CHAMPION: champion}

    def _sign(self, what: ModelSigned, trusted: Trusted) -> None:
        story = self._version(what.name, what.version)
        ref = f"{what.name}@{what.version}"
        if what.digest != story.digest:
            raise Refused(f"{ref} is signed as {what.digest[:12]}, and is {story.digest[:12]}")
        if story.signed is not None:
            raise Refused(f"{ref} is signed twice")
        require_artifact_key(what.key, trusted)
        story.signed = what

    def _approve(self, said: ModelStatement, trusted: Trusted, at: datetime) -> None:
        story = self._version(said.model, said.version)
        require_approvable(
            said.subject.ref, story.stage, signed=story.signed is not None, judged=story.judged
        )
        about = story.subject(said.model, said.version)
        require_model_statement(said, about, trusted, at)
        require_new(said, counting(story.approvals, about, trusted, at))
        story.approvals.append(said)

    def _move(self, what: ModelMoved, trusted: Trusted | None, at: datetime) -> None:
        story = self._version(what.name, what.version)
        if (what.digest, what.before) != (story.digest, story.stage):
            raise Refused(
                f"{what.ref} is moved as {what.before} {what.digest[:12]}, and is {story.stage} {story.digest[:12]}"
            )
        require_move(what.ref, what.before, what.to)
        if (what.before, what.to) == (Stage.VALIDATED, Stage.APPROVED):
            subject, known = story.subject(what.name, what.version), _known(trusted)
            verify_approvals(counting(story.approvals, subject, known, at), known, at, subject)
            require_passing(what.ref, story.judged)
        if what.to is Stage.VALIDATED:
            require_validated(what.ref, what.on, story.judged)
            story.validated = what.on
            story.approvals.clear()
        if what.to is Stage.CANDIDATE:
            story.judged = None
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


def _known(trusted: Trusted | None) -> Trusted:
    if trusted is None:
        raise Refused("the log has no member list before this, so nobody could have signed it")
    return trusted


def require_validated(ref: str, on: Digest | None, judged: Judged | None) -> None:
    """Check that the version `ref` may be validated on the verdict `on`; `judged` is what the gate said last since it became a candidate. Raises Refused."""
    if judged is None:
        raise Refused(
            f"{ref} cannot become validated: the gate has not judged it since it became a candidate; `covenant model validate` has it judged"
        )
    if on != judged.verdict:
        rests = "no verdict" if on is None else f"verdict {on[:12]}"
        raise Refused(
            f"{ref} cannot become validated on {rests}: the gate's newest verdict on it is {judged.verdict[:12]}"
        )
    if not judged.passed:
        raise Refused(
            f"{ref} cannot become validated: the gate's verdict {judged.verdict[:12]} does not pass it"
        )


def require_judgeable(ref: str, stage: Stage) -> None:
    """Check that the gate may judge the version `ref` now. Raises Refused."""
    if stage not in JUDGED:
        raise Refused(f"{ref} is {stage}; the gate judges candidates, and validated versions again")


def require_passing(ref: str, judged: Judged | None) -> None:
    """Check that a validated version is approved on: `judged` is what the gate said last since it became a candidate. Raises Refused."""
    if judged is None or not judged.passed:
        newest = (
            "there is no verdict" if judged is None else f"its newest verdict {judged.verdict[:12]} does not"
        )
        raise Refused(
            f"{ref} cannot be approved: the gate must pass it, and {newest}. Act on its reasons, and have it judged again with `covenant model validate`"
        )


def require_approvable(ref: str, stage: Stage, *, signed: bool, judged: Judged | None) -> None:
    """Check that officers may approve the version `ref` now, or renew their approval. Raises Refused."""
    if stage not in APPROVABLE:
        raise Refused(
            f"{ref} is {stage}; a version is approved once it is validated, and while it is not taken back"
        )
    require_passing(ref, judged)
    if not signed:
        raise Refused(
            f"the files of {ref} are not signed, because there was no key for that when it was registered: it cannot be approved. Make a key"
            " (`covenant key signing`), and train it again"
        )


def require_alias(alias: str, ref: str, stage: Stage) -> None:
    """Check that the version `ref` in `stage` may be given `alias` by hand. Raises Refused."""
    if alias == CHAMPION:
        raise Refused(f"{CHAMPION} is the version that was deployed last; deploy {ref} to make it that")
    if stage in OUT:
        raise Refused(f"{ref} is {stage}, and such a version has no alias; name another version")
