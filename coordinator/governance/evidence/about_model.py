"""Sections on the model itself: what it is, the data that it is made for, how it was trained, and how well it does."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.governance.evidence.charts import lines
from coordinator.governance.evidence.content import Block, Cell, Chart, Section, Words, pairs, table
from coordinator.governance.evidence.facts import Fact, fact, names, show_number
from coordinator.governance.evidence.story import Story
from protos.contract import BooleanColumn, CategoryColumn, Column, DateColumn
from protos.log_entries import ModelRegistered, PlanRecorded, RunLaunched
from protos.log_registry import ModelMoved, ModelSigned
from protos.log_run_events import (
    AttemptVoided,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunWitnessed,
    SiteRefused,
)
from protos.plan import SecureAggregation
from strategies.analytics.histograms import ScoreMetrics
from strategies.ids import Digest

_WORDS_SHOWN = 8
_METRICS = (
    ("auc", "AUC"),
    ("ks", "KS"),
    ("brier", "Brier score"),
    ("log_loss", "Log loss, nats a row"),
)


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


def performance(story: Story) -> Section:
    """How well it does on rows that nobody trained on. Empty figures are in what is missing."""
    found = last_metrics(story)
    if found is None:
        return Section("Performance", (Words("No evaluation of this version's weights is recorded."),))
    metrics, places = found
    noisy = ", as counted with noise" if any((metrics.noise_std or {}).values()) else ""
    figures = pairs(
        fact("metrics.rows", f"Held-out rows{noisy}", metrics.rows, places),
        fact("metrics.positives", f"Of these positive{noisy}", metrics.positives, places),
        *(_metric(metrics, key, label, places) for key, label in _METRICS),
        None
        if metrics.auc_interval is None
        else fact(
            "metrics.auc_interval",
            "AUC, 95 % for noise and sampling of rows",
            f"{metrics.auc_interval[0]}..{metrics.auc_interval[1]}",
            places,
            shown=f"{show_number(metrics.auc_interval[0])} to {show_number(metrics.auc_interval[1])}",
        ),
    )
    blocks: list[Block] = [figures]
    if metrics.champion is not None:
        blocks.append(_champion(story, metrics, metrics.champion, places))
    blocks += _calibration(metrics, places)
    blocks += _by_round(story)
    return Section("Performance on held-out rows", tuple(blocks))


def last_metrics(story: Story) -> tuple[ScoreMetrics, tuple[int, ...]] | None:
    """The metrics of the weights that were registered, and where the log has them; None where it has none."""
    told = [
        (each.seq, what.metrics)
        for each, what in story.of(RoundEvaluated)
        if what.round == story.plan.training.rounds and what.metrics is not None
    ]
    if not told:
        return None
    seq, facts = told[-1]
    return ScoreMetrics.from_facts(facts), (seq,)


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


def _metric(metrics: ScoreMetrics, key: str, label: str, places: tuple[int, ...]) -> Fact:
    value = float(getattr(metrics, key))
    std = float((metrics.noise_std or {}).get(key, 0.0))
    shown = show_number(value) + (f" ± {std:.3g} (one standard deviation of noise)" if std else "")
    return fact(f"metrics.{key}", label, value, places, shown=shown)


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


def _champion(story: Story, ours: ScoreMetrics, theirs: ScoreMetrics, places: tuple[int, ...]) -> Block:
    named = story.plan.evaluation.champion
    ref = "the champion" if named is None else named.model
    rows: list[list[Cell]] = [
        [
            label,
            fact(f"metrics.{key}.ours", label, float(getattr(ours, key)), places),
            fact(f"metrics.{key}.champion", label, float(getattr(theirs, key)), places),
            fact(
                f"metrics.{key}.difference",
                label,
                float(getattr(ours, key)) - float(getattr(theirs, key)),
                places,
                derived="the first less the second",
            ),
        ]
        for key, label in _METRICS
    ]
    return table(f"Beside {ref}, on the same rows", ("metric", story.ref, ref, "difference"), rows, (1, 2, 3))


def _calibration(metrics: ScoreMetrics, places: tuple[int, ...]) -> list[Block]:
    rows: list[list[Cell]] = [
        [
            fact(f"calibration.{number}.score", "mean score", each.mean_score, places),
            fact(f"calibration.{number}.observed", "share of positives", each.observed, places),
            fact(f"calibration.{number}.rows", "rows", each.rows, places),
        ]
        for number, each in enumerate(metrics.calibration, start=1)
    ]
    if not rows:
        return []
    drawn = [(each.mean_score, each.observed) for each in metrics.calibration]
    title = "Calibration: share of positives by mean score"
    words = f"{len(drawn)} groups of held-out rows; a calibrated model lies on the dotted diagonal. The table below has the figures."
    axes = ("mean score of a group of rows", "share of positives")
    return [
        Chart(title=title, words=words, svg=lines(drawn, title, words, axes, diagonal=True)),
        table("Calibration", ("mean score", "share of positives", "rows"), rows, (0, 1, 2)),
    ]


def _by_round(story: Story) -> list[Block]:
    scored = {what.round: what.metrics for _, what in story.of(RoundEvaluated) if what.metrics}
    drawn = [(float(number), float(metrics["auc"])) for number, metrics in sorted(scored.items())]
    if len(drawn) < 2:  # noqa: PLR2004 (a line takes two points)
        return []
    title = "AUC by round"
    words = f"{len(drawn)} evaluated rounds; the table of rounds has the figures."
    return [
        Chart(title=title, words=words, svg=lines(drawn, title, words, ("round", "AUC on held-out rows")))
    ]
