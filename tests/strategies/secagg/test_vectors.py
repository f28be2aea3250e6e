"""Committed vectors, each computed without the code under test (see their `provenance`), and bad ones named for their defect.

`tests/vectors/secagg/compute.py` computes all good ones again. A bad one is either refused, or it is the result of a definition with one
thing wrong in it, which the code must not share: for these, compute.py with that defect gives the bad result, and without it ours.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
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
from strategies.secagg.suites import KeySeed, OwnSeed, PrivateKey, Suite, own_mask
from tests.strategies.secagg.attempt_for_tests import names
from tests.vectors.secagg import compute

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


def test_every_good_vector_is_computed_without_the_project() -> None:
    assert compute.wrong() == []
    tree = ast.parse(Path(compute.__file__).read_text())
    roots = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    used = {str(root).partition(".")[0] for root in roots}
    assert used <= {*sys.stdlib_module_names, "cryptography"}
    assert not used & {"random", "secrets"}


@pytest.mark.parametrize("name", ["labels", "masks", "packing", "shamir", "p256_keys", "graph"])
def test_a_changed_vector_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Else the test above would pass whatever the files hold."""
    field = {
        "labels": "derived",
        "masks": "sha256",
        "packing": "packed",
        "shamir": "shares",
        "p256_keys": "public",
        "graph": "neighbours",
    }[name]

    def changed(asked: str) -> dict[str, Any]:
        file = read(asked)
        if asked == name:
            file["cases"][-1][field] = file["cases"][0][field]
        return file

    monkeypatch.setattr(compute, "read", changed)
    assert len(compute.wrong()) == 1


def label_of(attempt: list[str], case: dict[str, Any]) -> Label:
    suite, plan, run, stage, number, tries = attempt
    return Label(
        attempt=Attempt(
            suite=suite, plan=Digest(plan), run=RunId(run), stage=stage, round=int(number), attempt=int(tries)
        ),
        purpose=case["purpose"],
        parties=tuple(map(SiteName, case["parties"])),
        cohort=case["cohort"],
        statement=case["statement"],
    )


@pytest.mark.parametrize("case", cases("labels"), ids=lambda case: case["purpose"])
def test_labels_and_what_is_derived_under_them(case: dict[str, Any]) -> None:
    label = label_of(read("labels")["attempt"], case)
    assert label.encode().hex() == case["label"]
    assert own_mask(OwnSeed(bytes.fromhex(case["secret"])), label).reveal().hex() == case["derived"]


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("labels_bad_run_together", {"lengths": None}),
        ("labels_bad_little_endian_lengths", {"lengths": "<I"}),
        ("labels_bad_uncounted_parties", {"count_parties": False}),
    ],
)
def test_bad_labels(name: str, defect: dict[str, Any]) -> None:
    bad = read(name)
    label, secret = label_of(bad["attempt"], bad), bytes.fromhex(bad["secret"])
    assert compute.label(bad["attempt"], bad, **defect).hex() == bad["label"]
    assert compute.hkdf(secret, bytes.fromhex(bad["label"])).hex() == bad["derived"]
    assert label.encode() == compute.label(bad["attempt"], bad) != bytes.fromhex(bad["label"])
    assert own_mask(OwnSeed(secret), label).reveal().hex() != bad["derived"]


def test_bad_salt() -> None:
    bad = read("labels_bad_salted")
    label, secret = label_of(bad["attempt"], bad), bytes.fromhex(bad["secret"])
    assert label.encode().hex() == bad["label"]
    assert compute.hkdf(secret, label.encode(), salt=compute.PROTOCOL.encode()).hex() == bad["derived"]
    found = own_mask(OwnSeed(secret), label).reveal()
    assert found == compute.hkdf(secret, label.encode()) != bytes.fromhex(bad["derived"])


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


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("masks_bad_counter_from_one", {"first": 1}),
        ("masks_bad_big_endian_words", {"order": "big"}),
        ("masks_bad_little_endian_counter", {"counter": "little"}),
    ],
)
def test_bad_masks(name: str, defect: dict[str, Any]) -> None:
    bad = read(name)
    ring = Ring(bad["bits"])
    vector = ring.zeros(bad["dimension"])
    add_mask(ring, vector, MaskSeed(bytes.fromhex(bad["seed"])))
    assert [str(word) for word in compute.mask(bad, **defect)] == bad["mask"]
    found = [int(word) for word in ring.reduce(vector)]
    assert found == compute.mask(bad)
    assert [str(word) for word in found] != bad["mask"]


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


