"""The section on explanations: how much each feature moves scores, in sentences and figures with intervals, and how far parts and rounds agree."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.governance.evidence.about_performance import last_panels, panels_by_round
from coordinator.governance.evidence.charts import whiskers
from coordinator.governance.evidence.content import Block, Cell, Chart, Points, Section, Words, table
from coordinator.governance.evidence.facts import fact, show_number
from coordinator.governance.evidence.story import Story
from coordinator.registry.explanations import (
    Explained,
    between,
    explained,
    on_balance,
    ranks,
    sentences,
)
from coordinator.registry.versions import SCORING_FILE
from protos.log_entries import ModelRegistered
from strategies.analytics.agreement import Agreement
from strategies.analytics.explanations import Attributed, Explanation

_TITLE = "What moves scores"
_COMPUTED = "from the sums of contributions in these entries"
_READ_OFF = f"from {SCORING_FILE}, whose digest is in this entry"
_READ = (
    "A contribution is what a feature adds to the logit of one row, against the reference applicant: every number at its training mean, nothing missing, each word"
    " equally likely. Figures are means over held-out rows as they were released: contributions of a row are clipped together. Each interval is of 95 % and counts"
    " the noise of the release, rounding, and sampling of rows by the largest variance that such contributions can have. On balance says whether a feature raises"
    " scores more than it lowers them over these rows; what a higher value of it does is read off the model itself."
)
_MOST_DRAWN = 20


def explanations(story: Story) -> Section:
    """What is told of every feature."""
    found, places = explained_in(story)
    if found.explanation is None:
        return Section(
            _TITLE, (Words("Of contributions of features nothing was released."), *_directions(story))
        )
    told = tuple(
        fact(f"explanations.said.{number}", "said", each, places, derived=_COMPUTED)
        for number, each in enumerate(sentences(found), start=1)
    )
    blocks: list[Block] = [Words(_READ), Points(told)]
    blocks += _directions(story)
    blocks += _chart(found.explanation)
    blocks += _features(found.explanation, places)
    blocks += _agreements(found, places)
    return Section(_TITLE, tuple(blocks))


def _directions(story: Story) -> Iterator[Block]:
    """Which way, from the version's own file, where there is one."""
    from coordinator.deploy.scoring.directions import direction_words

    if story.moved is None:
        return
    places = story.places(ModelRegistered)
    yield Points(
        tuple(
            fact(
                f"explanations.{each.feature}.direction",
                "direction",
                direction_words(each),
                places,
                derived=_READ_OFF,
            )
            for each in story.moved
        )
    )


def explained_in(story: Story) -> tuple[Explained, tuple[int, ...]]:
    """What the log tells of contributions, and where."""
    last, bins = last_panels(story), story.plan.evaluation.score_bins
    if last is None:
        return explained(None, {}, bins), ()
    told = panels_by_round(story)
    rounds = {number: panels for number, (panels, _) in told.items()}
    return explained(last[0], rounds, bins), (*last[1], *(seq for _, seq in told.values()))


def _features(found: Explanation, places: tuple[int, ...]) -> Iterator[Block]:
    if not found.features:
        return
    columns = (
        "feature",
        "rank",
        "logits a row",
        "95 % interval",
        "share",
        "95 % interval",
        "on balance",
        "95 % interval",
    )
    yield table(
        f"Mean contribution of each feature, clipped at {found.clip:g} logits",
        columns,
        [_row(each, places) for each in found.features],
        (2, 4),
    )


def _row(each: Attributed, places: tuple[int, ...]) -> list[Cell]:
    def told(key: str, value: float | str | None, shown: str | None = None) -> Cell:
        return fact(f"explanations.{each.feature}.{key}", key, value, places, shown=shown, derived=_COMPUTED)

    share = each.share
    return [
        each.feature,
        told("rank", ranks(each)),
        told("absolute", each.absolute.value, f"{each.absolute.value:.4g}"),
        told("absolute.interval", between(each.absolute)),
        told(
            "share",
            None if share is None else share.value,
            "hidden" if share is None else f"{share.value:.1%}",
        ),
        told("share.interval", between(share, percent=True)),
        told("signed", each.signed.value, f"{each.signed.value:+.4g}, {on_balance(each)}"),
        told("signed.interval", between(each.signed)),
    ]


def _agreements(found: Explained, places: tuple[int, ...]) -> Iterator[Block]:
    known = [*(() if found.parts is None else (found.parts,)), *found.rounds]
    rows = [_agreement(number, each, places) for number, each in enumerate(known, start=1)]
    if rows:
        columns = (
            "between",
            "features",
            "rank correlation",
            "95 % interval",
            "differs most",
            "logits a row",
            "in deviations",
        )
        yield table("Whether the order of features is stable", columns, rows, (1, 2, 5, 6))


def _agreement(number: int, each: Agreement, places: tuple[int, ...]) -> list[Cell]:
    def told(key: str, value: float | str | None, shown: str | None = None) -> Cell:
        return fact(
            f"explanations.agreement.{number}.{key}", key, value, places, shown=shown, derived=_COMPUTED
        )

    one, names = each.correlation, " and ".join(each.between)
    if one is None:
        return [
            names,
            told("features", len(each.compared)),
            told("correlation", None, "cannot be said"),
            told("why", each.cannot),
            *("",) * 3,
        ]
    return [
        names,
        told("features", len(each.compared)),
        told("correlation", one.value, f"{one.value:.2f}"),
        told("interval", f"{one.low:.2f} to {one.high:.2f}"),
        told("moved", each.moved),
        told("by", each.by, f"{each.by:+.3g}"),
        told(
            "deviations",
            each.deviations,
            "exact" if each.deviations is None else show_number(round(each.deviations, 2)),
        ),
    ]


def _chart(found: Explanation) -> Iterator[Block]:
    drawn = [
        (
            each.feature,
            (each.absolute.value, each.absolute.low, each.absolute.high),
            f"{each.absolute.value:.3g} ({each.absolute.low:.3g} to {each.absolute.high:.3g})",
        )
        for each in found.features[:_MOST_DRAWN]
    ]
    if not drawn:
        return
    title = "Mean absolute contribution by feature, logits a row, with its 95 % interval"
    words = f"{len(drawn)} of {len(found.features)} features, the strongest first; the dotted line is at 0. The table below has the figures."
    yield Chart(title=title, words=words, svg=whiskers(drawn, title, words, 0.0))
