"""Gates are read strictly, judged on what a run has, and never passed by what is absent or no number."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.report.gates import METRICS, Gate, dropouts_survived, judge, parse_gate
from strategies.errors import UsageError
from tests.simulation.results_for_tests import (
    SCORES,
    a_failed_result,
    a_private_result,
    a_result,
    a_round,
    a_site,
)

OPERATORS = (">=", "<=", ">", "<", "==")
MEASURED = {
    "auc": 0.7125,
    "log_loss": 0.4387,
    "ks": 0.3071,
    "brier": 0.1203,
    "rows": 2000,
    "rounds": 10,
    "epsilon": math.inf,
    "dropouts_survived": 0.1,
    "sites": 4,
    "parameters": 2881,
    "traffic_mb": 4.03613,
    "site_auc_min": 0.691,
    "elapsed_s": 12.5,
}
NEEDS_COMPLETION = sorted(set(METRICS) - {"rounds", "sites", "parameters", "elapsed_s"})


def verdict(result, text):
    (only,) = judge(result, [parse_gate(text)])
    return only


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("auc >= 0.70", Gate("auc", ">=", 0.7)),
        ("epsilon<=4", Gate("epsilon", "<=", 4.0)),
        ("  dropouts_survived\t>  .1 ", Gate("dropouts_survived", ">", 0.1)),
        ("log_loss < 6e-1", Gate("log_loss", "<", 0.6)),
        ("rounds==10", Gate("rounds", "==", 10.0)),
        ("ks >= -1.", Gate("ks", ">=", -1.0)),
    ],
)
def test_a_gate_is_a_metric_an_operator_and_a_number(text, gate):
    assert parse_gate(text) == gate


@given(
    st.sampled_from(sorted(METRICS)),
    st.sampled_from(OPERATORS),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_a_gate_reads_back_as_it_prints(metric, sign, threshold):
    gate = Gate(metric, sign, threshold)
    assert parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    "text",
    ["", "auc", "auc 0.7", ">= 0.7", "auc >=", "auc >= 0.7 or 1 == 1", "auc is high", "0.7 <= auc <= 1"],
)
def test_what_is_not_a_gate_is_told_what_one_is(text):
    with pytest.raises(
        UsageError, match=r"is not a gate; write METRIC OPERATOR NUMBER, such as 'auc >= 0\.70'"
    ):
        parse_gate(text)


@pytest.mark.parametrize("sign", ["=", "=>", "=<", "<>", ">>", "==="])
def test_another_operator_is_told_the_known_ones(sign):
    with pytest.raises(UsageError, match=f"compares by '{sign}'; use one of >=, <=, >, <, =="):
        parse_gate(f"auc {sign} 0.7")


@pytest.mark.parametrize(
    "number",
    ["nan", "inf", "-inf", "1e999", "0x1", "1_000", "1,5", "٣", "high", "__import__('os')", "--1", "."],
)
def test_a_threshold_is_a_finite_decimal_number(number):
    with pytest.raises(UsageError, match=r"use a finite decimal number, such as 0\.70"):
        parse_gate(f"auc >= {number}")


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("acu", "auc"), ("AUC", "auc"), ("logloss", "log_loss"), ("dropout", "dropouts_survived")],
)
def test_an_unknown_metric_is_told_the_nearest_and_all(typed, nearest):
    with pytest.raises(UsageError) as refused:
        parse_gate(f"{typed} >= 0.7")
    said = str(refused.value)
    assert f"unknown metric {typed!r}; the nearest is {nearest}," in said
    assert said.endswith("the known ones are " + ", ".join(METRICS))


@given(st.text(max_size=40))
def test_any_text_is_a_gate_or_a_usage_error(text):
    try:
        gate = parse_gate(text)
    except UsageError:
        return
    assert gate.metric in METRICS
    assert math.isfinite(gate.threshold)


def test_every_metric_is_measured_here():
    assert set(MEASURED) == set(METRICS)


@pytest.mark.parametrize(("metric", "value"), MEASURED.items())
def test_a_metric_is_read_off_the_run(metric, value):
    found = verdict(a_result(), f"{metric} >= 0")
    assert found.measured == pytest.approx(value)
    assert found.passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("rounds >= 10", True),
        ("rounds > 10", False),
        ("rounds <= 10", True),
        ("rounds < 10", False),
        ("rounds == 10", True),
        ("rounds == 11", False),
    ],
)
def test_an_operator_holds_at_its_bound_or_not(text, passed):
    assert verdict(a_result(), text).passed is passed


def test_a_sentence_says_what_was_measured_and_what_is_asked_for():
    assert verdict(a_result(), "auc >= 0.70").sentence == "auc is 0.7125, as asked for: at least 0.7"
    assert verdict(a_result(), "sites > 4").sentence == "sites is 4, but more than 4 is asked for"


@pytest.mark.parametrize("auc", [0.69996, 0.7 - 1e-12, math.nextafter(0.7, 0)])
def test_a_failed_gate_is_not_printed_as_if_it_held(auc):
    found = verdict(a_result(metrics=replace(SCORES, auc=auc)), "auc >= 0.70")
    assert not found.passed
    assert float(found.sentence.split()[2].rstrip(",")) < 0.7


@given(st.floats(-2, 2), st.sampled_from(OPERATORS), st.floats(-2, 2) | st.sampled_from([0.0, 0.5, 0.7, 1.0]))
def test_the_printed_number_agrees_with_the_verdict(auc, sign, threshold):
    gate = Gate("auc", sign, threshold)
    (found,) = judge(a_result(metrics=replace(SCORES, auc=auc)), [gate])
    assert gate.holds(float(found.sentence.split()[2].rstrip(","))) is found.passed


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("metric", ["auc", "log_loss", "ks", "brier"])
def test_nan_passes_no_gate(metric, sign):
    found = verdict(a_result(metrics=replace(SCORES, **{metric: math.nan})), f"{metric} {sign} 0")
    assert not found.passed
    assert "not a number (NaN), which passes no gate" in found.sentence


@pytest.mark.parametrize("place", [0, 1])
def test_a_site_whose_auc_is_nan_is_not_passed_over(place):
    sites = [a_site(1), a_site(2)]
    sites[place] = a_site(place + 1, auc=math.nan)
    assert not verdict(replace(a_result(), sites=tuple(sites)), "site_auc_min > 0").passed


def test_sites_without_an_auc_are_skipped():
    sites = (a_site(1, auc=None), a_site(2, auc=0.66), a_site(3, auc=0.7))
    assert verdict(replace(a_result(), sites=sites), "site_auc_min >= 0.66").measured == 0.66


def test_no_site_with_an_auc_passes_no_gate_on_it():
    found = verdict(replace(a_result(), sites=(a_site(1, auc=None),)), "site_auc_min >= 0")
    assert (found.measured, found.passed) == (None, False)
    assert found.sentence.startswith("no site's held-out rows hold both classes, so there is no site_auc_min")


def test_without_privacy_epsilon_is_infinite_in_words():
    found = verdict(a_result(), "epsilon <= 4")
    assert (found.measured, found.passed) == (math.inf, False)
    assert found.sentence.startswith("no privacy: nothing bounds what the model tells of a person")


def test_without_privacy_no_number_in_a_round_is_believed():
    rounds = tuple(a_round(number, epsilon=0.0) for number in range(1, 4))
    assert not verdict(replace(a_result(), rounds=rounds), "epsilon <= 1e300").passed


def test_with_privacy_epsilon_is_that_of_the_last_round():
    assert verdict(a_private_result(), "epsilon <= 3.2").passed
    assert not verdict(a_private_result(), "epsilon < 3.2").passed


@pytest.mark.parametrize("metric", NEEDS_COMPLETION)
@pytest.mark.parametrize("sign", [">=", "<="])
def test_a_run_that_did_not_complete_passes_no_gate_on_its_outcome(metric, sign):
    failed = replace(a_failed_result(reason="too few sites survived"), privacy="central")
    found = verdict(failed, f"{metric} {sign} {0 if sign == '>=' else 1e9}")
    assert (found.measured, found.passed) == (None, False)
    assert found.sentence.startswith(
        f"the run did not complete (too few sites survived), so there is no {metric}"
    )


def test_a_run_that_did_not_complete_still_has_counts_and_time():
    for text in ("rounds == 3", "sites == 4", "parameters == 2881", "elapsed_s == 12.5"):
        assert verdict(a_failed_result(), text).passed


def test_a_run_may_fail_without_a_reason():
    assert verdict(a_failed_result(reason=None), "auc > 0").sentence.startswith(
        "the run did not complete, so"
    )


def test_a_completed_run_that_was_not_evaluated_says_so():
    assert verdict(a_result(metrics=None), "auc > 0").sentence.startswith(
        "the run was not evaluated, so there is no auc"
    )


@pytest.mark.parametrize("rounds", [1, 3, 10, 33])
def test_one_of_ten_lost_in_each_round_is_a_tenth_exactly(rounds):
    made = tuple(a_round(number, sites=10, survivors=9) for number in range(1, rounds + 1))
    assert dropouts_survived(replace(a_result(), rounds=made)) == 0.1


def test_verdicts_come_in_the_order_of_the_gates():
    gates = [parse_gate(text) for text in ("sites >= 1", "auc >= 0.9", "sites >= 1")]
    assert [each.gate for each in judge(a_result(), gates)] == gates
