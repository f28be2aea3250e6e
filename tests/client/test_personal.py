"""Personal models at one site: what is offered, what is said of it, and which rows had a part in it."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from client.data import Table
from client.personal.making import choose
from client.personal.parts import FEWEST, divide
from client.shared_models import SharedModel, SharedModels
from protos.contract import Contract
from strategies.errors import Refused, UsageError
from strategies.features import Scaling
from strategies.sampling import held_out
from tests.client import loans_for_tests as loans
from tests.client.personal_for_tests import (
    MLP,
    NOW,
    RUN,
    WEST,
    Site,
    alike,
    as_table,
    make_site,
    odd,
    quiet,
    shared_of,
)

ROWS = 2000


@pytest.fixture(scope="module")
def odd_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = make_site(tmp_path_factory.mktemp("odd"), odd(ROWS))
    site.room.make("default", quiet)
    return site


@pytest.fixture
def made(odd_site: Site, tmp_path: Path) -> Site:
    """The same, for a test that changes it."""
    shutil.copytree(odd_site.folder, tmp_path / "made")
    return Site(tmp_path / "made")


# --- what is offered, and what is said ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["{kind: logistic}", MLP])
def test_a_site_whose_labels_relate_otherwise_is_offered_a_personal_model(model: str, tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(ROWS), model=model)
    card = site.room.make("default", quiet)
    assert card.gate.offered
    assert card.gate.loss.low > 0.1
    _, verdict = site.room.compare("default")
    assert "global" not in verdict.best
    assert verdict.comparison.measured["personal"].auc.low > verdict.comparison.measured["global"].auc.high
    assert "The personal model is better than the global one" in verdict.sentences[0]


@pytest.mark.parametrize("model", ["{kind: logistic}", MLP])
def test_a_site_that_is_like_the_others_is_told_that_the_global_model_is_as_good(
    model: str, tmp_path: Path
) -> None:
    site = make_site(tmp_path, alike(1500), model=model)
    card = site.room.make("default", quiet)
    assert not card.gate.offered
    _, verdict = site.room.compare("default")
    assert "global" in verdict.best
    assert f"no difference that these {verdict.rows} rows can show" in verdict.sentences[0]
    assert "The global model is as good as any here" in " ".join(verdict.sentences)


def test_a_site_with_too_few_rows_is_told_nothing_but_that(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(200))
    with pytest.raises(Refused, match=f"at least {FEWEST} of each are needed .* Nothing can be said"):
        site.room.make("default", quiet)
    with pytest.raises(UsageError, match="its rows were too few"):
        site.room.compare("default")
    assert not list(site.own.rglob("*.safetensors"))


def test_held_out_rows_that_are_too_few_are_not_compared_and_not_looked_at(made: Site) -> None:
    (made.own / "looks.json").unlink()
    rows = odd(ROWS)
    few = held_out([str(each) for each in rows.column("loan_id").to_pylist()], "1", 0.3) & (
        np.arange(ROWS) > 90
    )
    made.has(rows.filter(pa.array(~few)))
    with pytest.raises(Refused, match="the held-out part has"):
        made.room.compare("default")
    assert not (made.own / "looks.json").exists()


def test_figures_and_words_say_the_same(odd_site: Site) -> None:
    _, verdict = odd_site.room.compare("default")
    facts = verdict.facts()
    assert facts["words"] == verdict.sentences
    assert facts["rows"] == verdict.rows == int(held_out(as_table(odd(ROWS)).keys, "1", 0.3).sum())
    gained = facts["gain_over_global"]["personal"]["auc"]
    assert gained["value"] == pytest.approx(
        facts["models"]["personal"]["auc"]["value"] - facts["models"]["global"]["auc"]["value"]
    )
    assert gained["low"] < gained["value"] < gained["high"]


# --- which rows have a part -----------------------------------------------------------------------------------------------


def _flipped(table: Table, chosen: np.ndarray) -> Table:
    return Table(table.columns, np.where(chosen, 1 - table.target, table.target), table.keys, table.customers)


def test_held_out_rows_and_those_of_the_gate_choose_nothing() -> None:
    table, shared = as_table(odd(800)), shared_of()
    out = held_out(table.keys, "1", 0.3)
    gate = ~out & held_out(table.keys, "1/personal/gate", 0.2)
    tune = ~out & ~gate & held_out(table.keys, "1/personal/tune", 0.25)

    def chosen(of: Table) -> str:
        return choose(
            shared, divide(of, shared, most_rows=10**6), site=WEST, threads=1, tell=quiet
        ).blend.digest

    assert chosen(_flipped(table, out | gate)) == chosen(table)
    assert chosen(_flipped(table, tune)) != chosen(table)


def test_the_four_parts_are_disjoint_and_are_all_rows() -> None:
    parts = divide(as_table(odd(ROWS)), shared_of(), most_rows=10**6)
    counts = parts.counts()
    assert sum(counts.values()) == ROWS
    assert counts["aside"] == 0
    assert counts["gate"] == pytest.approx(0.2 * (ROWS - counts["held-out"]), rel=0.2)
    assert counts["tune"] == pytest.approx(0.2 * (ROWS - counts["held-out"]), rel=0.2)


def _of_customers() -> tuple[SharedModel, Table]:
    """Rows of which four are a customer's."""
    shared, table = shared_of(), as_table(odd(ROWS))
    contract = Contract.model_validate({**loans.CONTRACT.model_dump(), "customer": "customer_id"})
    customers = [f"c{place // 4}" for place in range(ROWS)]
    with_customers = SharedModel(
        plan=shared.plan,
        contract=contract,
        scaling=shared.scaling,
        vector=shared.vector,
        digest=shared.digest,
    )
    return with_customers, Table(table.columns, table.target, table.keys, customers)


