"""What is decided about rollouts: each decision is one order to one target, recorded with its entry in the log before anything is done.

Everything is looked at under the log's lock, so two who decide at once decide one after the other; the second sees what the first did. How an order
comes about is `ordering`. Before a version is brought on, the policy packs in effect are asked; going back asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy.orm import Session

from coordinator.db.engine import writing
from coordinator.deploy.effects import open_recalls
from coordinator.deploy.issuing import Decided, Issuer
from coordinator.deploy.ordering import Ordering
from coordinator.governance.log import append
from coordinator.governance.members import members_signed
from coordinator.governance.policies.stage_rules import allowed
from protos.log_deploy_events import RolloutStarted
from protos.log_entries import What
from protos.model_stages import Stage
from protos.rollouts import (
    Canary,
    Full,
    RolloutRules,
    Shadow,
    State,
    Step,
    kept_as,
    standing_of,
)
from strategies.errors import Refused

First = Callable[[Session], None]


def start(
    issuer: Issuer,
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
        ordering = Ordering.on(session, issuer, decided, target)
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

    _decide(issuer, decided, f"deploying {name}@{version} to {target}", judged, first)


def promote(
    issuer: Issuer,
    decided: Decided,
    target: str,
    step: Step | None,
    *,
    supports: frozenset[State],
    seen: int | None = None,
    first: First | None = None,
) -> None:
    """Let the rollout that is under way at `target` go on to `step`, or to what its rules have next. Raises Refused.

    With `seen`, the order whose figures were looked at, nothing is decided once there is a newer one.
    """

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, issuer, decided, target)
        if ordering.is_past(seen):
            return
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

    _decide(issuer, decided, f"promoting what is on trial at {target}", judged, first)


def roll_back(
    issuer: Issuer,
    decided: Decided,
    target: str,
    *,
    how: State = State.ROLLED_BACK,
    seen: int | None = None,
    first: First | None = None,
) -> None:
    """Take the newest rollout of `target` back; what served before serves again. Raises Refused where nothing did. `seen` is as in `promote`."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, issuer, decided, target)
        if ordering.is_past(seen):
            return
        row = ordering.under_way or ordering.full
        if row is None:
            raise Refused(f"nothing was deployed to {target}, so there is nothing to take back")
        yield from ordering.taken_back(row, how)

    _decide(issuer, decided, f"rolling back at {target}", judged, first)


def renew(issuer: Issuer, decided: Decided, target: str, *, first: First | None = None) -> None:
    """Release what serves at `target` anew, so that it lasts longer. Raises Refused."""

    def judged(session: Session) -> Iterator[What]:
        ordering = Ordering.on(session, issuer, decided, target)
        ordering.require_settled()
        row = ordering.full
        if row is None:
            raise Refused(f"nothing serves at {target}; deploy something to it first")
        yield from ordering.ordered(row.id, Full(), ordering.releasable(row.name, row.version), now=Full())

    _decide(issuer, decided, f"renewing what serves at {target}", judged, first)


def call_back(issuer: Issuer, target: str, at: datetime) -> bool:
    """Make the order that carries out the recalls of `target` that have none yet; whether there was anything to order."""
    made = False

    def judged(session: Session) -> Iterator[What]:
        nonlocal made
        recalls = [each for each in open_recalls(session, target) if each.revision is None]
        if not recalls:
            return
        decided = Decided(by=recalls[0].by, why=recalls[0].why, at=at)
        ordering = Ordering.on(session, issuer, decided, target)
        named = {(each.name, each.version) for each in recalls}
        row = ordering.under_way or ordering.full
        if row is None:
            return
        made = True
        recalled = (row.name, row.version) in named
        yield from ordering.taken_back(row, State.RECALLED if recalled else State.ROLLED_BACK, recall=True)

    decided = Decided(by="the coordinator", why="recall", at=at)
    _decide(issuer, decided, f"recalling from {target}", judged, None)
    return made


def _decide(
    issuer: Issuer,
    decided: Decided,
    doing: str,
    judged: Callable[[Session], Iterator[What]],
    first: First | None,
) -> None:
    with writing(issuer.centre.engine, doing) as session:
        if first is not None:
            first(session)

        def told() -> Iterator[What]:
            yield from members_signed(session, issuer.listed)
            yield from judged(session)

        append(session, decided.at, told())


def _require_supported(target: str, step: Step, supports: frozenset[State]) -> None:
    state = kept_as(step)[0]
    if state not in supports:
        raise Refused(f"{target} cannot run a model as {state}; it can be in {', '.join(sorted(supports))}")
