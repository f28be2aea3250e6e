"""Sections on what people and rules decided: who approved, where the version stood, what gates and policy packs said, and what officers state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from coordinator.governance.evidence.content import Block, Cell, Quote, Section, Words, pairs, table
from coordinator.governance.evidence.facts import fact, names, show_number
from coordinator.governance.evidence.story import Story, Told
from protos.log_entries import ModelRegistered, PlanRecorded, RunLaunched
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_policies import PolicyJudged
from protos.log_registry_events import ModelApproved, ModelMoved
from protos.model_notes import NoteKind
from protos.policy_verdicts import Verdict

Judged = tuple[Told, PolicyJudged]


def approvals(story: Story) -> Section:
    """Who wrote and approved the plan, and who approved the version."""
    planned, evidence = story.places(PlanRecorded), story.evidence
    said = [
        [
            fact(f"approvals.{each.seq}.officer", "officer", what.statement.officer, (each.seq,)),
            fact(f"approvals.{each.seq}.role", "role", str(what.statement.role), (each.seq,)),
            fact(f"approvals.{each.seq}.at", "signed", what.statement.at, (each.seq,)),
            fact(f"approvals.{each.seq}.until", "until", what.statement.expires, (each.seq,)),
        ]
        for each, what in story.of(ModelApproved)
    ]
    moves = [
        [
            fact(f"moves.{each.seq}.at", "at", each.at, (each.seq,)),
            fact(
                f"moves.{each.seq}.to", "to", str(what.to), (each.seq,), shown=f"{what.before} to {what.to}"
            ),
            fact(f"moves.{each.seq}.by", "by", what.by, (each.seq,)),
            fact(f"moves.{each.seq}.why", "why", what.why, (each.seq,)),
        ]
        for each, what in story.of(ModelMoved)
    ]
    blocks: list[Block] = [
        pairs(
            fact(
                "plan.author",
                "Author of the plan",
                None if evidence.author is None else evidence.author.officer,
                planned,
            ),
            fact(
                "plan.approved",
                "Plan approved by",
                names([f"{each.officer} as {each.role}" for each in evidence.approvals]),
                planned,
            ),
            fact("run.launched", "Launched", _at(story, RunLaunched), story.places(RunLaunched)),
            fact("model.made", "Registered", _at(story, ModelRegistered), story.places(ModelRegistered)),
        )
    ]
    blocks.append(
        table("Approvals of the version", ("officer", "as", "signed", "good until"), said)
        if said
        else Words("No officer has approved this version.")
    )
    if moves:
        blocks.append(table("Stages", ("at", "from and to", "by", "why"), moves))
    return Section("Decisions", tuple(blocks))


def gate(story: Story) -> Section:
    """The gate's last verdict, gate by gate."""
    told = list(story.of(GateJudged))
    if not told:
        return Section("Gates", (Words("The gate has not judged this version."),))
    each, what = told[-1]
    place, said = (each.seq,), what.verdict
    rows = [
        [
            fact(f"gates.{number}.asked", "asked", found.gate.words, place),
            fact(
                f"gates.{number}.value", "figure", found.value, place,
                shown="none" if found.value is None else show_number(found.value),
            ),
            fact(
                f"gates.{number}.judged", "judged by", found.judged, place,
                shown="none" if found.judged is None else show_number(found.judged),
            ),
            fact(f"gates.{number}.passed", "passed", found.passed, place),
        ]
        for number, found in enumerate(said.gates, start=1)
    ]  # fmt: skip
    return Section(
        "Gates",
        (
            pairs(
                fact("gate.passed", "Verdict", said.passed, place, shown="passed" if said.passed else "did not pass"),
                fact("gate.digest", "Digest of the verdict", said.digest, place),
                fact("gate.by", "Asked by", what.by, place),
                fact("gate.why", "Because", what.why, place),
                fact(
                    "gate.confidence", "Confidence, where noise may have moved a figure", said.confidence, place,
                    shown=f"{said.confidence:.0%}",
                ),
            ),
            table("Gates of the plan", ("asked", "figure", "bad end that counts", "passed"), rows, (1, 2)),
        ),
    )  # fmt: skip


def policies(story: Story) -> Section:
    """The last judgement of the version, and of its plan, by each pack."""
    judged = list(last_judgements(story))
    if not judged:
        return Section("Policy packs", (Words("No policy pack has judged this version or its plan."),))
    blocks: list[Block] = []
    for each, what in judged:
        said, pack = what.judgement, story.audit.policies.published[what.judgement.pack]
        rows = [_rule(each.seq, verdict) for verdict in said.verdicts]
        blocked = said.blocked_by(pack)
        name = f"policies.{each.seq}"
        blocks += [
            pairs(
                fact(f"{name}.pack", "Pack", pack.ref, (each.seq,)),
                fact(f"{name}.subject", "Judged", said.subject.words, (each.seq,)),
                fact(f"{name}.inputs", "Digest of the facts judged by", said.inputs, (each.seq,)),
                fact(
                    f"{name}.blocked",
                    "Blocked by",
                    names([each.rule for each in blocked]),
                    (each.seq,),
                    derived="the blocking rules that do not pass",
                ),
            ),
            table(f"{pack.ref} on {said.subject.words}", ("rule", "came to", "what to do, and who"), rows),
        ]
    return Section("Policy packs", tuple(blocks))


def last_judgements(story: Story) -> Iterator[Judged]:
    """The last judgement of each pack's name on the plan and on the version."""
    last: dict[tuple[str, str], Judged] = {}
    for each, what in story.of(PolicyJudged):
        pack = story.audit.policies.published[what.judgement.pack]
        last[pack.name, what.judgement.subject.key] = (each, what)
    return iter(last.values())


def statements(story: Story, kinds: Sequence[NoteKind]) -> Section:
    """What officers state, in their words: the last note of each kind."""
    found = dict[NoteKind, tuple[Told, ModelNoted, int]]()
    for each, what in story.of(ModelNoted):
        before = found.get(what.note.kind)
        found[what.note.kind] = (each, what, 0 if before is None else before[2] + 1)
    blocks: list[Block] = []
    for kind in kinds:
        if kind not in found:
            blocks.append(Words(f"{kind.heading}: nobody has stated it."))
            continue
        each, what, older = found[kind]
        note = what.note
        superseded = f"; it supersedes {older} older" if older else ""
        by = fact(
            f"notes.{kind}",
            kind.heading,
            note.digest,
            (each.seq,),
            shown=f"stated and signed by {note.officer} as {note.role}, {note.at:%Y-%m-%d %H:%M:%S} UTC{superseded}; note {note.digest}",
        )
        blocks.append(Quote(title=kind.heading, lines=tuple(note.text.split("\n")), by=by))
    return Section("What officers state", tuple(blocks))


def _at(story: Story, kind: type[RunLaunched] | type[ModelRegistered]) -> datetime:
    return next(each.at for each, _ in story.of(kind))


def _rule(seq: int, verdict: Verdict) -> list[Cell]:
    name = f"policies.{seq}.{verdict.rule}"
    act = "" if verdict.acts is None else f"{verdict.remedy} ({verdict.acts})"
    return [
        verdict.rule,
        fact(
            f"{name}.outcome",
            "outcome",
            verdict.outcome,
            (seq,),
            shown=verdict.outcome if verdict.why is None else f"{verdict.outcome}: {verdict.why}",
        ),
        fact(f"{name}.act", "act", act, (seq,)) if act else "",
    ]
