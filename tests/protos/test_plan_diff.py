"""Differences of plans: every field has words, and what protects less is marked so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from protos.documents import read_document
from protos.plan import Plan
from protos.plan_diff import _WHOLE, changes, diff, values_of
from protos.plan_fields import FIELDS, Part
from protos.plan_gates import Gate
from tests.protos.documents_for_tests import PLAN
from tests.protos.private_for_tests import CUSTOMERS, LOCAL, contract_for, plan_of


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def paths_of(model: type[BaseModel], above: str = "") -> set[str]:
    """The paths of all fields that a document of `model` may have, whichever members of its unions it holds."""
    found = set()
    for name, field in model.model_fields.items():
        path, inner = f"{above}{name}", list(models_in(field.annotation))
        if inner and path not in _WHOLE:
            found |= {each for one in inner for each in paths_of(one, f"{path}.")}
        else:
            found.add(path)
    return found


def test_every_field_of_a_plan_has_words() -> None:
    assert paths_of(Plan) == set(FIELDS)
    assert set(Part) == {each.part for each in FIELDS.values()}
    assert len({each.words for each in FIELDS.values()}) == len(FIELDS)


def test_what_is_told_of_a_real_plan_is_in_the_table() -> None:
    for plan in (plan_of(), plan_of(*LOCAL), plan_of(*CUSTOMERS), read_document(PLAN, Plan, "plan.yaml")):
        assert set(values_of(plan)) <= set(FIELDS)


LOOSER: Mapping[str, tuple[Any, Any]] = {
    "features": (("income",), ("income", "term")),
    "sites.minimum": (4, 3),
    "sites.witnesses": (4, 3),
    "training.algorithm": ("dp-fedsgd", "fedavg"),
    "training.rounds": (20, 21),
    "training.expected_batch": (100, 128),
    "training.nominal_rows": (1000, 900),
    "training.local_steps": (1, 2),
    "aggregation.mode": ("secure", "plain"),
    "aggregation.adversary": ("active", "semi-honest"),
    "aggregation.colluding": (2, 1),
    "aggregation.dropouts": (0.1, 0.2),
    "aggregation.gate.update_norm": (2.5, 5.0),
    "aggregation.rule.trim": (2, 1),
    "aggregation.rule.attackers": (2, 1),
    "privacy.mode": ("distributed", "central"),
    "privacy.unit.kind": ("customer", "record"),
    "privacy.unit.max_sites": (3, 2),
    "privacy.limit.epsilon": (6.0, 8.0),
    "privacy.limit.delta": (1e-6, 1e-5),
    "privacy.noise.training": (1.6, 1.5),
    "privacy.noise.preparation": (8.0, 7.0),
    "privacy.noise.evaluation": (4.0, 3.0),
    "privacy.retries": (2, 5),
    "privacy.exempt": ((), ("evaluation",)),
    "evaluation.every": (20, 5),
    "evaluation.score_bins": (16, 32),
    "protected": (("sex",), ("sex", "age_band")),
    "evaluation.fairness.minimum_group": (100, 50),
    "evaluation.fairness.bins": (4, 8),
    "evaluation.explanations.parts": ("none", "sites"),
    "evaluation.profile.bins": (10, 20),
    "evaluation.champion.features": (("income",), ("income", "term")),
    "gates": (
        (Gate(metric="auc", at_least=0.7).model_dump(),),
        (Gate(metric="auc", at_least=0.6).model_dump(),),
    ),
    "approvals.privacy_officer": (2, 1),
    "approvals.model_risk": (1, 0),
    "approvals.valid_for": (86400.0, 864000.0),
}
"""By field, from what protects more to what protects less."""
ALWAYS = {
    "covenant", "purpose", "contract", "sites.populations", "privacy.unit.column", "privacy.neighbours",
    "training.reweigh.attribute", "aggregation.rule.kind",
}  # fmt: skip


@pytest.mark.parametrize("path", FIELDS)
def test_a_change_of_each_field_is_told_and_marked_where_it_protects_less(path: str) -> None:
    old, new = LOOSER.get(path, ("the-old", "the-new"))
    (there,), (back,) = changes({path: old}, {path: new}), changes({path: new}, {path: old})
    for each in (there, back):
        assert each.field == path
        assert each.sentence.startswith(FIELDS[path].words)
        assert each.sentence.endswith(".")
    assert there.loosens == (path in LOOSER or path in ALWAYS)
    assert back.loosens == (path in ALWAYS)
    assert list(changes({path: old}, {path: old})) == []


def test_fields_that_one_of_the_plans_does_not_have_are_told() -> None:
    (gone,) = changes({"model.hidden": (8, 4)}, {})
    assert gone.sentence == "The widths of the model's layers: 8, 4 no more."
    (come,) = changes({}, {"training.clip": 1.0})
    assert come.sentence == "The norm that gradients are clipped to: 1, where there was nothing."


def test_lists_are_told_by_what_came_and_went() -> None:
    (sites,) = changes({"sites.invite": ("a", "b")}, {"sites.invite": ("b", "c", "d")})
    assert sites.sentence == "The invited sites: c, d as well, and a no more."
    (order,) = changes({"features": ("a", "b")}, {"features": ("b", "a")})
    assert order.sentence == "The columns that are read: b, a, where it was a, b."
    assert not order.loosens


def test_the_cost_is_compared_beside_the_fields() -> None:
    old = plan_of()
    new = plan_of(("training: 1.5", "training: 2.0"), ("minimum: 3", "minimum: 4"))
    found = diff(old, contract_for(old), new, contract_for(new))
    assert [each.field for each in found.changes] == ["sites.minimum", "privacy.noise.training"]
    assert not found.loosens
    assert found.cost_old is not None
    assert found.cost_new is not None
    assert found.cost_new.epsilon < found.cost_old.epsilon
    back = diff(new, contract_for(new), old, contract_for(old))
    assert [each.loosens for each in back.changes] == [True, True]
    assert back.costs_more


def test_as_many_evaluations_of_fewer_rounds_protect_no_less() -> None:
    old = plan_of()
    new = plan_of(("rounds: 20", "rounds: 10"), ("every: 20", "every: 10"))
    found = diff(old, contract_for(old), new, contract_for(new))
    assert [(each.field, each.loosens) for each in found.changes] == [
        ("training.rounds", False),
        ("evaluation.every", False),
    ]


def test_a_plan_that_promises_nothing_any_more_costs_more() -> None:
    old, new = plan_of(), read_document(PLAN, Plan, "plan.yaml")
    found = diff(old, contract_for(old), new, contract_for(new))
    assert found.cost_new is None
    assert found.costs_more
    assert {each.field for each in found.changes if each.loosens} >= {"privacy.mode", "training.algorithm"}
    assert not diff(new, contract_for(new), old, contract_for(old)).costs_more


def test_the_same_plan_written_otherwise_is_no_change() -> None:
    old = plan_of()
    new = plan_of(("  retries: 5\n", ""), ("{mode: secure}", "{colluding: 1}"))
    found = diff(old, contract_for(old), new, contract_for(new))
    assert (found.changes, found.loosens) == ((), False)
