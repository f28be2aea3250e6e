"""The section on how well a version does: its metrics on held-out rows, beside a champion's, calibrated or not, and round by round."""

from __future__ import annotations

from coordinator.governance.evidence.charts import lines
from coordinator.governance.evidence.content import Block, Cell, Chart, Section, Words, pairs, table
from coordinator.governance.evidence.facts import Fact, fact, show_number
from coordinator.governance.evidence.story import Story
from protos.log_run_events import RoundEvaluated
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import Panels, released_panels

_METRICS = (
    ("auc", "AUC"),
    ("ks", "KS"),
    ("brier", "Brier score"),
    ("log_loss", "Log loss, nats a row"),
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


def last_panels(story: Story) -> tuple[Panels, tuple[int, ...]] | None:
    """What the last evaluation of the weights that were registered told beside metrics, with those or without, and where the log has it."""
    told = panels_by_round(story).get(story.plan.training.rounds)
    return None if told is None else (told[0], (told[1],))


def panels_by_round(story: Story) -> dict[int, tuple[Panels, int]]:
    """The panels of each evaluated round, and where the log has them."""
    found = {
        what.round: (released_panels(what.metrics, what.panels), each.seq)
        for each, what in story.of(RoundEvaluated)
    }
    return {number: (panels, seq) for number, (panels, seq) in found.items() if panels is not None}


def _metric(metrics: ScoreMetrics, key: str, label: str, places: tuple[int, ...]) -> Fact:
    value = float(getattr(metrics, key))
    std = float((metrics.noise_std or {}).get(key, 0.0))
    shown = show_number(value) + (f" ± {std:.3g} (one standard deviation of noise)" if std else "")
    return fact(f"metrics.{key}", label, value, places, shown=shown)


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
