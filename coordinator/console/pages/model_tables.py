"""What is recorded of a version, as tables: the verdict rule by rule, approvals, statements, files and moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coordinator.console.pages.models import TONES
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.db.gate_schema import ModelVerdict
from coordinator.db.registry_schema import ModelMove
from coordinator.governance.policies.rejudge import Said
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos.artifact_keys import SIGNATURE_FILE
from protos.gates import GateResult, Verdict
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack
from protos.policy_verdicts import Verdict as RuleVerdict

SHOWN = 12
_GATE_REMEDY = (
    "A gate is the plan's: train another version, or have a plan with another gate approved and run."
)


def gates_table(found: tuple[Verdict, ModelVerdict] | None) -> Table:
    """Each gate of the plan with what it came to, and each blocking rule that was asked with it."""
    rows = [] if found is None else [*_gates(found[0]), *_asked_with_it(found[0])]
    if found is not None and not found[0].gates:
        rows.insert(
            0,
            [
                Cell("gates of the plan"),
                Cell(None),
                Cell(None),
                Cell("fails", tone="bad"),
                Cell(
                    "The plan has no gates, so nothing says what is good enough; have a plan with gates approved and run."
                ),
            ],
        )
    return Table(
        name="verdict",
        caption="The gate's verdict, rule by rule",
        columns=[
            Column("Rule"),
            Column("Figure", number=True),
            Column("Judged by", number=True),
            Column("Outcome"),
            Column("What to do"),
        ],
        rows=rows,
        empty="The gate has not judged this version. Model risk or an engineer has it judged.",
    )


def _gates(verdict: Verdict) -> Iterator[Sequence[Cell]]:
    for each in verdict.gates:
        yield (
            Cell(each.gate.words),
            _figure(each.value),
            _figure(each.judged),
            Cell("passes", tone="good") if each.passed else Cell("fails", tone="bad"),
            Cell("" if each.passed else _remedy(each)),
        )


def _remedy(each: GateResult) -> str:
    lacks = "" if each.value is not None else f"{each.reason}. "
    return f"{lacks}{_GATE_REMEDY}"


def _asked_with_it(verdict: Verdict) -> Iterator[Sequence[Cell]]:
    for each in verdict.policies:
        yield (
            Cell(f"policy {each.rule}"),
            Cell(None),
            Cell(None),
            Cell("passes", tone="good") if each.holds else Cell("fails", tone="bad"),
            Cell("" if each.holds else each.words),
        )


def policies_table(said: Sequence[Said], stage: Stage) -> Table:
    """What the policy packs in effect would say of the version in `stage`, rule by rule."""
    return Table(
        name="policies",
        caption=f"Policy packs in effect, were it {stage} now",
        columns=[
            Column("Pack"),
            Column("Rule"),
            Column("Weight"),
            Column("Outcome"),
            Column("Who acts"),
            Column("What to do"),
        ],
        rows=[row for pack, found in said for row in _rules(pack, found.verdicts)],
        empty="No policy pack is in effect, so none stands in the way. A privacy officer publishes one with `covenant policy publish`.",
    )


def _rules(pack: PolicyPack, verdicts: Sequence[RuleVerdict]) -> Iterator[Sequence[Cell]]:
    weight = {each.id: each.severity for each in pack.rules}
    for each in verdicts:
        bad: Tone = "bad" if weight.get(each.rule) == "blocking" else "warn"
        yield (
            Cell(pack.ref),
            Cell(each.rule),
            Cell(weight.get(each.rule, "")),
            Cell("passes", tone="good")
            if each.passes
            else Cell("fails" if each.outcome == "fails" else "not decided", tone=bad),
            Cell(each.acts),
            Cell(". ".join(filter(None, (each.why, each.remedy)))),
        )


def approvals_table(standing: ModelStanding) -> Table:
    """Who has approved the version since it was validated, and who must still."""
    given = [
        [
            Cell(each.officer),
            Cell(each.role, text=each.role.words),
            Cell("approved", tone="good"),
            Cell(each.at),
            Cell(each.expires),
            Cell(each.digest, text=each.digest[:SHOWN], code=True),
        ]
        for each in standing.statements
    ]
    lacking = [
        [
            Cell(", ".join(each.could) or "nobody on the member list"),
            Cell(each.role, text=each.role.words),
            Cell(f"{each.given} of {each.asked}", tone="warn"),
            Cell(None),
            Cell(None),
            Cell(None),
        ]
        for each in standing.missing
    ]
    return Table(
        name="approvals",
        caption="Approvals",
        columns=[Column(each) for each in ("Officer", "As", "State", "Signed", "Good until", "Statement")],
        rows=[*given, *lacking],
        empty="No officer can approve it yet: first the gate has to validate it."
        if standing.version.stage in {Stage.CANDIDATE, Stage.QUARANTINED}
        else "Nobody approved it.",
    )


def notes_table(notes: Sequence[ModelNote]) -> Table:
    """What officers said of the version; the last of a kind counts."""
    last = {each.kind: each.digest for each in notes}
    return Table(
        name="statements",
        caption="Statements",
        columns=[Column(each) for each in ("About", "What was said", "By", "As", "Signed", "Counts")],
        rows=[
            [
                Cell(each.kind.heading),
                Cell(each.text),
                Cell(each.officer),
                Cell(each.role, text=each.role.words),
                Cell(each.at),
                Cell("yes", tone="good")
                if last[each.kind] == each.digest
                else Cell("said anew since", tone="quiet"),
            ]
            for each in reversed(notes)
        ],
        empty="Nobody has said what it is for or where it ends. An officer states it, signed: `covenant model state`.",
    )


def files_table(version: ModelVersion) -> Table:
    """The version's files by digest, and the signature over them."""
    files = [
        [Cell(file), Cell(digest, code=True), Cell("signed" if version.signature else "not signed")]
        for file, digest in version.artifacts.items()
    ]
    if version.signature is not None:
        files.append(
            [Cell(SIGNATURE_FILE), Cell(version.signature, code=True), Cell("the signature over all of them")]
        )
    return Table(
        name="files",
        caption="Files and digests (SHA-256)",
        columns=[Column("File"), Column("SHA-256"), Column("Signature")],
        rows=files,
    )


def moves_table(moves: Sequence[ModelMove]) -> Table:
    """How the version came to its stage."""
    return Table(
        name="moves",
        caption="How it came here",
        columns=[Column(each) for each in ("From", "To", "When", "By", "Why", "Log entry")],
        rows=[
            [
                Cell(each.before),
                Cell(each.after, tone=TONES[Stage(each.after)]),
                Cell(each.moved_at),
                Cell(each.moved_by),
                Cell(each.why),
                Cell(each.entry, href=f"/log/{each.entry}"),
            ]
            for each in moves
        ],
        empty="It has not moved since it was registered as a candidate.",
    )


def _figure(value: float | None) -> Cell:
    return Cell(value, text=None if value is None else f"{value:.4f}")
