"""What a plan of privacy mode local is charged for is what its steps do, and what Opacus itself would say that it costs."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from client.data import Table, table_from
from client.training import local, session_for
from client.training.private import PrivateSession
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_releases import releases_of
from protos.plan_training import GradientSums
from strategies.dp.accountants import PldAccountant, RdpAccountant
from strategies.dp.curves import ORDERS
from strategies.dp.events import Mechanism, Release
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import site_name
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS, local_plan, seed

SCALING = Scaling(mean=(0.5, 0.5), std=(0.3, 0.3))
DELTA = 1e-5


def release_of_a_round(plan: Plan) -> Release:
    planned = releases_of(plan, loans.CONTRACT)
    assert planned is not None
    return planned.train


def changed(plan: Plan, **training: object) -> Plan:
    return plan.model_copy(update={"training": plan.training.model_copy(update=training)})


def customers_table(*, but: str | None = None) -> tuple[Contract, Table]:
    """200 rows of 50 customers, with or without one of them."""
    rows = loans.loans(200)
    rows = rows.append_column("customer_id", pa.array([f"c{i * 7 % 50}" for i in range(200)]))
    rows = rows.filter(pa.array([name != but for name in rows["customer_id"].to_pylist()]))
    return CUSTOMERS, table_from(rows, CUSTOMERS, renamed={}, named="loans.parquet")


# --- accounting -------------------------------------------------------------------------------------------------------


@pytest.fixture
def accountant(monkeypatch: pytest.MonkeyPatch) -> RDPAccountant:
    """Opacus' own accountant, told by Opacus' own hook of every step that its optimiser takes at a site."""
    made = RDPAccountant()

    class Watched(local.SecureOptimiser):  # type: ignore[misc]
        def __init__(self, rule: local.LocalRule, *rest: object) -> None:
            super().__init__(rule, *rest)
            self.attach_step_hook(made.get_optimizer_hook_fn(sample_rate=rule.training.sampling_rate))

    monkeypatch.setattr(local, "SecureOptimiser", Watched)
    return made


@pytest.mark.parametrize("rows", [2, 200])
def test_the_release_of_a_round_is_what_opacus_saw_its_optimiser_do(
    rows: int, accountant: RDPAccountant
) -> None:
    plan = local_plan()
    release = release_of_a_round(plan)
    session = session_for(plan, loans.CONTRACT, loans.table(rows), site=site_name("west"))
    assert isinstance(session, PrivateSession)
    for number in (1, 2, 3):
        session.local_update(np.zeros(session.model.size), SCALING, seed(number))
    assert accountant.history == [(release.noise_multiplier, release.sampling_rate, 3 * release.steps)]
    assert (release.mechanism, release.dimension) == (Mechanism.GAUSSIAN, session.model.size)

    ours = RdpAccountant().guarantee({release: 3}, DELTA, release.unit).epsilon
    assert ours == pytest.approx(accountant.get_epsilon(DELTA, alphas=list(ORDERS)), rel=0.01)


@pytest.mark.parametrize(
    ("noise", "batch", "steps", "rounds"),
    [(0.8, 16, 4, 3), (1.25, 32, 4, 3), (2.0, 8, 50, 20), (1.0, 159, 1, 5)],
)
def test_accountants_agree_with_those_of_opacus(noise: float, batch: int, steps: int, rounds: int) -> None:
    plan = changed(local_plan(), expected_batch=batch, local_steps=steps)
    privacy = plan.privacy.model_copy(
        update={"noise": plan.privacy.noise.model_copy(update={"training": noise})}
    )
    release = release_of_a_round(plan.model_copy(update={"privacy": privacy}))
    history = [(noise, batch / 160, steps * rounds)]
    rdp, prv = RDPAccountant(), PRVAccountant()
    rdp.history = prv.history = history
    ours = RdpAccountant().guarantee({release: rounds}, DELTA, release.unit).epsilon
    assert ours == pytest.approx(rdp.get_epsilon(DELTA, alphas=list(ORDERS)), rel=0.01)
    tight = PldAccountant().guarantee({release: rounds}, DELTA, release.unit).epsilon
    assert tight == pytest.approx(prv.get_epsilon(DELTA, eps_error=0.002), rel=0.01)
    assert tight < ours


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_all_rows_of_a_customer_move_the_update_by_at_most_one_clipping_norm() -> None:
    plan = changed(local_plan(customers=True), expected_batch=160, local_steps=1, clip=0.25)
    contract, table = customers_table()
    everybody = PrivateSession(plan, contract, table)
    model = np.linspace(-2, 2, everybody.model.size)
    update = everybody.local_update(model, SCALING, seed(1))
    moved = []
    for name in ("c1", "c2", "c3", "c4", "c5", "c6"):
        without = PrivateSession(plan, *customers_table(but=name))
        moved.append(np.linalg.norm(without.local_update(model, SCALING, seed(1)) - update))
    most = 0.5 * 0.25 / 160
    assert max(moved) == pytest.approx(most, rel=1e-4)
    assert max(moved) <= most * (1 + 1e-9)


def test_a_site_without_training_rows_sends_noise() -> None:
    session = PrivateSession(local_plan(), loans.CONTRACT, loans.table(2).rows(np.zeros(2, np.bool_)))
    update = session.local_update(np.zeros(session.model.size), SCALING, seed(1))
    assert np.isfinite(update).all()
    assert np.count_nonzero(update) == session.model.size


@pytest.fixture
def without_opacus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Opacus is not installed."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "opacus"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opacus", None)
    monkeypatch.delitem(sys.modules, "client.training.local")


@pytest.mark.usefixtures("without_opacus")
def test_without_opacus_a_site_says_what_to_install_before_anything_is_asked_of_it() -> None:
    with pytest.raises(UsageError, match=r"pip install 'covenant-fl\[local\]'"):
        session_for(local_plan(), loans.CONTRACT, loans.table(), site=site_name("west"))


@pytest.mark.usefixtures("without_opacus")
def test_the_other_modes_do_without_opacus() -> None:
    text = local_plan().canonical.decode()
    text = text.replace('"dp-sgd"', '"dp-fedsgd"').replace('"mode":"local"', '"mode":"distributed"')
    text = text.replace('"local_steps":4,', "").replace('"learning_rate":0.5,', "")
    plan = read_document(text, Plan, "plan.json")
    assert isinstance(plan.training, GradientSums)
    session = session_for(plan, loans.CONTRACT, loans.table(), site=site_name("west"))
    assert isinstance(session, PrivateSession)
    assert session.gradient_sum(np.zeros(session.model.size), SCALING, seed(1)).any()