def test_bad_order_of_packing() -> None:
    bad = read("packing_bad_big_endian")
    ring, packed = Ring(bad["bits"]), bytes.fromhex(bad["packed"])
    values = np.asarray([int(each) for each in bad["values"]], dtype=ring.word)
    assert compute.packed(bad, order="big") == packed
    assert ring.pack(values) == compute.packed(bad) != packed


@pytest.mark.parametrize("case", cases("shamir"), ids=lambda case: f"{case['threshold']} shares")
def test_shamir(case: dict[str, Any]) -> None:
    draws = iter(bytes.fromhex(each) for each in case["draws"])
    secret, points = bytes.fromhex(case["secret"]), [int(point) for point in case["shares"]]
    shares = split(secret, case["threshold"], points, lambda _: next(draws))
    assert {str(point): share.hex() for point, share in shares.items()} == case["shares"]
    last = points[-case["threshold"] :]
    assert combine({point: shares[point] for point in last}, coefficients_at_zero(last)) == secret


@pytest.mark.parametrize(
    "name",
    [
        "shamir_bad_not_in_the_field",
        "shamir_bad_truncated_share",
        "shamir_bad_missing_share",
        "shamir_bad_secret_of_33_bytes",
    ],
)
def test_bad_shares(name: str) -> None:
    bad = read(name)
    shares = {int(point): bytes.fromhex(share) for point, share in bad["shares"].items()}
    with pytest.raises(Refused, match=bad["refusal"]):
        combine(shares, coefficients_at_zero([1, 2, 3]))


@pytest.mark.parametrize("case", cases("p256_keys"), ids=lambda case: case["seed"][:4])
def test_p256_keys(case: dict[str, Any]) -> None:
    assert PrivateKey(Suite.P256, KeySeed(bytes.fromhex(case["seed"]))).public.hex() == case["public"]


def test_bad_p256_key() -> None:
    bad = read("p256_keys_bad_seed_as_scalar")
    seed, public = bytes.fromhex(bad["seed"]), bytes.fromhex(bad["public"])
    assert compute.p256_public(seed, wide=False) == public
    assert PrivateKey(Suite.P256, KeySeed(seed)).public == compute.p256_public(seed) != public


@pytest.mark.parametrize("case", cases("graph"), ids=lambda case: f"{case['degree']} of {case['sites']}")
def test_graph(case: dict[str, Any]) -> None:
    graph = regular_graph(names(case["sites"]), case["degree"], Digest(case["seed"]))
    assert [list(near) for near in graph.near] == case["neighbours"]


def test_bad_graph() -> None:
    bad = read("graph_bad_odd_degree")
    with pytest.raises(UsageError, match=bad["refusal"]):
        regular_graph(names(bad["sites"]), bad["degree"], Digest(bad["seed"]))


@pytest.mark.parametrize(
    ("name", "defect"),
    [("graph_bad_shuffled_upwards", {"upwards": True}), ("graph_bad_seed_as_text", {"ascii_seed": True})],
)
def test_bad_orders_of_the_ring(name: str, defect: dict[str, Any]) -> None:
    bad = read(name)
    assert compute.neighbours(bad, **defect) == bad["neighbours"]
    graph = regular_graph(names(bad["sites"]), bad["degree"], Digest(bad["seed"]))
    assert [list(near) for near in graph.near] == compute.neighbours(bad) != bad["neighbours"]


def test_every_vector_is_used() -> None:
    source = Path(__file__).read_text()
    assert [file.stem for file in FOLDER.glob("*.json") if f'"{file.stem}"' not in source] == []
