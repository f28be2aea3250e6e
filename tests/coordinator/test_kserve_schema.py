"""What is rendered for KServe is an InferenceService by KServe's own description, every field of it, down to the pod's.

The description is the OpenAPI types that the packages `kserve` and `kubernetes` (both Apache-2.0) carry in generated classes. They are read out of
the wheels, and nothing of them is installed or run.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from coordinator.deploy.targets.base import Order
from coordinator.deploy.targets.kserve import KServeTarget
from coordinator.deploy.targets.settings import KServeSettings
from tests.coordinator.test_package import package, released, works

__all__ = ["package", "released", "works"]
WHEELS = Path(sys.prefix) / "kserve"
_SCALARS = {"int": int, "str": str, "bool": bool, "ResourceQuantity": str, "datetime": str}


@dataclass(frozen=True)
class Kind:
    """A generated class: types by the names in JSON, and which of them must be there."""

    types: dict[str, str]
    required: frozenset[str]


@cache
def sources() -> dict[str, str]:
    """The generated classes' sources by class name."""
    found: dict[str, str] = {}
    for wheel in sorted(WHEELS.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"(kserve|kubernetes/client)/models/\w+\.py", name):
                    text = archive.read(name).decode()
                    for cls in re.findall(r"^class (\w+)\(object\)", text, re.MULTILINE):
                        found.setdefault(cls, text)
    return found


@cache
def kind_of(name: str) -> Kind:
    tree = ast.parse(sources()[name])
    (cls,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name]
    tables = {
        each.targets[0].id: ast.literal_eval(each.value)
        for each in cls.body
        if isinstance(each, ast.Assign)
        and isinstance(each.targets[0], ast.Name)
        and isinstance(each.value, ast.Dict)
    }
    names = tables["attribute_map"]
    (made,) = [each for each in cls.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
    # The generator sets what is required whatever it is, and the rest only where it is given.
    required = {
        each.targets[0].attr
        for each in made.body
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Attribute)
    } & set(names)
    return Kind(
        {names[each]: kind for each, kind in tables["openapi_types"].items()},
        frozenset(names[each] for each in required),
    )


def require(value: Any, kind: str, place: str) -> None:
    """Check that `value` is of a `kind`. Raises ValueError with its place."""
    if kind == "object":
        return
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            raise ValueError(f"{place} is no list")
        for number, each in enumerate(value):
            require(each, found[1], f"{place}[{number}]")
    elif found := re.fullmatch(r"dict\(str, (.+)\)|dict\[str, (.+)\]", kind):
        if not isinstance(value, dict):
            raise ValueError(f"{place} is no mapping")
        for key, each in value.items():
            require(each, found[1] or found[2], f"{place}.{key}")
    elif kind in _SCALARS:
        if type(value) is not _SCALARS[kind]:
            raise ValueError(f"{place} is {value!r}, and no {kind}")
    else:
        _require_kind(value, kind, place)


def _require_kind(value: Any, kind: str, place: str) -> None:
    known = kind_of(kind)
    given = value if isinstance(value, dict) else {"": value}
    if missing := known.required - set(given):
        raise ValueError(f"{place} lacks {', '.join(sorted(missing))}")
    for key, each in given.items():
        if key not in known.types:
            raise ValueError(f"{place}.{key} is no field of {kind}")
        require(each, known.types[key], f"{place}.{key}")


@pytest.fixture(scope="module", autouse=True)
def described() -> None:
    if len(list(WHEELS.glob("*.whl"))) < 2:
        reason = f"{WHEELS} lacks the packages kserve and kubernetes; `make test` fetches them"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def target(tmp_path: Path) -> KServeTarget:
    return KServeTarget(
        "branch",
        KServeSettings(
            folder=str(tmp_path / "gitops"),
            packages=str(tmp_path / "packages"),
            storage="s3://models/covenant",
            namespace="scoring",
            image="registry.example/covenant/scoring@sha256:" + "ab" * 32,
            root_config_map="covenant-root",
            callers_secret="covenant-callers",
        ),
    )


@pytest.fixture
def kept(target: KServeTarget) -> KServeTarget:
    """One whose state outlives its pods."""
    return KServeTarget("branch", target._settings.model_copy(update={"state_claim": "scoring-state"}))


@pytest.fixture
def orders(package: Any) -> dict[str, Order]:
    return {
        "full": Order(revision=1, stable=package),
        "canary": Order(revision=2, stable=package, challenger=package, mode="canary", share=0.1),
    }


@pytest.mark.parametrize("which", ["full", "canary"])
def test_every_field_is_one_that_kserve_knows(
    which: str, target: KServeTarget, orders: dict[str, Order]
) -> None:
    found = target.manifest(orders[which])
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    require(found, "V1beta1InferenceService", "manifest")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda spec: spec.update(canaryPercent=10), "canaryPercent is no field of V1beta1PredictorSpec"),
        (lambda spec: spec.update(minReplicas="1"), "minReplicas is '1', and no int"),
        (lambda spec: spec["containers"][0].pop("name"), "lacks name"),
        (lambda spec: spec["containers"][0]["resources"].update(limit={}), "limit is no field"),
    ],
)
def test_what_kserve_does_not_know_would_be_found(
    change: Any, reason: str, target: KServeTarget, orders: dict[str, Order]
) -> None:
    found = target.manifest(orders["full"])
    change(found["spec"]["predictor"])
    with pytest.raises(ValueError, match=reason):
        require(found, "V1beta1InferenceService", "manifest")


def test_state_on_a_claim_is_what_kserve_knows(kept: KServeTarget, orders: dict[str, Order]) -> None:
    found = kept.manifest(orders["canary"])
    require(found, "V1beta1InferenceService", "manifest")
    predictor = found["spec"]["predictor"]
    state = next(each for each in predictor["volumes"] if each["name"] == "state")
    assert state == {"name": "state", "persistentVolumeClaim": {"claimName": "scoring-state"}}
    arguments = predictor["containers"][0]["args"]
    assert arguments[arguments.index("--decisions") + 1].endswith("/decisions/$(POD)")
