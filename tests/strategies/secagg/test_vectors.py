"""Committed vectors, each computed without the code under test (see their `provenance`), and bad ones named for their defect."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.graph import regular_graph
from strategies.secagg.labels import Attempt, Label
from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from strategies.secagg.shamir import coefficients_at_zero, combine, split
from strategies.secagg.suites import OwnSeed, own_mask
from tests.strategies.secagg.attempt_for_tests import names

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg"


def read(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    assert vector["provenance"]
    return vector


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(name)["cases"]
    return found


def test_every_vector_says_where_it_comes_from() -> None:
    for file in FOLDER.glob("*.json"):
        assert read(file.stem)["provenance"].endswith(".")


@pytest.mark.parametrize("case", cases("labels"), ids=lambda case: case["purpose"])
def test_labels_and_what_is_derived_under_them(case: dict[str, Any]) -> None:
    suite, plan, run, stage, number, attempt = read("labels")["attempt"]
    label = Label(
        attempt=Attempt(
            suite=suite,
            plan=Digest(plan),
            run=RunId(run),
            stage=stage,
            round=int(number),
            attempt=int(attempt),
        ),
        purpose=case["purpose"],
        parties=tuple(map(SiteName, case["parties"])),
        cohort=case["cohort"],
        statement=case["statement"],
    )
    assert label.encode().hex() == case["label"]
    assert own_mask(OwnSeed(bytes.fromhex(case["secret"])), label).reveal().hex() == case["derived"]


@pytest.mark.parametrize(
    "case", cases("masks"), ids=lambda case: f"{case['dimension']} of {case['bits']} bits"
)
def test_masks(case: dict[str, Any]) -> None:
    ring = Ring(case["bits"])
    vector = ring.zeros(case["dimension"])
    add_mask(ring, vector, MaskSeed(bytes.fromhex(case["seed"])))
    words = ring.reduce(vector).astype("<u8")
    assert hashlib.sha256(words.tobytes()).hexdigest() == case["sha256"]
    if "mask" in case:
        assert [str(word) for word in words] == case["mask"]


@pytest.mark.parametrize("case", cases("packing"), ids=lambda case: f"{case['bits']} bits")
def test_packing(case: dict[str, Any]) -> None:
    ring, packed = Ring(case["bits"]), bytes.fromhex(case["packed"])
    values = np.asarray([int(each) for each in case["values"]], dtype=ring.word)
    assert ring.pack(values) == packed
    assert np.array_equal(ring.unpack(packed, len(values)), values)
    twice = values.copy()
    ring.add_packed(twice, packed)
    assert np.array_equal(ring.reduce(twice), ring.reduce(values + values))


@pytest.mark.parametrize("name", ["packing_bad_padding", "packing_bad_length"])
def test_bad_packing(name: str) -> None:
    bad = read(name)
    ring, packed = Ring(bad["bits"]), bytes.fromhex(bad["packed"])
    with pytest.raises(Refused, match=bad["refusal"]):
        ring.unpack(packed, bad["dimension"])
    total = ring.zeros(bad["dimension"])
    with pytest.raises(Refused, match=bad["refusal"]):
        ring.add_packed(total, packed)
    assert not total.any()


@pytest.mark.parametrize("case", cases("shamir"), ids=lambda case: f"{case['threshold']} shares")
def test_shamir(case: dict[str, Any]) -> None:
    draws = iter(bytes.fromhex(each) for each in case["draws"])
    secret, points = bytes.fromhex(case["secret"]), [int(point) for point in case["shares"]]
    shares = split(secret, case["threshold"], points, lambda _: next(draws))
    assert {str(point): share.hex() for point, share in shares.items()} == case["shares"]
    last = points[-case["threshold"] :]
    assert combine({point: shares[point] for point in last}, coefficients_at_zero(last)) == secret


@pytest.mark.parametrize(
    "name", ["shamir_bad_not_in_the_field", "shamir_bad_truncated_share", "shamir_bad_missing_share"]
)
def test_bad_shares(name: str) -> None:
    bad = read(name)
    shares = {int(point): bytes.fromhex(share) for point, share in bad["shares"].items()}
    with pytest.raises(Refused, match=bad["refusal"]):
        combine(shares, coefficients_at_zero([1, 2, 3]))


@pytest.mark.parametrize("case", cases("graph"), ids=lambda case: f"{case['degree']} of {case['sites']}")
def test_graph(case: dict[str, Any]) -> None:
    graph = regular_graph(names(case["sites"]), case["degree"], Digest(case["seed"]))
    assert [list(near) for near in graph.near] == case["neighbours"]


def test_bad_graph() -> None:
    bad = read("graph_bad_odd_degree")
    with pytest.raises(UsageError, match=bad["refusal"]):
        regular_graph(names(bad["sites"]), bad["degree"], Digest(bad["seed"]))
