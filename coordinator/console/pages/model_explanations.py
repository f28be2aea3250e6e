"""What moves a version's scores, on its page: sentences, the mean contribution of each feature with its interval, and whether parts and rounds agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.console.charts import Chart, Series
from coordinator.console.tables import Cell, Column, Table
from coordinator.registry.explanations import Explained, between, on_balance, ranks, sentences
from strategies.analytics.agreement import Agreement
from strategies.analytics.explanations import Attributed, Explanation

_MOST_DRAWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationView:
    """What the template shows: `said` in words, then tables and perhaps a chart."""

    said: Sequence[str]
    tables: Sequence[Table]
    chart: Chart | None


def explanation_view(found: Explained) -> ExplanationView | None:
    """None where nothing was released."""
    if found.explanation is None:
        return None
    agreements = [*(() if found.parts is None else (found.parts,)), *found.rounds]
    return ExplanationView(
        said=tuple(sentences(found)),
        tables=(
            _features(found.explanation),
            *((_agreements(agreements),) if agreements else ()),
        ),
        chart=_chart(found.explanation),
    )


def _features(found: Explanation) -> Table:
    return Table(
        name="explanations",
        caption=f"Mean contribution of each feature to a row's logit, clipped at {found.clip:g}",
        columns=[
            Column("Feature"),
            Column("Rank"),
            Column("Logits a row", number=True),
            Column("95 % interval"),
            Column("Share", number=True),
            Column("95 % interval of the share"),
            Column("On balance", number=True),
            Column("95 % interval on balance"),
        ],
        rows=[_row(each) for each in found.features],
        empty=found.cannot,
    )


def _row(each: Attributed) -> Sequence[Cell]:
    share = each.share
    return [
        Cell(each.feature),
        Cell(ranks(each)),
        Cell(each.absolute.value, text=f"{each.absolute.value:.4g}"),
        Cell(between(each.absolute)),
        Cell(None) if share is None else Cell(share.value, text=f"{share.value:.1%}"),
        Cell(between(share, percent=True)),
        Cell(each.signed.value, text=f"{each.signed.value:+.4g}, {on_balance(each)}"),
        Cell(between(each.signed)),
    ]


def _agreements(known: Sequence[Agreement]) -> Table:
    return Table(
        name="explanations-agreement",
        caption="Whether the order of features is stable",
        columns=[
            Column("Between"),
            Column("Features", number=True),
            Column("Rank correlation", number=True),
            Column("95 % interval"),
            Column("Differs most"),
            Column("Logits a row", number=True),
            Column("Standard deviations", number=True),
        ],
        rows=[_agreement(each) for each in known],
    )


def _agreement(each: Agreement) -> Sequence[Cell]:
    one = each.correlation
    names = Cell(" and ".join(each.between))
    if one is None:
        return [names, Cell(len(each.compared)), Cell(None), Cell(each.cannot), *(Cell(None),) * 3]
    return [
        names,
        Cell(len(each.compared)),
        Cell(one.value, text=f"{one.value:.2f}"),
        Cell(f"{one.low:.2f} to {one.high:.2f}"),
        Cell(each.moved),
        Cell(each.by, text=f"{each.by:+.3g}"),
        Cell(each.deviations, text="exact" if each.deviations is None else f"{each.deviations:.2g}"),
    ]


def _chart(found: Explanation) -> Chart | None:
    drawn = found.features[:_MOST_DRAWN]
    if not drawn:
        return None
    ends = {
        "lower end": [(each.feature, each.absolute.low) for each in drawn],
        "upper end": [(each.feature, each.absolute.high) for each in drawn],
    }
    return Chart(
        name="explanations-chart",
        title="How much each feature moves scores, the strongest first",
        x="feature",
        y="mean absolute contribution, logits a row",
        axis="category",
        y_from=0.0,
        series=[
            Series(name="mean", kind="bar", points=[(each.feature, each.absolute.value) for each in drawn]),
            *(Series(name=name, kind="scatter", points=points) for name, points in ends.items()),
        ],
    )
