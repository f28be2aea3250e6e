"""A declined application gets its reasons in the contract's words, and captum agrees on what counted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from coordinator.deploy.scoring.arms import load
from coordinator.deploy.scoring.offline import explain
from coordinator.registry.export import Exportable
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.models import DenseModel
from tests.coordinator.scoring_for_tests import (
    CONTRACT,
    INFER,
    TABLE,
    contract,
    exportable,
    opened,
    output,
    question,
    serving,
    tensor,
)

WORDS = ("Too much was asked for", "Income too low for the amount asked for", "term")


def logistic() -> Exportable:
    """Weights that can be followed by hand: amount, income, income missing, term 36, term 60, term other, bias."""
    source = exportable(hidden=())
    return replace(source, vector=np.array([1.0, -2.0, 0.75, -0.5, 0.5, 1.5, 0.1]))


def told(answer: dict, row: int) -> list[str]:
    return [word for word in output(answer, "reasons")["data"][4 * row : 4 * row + 4] if word]


def test_reasons_of_a_linear_model_are_those_that_weight_and_distance_give() -> None:
    with serving(opened(3, logistic()), decline_at=0.0) as client:
        answer = client.post(INFER, json=question()).json()
    # amount: (unit - 0.4) / 0.2; income: (unit - 0.8) / 0.1 of log1p, 0 and 0.75 where missing; term against the mean of its two words, 0.
    amount = (np.array([0.1, 0.25, 1.0]) - 0.4) / 0.2
    income = np.array([(np.log1p(50_000.5) / np.log1p(1e6) - 0.8) / 0.1, np.nan, -8.0]) * -2.0
    income[1] = 0.75
    term = np.array([-0.5, 1.5, 1.5])
    for row, added in enumerate(zip(amount, income, term, strict=True)):
        expected = [WORDS[place] for place in np.argsort(-np.array(added)) if added[place] > 0.0]
        assert told(answer, row) == expected
    assert output(answer, "reasons")["shape"] == [3, 4]


def test_only_what_is_declined_gets_reasons_and_without_a_threshold_only_who_asks() -> None:
    with serving(opened(3, logistic())) as client:
        plain = client.post(INFER, json=question()).json()
        assert [each["name"] for each in plain["outputs"]] == ["probability"]
        wanted = {**question(), "outputs": [{"name": "reasons"}]}
        assert all(told(client.post(INFER, json=wanted).json(), row) for row in range(3))
    scores = np.array(output(plain)["data"])
    threshold = float(np.sort(scores)[1])
    with serving(opened(3, logistic()), decline_at=threshold) as client:
        for asked in (question(), {**question(), "outputs": [{"name": "probability"}, {"name": "reasons"}]}):
            answer = client.post(INFER, json=asked).json()
            assert [bool(told(answer, row)) for row in range(3)] == (scores >= threshold).tolist()
        without = client.post(INFER, json={**question(), "outputs": [{"name": "probability"}]}).json()
        assert [each["name"] for each in without["outputs"]] == ["probability"]


def test_at_most_four_reasons_are_told_and_the_same_words_once() -> None:
    columns = "".join(
        f"  c{place}: {{type: number, unit: x, range: [0, 1], reason: {reason}}}\n"
        for place, reason in enumerate(
            ["Debts", "Debts", "Arrears", "Short history", "Many inquiries", "Low balance"]
        )
    )
    agreed = contract(CONTRACT[: CONTRACT.index("  amount")] + columns)
    names = tuple(agreed.columns)
    spec = agreed.feature_spec(names)
    source = exportable(agreed, names[:3], hidden=())
    source = replace(
        source,
        features=spec,
        scaling=Scaling.identity(6),
        model=DenseModel(inputs=6),
        vector=np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]),
    )
    inputs = {"inputs": [tensor(name, "FP64", [1.0]) for name in names]}
    with serving(opened(3, source, agreed), decline_at=0.0) as client:
        answer = client.post(INFER, json=inputs).json()
    assert told(answer, 0) == ["Debts", "Arrears", "Short history", "Many inquiries"]


@pytest.mark.parametrize("hidden", [(), (8, 6)])
def test_captum_finds_what_the_service_finds(hidden: tuple[int, ...]) -> None:
    source = exportable(hidden=hidden)
    found = explain(opened(3, source), json.dumps(question()).encode())
    assert found.features == ("amount", "income", "term")
    assert found.difference < (1e-5 if not hidden else 1e-2)  # captum's steps are float32
    loaded = load(opened(3, source))
    reference = loaded.explainer.reference.astype(np.float32)[None]
    at_reference = source.model.logits(source.vector, reference)
    logits = source.model.logits(source.vector, source.features.encode(TABLE, source.scaling))
    added = loaded.explainer.contributions(source.features.encode(TABLE, source.scaling))
    # The service has the weights as float32, and so does the reference of words.
    np.testing.assert_allclose(added.sum(axis=1), logits - at_reference, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.contributions, added, rtol=0, atol=1e-2)


def test_offline_refuses_what_the_service_refuses() -> None:
    with pytest.raises(UsageError, match="the inputs amount are missing"):
        explain(opened(), json.dumps(question(amount=None)).encode())
