"""What the policy packs in effect say of a version before it enters a stage: asked by whatever moves it there, in the transaction of the move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from coordinator.governance.log import append
from coordinator.governance.policies.facts import facts_of_model
from coordinator.governance.policies.judge import compiled, words
from coordinator.governance.policies.packs import effective, recorded
from protos.log_policies import PolicyJudged
from protos.model_stages import Stage
from strategies.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingRule:
    """A blocking rule, as PACK@VERSION/RULE, and whether it holds; `words` say what became of it, who must act, and how."""

    rule: str
    holds: bool
    words: str


def judge_for_stage(
    session: Session, name: str, version: int, stage: Stage, at: datetime
) -> tuple[BlockingRule, ...]:
    """What each blocking rule of the packs in effect says of a version that is about to enter `stage`; nothing without packs.

    The judgements are put into the log first, which locks it until the transaction ends. Raises UsageError for a version that is not registered.
    """
    found: list[BlockingRule] = []
    append(session, at, _judged(session, name, version, stage, at, found))
    return tuple(found)


def require_stage(session: Session, name: str, version: int, stage: Stage, at: datetime) -> None:
    """Check that no blocking rule of the packs in effect stands in the way of `stage`. Raises Refused with rules, who must act, and how; a
    transaction that ends with it tells the log nothing."""
    append(session, at, allowed(session, name, version, stage, at))


def allowed(session: Session, name: str, version: int, stage: Stage, at: datetime) -> Iterator[PolicyJudged]:
    """The entries of `require_stage`, for whoever has the log locked and appends more. Raises Refused after the last one."""
    found: list[BlockingRule] = []
    yield from _judged(session, name, version, stage, at, found)
    if broken := [each for each in found if not each.holds]:
        raise Refused(
            f"{name}@{version} cannot become {stage}: "
            + "; ".join(f"{each.rule} ({each.words})" for each in broken)
        )


def _judged(
    session: Session, name: str, version: int, stage: Stage, at: datetime, found: list[BlockingRule]
) -> Iterator[PolicyJudged]:
    """The entries of the judgements; what the blocking rules say is put into `found`."""
    for pack in effective(session, at):
        judgement = compiled(pack).judge(*facts_of_model(session, name, version, stage))
        blocking = {each.id for each in pack.rules if each.severity == "blocking"}
        found.extend(
            BlockingRule(rule=f"{pack.ref}/{each.rule}", holds=each.passes, words=words(each))
            for each in judgement.verdicts
            if each.rule in blocking
        )
        yield from recorded(session, pack, judgement, at)
