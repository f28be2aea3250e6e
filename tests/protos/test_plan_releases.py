"""What a plan will release: the same on both sides, with the noise that honest survivors make certain, within the limit it states."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_privacy import Privacy
from protos.plan_releases import (
    EVALUATE,
    OTHER_STAGE_RETRIES,
    PREPARE,
    TRAIN,
    best_order,
    fitting_ceiling,
    forecast,
    gradient_grid,
    moment_cells,
    releases_of,
    require_limit,
)
from strategies.dp.budget import Account, BudgetRefused, cost_of
from strategies.dp.curves import ORDERS
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.dp.events import Mechanism, Part, Partition, Release
from strategies.dp.filters import Ceiling
from strategies.dp.mechanisms import MomentCells, site_variance
from strategies.dp.noise import total_variation
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from tests.protos.documents_for_tests import PLAN
from tests.protos.private_for_tests import (
    CENTRAL,
    CUSTOMERS,
    LOCAL,
    MODES,
    RECORDS,
    SITES,
    UNITS,
    Changes,
    contract_for,
    plan_of,
    releases,
)

STAGES = (PREPARE, TRAIN, EVALUATE)


def privacy(plan: Plan) -> Privacy:
    assert isinstance(plan.privacy, Privacy)
    return plan.privacy


# --- on both sides ----------------------------------------------------------------------------------------------------

_ELSEWHERE = """
import sys
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_releases import releases_of
plan, contract = Plan.from_canonical(bytes.fromhex(sys.argv[1])), Contract.from_canonical(bytes.fromhex(sys.argv[2]))
found = releases_of(plan, contract)
print(*(found.of(stage).digest for stage in ("prepare", "train", "evaluate")), *(found.times(s) for s in ("prepare", "train", "evaluate")))
"""


@pytest.mark.parametrize("changes", [(), CUSTOMERS], ids=["records", "customers"])
def test_another_process_comes_to_the_same_releases_to_the_bit_from_the_documents_as_they_travel(
    changes: Changes,
) -> None:
    plan = plan_of(*changes)
    arguments = [plan.canonical.hex(), contract_for(plan).canonical.hex()]
    told = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    ours = releases(plan)
    assert told.stdout.split() == [
        *(ours.of(stage).digest for stage in STAGES), *(str(ours.times(stage)) for stage in STAGES),
    ]  # fmt: skip


@pytest.mark.parametrize(("mode", "unit"), list(product(MODES, UNITS)))
def test_releases_follow_from_the_canonical_documents_and_are_read_back_from_their_facts(
    mode: str, unit: str
) -> None:
    plan = plan_of(*MODES[mode], *UNITS[unit])
    again = releases_of(
        Plan.from_canonical(plan.canonical), Contract.from_canonical(contract_for(plan).canonical)
    )
    assert again == releases(plan)
    for stage in STAGES:
        assert Release.from_facts(releases(plan).of(stage).facts()) == releases(plan).of(stage)


def test_the_releases_of_a_plan_are_pinned() -> None:
    """A change of these values makes the accounts of old and new agents disagree with the centre's."""
    assert [releases(plan_of()).of(stage).digest[:16] for stage in STAGES] == [
        "fe83553f4e354fbb", "60ea8a8ee5c73b25", "96d4edf747dc80a1",
    ]  # fmt: skip


def test_a_plan_without_privacy_releases_what_no_account_counts() -> None:
    assert releases_of(read_document(PLAN, Plan, "plan.yaml"), RECORDS) is None


# --- what each stage releases -----------------------------------------------------------------------------------------


def test_moments_and_counts_are_of_everybody_and_gradients_of_a_sample() -> None:
    found = releases(plan_of())
    assert [found.of(stage).sampling_rate for stage in STAGES] == [1.0, 0.1, 1.0]
    assert [found.of(stage).part for stage in STAGES] == [Part.TRAINING, Part.TRAINING, Part.EVALUATION]
    assert [found.of(stage).dimension for stage in STAGES] == [1 + 1 + 2 * 2, 1 + 2 + 3 + 1, 2 * 32]
    assert {found.of(stage).steps for stage in STAGES} == {1}