def test_a_customers_rows_are_in_one_part_and_none_trains_who_is_held_out() -> None:
    shared, table = _of_customers()
    parts = divide(table, shared, most_rows=10**6)
    out = held_out(table.keys, "1", 0.3)
    assert len(parts.held_out) == out.sum()
    assert parts.aside == sum(
        not out[place] and out[place - place % 4 : place - place % 4 + 4].any() for place in range(ROWS)
    )
    for part in (parts.train, parts.tune, parts.gate):
        assert len(part) == 4 * part.units  # whole customers only


def test_more_rows_than_the_site_admits_are_thinned_by_whole_customers() -> None:
    shared, table = _of_customers()
    parts = divide(table, shared, most_rows=1000)
    used = sum(parts.counts().values())
    assert used == pytest.approx(1000, rel=0.15)
    assert len(parts.train) == 4 * parts.train.units


# --- the same model twice, and looks --------------------------------------------------------------------------------------


def test_the_same_rows_give_the_same_model_and_are_the_same_look(odd_site: Site) -> None:
    first = odd_site.room.shelf.load(shared_of().digest).card
    again = odd_site.room.make("default", quiet)
    assert again == first
    assert again.gate.looks == 1
    once, twice = (odd_site.room.compare("default")[1] for _ in range(2))
    assert once.facts() == twice.facts()
    assert twice.comparison.looks == 1


def test_every_other_comparison_is_a_look_and_widens_the_intervals(made: Site) -> None:
    (made.own / "looks.json").unlink()
    first = made.room.compare("default")[1]
    made.has(odd(ROWS, seed=6))
    second = made.room.compare("default")[1]
    made.has(odd(ROWS))
    third = made.room.compare("default")[1]
    assert [each.comparison.looks for each in (first, second, third)] == [1, 2, 2]
    assert any("looked at 2 times" in each for each in second.sentences)
    a, b = (each.comparison.measured["global"].auc for each in (first, third))
    assert a.value == b.value
    assert b.half > a.half


def test_looks_stay_counted_when_a_model_is_dropped(made: Site) -> None:
    counted = (made.own / "looks.json").read_bytes()
    made.room.shelf.drop(shared_of().digest)
    assert (made.own / "looks.json").read_bytes() == counted
    assert not list(made.room.shelf.cards())


