"""Deployments as the transparency log tells them: which orders, moves of rollouts and recalls may come when (`log_deploy_events`).

1. A target is added once. Orders of a target are numbered from 1 without gaps, and so are its releases: none is used twice, and none is lost.
2. Every release is signed by the artifacts service of the newest member list, for this federation and target, and is of a registered version
   with exactly its files.
3. An order moves one rollout, as rollouts move (`rollouts`), and runs its version; at most one of a target is under way. What an order names it
   releases, or it was released before, still counts, and may still be released.
4. A rollout has moved only by the newest order of its target. What it superseded, what serves again after it, or what was being recalled beside it,
   moves with it.
5. A version that is quarantined or retired is recalled from every target that may run it, by its last confirmed order, by one since, or by a rollout that is not over: the next entries order that,
   and nothing comes between but recalls of the same version from elsewhere, where it was about to run. The move and its recalls are one
   transaction, and whoever writes them has the log for itself.
6. Nothing that a recall names is released for its target, or goes on there by another order, until the newest order no longer runs it and is
   confirmed, and then only if it is approved anew.
7. A version is moved to deployed once it serves at a target by its last confirmed order, and back to approved once it does at none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protos.log_deploy_events import (
    Deployed,
    DeployEvent,
    RecallConfirmed,
    RecallOrdered,
    RolloutMoved,
    RolloutStarted,
    TargetAdded,
)
from protos.log_registry_events import ModelMoved
from protos.membership import Trusted
from protos.model_release import ModelRelease, Released, require_release
from protos.model_stages import Stage
from protos.rollouts import UNDER_WAY, State, require_move, standing_of
from strategies.errors import Refused
from strategies.ids import Digest

_SERVING = frozenset({State.SHADOW, State.CANARY, State.FULL})

Find = Callable[[str, int], Released]
"""A registered version with its files, if it may be released. Raises Refused."""


@dataclass
class RolloutStory:
    """A rollout as the log tells it."""

    started: RolloutStarted
    state: State = State.PLANNED
    share: float = 0.0

    def is_of(self, release: ModelRelease) -> bool:
        """Whether `release` is of its version."""
        started, released = self.started, release.released
        return (started.model, started.version, started.digest) == (
            released.model,
            released.version,
            released.digest,
        )


@dataclass
class TargetStory:
    """A target as the log tells it."""

    orders: list[Deployed] = field(default_factory=list)
    confirmed: int = 0
    releases: dict[int, ModelRelease] = field(default_factory=dict)
    rollouts: dict[str, RolloutStory] = field(default_factory=dict)

    def runs(self, name: str, version: int) -> bool:
        """Whether it may run a version: by its last confirmed order, by one since, or by a rollout that is not over."""
        orders = self.orders[max(self.confirmed - 1, 0) :]
        numbers = {
            number for each in orders for number in (each.stable, each.challenger) if number is not None
        }
        released = (self.releases[number].released for number in numbers)
        may = {(each.model, each.version) for each in released}
        going = (each.started for each in self.rollouts.values() if each.state in {*UNDER_WAY, State.FULL})
        may |= {(each.model, each.version) for each in going}
        return (name, version) in may

    @property
    def stable(self) -> ModelRelease | None:
        """What serves by the last confirmed order."""
        number = self.orders[self.confirmed - 1].stable if self.confirmed else None
        return None if number is None else self.releases[number]

    def serves(self, name: str, version: int) -> bool:
        """Whether a version serves, not in the shadow or to a share beside another."""
        return self.stable is not None and (self.stable.released.model, self.stable.released.version) == (
            name,
            version,
        )


@dataclass
class DeployStory:
    """Targets by name, and recalls that are not confirmed."""

    targets: dict[str, TargetStory] = field(default_factory=dict)
    recalls: set[tuple[str, str, int]] = field(default_factory=set)
    _due: set[tuple[str, str, int]] = field(default_factory=set)
    """What is to be recalled by the next entries."""

    def take(self, what: DeployEvent, trusted: Trusted | None, find: Find) -> None:
        """Take an entry, judged by the newest member list. Raises Refused."""
        match what:
            case TargetAdded():
                if what.name in self.targets:
                    raise Refused(f"target {what.name} is added twice")
                self.targets[what.name] = TargetStory()
            case Deployed():
                self._order(self._target(what.target), what, trusted, find)
            case RolloutMoved():
                self._moved(self._target(what.target), what)
            case RecallOrdered():
                self._target(what.target)
                if what.what in self.recalls:
                    raise Refused(f"{what.model}@{what.version} is recalled from {what.target} twice")
                self.recalls.add(what.what)
                self._due.discard(what.what)
            case RecallConfirmed():
                self._called_back(self._target(what.target), what)

    def take_back(self, name: str, version: int) -> None:
        """A version was quarantined or retired: it is to be recalled from wherever it runs, unless that was ordered before."""
        runs = {(target, name, version) for target, each in self.targets.items() if each.runs(name, version)}
        self._due = runs - self.recalls

    def require_stage(self, what: ModelMoved) -> None:
        """Check that a version that becomes deployed serves at a target by its last confirmed order, and one that is approved again at none. Raises
        Refused."""
        place = (what.name, what.version)
        serves = sorted(name for name, each in self.targets.items() if each.serves(*place))
        if what.to is Stage.DEPLOYED and not serves:
            raise Refused(f"{what.ref} is moved to {what.to}, and serves nowhere")
        if what.to is Stage.APPROVED and serves:
            raise Refused(f"{what.ref} is moved to {what.to}, and serves at {', '.join(serves)}")

    def require_recalled(self, following: object = None) -> None:
        """Check that `following`, an entry or the end of the log, may come after a version was taken back. Raises Refused where recalls are due first."""
        if not self._due:
            return
        target, name, version = min(self._due)
        if not isinstance(following, RecallOrdered) or following.what[1:] != (name, version):
            raise Refused(
                f"{name}@{version} was taken back while {target} runs it, and is not recalled from there before anything else"
            )

    def _target(self, name: str) -> TargetStory:
        if name not in self.targets:
            raise Refused(f"target {name} was never added")
        return self.targets[name]

    def _order(self, target: TargetStory, what: Deployed, trusted: Trusted | None, find: Find) -> None:
        if what.revision != len(target.orders) + 1:
            raise Refused(
                f"order {what.revision} of {what.target} comes after {len(target.orders)}; they are numbered without gaps"
            )
        for each in what.releases:
            self._release(target, what, each, trusted, find)
        floor = max((each.floor for each in target.releases.values()), default=1)
        for number in filter(None, (what.stable, what.challenger, what.recall)):
            if number not in target.releases or number < floor:
                raise Refused(
                    f"order {what.revision} of {what.target} names release {number}, which does not count"
                )
        for number in filter(None, (what.stable, what.challenger)):
            self._require_releasable(what.target, target.releases[number], find)
        self._rollout(target, what)
        target.orders.append(what)

    def _release(
        self, target: TargetStory, what: Deployed, release: ModelRelease, trusted: Trusted | None, find: Find
    ) -> None:
        if trusted is None:
            raise Refused("the log has no member list before this, so nobody could sign a release")
        require_release(release, trusted.members, trusted.federation, what.target)
        if release.sequence != len(target.releases) + 1:
            raise Refused(
                f"{release.words} comes after {len(target.releases)}; they are numbered without gaps"
            )
        if release.mode != "recall":
            self._require_releasable(what.target, release, find)
        target.releases[release.sequence] = release

    def _require_releasable(self, target: str, release: ModelRelease, find: Find) -> None:
        """Also where it was released before: a version may have been taken back since."""
        released = release.released
        if find(released.model, released.version) != released:
            raise Refused(f"{release.words} is of a version that is not registered so")
        if (target, released.model, released.version) in self.recalls:
            raise Refused(f"{release.words} is of a version that is being recalled from there")

    def brought_on(self, what: Deployed) -> RolloutStarted | None:
        """The version that an order brings onto its target, or further there; None where it takes one back or renews one."""
        known = self._target(what.target).rollouts.get(what.rollout)
        if what.state not in _SERVING or (known is not None and known.state is State.FULL):
            return None
        return what.started if known is None else known.started

    @staticmethod
    def _rollout(target: TargetStory, what: Deployed) -> None:
        if what.started is not None:
            if what.rollout in target.rollouts:
                raise Refused(f"{what.rollout} is started twice")
            if open_ := [name for name, each in target.rollouts.items() if each.state in UNDER_WAY]:
                raise Refused(f"{what.rollout} is started while {open_[0]} is under way at {what.target}")
            target.rollouts[what.rollout] = RolloutStory(what.started)
        found = target.rollouts.get(what.rollout)
        if found is None:
            raise Refused(f"{what.rollout} was never started at {what.target}")
        require_move(what.rollout, standing_of(found.state, found.share), standing_of(what.state, what.share))
        runs = target.releases.get((what.stable if what.state is State.FULL else what.challenger) or 0)
        if what.state in _SERVING and (runs is None or not found.is_of(runs)):
            raise Refused(
                f"order {what.revision} of {what.target} has {what.rollout} {what.state}, and does not run its version so"
            )

    def _moved(self, target: TargetStory, what: RolloutMoved) -> None:
        newest = target.orders[-1] if target.orders else None
        if newest is None or newest.revision != what.revision:
            raise Refused(
                f"{what.rollout} has moved by order {what.revision}, which is not the newest of {what.target}"
            )
        story = target.rollouts.get(what.rollout)
        if story is None:
            raise Refused(f"{what.rollout} was never started at {what.target}")
        require_move(what.rollout, standing_of(story.state, story.share), standing_of(what.state, what.share))
        if what.rollout == newest.rollout:
            fits = (what.state, what.share) == (newest.state, newest.share)
        else:  # it is superseded by that one or recalled with it, or serves again after it
            stable = target.releases.get(newest.stable or 0)
            if stable is not None and story.is_of(stable):
                fits = what.state is State.FULL
            else:
                recalled = (what.target, story.started.model, story.started.version) in self.recalls
                fits = what.state is State.SUPERSEDED or (what.state is State.RECALLED and recalled)
        if not fits:
            raise Refused(
                f"{what.rollout} has come to {what.state}; {newest.rollout} was ordered to {newest.state}"
            )
        story.state, story.share = what.state, what.share
        target.confirmed = what.revision

    def _called_back(self, target: TargetStory, what: RecallConfirmed) -> None:
        if what.what not in self.recalls:
            raise Refused(f"{what.model}@{what.version} was not recalled from {what.target}")
        if not what.revision == target.confirmed == len(target.orders):
            raise Refused(
                f"order {what.revision} of {what.target} is not the newest and confirmed, so neither is its recall"
            )
        runs = target.orders[what.revision - 1]
        for number in filter(None, (runs.stable, runs.challenger)):
            released = target.releases[number].released
            if (released.model, released.version) == (what.model, what.version):
                raise Refused(f"order {what.revision} of {what.target} still runs {released.ref}")
        self.recalls.remove(what.what)


def served(story: DeployStory, target: str) -> Digest | None:
    """The digest of the version that serves at `target` by its last confirmed order; None where nothing does."""
    stable = story.targets[target].stable
    return None if stable is None else stable.released.digest