def test_sensitivities_are_of_one_unit_and_noise_is_the_multiplier_times_them() -> None:
    plan = plan_of()
    found = releases(plan)
    assert moment_cells(plan, RECORDS) == MomentCells((False, True))
    assert found.prepare.sensitivity == MomentCells((False, True)).sensitivity(1)
    assert found.train.sensitivity == gradient_grid(plan, RECORDS).sensitivity
    assert found.evaluate.sensitivity == EvaluationCells(32).sensitivity(1)
    assert [found.of(stage).noise_multiplier for stage in STAGES] == pytest.approx([8.0, 1.5, 4.0])


@pytest.mark.parametrize(("unit", "rows"), [("customer", 3), ("site", 5000)])
def test_a_unit_of_several_rows_moves_moments_and_counts_by_all_of_them_and_the_gradient_by_one_clip(
    unit: str, rows: int
) -> None:
    one, several = releases(plan_of()), releases(plan_of(*UNITS[unit]))
    assert several.prepare.sensitivity == pytest.approx(rows * one.prepare.sensitivity)
    assert several.evaluate.sensitivity == rows * one.evaluate.sensitivity
    assert several.train.sensitivity == one.train.sensitivity


def test_a_rotated_sum_is_longer_and_as_sensitive_but_for_rounding() -> None:
    found = releases(plan_of(("  round_deadline", "  rotation: hadamard\n  round_deadline")))
    assert found.train.dimension == 8
    assert found.train.noise_multiplier == pytest.approx(1.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", UNITS)
def test_training_and_held_out_rows_are_a_partition_unless_the_unit_is_a_whole_site(
    mode: str, unit: str
) -> None:
    found = releases(plan_of(*MODES[mode], *UNITS[unit]))
    by = {"record": "loan_id", "customer": "customer_id"}.get(unit)
    expected = (
        None
        if by is None
        else Partition(
            contract=contract_for(plan_of(*MODES[mode], *UNITS[unit])).digest, by=by, salt="1", share=0.3
        )
    )
    assert {found.of(stage).partition for stage in STAGES} == {expected}


def test_a_record_pays_for_training_or_for_evaluation_and_a_site_for_both() -> None:
    for changes, both in (((), False), (SITES, True)):
        found = releases(plan_of(*changes))
        costs = [cost_of({found.of(stage): 1}, 8).renyi for stage in (TRAIN, EVALUATE)]
        together = cost_of({found.train: 1, found.evaluate: 1}, 8).renyi
        assert together == pytest.approx(sum(costs) if both else max(costs))


def test_two_contracts_are_two_partitions_whose_parts_add_up() -> None:
    """The same rule over other columns, or another key, splits rows differently: what trains under one is held out under the other."""
    plan = plan_of()
    renamed = RECORDS.model_copy(update={"version": RECORDS.version + 1})
    assert renamed.digest != RECORDS.digest
    other_plan = plan_of(("lending-club@1", f"lending-club@{renamed.version}"))
    one, other = releases_of(plan, RECORDS), releases_of(other_plan, renamed)
    assert one is not None
    assert other is not None
    assert (one.train.part, other.evaluate.part) == (Part.TRAINING, Part.EVALUATION)
    costs = [cost_of({each: 1}, 8).renyi for each in (one.train, other.evaluate)]
    apart = cost_of({one.train: 1, other.evaluate: 1}, 8).renyi
    assert apart == pytest.approx(sum(costs))
    assert cost_of({one.train: 1, one.evaluate: 1}, 8).renyi == pytest.approx(max(costs))


# --- whose noise counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("invited", "minimum", "colluding", "counted"),
    [(4, 3, 1, 2), (4, 4, 1, 3), (4, 4, 0, 4), (7, 5, 1, 4), (7, 6, 2, 4), (12, 9, 3, 6)],
)
def test_noise_counts_on_the_fewest_survivors_less_those_who_may_collude(
    invited: int, minimum: int, colluding: int, counted: int
) -> None:
    names = ", ".join(f"s{each}" for each in range(invited))
    plan = plan_of(
        ("[s0, s1, s2, s3]", f"[{names}]"),
        ("minimum: 3", f"minimum: {minimum}"),
        ("{mode: secure}", f"{{mode: secure, colluding: {colluding}}}"),
    )
    for stage, release in ((stage, releases(plan).of(stage)) for stage in STAGES):
        assert release.shares == counted, stage
        honest = range(minimum - colluding, invited + 1)
        assert all(each * site_variance(release) >= release.variance * (1 - 1e-12) for each in honest)
        assert (counted - 1) * site_variance(release) < release.variance
        assert release.noise_multiplier == pytest.approx({PREPARE: 8.0, TRAIN: 1.5, EVALUATE: 4.0}[stage])