# --- the shelf ------------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_closed_to_others_and_tells_where_it_came_from(odd_site: Site) -> None:
    files = [each for each in odd_site.own.rglob("*") if each.is_file()]
    assert {each.name for each in files} == {"asked.json", "card.json", "looks.json", "model.safetensors"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    folder = odd_site.own / shared_of().digest[:16]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    card = json.loads((folder / "card.json").read_text())
    assert (card["shared"], card["run"], card["site"]) == (shared_of().digest, RUN, WEST)


@pytest.mark.parametrize("name", ["model.safetensors", "card.json"])
def test_a_file_that_was_changed_is_refused(name: str, made: Site) -> None:
    path = made.own / shared_of().digest[:16] / name
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"alpha":', b'"alpha":0') if name == "card.json" else data[:-1] + b"\x01")
    with pytest.raises(Refused):
        made.room.shelf.load(shared_of().digest)


def test_what_was_asked_for_is_known_whatever_came_of_it(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(200))
    with pytest.raises(Refused):
        site.room.make("default", quiet)
    (asked,) = site.room.shelf.asked()
    assert (asked.shared, asked.plan, asked.run) == (shared_of().digest, "default", RUN)
    assert asked.at == NOW.replace(microsecond=0)


def test_a_site_that_has_no_personal_models_in_its_configuration_makes_none(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(ROWS))
    site.config_file.write_text(site.config_file.read_text().replace("personal: {tell_registry: true}\n", ""))
    with pytest.raises(Refused, match="`personal` is not in this site's configuration"):
        site.room.make("default", quiet)


def test_a_model_of_another_contract_than_the_sites_is_refused(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(ROWS))
    changed = {**loans.CONTRACT.model_dump(mode="json"), "key": "other_id"}
    (tmp_path / "loans.yaml").write_text(json.dumps(changed))
    with pytest.raises(Refused, match="differs from the one that this site agreed to"):
        site.room.make("default", quiet)


def test_a_feature_that_the_site_forbids_is_in_no_personal_model_either(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(ROWS))
    with site.config_file.open("a") as config:
        config.write("policy: {forbid_features: [term]}\n")
    with pytest.raises(Refused, match=r"`policy\.forbid_features` at this site forbids term"):
        site.room.make("default", quiet)
    assert not list(site.room.shelf.asked())


def test_an_unknown_model_is_an_error_that_names_those_that_are_there(tmp_path: Path) -> None:
    site = make_site(tmp_path, odd(ROWS))
    with pytest.raises(UsageError, match=f"there: default \\({RUN}\\)"):
        site.room.make("defalt", quiet)


# --- shared models --------------------------------------------------------------------------------------------------------


def test_a_shared_model_is_found_by_plan_run_and_digest_and_is_the_same_to_the_bit(tmp_path: Path) -> None:
    make_site(tmp_path, odd(100))
    models, shared = SharedModels(tmp_path / "personal" / "shared"), shared_of()
    for name in ("default", RUN, shared.digest[:12]):
        found = models.find(name)
        np.testing.assert_array_equal(found.vector, shared.vector)
        assert (found.plan, found.contract, found.scaling) == (shared.plan, shared.contract, shared.scaling)


def test_a_shared_model_that_was_changed_on_disk_is_refused(tmp_path: Path) -> None:
    make_site(tmp_path, odd(100))
    (file,) = (tmp_path / "personal" / "shared").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-8] + np.float64(1.0).tobytes())
    with pytest.raises(Refused, match="changed after it was written"):
        SharedModels(file.parent).find("default")


def test_a_model_that_does_not_fit_its_plan_is_not_kept_and_no_error(tmp_path: Path) -> None:
    shared, models = shared_of(), SharedModels(tmp_path / "shared")
    models.keep(shared.plan, shared.contract, RUN, np.full(3, np.nan), shared.scaling)
    models.keep(shared.plan, shared.contract, RUN, shared.vector, Scaling.identity(7))
    assert not list(models.all())


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    shared = shared_of()
    (tmp_path / "file").write_text("not a folder")
    SharedModels(tmp_path / "file" / "shared").keep(
        shared.plan, shared.contract, RUN, shared.vector, shared.scaling
    )
