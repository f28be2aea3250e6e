"""Private plans: which combinations there are, and every other refused with the nearest that is legal."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from protos.contract import Contract
from protos.documents import DocumentError, read_document
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_evaluation import MOST_PRIVATE_BINS
from protos.plan_fit import check_contract, check_plan
from protos.plan_privacy import NoPrivacy, Privacy
from protos.plan_training import GradientSums, LocalTraining, PrivateSteps
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from tests.protos.documents_for_tests import CONTRACT, PLAN, changed
from tests.protos.private_for_tests import (
    CUSTOMERS,
    LOCAL,
    MODES,
    PEOPLE,
    PRIVATE,
    RECORDS,
    UNITS,
    Changes,
    contract_for,
    plan_of,
)

# --- the matrix -------------------------------------------------------------------------------------------------------

TRAINING = {
    "fedavg": "  component: tabular/1\n  algorithm: fedavg\n  batch_size: 64\n  learning_rate: 0.1\n",
    "fedprox": "  component: tabular/1\n  algorithm: fedprox\n  proximal_mu: 0.1\n  batch_size: 64\n  learning_rate: 0.1\n",
    "dp-fedsgd": "  component: tabular/2\n  algorithm: dp-fedsgd\n  expected_batch: 100\n  nominal_rows: 1000\n",
    "dp-sgd": "  component: tabular/2\n  algorithm: dp-sgd\n  expected_batch: 100\n  nominal_rows: 1000\n  local_steps: 4\n  learning_rate: 0.1\n",
}
AGGREGATIONS = {
    "plain": "{mode: plain}",
    "secure": "{mode: secure}",
    "semi-honest": "{adversary: semi-honest}",
    "default": None,
}
PRIVACY = ("none", "distributed", "local", "central")
KINDS = {"fedavg": LocalTraining, "fedprox": LocalTraining, "dp-fedsgd": GradientSums, "dp-sgd": PrivateSteps}
FITTING = {
    "none": {"fedavg", "fedprox"},
    "distributed": {"dp-fedsgd"},
    "central": {"dp-fedsgd"},
    "local": {"dp-sgd"},
}
NEAREST = {
    ("none", "dp-fedsgd"): "use fedavg or fedprox, or mode distributed",
    ("none", "dp-sgd"): "use fedavg or fedprox, or mode local",
    ("local", "fedavg"): "use dp-sgd",
    ("local", "fedprox"): "use dp-sgd",
    ("local", "dp-fedsgd"): "use dp-sgd, or mode distributed",
    ("distributed", "fedavg"): "use dp-fedsgd",
    ("distributed", "fedprox"): "use dp-fedsgd",
    ("distributed", "dp-sgd"): "use dp-fedsgd, or mode local",
    ("central", "fedavg"): "use dp-fedsgd",
    ("central", "fedprox"): "use dp-fedsgd",
    ("central", "dp-sgd"): "use dp-fedsgd, or mode local",
}


def cell(algorithm: str, mode: str, aggregation: str) -> str:
    """A plan of one combination, and of nothing else that is wrong."""
    head, rest = PRIVATE.split("  component: tabular/2\n")
    text = head + TRAINING[algorithm] + rest[rest.index("  rounds") :]
    text = changed(text, "  expected_batch: 100\n  nominal_rows: 1000\n  round_deadline", "  round_deadline")
    begin, end = text.index("privacy:"), text.index("\nevaluation:") + 1
    private = changed(text[begin : end - 1], "mode: distributed", f"mode: {mode}")
    text = text[:begin] + ("privacy: {mode: none}" if mode == "none" else private) + text[end - 1 :]
    written = AGGREGATIONS[aggregation]
    return changed(
        text, "aggregation: {mode: secure}\n", "" if written is None else f"aggregation: {written}\n"
    )


CELLS = list(product(TRAINING, PRIVACY, AGGREGATIONS))


def is_legal(algorithm: str, mode: str, aggregation: str) -> bool:
    return algorithm in FITTING[mode] and (mode == "none" or aggregation != "plain")


@pytest.mark.parametrize(("algorithm", "mode", "aggregation"), [each for each in CELLS if is_legal(*each)])
def test_a_combination_that_there_is_is_accepted(algorithm: str, mode: str, aggregation: str) -> None:
    plan = read_document(cell(algorithm, mode, aggregation), Plan, "plan.yaml")
    assert isinstance(plan.training, KINDS[algorithm])
    assert isinstance(plan.privacy, NoPrivacy if mode == "none" else Privacy)
    assert plan.privacy.mode == mode
    assert isinstance(plan.aggregation, SecureAggregation) == (aggregation != "plain")
    check_contract(plan, RECORDS)
    assert Plan.from_canonical(plan.canonical) == plan


@pytest.mark.parametrize(
    ("algorithm", "mode", "aggregation"), [each for each in CELLS if not is_legal(*each)]
)
def test_any_other_is_refused_with_the_nearest_that_there_is(
    algorithm: str, mode: str, aggregation: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(cell(algorithm, mode, aggregation), Plan, "plan.yaml")
    wanted = NEAREST.get(
        (mode, algorithm), "secure aggregation only; leave aggregation out, or write mode: secure"
    )
    assert wanted in str(caught.value)
    field = "training" if (mode, algorithm) in NEAREST else "aggregation"
    assert f"`{field}`" in str(caught.value)


def test_there_are_seventeen_legal_combinations_and_each_is_tried() -> None:
    legal = [each for each in CELLS if is_legal(*each)]
    assert len(legal) == 2 * 4 + 3 * 3
    assert len(CELLS) == len(legal) + len([each for each in CELLS if not is_legal(*each)])


# --- what a plan with privacy says ------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_every_mode_protects_every_unit(changes: Changes, unit: Changes) -> None:
    plan = plan_of(*changes, *unit)
    check_contract(plan, contract_for(plan))


def test_units_are_those_of_the_mathematics() -> None:
    units = [plan_of(*unit).privacy.unit.unit for unit in UNITS.values()]  # type: ignore[union-attr]
    assert units == [
        PrivacyUnit(kind=UnitKind.RECORD),
        PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=3),
        PrivacyUnit(kind=UnitKind.SITE, max_rows=5000),
    ]


def test_honest_survivors_are_the_fewest_of_a_sum_less_those_who_may_collude() -> None:
    assert plan_of().honest_survivors == 2
    assert plan_of(("{mode: secure}", "{mode: secure, colluding: 0}")).honest_survivors == 3
    assert read_document(PLAN, Plan, "plan.yaml").honest_survivors == 1


RATE = "expected_batch: 100\n  nominal_rows: 1000"
NOISE = "{preparation: 8.0, training: 1.5, evaluation: 4.0}"
BAD: dict[str, tuple[Any, ...]] = {
    # limits
    "a delta of 0": ("delta: 1.0e-5", "delta: 0", "`privacy.limit.delta` is 0"),
    "a delta of 1": ("delta: 1.0e-5", "delta: 1", "`privacy.limit.delta` is 1"),
    "a delta above 1": ("delta: 1.0e-5", "delta: 1.5", "`privacy.limit.delta` is 1.5"),
    "a negative delta": ("delta: 1.0e-5", "delta: -1.0e-5", "`privacy.limit.delta` is -"),
    "a delta that is no number": ("delta: 1.0e-5", "delta: .nan", "`privacy.limit.delta` is NaN"),
    "no delta": (", delta: 1.0e-5", "", "`privacy.limit.delta` is missing"),
    "an epsilon of 0": ("epsilon: 8.0", "epsilon: 0", "`privacy.limit.epsilon` is 0"),
    "an epsilon that is no number": ("epsilon: 8.0", "epsilon: .nan", "`privacy.limit.epsilon` is NaN"),
    "an infinite epsilon": ("epsilon: 8.0", "epsilon: .inf", "`privacy.limit.epsilon` is Infinity"),
    "an epsilon in words": ("epsilon: 8.0", 'epsilon: "8"', "`privacy.limit.epsilon` is"),
    "no epsilon": ("epsilon: 8.0, ", "", "`privacy.limit.epsilon` is missing"),
    "no limit": ("  limit: {epsilon: 8.0, delta: 1.0e-5}\n", "", "`privacy.limit` is missing"),
    # units
    "an epsilon without a unit": ("  unit: {kind: record}\n", "", "`privacy.unit` is missing"),
    "an unknown unit": ("{kind: record}", "{kind: account}", "`privacy.unit.kind`"),
    "a customer without a column": ("{kind: record}", "{kind: customer, max_rows: 3}", "`privacy.unit.column` is missing"),
    "a customer without a bound": ("{kind: record}", "{kind: customer, column: c}", "`privacy.unit.max_rows` is missing"),
    "a customer of no rows": ("{kind: record}", "{kind: customer, column: c, max_rows: 0}", "`privacy.unit.max_rows` is 0"),
    "a customer at no site": ("{kind: record}", "{kind: customer, column: c, max_rows: 1, max_sites: 0}", "`privacy.unit.max_sites` is 0"),
    "a record of several rows": ("{kind: record}", "{kind: record, max_rows: 3}", "unknown key `privacy.unit.max_rows`"),
    "a site without a bound": ("{kind: record}", "{kind: site}", "`privacy.unit.max_rows` is missing"),
    "a site at two sites": ("{kind: record}", "{kind: site, max_rows: 3, max_sites: 2}", "unknown key `privacy.unit.max_sites`"),
    "neighbours that differ otherwise": ("  retries: 5", "  neighbours: replace-one", "it should be 'add-or-remove-one'"),
    # noise
    "no noise in training": ("training: 1.5, ", "", "`privacy.noise.training` is missing"),
    "noise of 0": ("training: 1.5", "training: 0", "`privacy.noise.training` is 0"),
    "noise that is no number": ("training: 1.5", "training: .nan", "`privacy.noise.training` is NaN"),
    "noise beyond all bounds": ("training: 1.5", "training: 1.0e+7", "`privacy.noise.training` is 10000000"),
    "noise that is no number in preparation": ("preparation: 8.0", "preparation: .nan", "`privacy.noise.preparation` is NaN"),
    "a stage without noise": ("preparation: 8.0, ", "", "preparation has no noise multiplier; add it, such as preparation: 8.0, or name it in `exempt`"),
    "a stage without noise or exemption": (", evaluation: 4.0", "", "evaluation has no noise multiplier"),
    "an exempt stage with noise": ("retries: 5", "exempt: [evaluation]", "evaluation is exempt and has a noise multiplier; remove one of the two"),
    "training that is exempt": ("retries: 5", "exempt: [training]", "it should be 'preparation' or 'evaluation'"),
    "a stage exempt twice": ("retries: 5", "exempt: [evaluation, evaluation]", "'evaluation' is named twice"),
    "retries below 0": ("retries: 5", "retries: -1", "`privacy.retries` is -1"),
    # sampling
    "a sampling rate above 1": (RATE, RATE.replace("100\n", "1001\n"), "1001 of 1000 nominal rows is a sampling rate above 1; lower it or raise nominal_rows"),
    "a batch of nobody": (RATE, RATE.replace("100\n", "0\n"), "`training.expected_batch` is 0"),
    "a batch that is no number": (RATE, RATE.replace("100\n", ".nan\n"), "`training.expected_batch`"),
    "no nominal rows": ("  nominal_rows: 1000\n", "", "`training.nominal_rows` is missing"),
    "a clip of 0": (RATE, f"{RATE}\n  clip: 0", "`training.clip` is 0"),
    "a clip that is no number": (RATE, f"{RATE}\n  clip: .nan", "`training.clip` is NaN"),
    "a counted number of rows": (RATE, f"{RATE}\n  batch_size: 64", "unknown key `training.batch_size`"),
    "a learning rate that would do nothing": (RATE, f"{RATE}\n  learning_rate: 0.1", "unknown key `training.learning_rate`"),
    "a rotation that there is not": (RATE, f"{RATE}\n  rotation: fourier", "it should be 'none' or 'hadamard'"),
    # what goes with it
    "weights where every unit counts alike": ("join_within: 2m}", "join_within: 2m, weights: {s0: 2}}", "weights do nothing where every unit of every site counts alike; remove them"),
    "several evaluations": ("every: 20", "every: 10", "held-out rows are scored once, after round 20: each time is a release. Use every: 20"),
    "more bins than rows": ("score_bins: 32", "score_bins: 33", f"33 score bins would hold more noise than rows; use at most {MOST_PRIVATE_BINS}"),
    "a population of somebody who is not invited": ("join_within: 2m}", "join_within: 2m, populations: {s9: loans}}", "s9 has a population but is not invited; invite it or remove the population"),
    "a site that is sampled": ("{kind: record}", "{kind: site, max_rows: 9}", "a site is one unit, and is always in the sum; use expected_batch: 1 and nominal_rows: 1"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), BAD.values(), ids=BAD.keys())
def test_what_a_private_plan_may_not_say_is_refused_with_what_it_may(
    old: str, new: str, sentence: str
) -> None:
    plan_of()
    with pytest.raises(DocumentError) as caught:
        plan_of((old, new))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("plan.yaml line ")


def test_privacy_of_mode_none_says_nothing_else() -> None:
    with pytest.raises(DocumentError, match=r"unknown key `privacy\.limit`"):
        read_document(
            changed(PLAN, "{mode: none}", "{mode: none, limit: {epsilon: 1.0, delta: 1.0e-5}}"),
            Plan,
            "plan.yaml",
        )


@pytest.mark.parametrize("missing", ["privacy", "aggregation"])
def test_privacy_is_written_down_and_secure_aggregation_goes_without_saying(missing: str) -> None:
    begin = PRIVATE.index(f"{missing}:")
    end = PRIVATE.index("privacy:") if missing == "aggregation" else PRIVATE.index("\nevaluation:") + 1
    text = PRIVATE[:begin] + PRIVATE[end:]
    if missing == "aggregation":
        assert read_document(text, Plan, "plan.yaml").digest == plan_of().digest
    else:
        with pytest.raises(DocumentError, match="`privacy` is missing"):
            read_document(text, Plan, "plan.yaml")


def test_local_updates_may_be_weighed() -> None:
    """The control: there a weight does something."""
    plan = plan_of(*LOCAL, ("join_within: 2m}", "join_within: 2m, weights: {s0: 2}}"))
    assert plan.sites.weights


def test_an_exemption_is_written_down() -> None:
    plan = plan_of((NOISE, "{training: 1.5}"), ("retries: 5", "exempt: [preparation, evaluation]"))
    assert isinstance(plan.privacy, Privacy)
    assert plan.privacy.exempt == ("preparation", "evaluation")


EVERY_DECISION = [
    ("mode: distributed", "mode: central"),
    ("epsilon: 8.0", "epsilon: 9.0"),
    ("delta: 1.0e-5", "delta: 1.0e-6"),
    ("training: 1.5", "training: 1.6"),
    ("preparation: 8.0", "preparation: 8.5"),
    ("retries: 5", "retries: 4"),
    ("nominal_rows: 1000", "nominal_rows: 1001"),
    (RATE, f"{RATE}\n  clip: 0.5"),
    (RATE, f"{RATE}\n  rotation: hadamard"),
    ("join_within: 2m}", "join_within: 2m, populations: {s0: cards}}"),
]


@pytest.mark.parametrize("change", EVERY_DECISION, ids=[new for _, new in EVERY_DECISION])
def test_every_decision_about_privacy_changes_the_digest(change: tuple[str, str]) -> None:
    assert plan_of(change).digest != plan_of().digest


def test_the_digest_of_a_private_plan_is_pinned() -> None:
    """A change of this value breaks every signature over an earlier plan."""
    assert plan_of().digest == "6a1586a2d97c7f83c3da96050e7057633af30c093c1dab8be877862842f8e74b"


def test_a_population_is_called_what_the_site_calls_it_or_the_contract() -> None:
    plan = plan_of(("join_within: 2m}", "join_within: 2m, populations: {s0: retail}}"))
    assert [plan.population_of(site) for site in plan.sites.invite] == ["retail", *["lending-club"] * 3]


# --- customers in contracts -------------------------------------------------------------------------------------------

BAD_CUSTOMERS = {
    "the key": ("loan_id", "loan_id is the key or the target; name the column that tells customers apart"),
    "the target": ("Class", "Class is the key or the target"),
    "a feature": ("income", "income is the customer and cannot be a column too; remove it"),
}


@pytest.mark.parametrize(("column", "sentence"), BAD_CUSTOMERS.values(), ids=BAD_CUSTOMERS.keys())
def test_a_customer_column_is_neither_key_nor_target_nor_feature(column: str, sentence: str) -> None:
    text = changed(CONTRACT, "key: loan_id", f"key: loan_id\ncustomer: {column}")
    with pytest.raises(DocumentError) as caught:
        read_document(text, Contract, "contract.yaml")
    assert sentence in str(caught.value)


def test_a_customer_column_changes_the_contract_and_its_absence_does_not() -> None:
    assert PEOPLE.customer == "customer_id"
    assert RECORDS.customer is None
    assert PEOPLE.digest != RECORDS.digest
    assert Contract.from_canonical(PEOPLE.canonical) == PEOPLE
    assert b"customer" not in RECORDS.canonical


def test_a_customer_column_is_no_feature() -> None:
    with pytest.raises(UsageError, match="has no column 'customer_id'"):
        PEOPLE.feature_spec(["customer_id"])


# --- plans against contracts ------------------------------------------------------------------------------------------


def test_rows_are_held_out_by_what_tells_units_apart() -> None:
    check_plan(plan_of(), RECORDS)
    check_plan(plan_of(), PEOPLE)
    check_plan(plan_of(*CUSTOMERS), PEOPLE)


@pytest.mark.parametrize(
    ("changes", "contract", "sentence"),
    [
        ((("by: loan_id", "by: customer_id"),), PEOPLE, "but the key of lending-club@1 is 'loan_id'; set evaluation.holdout.by: loan_id"),
        (CUSTOMERS[:1], PEOPLE, "but the customer column of lending-club@1 is 'customer_id'; set evaluation.holdout.by: customer_id"),
        (CUSTOMERS, RECORDS, "but contract lending-club@1 has no customer column; name the contract's, or use unit: {kind: record}"),
        ((("unit: {kind: record}", "unit: {kind: customer, column: owner, max_rows: 3}"),), PEOPLE, "but lending-club@1 does by 'customer_id'"),
    ],
)  # fmt: skip
def test_a_unit_that_would_both_train_and_evaluate_is_refused(
    changes: Changes, contract: Contract, sentence: str
) -> None:
    for check in (check_plan, check_contract):
        with pytest.raises(UsageError) as caught:
            check(plan_of(*changes), contract)
        assert sentence in str(caught.value)


def test_a_plan_above_its_own_limit_is_refused_but_its_draft_can_be_looked_at() -> None:
    tight = plan_of(("epsilon: 8.0", "epsilon: 1.5"))
    check_contract(tight, RECORDS)
    with pytest.raises(UsageError, match=r"within privacy\.limit"):
        check_plan(tight, RECORDS)


def test_a_plan_without_privacy_has_no_limit_to_keep() -> None:
    check_plan(read_document(PLAN, Plan, "plan.yaml"), RECORDS)