@pytest.mark.parametrize("mode", ["central", "local"])
def test_elsewhere_one_noise_is_all_of_it(mode: str) -> None:
    found = releases(plan_of(*MODES[mode]))
    assert {found.of(stage).shares for stage in STAGES} == {1}
    mechanism = {"central": Mechanism.CENTRAL, "local": Mechanism.LOCAL}[mode]
    training = {"central": Mechanism.CENTRAL, "local": Mechanism.GAUSSIAN}[mode]
    assert [found.of(stage).mechanism for stage in STAGES] == [mechanism, training, mechanism]


def test_local_steps_are_composed() -> None:
    found = releases(plan_of(*LOCAL)).train
    assert (found.steps, found.sampling_rate, found.noise_multiplier) == (4, 0.1, 1.5)


def test_the_samplers_distance_from_their_law_is_charged_for_every_share() -> None:
    for mode, shares in (("distributed", 2), ("central", 1), ("local", 1)):
        found = releases(plan_of(*MODES[mode]))
        for release in (found.prepare, found.evaluate):
            exact = total_variation(release.variance / shares, release.dimension)
            # Rounded up to a power of two, so that machines whose exponentials differ in the last bit state the same release.
            assert exact <= release.total_variation / shares <= 2 * exact
            assert math.frexp(release.total_variation / shares)[0] == 0.5


@pytest.mark.parametrize("stage", ["preparation", "evaluation"])
def test_an_exempt_stage_is_a_release_without_noise_that_is_named(stage: str) -> None:
    noise = {"preparation": "preparation: 8.0, ", "evaluation": ", evaluation: 4.0"}[stage]
    found = releases(plan_of((noise, ""), ("retries: 5", f"exempt: [{stage}]")))
    exempt = found.prepare if stage == "preparation" else found.evaluate
    assert found.exempt == (exempt,)
    assert (exempt.mechanism, exempt.variance, exempt.total_variation) == (Mechanism.NONE, 0.0, 0.0)
    assert releases(plan_of()).exempt == ()


@pytest.mark.parametrize("mode", ["distributed", "local"])
def test_noise_that_is_too_little_to_be_drawn_is_refused_before_anything_is_charged(mode: str) -> None:
    plan = plan_of(*MODES[mode], ("evaluation: 4.0", "evaluation: 0.4"))
    with pytest.raises(UsageError) as caught:
        check_plan(plan, RECORDS)
    assert "the noise of evaluation counts, multiplier 0.4 in privacy.noise" in str(caught.value)
    assert "use 0.25 to 2^80 steps squared" in str(caught.value)


# --- people at several sites ------------------------------------------------------------------------------------------


def at_sites(sites: int) -> Changes:
    unit = f"unit: {{kind: customer, column: customer_id, max_rows: 3, max_sites: {sites}}}"
    return (("unit: {kind: record}", unit), CUSTOMERS[1])


@pytest.mark.parametrize("sites", [1, 2, 4])
@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_a_person_at_several_sites_moves_one_sum_by_more_and_is_likelier_in_it(mode: str, sites: int) -> None:
    one = releases(plan_of(*MODES[mode], *at_sites(1)))
    found = releases(plan_of(*MODES[mode], *at_sites(sites)))
    for stage in STAGES:
        release, single = found.of(stage), one.of(stage)
        assert release.unit.max_sites == sites
        assert release.sensitivity == pytest.approx(sites * single.sensitivity)
        assert release.variance == single.variance
        assert release.sampling_rate == pytest.approx(1 - (1 - single.sampling_rate) ** sites)


def test_where_sites_add_their_own_noise_each_site_is_a_release() -> None:
    one, three = (releases(plan_of(*LOCAL, *at_sites(sites))) for sites in (1, 3))
    assert [three.of(stage).steps for stage in STAGES] == [3, 12, 3]
    assert three.train == replace(one.train, steps=12, unit=three.train.unit)


