"""Policy packs and judgements for people, as tables on stderr, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from coordinator.governance.policies.judge import words
from coordinator.governance.policies.packs import KeptJudgement, KeptPack
from coordinator.governance.policies.rejudge import Effect, Said
from protos.policy_pack import PackStatements, PolicyPack
from protos.policy_verdicts import Judgement
from protos.shell import as_written, people, tell

NO_PACK = "no policy pack is in effect: nothing blocks"


def pack_facts(pack: PolicyPack) -> dict[str, Any]:
    """A pack as JSON."""
    return {
        "pack": pack.ref,
        "digest": pack.digest,
        "effective_from": pack.effective_from.isoformat(),
        "reason": pack.reason,
        "rules": [each.model_dump(mode="json") for each in pack.rules],
        "launches_retraining_of": list(pack.launches_retraining_of or ()),
    }


def said_facts(said: Said) -> dict[str, Any]:
    """What a pack says, as JSON."""
    pack, found = said
    return {"pack": pack.ref, "blocked": bool(found.blocked_by(pack)), **_found(found)}


def judged_facts(each: KeptJudgement) -> dict[str, Any]:
    """A judgement that was recorded, as JSON."""
    return {
        "blocked": each.blocked,
        "judged_at": each.judged_at.isoformat(),
        "differs": [one.model_dump(mode="json") for one in each.differs],
        **_found(each.judgement),
    }


def effect_facts(each: Effect) -> dict[str, Any]:
    """What would be, as JSON."""
    return {
        "blocked": each.blocked,
        "quarantined": each.quarantined,
        "differs": [one.model_dump(mode="json") for one in each.differs],
        **_found(each.judgement),
    }


def _found(found: Judgement) -> dict[str, Any]:
    return {
        "subject": found.subject.words,
        "inputs": found.inputs,
        "verdicts": [each.model_dump(mode="json", exclude_none=True) for each in found.verdicts],
    }


def show_pack(pack: PolicyPack, said: PackStatements) -> None:
    """A pack for whoever signs it."""
    table = Table("rule", "about", "severity", "says", "expression", "who acts", title=pack.ref)
    for each in pack.rules:
        _row(table, each.id, each.applies_to, each.severity, each.says, each.expression, each.acts)
    people.print(table)
    by = ", ".join(f"{each.officer} ({each.role})" for each in said.statements) or "nobody"
    tell(f"{pack.ref}, digest {pack.digest}")
    tell(f"from {pack.effective_from:%Y-%m-%d %H:%M} UTC, because: {pack.reason}")
    if pack.launches_retraining_of:
        tell(
            f"while it is in effect the coordinator launches approved retraining of {', '.join(pack.launches_retraining_of)} without a person"
        )
    tell(f"signed by {by}")


def show_packs(found: Sequence[KeptPack]) -> None:
    """Published packs, one a line."""
    if not found:
        tell("no policy pack is published: nothing blocks")
        return
    table = Table(
        "pack", "state", "effective from", "rules", "signed by", "judged by it", title="policy packs"
    )
    for each in found:
        pack, force = each.pack, each.in_force_at
        by = ", ".join(one.officer for one in each.signed.statements)
        done = "not yet" if force is None else f"{force:%Y-%m-%d %H:%M}"
        _row(
            table,
            pack.ref,
            each.state,
            f"{pack.effective_from:%Y-%m-%d %H:%M}",
            str(len(pack.rules)),
            by,
            done,
        )
    people.print(table)


def show_standing(kept: KeptPack, judged: Sequence[KeptJudgement]) -> None:
    """What does not pass, and who must act."""
    tell(f"{kept.pack.ref} is {kept.state}; {len(judged)} plans and models were judged by it")
    _open_verdicts((each.judgement for each in judged), kept.pack)


def show_effects(pack: PolicyPack, found: Sequence[Effect]) -> None:
    """What a pack would do."""
    _open_verdicts((each.judgement for each in found), pack)
    for each in found:
        if each.differs:
            changes = "; ".join(one.words for one in each.differs)
            tell(f"{each.judgement.subject.words} differs from the judgement before: {changes}")
    stopped = [each for each in found if each.blocked and each.judgement.subject.of == "plan"]
    out = [each for each in found if each.quarantined]
    tell(
        f"{pack.ref} would stop {len(stopped)} of the plans that wait, and quarantine {len(out)} models; {len(found)} were judged, and nothing was"
        " changed"
    )


def show_said(said: Sequence[Said]) -> None:
    """What the packs in effect say."""
    if not said:
        tell(NO_PACK)
    for pack, found in said:
        blocked = found.blocked_by(pack)
        passing = sum(each.passes for each in found.verdicts)
        became = "is blocked" if blocked else "passes"
        tell(f"{found.subject.words} {became} by {pack.ref}: {passing} of {len(found.verdicts)} rules pass")
        _open_verdicts([found], pack)


def _open_verdicts(found: Iterable[Judgement], pack: PolicyPack) -> None:
    severity = {each.id: each.severity for each in pack.rules}
    table = Table("what", "rule", "severity", "who must act, and how", title="what does not pass")
    for judgement in found:
        for each in judgement.verdicts:
            if not each.passes:
                _row(table, judgement.subject.words, each.rule, severity[each.rule], words(each))
    if table.row_count:
        people.print(table)


def _row(table: Table, *texts: str) -> None:
    table.add_row(*map(as_written, texts))
