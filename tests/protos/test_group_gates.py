"""Gates on a protected attribute: the group that fares worst decides by the bad end of its interval, and what cannot be said does not pass."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from pydantic import ValidationError

from protos.contract import Contract
from protos.documents import DocumentError, read_document
from protos.gates import Evidence, GateResult, Subject, judge
from protos.plan import Plan
from protos.plan_fields import _further_back
from protos.plan_fit import check_contract
from protos.plan_gates import OF_GROUPS, Gate
from strategies.analytics.comparisons import FOUR_FIFTHS, Metric
from strategies.analytics.fairness import fairness_of
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import NOT_GIVEN, GroupPanel, Panels
from strategies.errors import UsageError
from strategies.ids import run_id
from tests.client.loans_for_tests import CONTRACT
from tests.client.private_for_tests import TEXT
from tests.protos.test_gates import EXACT, plan_with
from tests.strategies.analytics.fairness_for_tests import panel, rows

ROWS = rows(1, {"old": 4000, "mid": 3000, "young": 900}, {"old": 0.1, "mid": 0.12, "young": 0.4})
PANEL = panel(ROWS)


def of(found: GroupPanel | None, noise_std: float = 0.0) -> Panels:
    return Panels(noise_std=noise_std, groups=() if found is None else (found,))


def gate(metric: str = "adverse_impact_ratio", **more: object) -> Gate:
    side = "at_least" if metric == "adverse_impact_ratio" else "at_most"
    return Gate.model_validate({"metric": metric, "group": "band", side: FOUR_FIFTHS, **more})


# --- as they are written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"metric": "adverse_impact_ratio", "at_least": 0.8}, "name it in `group`"),
        ({"metric": "auc", "group": "band", "at_least": 0.8}, "auc is about all rows; leave `group` out"),
        ({"metric": "auc", "only": ["a"], "at_least": 0.8}, "are about the groups of a protected attribute"),
        (
            {"metric": "adverse_impact_ratio", "group": "band", "at_most": 0.8},
            "adverse_impact_ratio is better where it is higher",
        ),
        (
            {"metric": "equalised_odds", "group": "band", "at_least": 0.1},
            "equalised_odds is better where it is lower",
        ),
        ({"metric": "equalised_odds", "group": "band", "at_most": 1.1}, "so 1.1 decides nothing"),
        (
            {"metric": "equalised_odds", "group": "band", "over": "champion", "at_most": 0.1},
            "of a champion is not measured",
        ),
        (
            {"metric": "equalised_odds", "group": "band", "reference": NOT_GIVEN, "at_most": 0.1},
            "is no group that anything is compared with",
        ),
        (
            {"metric": "equalised_odds", "group": "band", "reference": "a", "only": ["a"], "at_most": 0.1},
            "the reference group is compared with itself",
        ),
    ],
)
def test_gate_that_decides_nothing_is_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Gate.model_validate(fields)


def test_each_metric_of_gates_is_one_that_is_computed() -> None:
    assert set(Metric) >= OF_GROUPS


def test_words_name_the_attribute() -> None:
    assert gate().words == "adverse_impact_ratio by band at least 0.8"


@pytest.mark.parametrize(
    ("old", "new", "loosens"),
    [
        ({}, {}, False),
        ({"at_least": 0.9}, {}, True),
        ({}, {"only": ("young",)}, True),
        ({"only": ("young",)}, {}, False),
        ({"only": ("young",)}, {"only": ("mid",)}, True),
        ({}, {"reference": "young"}, True),
        ({}, {"group": "sex"}, True),
    ],
)
def test_gate_that_spares_a_group_is_told_as_loosening(
    old: dict[str, object], new: dict[str, object], loosens: bool
) -> None:
    assert _further_back((gate(**old).model_dump(),), (gate(**new).model_dump(),)) is loosens


# --- what they come to ----------------------------------------------------------------------------------------------------


def judged(one: Gate, metrics: ScoreMetrics | None) -> GateResult:
    """By a plan whose one gate this is."""
    plan = plan_with("[{metric: auc, at_least: 0.1}]").model_copy(update={"gates": (one,)})
    subject = Subject(
        ref="private@1", digest="ab" * 32, run=run_id("run-0123456789abcdef"), plan=plan, contract=CONTRACT
    )
    facts = None if metrics is None else json.loads(json.dumps(asdict(metrics)))
    (result,) = judge(subject, Evidence(metrics=facts)).gates
    return result


@pytest.mark.parametrize("noise_std", [0.0, 6.0])
@pytest.mark.parametrize("metric", sorted(OF_GROUPS))
def test_group_that_fares_worst_decides_by_its_bad_end(metric: str, noise_std: float) -> None:
    noisy = panel(ROWS, noise_std=noise_std)
    found = fairness_of(noisy, noise_std)
    ends = {}
    for each in found.groups:
        if Metric(metric) in each.against:
            interval = each.against[Metric(metric)].interval
            assert interval is not None
            ends[each.group] = (
                interval.low
                if metric == "adverse_impact_ratio"
                else max(abs(interval.low), abs(interval.high))
            )
    assert set(ends) == {"young", "mid", *(["old"] if metric == "group_calibration" else [])}
    worst = (min if metric == "adverse_impact_ratio" else max)(ends, key=lambda each: ends[each])
    result = judged(gate(metric), replace(EXACT, panels=of(noisy, noise_std)))
    assert result.judged == pytest.approx(ends[worst])
    assert f"of {worst} it is" in result.reason
    assert result.value is not None
    side = result.judged < result.value if metric == "adverse_impact_ratio" else result.judged > result.value
    assert side


def test_four_fifths_is_judged_by_the_lower_end() -> None:
    """Exactly four fifths in the counts is less for sure."""
    even = GroupPanel(
        attribute="band",
        edges=(0.0, 0.5, 1.0),
        declines=1,
        counts={"a": ((900, 50), (100, 200)), "b": ((360, 100), (40, 125))},
    )
    found = judged(gate(at_least=0.78), replace(EXACT, panels=of(even)))
    assert found.value == pytest.approx(0.8)
    assert found.judged == pytest.approx(0.75, abs=0.02)
    assert not found.passed
    assert judged(gate(at_least=0.7), replace(EXACT, panels=of(even))).passed


@pytest.mark.parametrize(
    ("panels", "more", "reason"),
    [
        (None, {}, "the last evaluation gave no counts by band"),
        (of(None), {}, "the last evaluation gave no counts by band"),
        (of(replace(PANEL, attribute="sex")), {}, "the last evaluation gave no counts by band"),
        (
            of(panel(ROWS, suppressed=["young"])),
            {},
            "young cannot be said anything of: fewer rows than are told of. Hold out more rows, or name the groups",
        ),
        (
            of(panel(ROWS, suppressed=["old"])),
            {"reference": "old", "only": ("mid",)},
            "old cannot be said anything of",
        ),
        (
            of(PANEL),
            {"reference": "elder"},
            "band has no group 'elder' to compare with; it has mid, old, young",
        ),
        (of(PANEL), {"only": ("elder",)}, "no group of band is called elder; there are mid, old, young"),
        (of(PANEL), {"only": ("old",)}, "nothing to compare it with"),
        (of(PANEL, 400.0), {}, "it cannot be said: "),
        (
            of(
                panel(
                    rows(
                        4,
                        {"old": 1500, "young": 700, NOT_GIVEN: 2300},
                        {"old": 0.1, "young": 0.1, NOT_GIVEN: 0.1},
                    )
                )
            ),
            {},
            "band is not given for 51% of the rows (95 %: up to 53%)",
        ),
    ],
)
def test_what_cannot_be_said_does_not_pass(
    panels: Panels | None, more: dict[str, object], reason: str
) -> None:
    found = judged(gate(at_least=0.0, **more), replace(EXACT, panels=panels))
    assert not found.passed
    assert found.value is None
    assert reason in found.reason


def test_no_metrics_do_not_pass() -> None:
    assert "gave no metrics, so there is no adverse_impact_ratio" in judged(gate(), None).reason


def test_groups_that_are_named_are_judged_though_another_is_suppressed() -> None:
    hidden = panel(ROWS, suppressed=["young"])
    found = judged(gate(only=("mid",)), replace(EXACT, panels=of(hidden)))
    assert found.passed
    assert "of mid it is" in found.reason


def test_suppressed_rows_without_a_value_are_no_obstacle() -> None:
    hidden = panel(
        rows(1, {"old": 4000, "mid": 3000, NOT_GIVEN: 5}, {"old": 0.1, "mid": 0.1, NOT_GIVEN: 0.1}),
        suppressed=[NOT_GIVEN],
    )
    assert judged(gate(), replace(EXACT, panels=of(hidden))).passed


# --- in a plan and under a contract ----------------------------------------------------------------------------------------

COUNTED = TEXT.replace(
    'share: 0.3, salt: "1"}}',
    'share: 0.3, salt: "1"}, fairness: {decline_at: 0.3}}\nprotected: [band]',
)
PROTECTING = Contract.model_validate(
    {
        **json.loads(CONTRACT.canonical),
        "columns": {
            **json.loads(CONTRACT.canonical)["columns"],
            "band": {"type": "category", "vocabulary": ["young", "old"]},
        },
        "protected": ["band"],
    }
)


def plan_of(gates: str, text: str = COUNTED) -> Plan:
    return read_document(f"{text}gates: {gates}\n", Plan, "plan.yaml")


def test_gate_on_an_attribute_that_is_not_counted_is_refused() -> None:
    gates = "[{metric: equalised_odds, group: band, at_most: 0.1}]"
    assert plan_of(gates).gates is not None
    with pytest.raises(
        DocumentError, match="about the groups of band, which the plan does not count; name it in `protected`"
    ):
        plan_of(gates, TEXT)


def test_two_gates_on_the_same_figure_are_refused_and_of_two_attributes_not() -> None:
    one = "{metric: equalised_odds, group: band, at_most: 0.1}"
    with pytest.raises(DocumentError, match="two gates are about the same figure"):
        plan_of(f"[{one}, {one}]")
    plan_of(f"[{one}, {{metric: equalised_odds, group: band, reference: old, at_most: 0.2}}]")


@pytest.mark.parametrize("more", ["only: [elder]", "reference: elder"])
def test_gate_on_a_group_that_the_contract_has_not_is_refused(more: str) -> None:
    known = plan_of("[{metric: equalised_odds, group: band, only: [young], reference: old, at_most: 0.1}]")
    check_contract(known, PROTECTING)
    unknown = plan_of(f"[{{metric: equalised_odds, group: band, {more}, at_most: 0.1}}]")
    with pytest.raises(
        UsageError, match="names group 'elder', which loans@1 does not have; it has young, old, not given"
    ):
        check_contract(unknown, PROTECTING)