def test_a_person_at_more_sites_costs_more() -> None:
    forecasts = []
    for sites in (1, 2, 4):
        plan = plan_of(*at_sites(sites), ("epsilon: 8.0", "epsilon: 30.0"))
        forecasts.append(forecast(releases(plan), privacy(plan)).epsilon)
    assert forecasts == sorted(forecasts)
    assert forecasts[1] > 1.3 * forecasts[0]


# --- how often --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2, 5, 100])
def test_attempts_that_come_to_nothing_are_paid_for_in_advance(retries: int) -> None:
    found = releases(plan_of(("retries: 5", f"retries: {retries}")))
    assert found.times(TRAIN) == 20 + retries
    assert found.times(TRAIN, rounds=7) == 7 + retries
    assert found.times(PREPARE) == found.times(EVALUATE) == 1 + min(retries, OTHER_STAGE_RETRIES)
    assert found.planned() == {
        found.prepare: found.times(PREPARE), found.train: 20 + retries, found.evaluate: found.times(EVALUATE),
    }  # fmt: skip
    assert found.planned(rounds=3)[found.train] == 3 + retries


# --- forecasts --------------------------------------------------------------------------------------------------------


def forecast_of(*changes: tuple[str, str], rounds: int | None = None) -> float:
    plan = plan_of(*changes)
    return forecast(releases(plan), privacy(plan), rounds=rounds).epsilon


def test_a_forecast_names_unit_and_delta() -> None:
    plan = plan_of(*CUSTOMERS)
    found = forecast(releases(plan), privacy(plan))
    assert found.delta == 1e-5
    assert found.unit == PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=3)
    assert 0 < found.epsilon < 8


@settings(max_examples=40, deadline=None)
@given(rounds=st.integers(1, 300), more=st.integers(1, 300))
def test_more_rounds_never_cost_less(rounds: int, more: int) -> None:
    found = plan_of()
    planned = releases(found)
    few, many = (forecast(planned, privacy(found), rounds=each).epsilon for each in (rounds, rounds + more))
    assert few <= many
    # A record that is held out pays for evaluation, which is dearer than a few rounds.
    assert few < many or rounds + more < 20


DEARER = {
    "less noise": ("training: 1.5", "training: 1.4"),
    "less noise in preparation": ("preparation: 8.0", "preparation: 4.0"),
    "more units in a batch": ("expected_batch: 100", "expected_batch: 150"),
    "fewer nominal rows": ("nominal_rows: 1000", "nominal_rows: 800"),
    "more retries": ("retries: 5", "retries: 9"),
    "a smaller delta": ("delta: 1.0e-5", "delta: 1.0e-6"),
}


@pytest.mark.parametrize("change", DEARER.values(), ids=DEARER.keys())
def test_whatever_protects_less_costs_more(change: tuple[str, str]) -> None:
    assert forecast_of(change) > forecast_of()


def test_cheaper_evaluation_does_not_show_beside_training_which_no_held_out_row_is_in() -> None:
    assert forecast_of(("evaluation: 4.0", "evaluation: 5.0")) == forecast_of()


def test_the_forecast_is_at_the_order_that_costs_least_and_a_ceiling_at_that_order_admits_the_plan() -> None:
    plan = plan_of()
    planned, chosen = releases(plan).planned(), fitting_ceiling(releases(plan), privacy(plan))
    assert chosen.order == best_order(planned, privacy(plan).limit)
    every = [
        Ceiling.fixed(epsilon=50.0, delta=1e-5, unit=chosen.unit, order=order)
        .guarantee(cost_of(planned, order))
        .epsilon
        for order in ORDERS
        if order > 2
    ]
    assert forecast_of() == pytest.approx(min(every))
    exact = Ceiling.fixed(
        epsilon=forecast_of() * (1 + 1e-9), delta=1e-5, unit=chosen.unit, order=chosen.order
    )
    assert exact.admits(cost_of(planned, chosen.order))
    Account(name="x", ceiling=exact).require(planned)


# --- limits -----------------------------------------------------------------------------------------------------------


def refusal(*changes: tuple[str, str], contract: Contract = RECORDS) -> str:
    with pytest.raises(UsageError) as caught:
        check_plan(plan_of(*changes), contract)
    return str(caught.value)


