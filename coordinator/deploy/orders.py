"""What is decided about rollouts: each decision is one order to one target, recorded with its entry in the log before anything is done.

1. Everything is looked at under the log's lock, so two who decide at once decide one after the other; the second sees what the first did.
2. A version is released only in stage approved or deployed, with the officers' approvals, and while no recall of it from there is open. What serves
   beside one on trial may still be released too. Before a version is brought on, the policy packs in effect are asked; going back asks nobody.
3. Each order signs what it needs: to serve, or to be on trial, is a release of its own. One that takes a trial off raises the floor, so that
   the trial's release counts no more.
4. What is gone back to is the nearest version that served there before, and may still be released. Without one the model is out of service,
   which only a recall does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.deploy_schema import OrderRow, RolloutRow, TargetRow
from coordinator.db.engine import writing
from coordinator.db.schema import Model
from coordinator.deploy.approved import approvals_of, require_approvals
from coordinator.deploy.effects import carried_out, open_recalls, release_of
from coordinator.deploy.targets.settings import settings_from
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.governance.policies.stage_rules import allowed
from protos.keys import Signer
from protos.log_deploy import Deployed, RolloutStarted
from protos.log_entries import What
from protos.model_release import Mode, ModelRelease, Released, sign_release
from protos.model_stages import RELEASABLE, Stage
from protos.rollouts import (
    UNDER_WAY,
    Canary,
    Full,
    Over,
    RolloutRules,
    Shadow,
    Standing,
    State,
    Step,
    kept_as,
    require_move,
    standing_of,
)
from strategies.errors import Refused, UsageError

First = Callable[[Session], None]
_LONGEST_WHY: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """With what orders are made: the artifacts service's key, and the newest member list that the log will have."""

    centre: Centre
    signer: Signer
    listed: Listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Who decided, why, and when."""

    by: str
    why: str
    at: datetime


def start(
    desk: Desk,
    decided: Decided,
    *,
    rollout: str,
    name: str,
    version: int,
    target: str,
    step: Step,
    rules: RolloutRules,
    supports: frozenset[State],
    first: First | None = None,
) -> None:
    """Begin to bring a version to a target, with `step`. `rollout` is its new id. Raises Refused, naming what stands in the way."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, desk, decided, target)
        _require_supported(target, step, supports)
        ordering.require_settled()
        serving = ordering.serving
        if isinstance(step, Shadow | Canary) and serving is None:
            raise Refused(
                f"nothing serves at {target}, so nothing can be tried beside it; start without --shadow and --canary"
            )
        released = ordering.releasable(name, version)
        yield from allowed(session, name, version, Stage.DEPLOYED, decided.at)
        if serving is not None and serving.released == released:
            raise Refused(
                f"{released.ref} serves at {target} already; `covenant deploy renew` makes its release last longer"
            )
        before = ordering.full
        started = RolloutStarted(
            model=name,
            version=version,
            digest=released.digest,
            rules=rules,
            before=None if before is None else before.id,
        )
        yield from ordering.ordered(rollout, step, released, started=started)

    _decide(desk, decided, f"deploying {name}@{version} to {target}", judged, first)


def promote(
    desk: Desk,
    decided: Decided,
    target: str,
    step: Step | None,
    *,
    supports: frozenset[State],
    first: First | None = None,
) -> None:
    """Let the rollout that is under way at `target` go on to `step`, or to what its rules have next. Raises Refused."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, desk, decided, target)
        ordering.require_confirmed()
        row = ordering.under_way
        if row is None:
            raise Refused(
                f"no rollout is under way at {target}; `covenant deploy list` shows those there were"
            )
        now = standing_of(State(row.state), row.share)
        rules = RolloutRules.from_canonical(row.rules.encode())
        following = rules.after(now) if step is None else step
        _require_supported(target, following, supports)
        released = ordering.releasable(row.name, row.version)
        yield from allowed(session, row.name, row.version, Stage.DEPLOYED, decided.at)
        yield from ordering.ordered(row.id, following, released, now=now)

    _decide(desk, decided, f"promoting what is on trial at {target}", judged, first)


def roll_back(
    desk: Desk,
    decided: Decided,
    target: str,
    *,
    how: State = State.ROLLED_BACK,
    first: First | None = None,
) -> None:
    """Take the newest rollout of `target` back; what served before serves again. Raises Refused where nothing did."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, desk, decided, target)
        row = ordering.under_way or ordering.full
        if row is None:
            raise Refused(f"nothing was deployed to {target}, so there is nothing to take back")
        yield from ordering.taken_back(row, how)

    _decide(desk, decided, f"rolling back at {target}", judged, first)


