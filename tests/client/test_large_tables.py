"""What is computed from rows does not depend on how many of them are in memory, or how many are taken at a time: not by a bit."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from client.data import Table, Unreadable, table, table_from
from client.data.storage import Spool
from client.training import TrainingSession, encoded, private
from client.training.encoded import Batches, Encoded
from client.training.private import PrivateSession
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.features import Coded, Scaling
from strategies.ids import site_name
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, local_plan, seed
from tests.client.private_for_tests import private_plan

SITE = site_name("west")
SCALING = Scaling(mean=(0.4, 0.6), std=(0.2, 0.3))
CUSTOMER = {
    "unit: {kind: record}": "unit: {kind: customer, column: customer_id, max_rows: 2}",
    "by: loan_id": "by: customer_id",
}


def people(rows: int = 400) -> Table:
    data = loans.loans(rows).append_column(
        "customer_id", pa.array([f"p{place % 90}" for place in range(rows)])
    )
    return table_from(data, CUSTOMERS, renamed={}, named="rows")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 32 rows, and nothing kept."""
    for module in (table, encoded, private):
        monkeypatch.setattr(module, "BLOCK_ROWS", 32)
    monkeypatch.setattr(Encoded.__init__, "__kwdefaults__", {"most_kept": 0})


def computed() -> str:
    """Digests of all that a site computes, plain and private."""
    found = hashlib.sha256()
    plain = TrainingSession(loans.plan(), loans.CONTRACT, loans.table(400), site=SITE)
    model = plain.model.initial(3) + 0.1
    for each in (plain.moments(), plain.train(model, SCALING, 2), plain.evaluate(model, SCALING)):
        found.update(each.tobytes())
    for plan in (private_plan(), private_plan(CUSTOMER)):
        hidden = PrivateSession(plan, CUSTOMERS, people())
        for sums in (
            hidden.moments(),
            hidden.gradient_sum(model, SCALING, seed(1)),
            hidden.evaluate(model, SCALING),
        ):
            found.update(sums.tobytes())
    return found.hexdigest()


def test_blocks_change_nothing(request: pytest.FixtureRequest) -> None:
    whole = computed()
    request.getfixturevalue("small_blocks")
    assert computed() == whole


def test_local_privacy_in_blocks_changes_nothing(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("opacus")
    plan = local_plan()
    model = PrivateSession(plan, loans.CONTRACT, loans.table(400)).model.initial(1)
    one = PrivateSession(plan, loans.CONTRACT, loans.table(400)).local_update(model, SCALING, seed(1))
    request.getfixturevalue("small_blocks")
    again = PrivateSession(plan, loans.CONTRACT, loans.table(400)).local_update(model, SCALING, seed(1))
    assert one.tobytes() == again.tobytes()


@pytest.mark.parametrize("size", [7, 50], ids=["several batches in a block", "several blocks in a batch"])
def test_batches_of_blocks_are_the_batches_of_the_whole(small_blocks: None, size: int) -> None:
    part = table.Part(loans.table(300), np.arange(300))
    spec = loans.CONTRACT.feature_spec(loans.plan().features)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    kept, made = (Batches(Encoded(spec, part, SCALING, most_kept=most), part.target) for most in (1 << 20, 0))
    for one, other in zip(kept.of(order, size), made.of(order, size), strict=True):
        blocks = list(zip(one.blocks(5), other.blocks(5), strict=True))
        assert all(torch.equal(*pair) for block in blocks for pair in zip(*block, strict=True))
        assert [len(y) for (_, y, _), _ in blocks] == [5] * (len(one) // 5) + [len(one) % 5] * (
            len(one) % 5 > 0
        )


@pytest.mark.usefixtures("small_blocks")
def test_units_are_never_split_between_blocks() -> None:
    unit = np.random.default_rng(0).integers(0, 20, 500)
    taken = np.arange(20) % 3 != 0
    found = list(private._whole_units(unit, taken))
    assert len(found) > 5
    assert sorted(np.concatenate(found).tolist()) == np.flatnonzero(taken[unit]).tolist()
    seen = [set(unit[rows].tolist()) for rows in found]
    assert sum(map(len, seen)) == len(set.union(*seen))


def by_the_book(rows: Table, unit: PrivacyUnit) -> tuple[list[str], list[int]]:
    """Rows that count and their units' numbers, one row after the other."""
    names = list(rows.customers or ())
    keys = list(rows.keys)
    order = sorted(
        range(len(names)), key=lambda row: (names[row], hashlib.sha256(keys[row].encode()).digest(), row)
    )
    seen: dict[str, int] = {}
    counted = set()
    for row in order:
        seen[names[row]] = seen.get(names[row], 0) + 1
        if seen[names[row]] <= unit.max_rows:
            counted.add(row)
    number = {name: place for place, name in enumerate(seen)}
    return [keys[row] for row in sorted(counted)], [number[names[row]] for row in sorted(counted)]


@pytest.mark.parametrize("most", [1, 2, 4, 5, 100])
def test_the_rows_that_count_are_those_of_the_rule(most: int) -> None:
    unit = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=most)
    rows = people()
    found = private._bounded(table.Part(rows, np.arange(400)), unit)
    assert (list(found.table.keys), found.unit.tolist()) == by_the_book(rows, unit)
    assert found.units == 90