def test_a_limit_that_holds_what_is_planned_is_kept_and_the_next_smaller_is_not() -> None:
    cost = forecast_of()
    plan = plan_of(("epsilon: 8.0", f"epsilon: {cost * 1.0001}"))
    require_limit(plan, RECORDS)
    with pytest.raises(UsageError):
        require_limit(plan_of(("epsilon: 8.0", f"epsilon: {cost * 0.999}")), RECORDS)


@pytest.mark.parametrize(
    ("epsilon", "noise", "rounds"), [("2.2", "1.5", 20), ("2.15", "1.5", 30), ("6.0", "1.5", 1000)]
)
def test_a_limit_that_is_too_small_is_refused_with_figures_and_with_the_rounds_that_fit(
    epsilon: str, noise: str, rounds: int
) -> None:
    """To the last round: also where fewer rounds are best accounted for at another order than those planned."""
    with pytest.raises(UsageError) as caught:
        require_limit(fitted(epsilon, rounds, noise), RECORDS)
    said = str(caught.value)
    assert said.startswith("plan private: ")
    assert (
        f"its ceiling is epsilon {float(epsilon):.3f} at delta 1e-05 per record (add-or-remove-one)" in said
    )
    assert "would take the account to epsilon " in said
    fits = int(said.partition(f"Of {rounds} rounds, ")[2].partition(" would fit with 5 retries")[0])
    assert said.endswith(" would fit with 5 retries within privacy.limit")
    require_limit(fitted(epsilon, fits, noise), RECORDS)
    with pytest.raises(UsageError):
        require_limit(fitted(epsilon, fits + 1, noise), RECORDS)


def fitted(epsilon: str, rounds: int, noise: str) -> Plan:
    return plan_of(
        ("epsilon: 8.0", f"epsilon: {epsilon}"),
        ("training: 1.5", f"training: {noise}"),
        ("rounds: 20", f"rounds: {rounds}"),
        ("every: 20", f"every: {rounds}"),
    )


@pytest.mark.parametrize("epsilon", ["0.3", "0.001"])
def test_a_limit_that_holds_not_one_round_says_so(epsilon: str) -> None:
    said = refusal(("epsilon: 8.0", f"epsilon: {epsilon}"))
    assert said.endswith("Of 20 rounds, not one would fit within privacy.limit")
    assert f"would take the account to epsilon {forecast_of():.3f}" in said
    assert f"its ceiling is epsilon {float(epsilon):.3f}" in said


@pytest.mark.parametrize("noise", ["1.0e-3", "1.0e-160"])
def test_noise_that_hides_nobody_is_refused_as_unbounded(noise: str) -> None:
    said = refusal(*LOCAL, ("training: 1.5", f"training: {noise}"))
    assert "would take the account to epsilon unbounded at delta 1e-05 per record" in said


def test_a_limit_counts_moments_evaluation_and_retries_and_not_the_rounds_alone() -> None:
    plan = plan_of()
    alone = Account(name="x", ceiling=fitting_ceiling(releases(plan), privacy(plan)))
    cost = alone.charged({releases(plan).train: 20}).guarantee().epsilon
    assert cost < forecast_of()
    refusal(("epsilon: 8.0", f"epsilon: {(cost + forecast_of()) / 2}"))


def test_the_site_unit_is_always_in_the_sum() -> None:
    found = releases(plan_of(*SITES))
    assert found.train.sampling_rate == 1.0


def test_a_plan_of_which_one_stage_is_about_another_unit_does_not_exist() -> None:
    for mode, unit in product(MODES, UNITS):
        plan = plan_of(*MODES[mode], *UNITS[unit])
        found = releases(plan)
        assert {found.of(stage).unit for stage in STAGES} == {privacy(plan).unit.unit}


def test_an_account_about_something_else_takes_none_of_it() -> None:
    plan = plan_of(*CENTRAL)
    customer = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id")
    ceiling = Ceiling.fixed(epsilon=8.0, delta=1e-5, unit=customer)
    with pytest.raises(BudgetRefused, match=r"the account is per customer"):
        Account(name="x", ceiling=ceiling).require(releases(plan).planned())