def renew(desk: Desk, decided: Decided, target: str, *, first: First | None = None) -> None:
    """Release what serves at `target` anew, so that it lasts longer. Raises Refused."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, desk, decided, target)
        ordering.require_settled()
        row = ordering.full
        if row is None:
            raise Refused(f"nothing serves at {target}; deploy something to it first")
        yield from ordering.ordered(row.id, Full(), ordering.releasable(row.name, row.version), now=Full())

    _decide(desk, decided, f"renewing what serves at {target}", judged, first)


def call_back(desk: Desk, target: str, at: datetime) -> bool:
    """Make the order that carries out the recalls of `target` that have none yet; whether there was anything to order."""
    made = False

    def judged(session: Session) -> Iterator[What]:
        nonlocal made
        recalls = [each for each in open_recalls(session, target) if each.revision is None]
        if not recalls:
            return
        decided = Decided(by=recalls[0].by, why=recalls[0].why, at=at)
        ordering = Ordering.on(session, desk, decided, target)
        named = {(each.name, each.version) for each in recalls}
        row = ordering.under_way or ordering.full
        if row is None:
            return
        made = True
        recalled = (row.name, row.version) in named
        yield from ordering.taken_back(row, State.RECALLED if recalled else State.ROLLED_BACK, recall=True)

    decided = Decided(by="the coordinator", why="recall", at=at)
    _decide(desk, decided, f"recalling from {target}", judged, None)
    return made


def _decide(
    desk: Desk,
    decided: Decided,
    doing: str,
    judged: Callable[[Session], Iterator[What]],
    first: First | None,
) -> None:
    with writing(desk.centre.engine, doing) as session:
        if first is not None:
            first(session)

        def told() -> Iterator[What]:
            yield from members_signed(session, desk.listed)
            yield from judged(session)

        append(session, decided.at, told())


@dataclass(slots=True, kw_only=True)
class Ordering:
    """The making of one order, in its transaction and under the log's lock."""

    session: Session
    desk: Desk
    decided: Decided
    target: TargetRow
    newest: OrderRow | None
    sequence: int

    @classmethod
    def on(cls, session: Session, desk: Desk, decided: Decided, name: str) -> Ordering:
        """For the target called `name`, whose row is locked. Raises UsageError where there is none."""
        target = locked(session, name)
        newest = session.get(OrderRow, (name, target.revision)) if target.revision else None
        return cls(
            session=session,
            desk=desk,
            decided=decided,
            target=target,
            newest=newest,
            sequence=target.sequence,
        )

    @property
    def under_way(self) -> RolloutRow | None:
        """The rollout that is not settled."""
        return self._rollout(*UNDER_WAY)

    @property
    def full(self) -> RolloutRow | None:
        """The rollout whose version serves."""
        return self._rollout(State.FULL)

    @property
    def serving(self) -> ModelRelease | None:
        """The release that serves by the newest order."""
        return None if self.newest is None else release_of(self.session, self.target.name, self.newest.stable)

    def require_confirmed(self) -> None:
        """Check that the target has come to its newest order. Raises Refused."""
        if self.newest is not None and self.newest.confirmed_at is None:
            raise Refused(
                f"{self.target.name} has not confirmed its order {self.newest.revision} yet; wait for it (`covenant deploy show {self.target.name}`),"
                " or take it back with `covenant deploy rollback`"
            )

    def require_settled(self) -> None:
        """Check that nothing is under way. Raises Refused."""
        if (row := self.under_way) is not None:
            raise Refused(
                f"{row.name}@{row.version} is under way to {self.target.name} ({row.state}); promote it or take it back first"
            )
        self.require_confirmed()

    def releasable(self, name: str, version: int) -> Released:
        """The version as it is released. Raises Refused unless it is approved and not recalled, UsageError where there is none."""
        row = self.session.get(Model, (name, version), populate_existing=True)
        if row is None:
            raise UsageError(
                f"the model {name}@{version} is not registered; `covenant model list` shows those that are"
            )
        if row.stage not in RELEASABLE:
            raise Refused(
                f"{name}@{version} is {row.stage}; only an approved version is deployed. `covenant model approve` is how officers approve one"
            )
        for each in open_recalls(self.session, self.target.name):
            if (each.name, each.version) == (name, version):
                raise Refused(f"{name}@{version} is being recalled from {self.target.name}: {each.why}")
        return Released(model=name, version=version, digest=row.digest, artifacts=dict(row.artifacts))

    def ordered(
        self,
        rollout: str,
        step: Step,
        released: Released,
        *,
        now: Standing | None = None,
        started: RolloutStarted | None = None,
    ) -> Iterator[What]:
        """The order that brings a rollout to `step`, with its effect."""
        if now is not None:
            require_move(f"the rollout of {released.ref}", now, step)
        state, share = kept_as(step)
        if isinstance(step, Full):
            signed = self._sign("serve", released)
            yield from self._told(rollout, state, share, [signed], stable=signed.sequence, started=started)
            return
        serving, newest = self.serving, self.newest
        assert serving is not None and newest is not None  # noqa: PT018, S101  (callers have looked)
        self.releasable(serving.released.model, serving.released.version)
        challenger, signed_now = newest.challenger, list[ModelRelease]()
        if challenger is None:
            signed_now = [self._sign("trial", released, floor=serving.sequence)]
            challenger = signed_now[0].sequence
        yield from self._told(
            rollout,
            state,
            share,
            signed_now,
            stable=serving.sequence,
            challenger=challenger,
            started=started,
        )

    def taken_back(self, row: RolloutRow, how: State, *, recall: bool = False) -> Iterator[What]:
        """The order that ends the rollout `row`; what served before serves again. Raises Refused where nothing did and it is no recall."""
        over = Over(how)  # type: ignore[arg-type]
        require_move(
            f"the rollout of {row.name}@{row.version}", standing_of(State(row.state), row.share), over
        )
        before = self._eligible(row)
        never_ran = self.newest is not None and self.newest.stable is None and row.state in UNDER_WAY
        if before is None and not recall and not never_ran and row.before is None and row.state == State.FULL:
            raise Refused(
                f"nothing served at {self.target.name} before {row.name}@{row.version}; `covenant deploy recall` takes it out of service"
            )
        if before is None:
            signed = self._sign("recall", self._released_of(row))
            yield from self._told(row.id, how, 0.0, [signed], recall=signed.sequence)
            return
        signed = self._sign("serve", before)
        yield from self._told(row.id, how, 0.0, [signed], stable=signed.sequence)

    def _eligible(self, row: RolloutRow) -> Released | None:
        """The nearest version that served before `row` and may be released."""
        before = row.before
        while before is not None:
            found = self.session.get_one(RolloutRow, before)
            try:
                return self.releasable(found.name, found.version)
            except Refused:
                before = found.before
        return None

    def _released_of(self, row: RolloutRow) -> Released:
        model = self.session.get_one(Model, (row.name, row.version))
        return Released(
            model=row.name, version=row.version, digest=model.digest, artifacts=dict(model.artifacts)
        )

    def _sign(self, mode: Mode, released: Released, *, floor: int | None = None) -> ModelRelease:
        """The next release of the target. Raises Refused where the version is not approved by the officers."""
        self.sequence += 1
        trusted, days = self.desk.listed.trusted, settings_from(self.target.settings.encode()).lifetime_days
        signed = sign_release(
            self.desk.signer,
            federation=trusted.federation,
            members=self.desk.listed.membership.digest,
            target=self.target.name,
            sequence=self.sequence,
            floor=self.sequence if floor is None else floor,
            mode=mode,
            released=released,
            at=self.decided.at,
            expires=self.decided.at + timedelta(days=days),
        )
        if mode != "recall":
            require_approvals(approvals_of(self.session, released), signed, trusted)
        return signed

    def _told(
        self,
        rollout: str,
        state: State,
        share: float,
        releases: list[ModelRelease],
        *,
        stable: int | None = None,
        challenger: int | None = None,
        recall: int | None = None,
        started: RolloutStarted | None = None,
    ) -> Iterator[What]:
        mode = "none" if challenger is None else "canary" if state is State.CANARY else "shadow"
        event = Deployed(
            target=self.target.name,
            revision=self.target.revision + 1,
            rollout=rollout,
            started=started,
            state=state,
            share=share,
            mode=mode,
            stable=stable,
            challenger=challenger,
            recall=recall,
            releases=tuple(releases),
            why=self.decided.why[:_LONGEST_WHY],
            by=self.decided.by,
        )
        yield from carried_out(self.session, self.decided.at, [event])

    def _rollout(self, *states: State) -> RolloutRow | None:
        query = select(RolloutRow).where(RolloutRow.target == self.target.name, RolloutRow.state.in_(states))
        return self.session.scalar(query.order_by(RolloutRow.started_at.desc(), RolloutRow.id).limit(1))


def locked(session: Session, name: str) -> TargetRow:
    """The row of a target, for this transaction alone. Raises UsageError where there is none."""
    query = select(TargetRow).where(TargetRow.name == name)
    row = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if row is None:
        raise UsageError(f"there is no target {name!r}; `covenant deploy targets list` shows those there are")
    return row


def _require_supported(target: str, step: Step, supports: frozenset[State]) -> None:
    state = kept_as(step)[0]
    if state not in supports:
        raise Refused(f"{target} cannot run a model as {state}; it can be in {', '.join(sorted(supports))}")
