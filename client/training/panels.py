"""The panels that a site adds to its score counts: by protected group, by feature, and of its inputs, over its held-out rows.

1. Each row is in one cell of each block, by itself alone: neither how many others there are nor which changes where it is counted.
2. Protected attributes are read here, and to reweigh; the model never sees them.
3. Nothing refuses because of what a row holds: no value is a group, and a bin, of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data.table import Part, blocks
from client.training.champion import Scorer
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_panels import (
    evaluation_cells,
    groups_of,
    part_names,
    part_of_site,
    part_salt,
    pieces_of,
    profile_of,
)
from strategies.analytics.attributions import Attributions
from strategies.analytics.groups import group_codes, group_counts, group_edges
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.ids import SiteName
from strategies.sampling import held_out

Integers = npt.NDArray[np.int64]
Scores = Callable[[Scorer, npt.NDArray[np.float32]], Vector]
"""Probabilities of encoded rows, (n,), each a function of its row alone."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Counts over `rows` for `plan` at `site`, who is None where no part of the plan is about sites. `told_by` names each row's unit.

    Raises UsageError where the plan divides sites and none is named.
    """

    plan: Plan
    contract: Contract
    rows: Part
    told_by: Callable[[Part], Sequence[str]]
    site: SiteName | None

    def __post_init__(self) -> None:
        explained = self.plan.evaluation.explanations
        if self.site is None and explained is not None and explained.parts == "sites":
            raise UsageError(
                f"plan {self.plan.name} divides its sites into two groups; say which site this is"
            )

    def joined(self, scores: Integers, scorer: Scorer, scores_of: Scores) -> Integers:
        """The whole vector, (dimension,) in steps: `scores`, (models, 2, bins), and the panels of `scorer`, the model that the plan trains."""
        cells = evaluation_cells(self.plan, self.contract)
        part_rows, attributions = self._attributed(scorer)
        return cells.joined(
            [
                scores.reshape(cells.models, 2, -1),
                *self._groups(scorer, scores_of),
                part_rows if cells.parts > 1 else part_rows[:0],
                attributions,
                *self._profile(),
            ]
        )

    def _encoded(self, scorer: Scorer) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Blocks of rows by their numbers, as the model sees them."""
        names = [each.name for each in scorer.features.features]
        for some in blocks(len(self.rows)):
            yield some, scorer.features.encode(self.rows.at(some, names), scorer.scaling)

    def _groups(self, scorer: Scorer, scores_of: Scores) -> list[Integers]:
        asked, attributes = self.plan.evaluation.fairness, self.plan.protected or ()
        if asked is None:
            return []
        edges, labels = group_edges(asked.decline_at, asked.bins), self.rows.target
        groups = {each: groups_of(self.contract, each) for each in attributes}
        totals = {each: np.zeros((len(groups[each]), 2, asked.bins), dtype=np.int64) for each in attributes}
        for some, encoded in self._encoded(scorer):
            if not len(encoded):
                continue
            scores, values = scores_of(scorer, encoded), self.rows.protected_at(some, attributes)
            for each in attributes:
                codes = group_codes(values[each], groups[each])
                totals[each] += group_counts(codes, labels[some], scores, edges, len(groups[each]))
        return [totals[each] for each in attributes]

    def _attributed(self, scorer: Scorer) -> tuple[Integers, Integers]:
        """Rows of each part, (parts,), and sums of attributions, (parts, 2, features) in 1/256; empty where the plan asks for none."""
        asked = self.plan.evaluation.explanations
        if asked is None:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 2, 0), dtype=np.int64)
        count = len(part_names(asked))
        part = self._parts()
        made = Attributions(
            scorer.shape,
            scorer.weights,
            scorer.features,
            clip=asked.clip,
            pieces=pieces_of(scorer.shape.hidden),
        )
        total = np.zeros((count, 2, len(self.plan.features)), dtype=np.int64)
        for some, encoded in self._encoded(scorer):
            total += made.sums(encoded, part[some], count)
        return np.bincount(part, minlength=count).astype(np.int64), total

    def _parts(self) -> Integers:
        """The part that each row's attribution is in, (n,): of a unit's rows all the same."""
        asked = self.plan.evaluation.explanations
        if asked is not None and asked.parts == "rows":
            return held_out(self.told_by(self.rows), part_salt(self.plan), 0.5).astype(np.int64)
        of_all = part_of_site(self.plan, self.site) if self.site and asked and asked.parts == "sites" else 0
        return np.full(len(self.rows), of_all, dtype=np.int64)

    def _profile(self) -> list[Integers]:
        profile = profile_of(self.plan, self.contract)
        if profile is None:
            return []
        total = np.zeros(profile.dimension, dtype=np.int64)
        for some in blocks(len(self.rows)):
            total += profile.counts(self.rows.at(some, self.plan.features))
        return profile.parts(total)


def importance(plan: Plan, contract: Contract, rows: Part) -> Vector | None:
    """What each row counts by its protected group, (n,), where the plan reweighs; None where it does not."""
    rule = plan.training.reweigh
    if rule is None:
        return None
    groups = groups_of(contract, rule.attribute)
    table = np.ones((len(groups), 2))
    for group, weights in rule.weights.items():
        table[groups.index(group)] = weights.negative, weights.positive
    values = rows.protected_at(slice(None), [rule.attribute])[rule.attribute]
    return np.asarray(table[group_codes(values, groups), (rows.target > 0.5).astype(np.int64)])  # noqa: PLR2004
