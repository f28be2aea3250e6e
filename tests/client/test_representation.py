"""`covenant-agent data representation`: who is in a site's rows, for the site's own people, with what cannot be relied on said in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protos.contract import Contract
from strategies.analytics.panels import NOT_GIVEN
from tests.client import loans_for_tests as loans
from tests.client.secure_for_tests import VICTIM, SecureBank, secure_bank
from tests.client.test_client_cli import left

ROWS = 400


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


@pytest.fixture
def config(bank: SecureBank) -> Path:
    """A site whose rows have a protected band, of which one group has three members and half the rows none."""
    found = bank.folder / VICTIM / "site.yaml"
    facts = json.loads(loans.CONTRACT.canonical)
    facts["columns"] |= {
        "band": {"type": "category", "vocabulary": ["young", "old", "rare"]},
        "veteran": {"type": "boolean", "missing": "indicator"},
    }
    facts["protected"] = ["band", "veteran"]
    contract = Contract.model_validate(facts)
    contract_file = next(found.parent.rglob("*loans*.yaml"), None) or next(bank.folder.rglob("loans.yaml"))
    contract_file.write_text(contract.canonical.decode())
    data = loans.loans(ROWS)
    bands = ["rare"] * 3 + ["old"] * 130 + ["young"] * 60 + [None] * 200 + ["stray"] * 7
    data = data.append_column("band", pa.array(bands, pa.string()))
    data = data.append_column("veteran", pa.array([True] * 150 + [False] * 250, pa.bool_()))
    pq.write_table(data, found.with_name("rows.parquet"))
    return found


def test_groups_are_counted_as_they_are(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert left("data", "representation", "--config", str(config), "--json") == 0
    told = json.loads(capsys.readouterr().out)["loans"]
    data = pq.read_table(config.with_name("rows.parquet")).to_pandas()
    band = {each["group"]: each for each in told["band"]["groups"]}
    assert {name: each["rows"] for name, each in band.items()} == {
        "young": 60,
        "old": 130,
        "rare": 3,
        NOT_GIVEN: 207,
    }
    for name in ("young", "old", "rare"):
        assert band[name]["positives"] == int(((data.band == name) & (data.status == "bad")).sum())
    veterans = {each["group"]: each["rows"] for each in told["veteran"]["groups"]}
    assert veterans == {"false": 250, "true": 150, NOT_GIVEN: 0}


def test_group_of_three_and_an_attribute_missing_for_half_are_said(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left("data", "representation", "loans", "--minimum", "50", "--config", str(config), "--json") == 0
    told = json.loads(capsys.readouterr().out)["loans"]["band"]
    assert [each["group"] for each in told["groups"] if each["small"]] == ["rare"]
    assert told["cautions"] == [
        "rare has 3 rows here, fewer than 50: a model learns little of it, and its figures will be wide or hidden",
        "band is missing or no word of the contract in 207 of 400 rows: what is said of groups is about the others only",
    ]
    assert left("data", "representation", "--config", str(config)) == 0
    shown = capsys.readouterr().err
    assert "rare has 3 rows here, fewer than 100" in shown


def test_contract_without_protected_attributes_is_said_to_have_none(
    bank: SecureBank, capsys: pytest.CaptureFixture[str]
) -> None:
    config = bank.folder / VICTIM / "site.yaml"
    assert left("data", "representation", "--config", str(config)) == 0
    assert "loans: its contract has no protected attribute with groups" in capsys.readouterr().err
