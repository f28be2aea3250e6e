"""A cost matrix of another shape, with signs turned round or numbers that are none, is refused with one sentence that says what to write."""

from __future__ import annotations

import pytest

from protos.costs import Costs
from protos.documents import DocumentError, read_document

COSTS = """\
covenant: costs/v1
currency: EUR
approve: {good: -150, bad: 4200}
decline: {good: 20, bad: 0}
decline_at: 0.3
review: {from_score: 0.2, cost: 25, finds: 0.6}
volume_per_year: {least: 90000, most: 120000}
rates: {site_hour: 2, gigabyte: 0.1, approval: 90}
"""


def test_document_is_read_as_it_is_written() -> None:
    found = read_document(COSTS, Costs, "costs.yaml")
    assert (found.approve.good, found.decline.bad) == (-150.0, 0.0)
    assert found.review is not None
    assert found.review.turns_away == 0.0
    assert Costs.from_canonical(found.canonical) == found


BAD = {
    "a matrix of rows": (
        "approve: {good: -150, bad: 4200}\ndecline: {good: 20, bad: 0}",
        "matrix: [[-150, 4200], [20, 0]]",
        "line 3: `matrix`: the cost matrix is written as two keys",
    ),
    "a row that is a list": (
        "approve: {good: -150, bad: 4200}",
        "approve: [-150, 4200]",
        "line 3: `approve` is [-150, 4200]: a row of the cost matrix has two amounts by name",
    ),
    "a row of three": (
        "decline: {good: 20, bad: 0}",
        "decline: {good: 20, bad: 0, unknown: 3}",
        "line 4: `decline` is ",
    ),
    "a row of one": ("decline: {good: 20, bad: 0}", "decline: {good: 20}", "has two amounts by name"),
    "a row of a number": ("decline: {good: 20, bad: 0}", "decline: 20", "has two amounts by name"),
    "signs turned round": (
        "approve: {good: -150, bad: 4200}",
        "approve: {good: 150, bad: -4200}",
        "`approve`: approving a bad one comes to -4200, declining it to 0: nothing is gained by declining",
    ),
    "declining that is never dearer": (
        "decline: {good: 20, bad: 0}",
        "decline: {good: -150, bad: 0}",
        "`decline`: declining a good one comes to -150, approving it to -150",
    ),
    "an amount that is a word": ("bad: 4200", 'bad: "4200"', "`approve.bad` is"),
    "an amount that is not finite": ("bad: 4200", "bad: .inf", "`approve.bad` is"),
    "an amount beyond what is counted": ("bad: 4200", "bad: 1.0e+12", "less than or equal to 1000000000"),
    "a currency by its sign": ("EUR", '"€"', "three capital letters of ISO 4217"),
    "a range turned round": ("least: 90000", "least: 900000", "`volume_per_year.least`: 900000 is more"),
    "a year without decisions": ("least: 90000", "least: 0", "`volume_per_year.least` is 0"),
    "a band that is empty": (
        "from_score: 0.2",
        "from_score: 0.3",
        "`review`: review begins at 0.3, which is not below",
    ),
    "more found than there are": ("finds: 0.6", "finds: 1.6", "`review.finds` is 1.6"),
    "a threshold that is no score": ("decline_at: 0.3", "decline_at: 30", "`decline_at` is 30"),
    "a price of privacy": ("approval: 90", "epsilon: 90", "unknown key `rates.epsilon`"),
}


@pytest.mark.parametrize("defect", BAD)
def test_wrong_shapes_are_refused_in_one_sentence(defect: str) -> None:
    old, new, sentence = BAD[defect]
    assert COSTS.count(old) == 1
    with pytest.raises(DocumentError) as refused:
        read_document(COSTS.replace(old, new), Costs, "costs.yaml")
    assert sentence in str(refused.value)
    assert str(refused.value).startswith("costs.yaml line ")