# --- where rows are -------------------------------------------------------------------------------------------------------


def test_rows_beyond_a_bound_are_in_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most=10)
    for part in (b"12345678", b"90", b"abc"):
        spool.write(part)
        assert (spool._file is not None) == (part == b"abc")
        assert not list(tmp_path.iterdir())
    assert spool._file is not None
    assert stat.S_IMODE(os.fstat(spool._file.fileno()).st_mode) == 0o600
    assert spool.buffer().to_pybytes() == b"1234567890abc"


def test_a_folder_that_takes_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="could not be put into a temporary file"):
        Spool(tmp_path / "none", most=1).write(b"12")


def test_a_disk_that_is_full_at_the_last_bytes_is_one_sentence(tmp_path: Path) -> None:
    """What stands in the file's buffer is written when the rows are asked for."""
    spool, before = Spool(tmp_path, most=1), resource.getrlimit(resource.RLIMIT_FSIZE)
    spool.write(b"123456")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, before[1]))
    try:
        with pytest.raises(Unreadable, match="could not be put into a temporary file"):
            spool.buffer()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_are_in_order_of_their_keys_wherever_they_stood() -> None:
    data = loans.loans(300)
    turned = data.take(pa.array(np.random.default_rng(0).permutation(300)))
    one, other = (table_from(each, loans.CONTRACT, renamed={}, named="x") for each in (data, turned))
    assert list(one.keys) == list(other.keys) == [str(place) for place in range(300)]
    assert one.columns["amount"].tobytes() == other.columns["amount"].tobytes()  # type: ignore[union-attr]
    assert one.target.tobytes() == other.target.tobytes()


def test_coded_words_are_encoded_as_the_words_are() -> None:
    feature = loans.CONTRACT.feature_spec(["term"])
    coded = Coded(np.array([0, 2, 1, 0], dtype=np.uint16), ("short", "long"))
    words = np.array(["short", "odd", "long", "short"], dtype=object)
    none = Scaling(mean=(), std=())
    assert (feature.encode({"term": coded}, none) == feature.encode({"term": words}, none)).all()
    assert list(coded) == ["short", None, "long", "short"]
    other = Coded(np.array([1, 2, 0, 1], dtype=np.uint16), ("long", "short"))
    assert (feature.encode({"term": other}, none) == feature.encode({"term": words}, none)).all()


def test_nothing_of_a_row_is_in_a_repr() -> None:
    rows = people(40)
    assert repr(rows) == "<40 rows of 3 columns>"
    assert repr(rows.keys) == "<40 texts>"
    assert repr(rows.columns["term"]) == "Coded(vocabulary=('short', 'long'))"
