"""The three documents on a version, and what each of them should have and has not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from coordinator.governance.evidence import (
    about_deployments,
    about_explanations,
    about_fairness,
    about_model,
    about_monitoring,
    about_office,
    about_performance,
    about_privacy,
)
from coordinator.governance.evidence.content import EvidenceDocument, Lacks, Section, Words
from coordinator.governance.evidence.facts import Missing
from coordinator.governance.evidence.story import Story
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_monitor import MonitorAdded
from protos.log_registry_events import ModelApproved, ModelSigned
from protos.log_run_events import RunWitnessed
from protos.model_notes import NoteKind
from protos.plan_privacy import Privacy


class EvidenceKind(StrEnum):
    """Which document."""

    CARD = "model-card"
    DOSSIER = "validation-dossier"
    PRIVACY = "privacy-statement"


_STATED: Final[Mapping[EvidenceKind, tuple[NoteKind, ...]]] = {
    EvidenceKind.CARD: (NoteKind.PURPOSE, NoteKind.LIMITATIONS, NoteKind.OVERSIGHT),
    EvidenceKind.DOSSIER: tuple(NoteKind),
    EvidenceKind.PRIVACY: (NoteKind.PURPOSE, NoteKind.OVERSIGHT),
}
_ABOUT: Final[Mapping[EvidenceKind, str]] = {
    EvidenceKind.CARD: "What the model is and is for, the data that it was made from, how well it does and where it ends: for whoever uses it.",
    EvidenceKind.DOSSIER: "All that was recorded of how the model came to be, what was asked of it and who decided: for whoever validates or audits it.",
    EvidenceKind.PRIVACY: "Whose rows are protected, from whom and how much, what was released and charged, and what nothing protects: for privacy officers.",
}
_TITLES: Final[Mapping[EvidenceKind, str]] = {
    EvidenceKind.CARD: "Model card",
    EvidenceKind.DOSSIER: "Validation dossier",
    EvidenceKind.PRIVACY: "Privacy statement",
}
_STATE: Final = "an officer's note: covenant model state {ref} --kind {kind}"


def document(story: Story, kind: EvidenceKind) -> EvidenceDocument:
    """One document. Equal logs give equal documents."""
    sections = _SECTIONS[kind](story)
    lacks = tuple(missing(story, kind))
    block = Lacks(lacks) if lacks else Words("Nothing that this document asks for is missing.")
    return EvidenceDocument(
        kind=kind,
        title=f"{_TITLES[kind]}: {story.ref}",
        about=_ABOUT[kind],
        story=story,
        sections=(*sections, Section("What is missing", (block,))),
    )


def missing(story: Story, kind: EvidenceKind) -> Iterator[Missing]:
    """What the document should have and the log has not, with what would supply it."""
    said = {what.note.kind for _, what in story.of(ModelNoted)}
    for each in _STATED[kind]:
        if each not in said:
            yield Missing(what=each.heading, supply=_STATE.format(ref=story.ref, kind=each))
    if kind is not EvidenceKind.PRIVACY:
        yield from _figures(story)
    if kind is EvidenceKind.DOSSIER:
        yield from _decisions(story)
    if kind is EvidenceKind.PRIVACY and not isinstance(story.plan.privacy, Privacy):
        yield Missing(
            what="Any figure of differential privacy",
            supply="a plan in privacy mode distributed, central or local; this one has none",
        )
    if kind is EvidenceKind.PRIVACY and not story.places(RunWitnessed):
        yield Missing(
            what="Sites' own word that they saw the run in the log",
            supply="witnesses at the sites (sites.witnesses in a plan)",
        )


def _figures(story: Story) -> Iterator[Missing]:
    if about_performance.last_metrics(story) is None:
        yield Missing(
            what="Metrics of the registered weights",
            supply="an evaluation after the last round that gives metrics (evaluation.every in the plan)",
        )
    if story.plan.evaluation.champion is None:
        yield Missing(
            what="A comparison with a champion on the same rows", supply="evaluation.champion in the plan"
        )
    found = about_performance.last_panels(story)
    panels = None if found is None else found[0]
    if panels is None or not panels.groups:
        yield Missing(
            what="Metrics by group of people",
            supply="counts by a protected attribute in the evaluation (protected and evaluation.fairness in the plan)",
        )
    if panels is None or panels.attributions is None:
        yield Missing(
            what="How much each feature moves scores",
            supply="contributions in the evaluation (evaluation.explanations in the plan)",
        )
    if panels is not None and panels.groups and not any(each.outcomes for each in story.outcomes):
        yield Missing(
            what="Decisions by group of people where it runs",
            supply="outcomes by protected group at its places (covenant score outcomes); beside an export also their files (--windows)",
        )
    if story.moved is None:
        yield Missing(
            what="Which way each feature moves scores",
            supply=f"the version's own file, whose digest the log has: covenant model evidence {story.ref} --export ... --onnx model.onnx",
        )
    if not story.places(MonitorAdded):
        yield Missing(what="Whether it drifts where it runs", supply=f"covenant monitor add {story.ref}")
    yield Missing(
        what="How many rows each site trained on",
        supply="nowhere: what is not released under the plan stays at the site, and the contract's fewest rows is what is known",
    )


def _decisions(story: Story) -> Iterator[Missing]:
    if story.evidence.author is None:
        yield Missing(what="The author of the plan", supply="a signed proposal: covenant plan sign")
    if not story.places(ModelSigned):
        yield Missing(
            what="A signature over the files",
            supply="a key for signing models (covenant key signing) before the run ends",
        )
    if not story.plan.gates:
        yield Missing(what="Gates that the plan sets itself", supply="gates in the plan")
    if not story.places(GateJudged):
        yield Missing(what="A verdict of the gate", supply=f"covenant model validate {story.ref}")
    if not any(True for _ in about_office.last_judgements(story)):
        yield Missing(what="A judgement by a policy pack", supply="covenant policy publish")
    if not story.places(ModelApproved):
        yield Missing(what="Approvals of the version", supply=f"covenant model approve {story.ref}")
    if not story.places(RunWitnessed):
        yield Missing(
            what="Witnesses of the run", supply="witnesses at the sites (sites.witnesses in a plan)"
        )


def _card(story: Story) -> tuple[Section, ...]:
    return (
        about_office.statements(story, _STATED[EvidenceKind.CARD]),
        about_model.identity(story),
        about_performance.performance(story),
        about_explanations.explanations(story),
        about_fairness.fairness(story),
        about_model.data(story),
        about_model.training(story),
        about_privacy.protection(story),
        about_deployments.deployments(story),
        about_monitoring.monitoring(story),
    )


def _dossier(story: Story) -> tuple[Section, ...]:
    return (
        about_office.statements(story, _STATED[EvidenceKind.DOSSIER]),
        about_model.identity(story),
        about_deployments.deployments(story),
        about_monitoring.monitoring(story),
        about_office.approvals(story),
        about_office.gate(story),
        about_office.policies(story),
        about_performance.performance(story),
        about_explanations.explanations(story),
        about_fairness.fairness(story),
        about_model.data(story),
        about_model.training(story),
        about_privacy.protection(story),
        about_privacy.accounts(story),
        about_model.files(story),
    )


def _privacy(story: Story) -> tuple[Section, ...]:
    return (
        about_privacy.protection(story),
        about_privacy.releases(story),
        about_privacy.accounts(story),
        about_privacy.unprotected(story),
        about_office.statements(story, _STATED[EvidenceKind.PRIVACY]),
    )


_SECTIONS: Final[Mapping[EvidenceKind, Callable[[Story], tuple[Section, ...]]]] = {
    EvidenceKind.CARD: _card,
    EvidenceKind.DOSSIER: _dossier,
    EvidenceKind.PRIVACY: _privacy,
}
