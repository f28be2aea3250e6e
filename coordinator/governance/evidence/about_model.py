"""Sections on the model itself: what it is, the data that it is made for, and how it was trained."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.governance.evidence.content import Cell, Section, pairs, table
from coordinator.governance.evidence.facts import Fact, fact, names, show_number
from coordinator.governance.evidence.story import Story
from protos.contract import BooleanColumn, CategoryColumn, Column, DateColumn
from protos.log_entries import ModelRegistered, PlanRecorded, RunLaunched
from protos.log_registry_events import ModelMoved, ModelSigned
from protos.log_run_events import (
    AttemptVoided,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunWitnessed,
    SiteRefused,
)
from protos.plan_aggregation import SecureAggregation
from strategies.ids import Digest

_WORDS_SHOWN = 8


def identity(story: Story) -> Section:
    """What it is, by name and digest."""
    model, plan = story.model, story.plan
    here, planned = story.places(ModelRegistered), story.places(PlanRecorded)
    at = next(each.at for each, _ in story.of(ModelRegistered))
    moves = story.places(ModelMoved)
    stage = story.audit.registry.versions[model.name, model.version].stage
    signed = [each for each, _ in story.of(ModelSigned)]
    width = story.contract.feature_spec(plan.features).width
    target = story.contract.target
    return Section(
        "What it is",
        (
            pairs(
                fact("model.ref", "Model", story.ref, here),
                fact("model.digest", "Registry digest", model.digest, here),
                fact("model.stage", "Stage", str(stage), moves[-1:] or here),
                fact("model.registered", "Registered", at, here),
                fact("model.run", "Run", model.run, (*here, *story.places(RunLaunched))),
                fact("model.weights", "Digest of the weights", model.weights, here),
                fact("model.signed", "Files signed by", signed[0].what.key.service, (signed[0].seq,))  # type: ignore[union-attr]
                if signed
                else None,
                fact("plan.name", "Plan", plan.name, planned),
                fact("plan.digest", "Digest of the plan", plan.digest, planned),
                fact("plan.purpose", "Purpose named in the plan", plan.purpose, planned),
                fact("plan.model", "Kind of model", plan.model.kind, planned),
                fact(
                    "plan.parameters",
                    "Parameters",
                    plan.dense_model(width).size,
                    planned,
                    derived=f"the size of the plan's model over the {width} encoded inputs of its features",
                ),
                fact(
                    "contract.target",
                    "Predicts",
                    target.column,
                    planned,
                    shown=f"{target.column}: {target.positive} rather than {target.negative}",
                ),
                None
                if target.definition is None
                else fact("contract.definition", "Which means", target.definition, planned),
            ),
        ),
    )


def data(story: Story) -> Section:
    """What the rows must be, and whose they are."""
    plan, contract, planned = story.plan, story.contract, story.places(PlanRecorded)
    holdout = plan.evaluation.holdout
    protected = contract.protected
    rows: list[list[Cell]] = [
        [
            name,
            fact(f"contract.{name}.type", "type", contract.columns[name].type, planned),
            fact(f"contract.{name}.accepts", "accepts", _accepts(contract.columns[name]), planned),
            fact(f"contract.{name}.missing", "missing", _missing(contract.columns[name]), planned),
        ]
        for name in plan.features
    ]
    return Section(
        "Data",
        (
            pairs(
                fact("contract.ref", "Data contract", contract.ref, planned),
                fact("contract.digest", "Digest of the contract", contract.digest, planned),
                fact("plan.invited", "Sites invited", names(plan.sites.invite), planned),
                fact("plan.minimum", "Fewest sites in a sum", plan.sites.minimum, planned),
                fact(
                    "plan.holdout",
                    "Held out of training",
                    holdout.share,
                    planned,
                    shown=f"{show_number(100 * holdout.share)} % of rows, by a public hash of {holdout.by}",
                ),
                None
                if protected is None
                else fact("contract.protected", "Protected, never a feature", names(protected), planned),
                None
                if contract.minimum_rows is None
                else fact("contract.minimum_rows", "Fewest rows of a site", contract.minimum_rows, planned),
                None
                if contract.freshness is None
                else fact("contract.freshness", "Newest date comes from", contract.freshness.column, planned),
            ),
            table("Features", ("feature", "type", "accepts", "where missing"), rows),
        ),
    )


def training(story: Story) -> Section:
    """Who took part, and what every round came to."""
    plan, planned = story.plan, story.places(PlanRecorded)
    run = story.audit.runs[story.model.run]
    took_part = story.places(RoundPrepared, RoundCommitted, RoundEvaluated)
    secure = plan.aggregation
    ways = (
        f"secure: sums only, against {secure.adversary} adversaries, at most {secure.colluding} colluding"
        if isinstance(secure, SecureAggregation)
        else "plain: the coordinator sees the update of every site"
    )
    voided, refused, seen = (story.places(each) for each in (AttemptVoided, SiteRefused, RunWitnessed))
    course = (*story.places(RunLaunched), *story.places(RoundCommitted))
    return Section(
        "Training",
        (
            pairs(
                fact("plan.algorithm", "Algorithm", plan.training.algorithm, planned),
                fact("plan.rounds", "Rounds planned", plan.training.rounds, planned),
                fact(
                    "run.rounds",
                    "Rounds committed",
                    run.committed,
                    course,
                    derived="the number of the last round that was committed",
                ),
                fact("plan.aggregation", "Aggregation", secure.mode, planned, shown=ways),
                fact(
                    "run.participants",
                    "Sites in any opened sum",
                    names(sorted(run.survivors)),
                    took_part,
                    derived="the union of the sites of all sums",
                ),
                _count("run.voided", "Attempts that came to nothing", voided, course),
                _count("run.refused", "Refusals by sites", refused, course),
                fact(
                    "run.witnesses",
                    "Sites that witnessed the run in the log",
                    names(sorted(run.witnesses)),
                    seen or course,
                ),
            ),
            table(
                "Rounds",
                ("round", "attempt", "sites in the sum", "committed at", "AUC"),
                _rounds(story),
                (0, 1, 4),
            ),
        ),
    )


def files(story: Story) -> Section:
    """Every file with its digest."""
    here = story.places(ModelRegistered)
    rows: list[list[Cell]] = [
        [name, fact(f"files.{name}", name, Digest(digest), here)]
        for name, digest in sorted(story.model.artifacts.items())
    ]
    return Section("Files", (table("Files of the version", ("file", "SHA-256"), rows),))


def _count(name: str, label: str, found: tuple[int, ...], otherwise: tuple[int, ...]) -> Fact:
    return fact(
        name, label, len(found), found or otherwise, derived="a count of the log's entries of this kind"
    )


def _accepts(column: Column) -> str:
    match column:
        case CategoryColumn():
            more = len(column.vocabulary) - _WORDS_SHOWN
            shown = ", ".join(column.vocabulary[:_WORDS_SHOWN])
            return f"{shown}, and {more} more" if more > 0 else shown
        case BooleanColumn():
            return "true or false"
        case DateColumn():
            return "a date"
        case _:
            low, high = column.range
            taken = "" if column.transform == "none" else f", as {column.transform}"
            return f"{low:,g} to {high:,g} {column.unit}{taken}"


def _missing(column: Column) -> str:
    return str(column.missing or "other")


def _rounds(story: Story) -> Iterator[list[Cell]]:
    scored = {what.round: (each.seq, what.metrics) for each, what in story.of(RoundEvaluated) if what.metrics}
    for each, what in story.of(RoundCommitted):
        place, name = (each.seq,), f"rounds.{what.round}"
        seq, metrics = scored.get(what.round, (0, None))
        yield [
            fact(f"{name}.number", "round", what.round, place),
            fact(f"{name}.attempt", "attempt", what.attempt, place),
            fact(f"{name}.sites", "sites", names(what.survivors), place),
            fact(f"{name}.at", "committed", each.at, place),
            "not evaluated" if metrics is None else fact(f"{name}.auc", "AUC", float(metrics["auc"]), (seq,)),
        ]
