"""Policy packs and judgements as messages, and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from coordinator.governance.policies.packs import KeptJudgement, KeptPack
from coordinator.governance.policies.rejudge import Effect, Said
from protos import policy_pb2 as policy
from protos.policy_pack import PolicyPack, SignedPack
from protos.policy_verdicts import Difference, Judgement
from strategies.encoding import canonical_json


def pack_message(found: KeptPack) -> policy.Pack:
    """A published pack."""
    return policy.Pack(
        signed=found.signed.canonical,
        published_at=found.published_at.isoformat(),
        in_force_at=None if found.in_force_at is None else found.in_force_at.isoformat(),
        state=found.state,
    )


def pack_view(message: policy.Pack) -> KeptPack:
    """The same, read."""
    in_force = datetime.fromisoformat(message.in_force_at) if message.HasField("in_force_at") else None
    return KeptPack(
        signed=SignedPack.from_canonical(message.signed),
        published_at=datetime.fromisoformat(message.published_at),
        in_force_at=in_force,
        state=message.state,
    )


def judged_message(found: KeptJudgement) -> policy.Judged:
    """A judgement that was recorded."""
    return policy.Judged(
        judgement=found.judgement.canonical,
        differs=_written(found.differs),
        blocked=found.blocked,
        judged_at=found.judged_at.isoformat(),
    )


def judged_view(message: policy.Judged) -> KeptJudgement:
    """The same, read."""
    return KeptJudgement(
        judgement=Judgement.from_canonical(message.judgement),
        differs=_read(message.differs),
        blocked=message.blocked,
        judged_at=datetime.fromisoformat(message.judged_at),
    )


def simulated_message(found: Effect) -> policy.Judged:
    """A judgement that would be."""
    return policy.Judged(
        judgement=found.judgement.canonical,
        differs=_written(found.differs),
        blocked=found.blocked,
        quarantined=found.quarantined,
    )


def simulated_view(message: policy.Judged) -> Effect:
    """The same, read."""
    return Effect(
        judgement=Judgement.from_canonical(message.judgement),
        differs=_read(message.differs),
        blocked=message.blocked,
        quarantined=message.quarantined,
    )


def said_message(found: Said) -> policy.Said:
    """What one pack says."""
    pack, judgement = found
    return policy.Said(pack=pack.canonical, judgement=judgement.canonical)


def said_view(message: policy.Said) -> Said:
    """The same, read."""
    return PolicyPack.from_canonical(message.pack), Judgement.from_canonical(message.judgement)


def _written(differs: Iterable[Difference]) -> list[bytes]:
    return [canonical_json(each.model_dump(mode="json", exclude_none=True)) for each in differs]


def _read(differs: Iterable[bytes]) -> tuple[Difference, ...]:
    return tuple(Difference.model_validate_json(each, strict=True) for each in differs)
