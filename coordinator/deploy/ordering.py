"""The making of one order to one target: what it runs now, what may be released there, and the releases that the order signs.

1. Everything is looked at within the transaction of the order and under the log's lock; the row of the target is locked too.
2. A version is released only in stage approved or deployed, with the officers' approvals and for no longer than these, and while no recall of it from there is open. What
   serves beside one on trial may still be released too. One that is larger than targets take is not released at all.
3. Each order signs what it needs: to serve, or to be on trial, is a release of its own. One that takes a trial off raises the floor, so that
   the trial's release counts no more.
4. What is gone back to is the nearest version that served there before, and may still be released, by its stage and by the officers' approvals.
   Without one the model is out of service, which only a recall does, or what ends before anything served.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.deploy_schema import OrderRow, RolloutRow, TargetRow
from coordinator.db.schema import Model
from coordinator.deploy.approved import approved_until
from coordinator.deploy.effects import carried_out, open_recalls, release_of
from coordinator.deploy.issuing import Decided, Issuer
from coordinator.deploy.pieces import require_packable
from coordinator.deploy.targets.settings import settings_from
from protos.log_deploy_events import Deployed, RolloutStarted
from protos.log_entries import What
from protos.model_release import Mode, ModelRelease, Released, sign_release
from protos.model_stages import RELEASABLE
from protos.rollouts import (
    UNDER_WAY,
    Full,
    Over,
    Standing,
    State,
    Step,
    kept_as,
    require_move,
    standing_of,
)
from strategies.errors import Refused, UsageError

_LONGEST_WHY: Final = 500


@dataclass(slots=True, kw_only=True)
class Ordering:
    """The making of one order, in its transaction and under the log's lock."""

    session: Session
    issuer: Issuer
    decided: Decided
    target: TargetRow
    newest: OrderRow | None
    sequence: int

    @classmethod
    def on(cls, session: Session, issuer: Issuer, decided: Decided, name: str) -> Ordering:
        """For the target called `name`, whose row is locked. Raises UsageError where there is none, Refused where another order has come since it was
        looked at."""
        target = locked(session, name)
        if decided.seen is not None and decided.seen != target.revision:
            raise Refused(
                f"{name} has come to order {target.revision}, and this was decided with order {decided.seen} in sight; look at it again, and decide anew"
            )
        newest = session.get(OrderRow, (name, target.revision)) if target.revision else None
        return cls(
            session=session,
            issuer=issuer,
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

    def is_past(self, seen: int | None) -> bool:
        """Whether the target has another order by now than the one that was `seen`: what that called for may be done, or undone."""
        return seen is not None and seen != self.target.revision

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
        """The version as it is released. Raises Refused unless it is approved, not recalled and no larger than targets take, UsageError where there is
        none."""
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
        released = Released(model=name, version=version, digest=row.digest, artifacts=dict(row.artifacts))
        store = self.issuer.centre.artifacts
        # What is lost weighs nothing here: it is told where its package is made, and keeps no recall from its order.
        require_packable(
            released.ref, {file: store.size(each) or 0 for file, each in released.artifacts.items()}
        )
        return released

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
        """The order that ends the rollout `row`; what served before serves again. Raises Refused where nothing can and it is no recall.

        What is being recalled does not serve on because the target refuses what it was to go back to: then it is out of service.
        """
        over = Over(how)  # type: ignore[arg-type]
        require_move(
            f"the rollout of {row.name}@{row.version}", standing_of(State(row.state), row.share), over
        )
        newest = self.newest
        insists = newest is not None and newest.refused is not None and self._is_recalling
        back = None if insists else self._back(row)
        if back is not None:
            stable, signed = back
            yield from self._told(row.id, how, 0.0, signed, stable=stable)
            return
        never_ran = newest is not None and newest.stable is None and row.state in UNDER_WAY
        first = row.before is None and row.state in UNDER_WAY
        if not (recall or insists or never_ran or first):
            raise Refused(
                f"nothing served at {self.target.name} before {row.name}@{row.version} that may be released again; `covenant deploy recall` takes it"
                " out of service"
            )
        recalled = self._sign("recall", self._released_of(row))
        yield from self._told(row.id, how, 0.0, [recalled], recall=recalled.sequence)

    @property
    def _is_recalling(self) -> bool:
        return bool(open_recalls(self.session, self.target.name))

    def _back(self, row: RolloutRow) -> tuple[int, list[ModelRelease]] | None:
        """The release of the nearest version that served before `row` and may be released, and what was signed for it.

        Beside a trial, what serves goes on under the release that it has where the officers' approvals admit no new one.
        """
        before, serving = row.before, self.serving
        while before is not None:
            found = self.session.get_one(RolloutRow, before)
            before = found.before
            try:
                released = self.releasable(found.name, found.version)
            except Refused:
                continue
            try:
                signed = self._sign("serve", released)
            except Refused:
                if serving is not None and serving.released == released:
                    return serving.sequence, []
            else:
                return signed.sequence, [signed]
        return None

    def _released_of(self, row: RolloutRow) -> Released:
        model = self.session.get_one(Model, (row.name, row.version))
        return Released(
            model=row.name, version=row.version, digest=model.digest, artifacts=dict(model.artifacts)
        )

    def _sign(self, mode: Mode, released: Released, *, floor: int | None = None) -> ModelRelease:
        """The next release of the target, which ends with the officers' approvals at the latest. Raises Refused where they have not approved the version."""
        sequence, at, trusted = self.sequence + 1, self.decided.at, self.issuer.listed.trusted
        expires = at + timedelta(days=settings_from(self.target.settings.encode()).lifetime_days)
        if mode != "recall":
            expires = min(expires, approved_until(self.session, released, trusted, at))
        signed = sign_release(
            self.issuer.signer,
            federation=trusted.federation,
            members=self.issuer.listed.membership.digest,
            target=self.target.name,
            sequence=sequence,
            floor=sequence if floor is None else floor,
            mode=mode,
            released=released,
            at=at,
            expires=expires,
        )
        self.sequence = sequence
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
