"""Versions of models at the desk: what the log says of one is what is signed, and nothing else is."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from protos import control_pb2 as control
from protos.log_entries import LogEntry, What
from protos.log_registry_events import ModelApproved
from protos.membership import Role
from protos.model_stages import Stage
from tests.coordinator.desk_for_tests import Desk, WithoutWire, sitting
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.registry_for_tests import GATED, NAME, Registry
from tests.coordinator.test_log_export import log_of
from tests.trust_for_tests import key_of

__all__ = ["templates"]

PAGE = f"/models/{NAME}@1"


@pytest.fixture
def registry(templates: Templates) -> Iterator[Registry]:
    federation = templates.copy(GATED)
    yield Registry.of(federation)
    federation.close()


@pytest.fixture
def sit(registry: Registry, tmp_path: Path) -> Iterator[Callable[[str], Desk]]:
    """Opens desks, which are closed after the test."""
    centre = registry.federation.centre
    with ExitStack() as stack:

        def opened(name: str) -> Desk:
            honest = WithoutWire(centre, name)
            return stack.enter_context(sitting(centre, honest, key_of(name), tmp_path / f"{name}.desk"))

        yield opened


def digest_of(registry: Registry) -> str:
    return registry.version.digest


def told(registry: Registry) -> list[What]:
    return [LogEntry.from_canonical(each.body).what for each in log_of(registry.federation).entries()]


def approve(desk: Desk, registry: Registry, **changed: str) -> Any:
    fields = {"confirmed": digest_of(registry)[:8], **changed}
    return desk.post(f"{PAGE}/approve", fields, on=PAGE)


def test_a_version_is_approved_at_two_desks(registry: Registry, sit: Callable[[str], Desk]) -> None:
    registry.go(Stage.VALIDATED)
    first, second = sit("privacy-1"), sit("risk-1")
    assert PAGE in first.get("/").text
    assert "Every check holds" in first.get(PAGE).text
    assert approve(first, registry, confirmed="yes").status_code == 400
    assert "You approved private@1" in approve(first, registry).text
    assert "privacy-1" in second.get(PAGE).text
    assert "it is approved" in approve(second, registry).text

    assert registry.version.stage is Stage.APPROVED
    said = [each.statement for each in told(registry) if isinstance(each, ModelApproved)]
    assert [(each.officer, each.role) for each in said] == [
        ("privacy-1", Role.PRIVACY_OFFICER),
        ("risk-1", Role.MODEL_RISK),
    ]
    assert said[0].subject == registry.subject()
    assert first.signer.labels == ["covenant/model-statement/v1"]


def test_a_version_that_the_log_does_not_have_so_is_not_signed(
    registry: Registry, sit: Callable[[str], Desk]
) -> None:
    registry.go(Stage.VALIDATED)

    def other_files(_request: Any, answer: control.ModelStanding) -> control.ModelStanding:
        name = min(answer.model.artifacts)
        answer.model.artifacts[name] = "ab" * 32
        return answer

    def other_run(_request: Any, answer: control.ModelStanding) -> control.ModelStanding:
        answer.model.run = "run-00000000000000ff"
        return answer

    def other_version(_request: Any, answer: control.ModelStanding) -> control.ModelStanding:
        answer.model.version = 2
        return answer

    desk = sit("privacy-1")
    for lie, words in (
        (other_files, "not those of its digest"),
        (other_run, "registers other files, or another run"),
        (other_version, "it is not what was asked for"),
    ):
        desk.client.lies["GetStanding"] = lie
        page = html.unescape(desk.get(PAGE).text)
        assert words in page
        assert "Sign with your key" not in page
    form = {
        "token": desk.session.token,
        "shown": "{}",
        "role": "privacy_officer",
        "confirmed": digest_of(registry)[:8],
    }
    assert desk.send(f"{PAGE}/approve", form).status_code == 409
    assert desk.signer.labels == []


def test_a_version_that_moved_on_is_not_signed(registry: Registry, sit: Callable[[str], Desk]) -> None:
    registry.go(Stage.VALIDATED)
    desk = sit("privacy-1")
    form = {**desk.form(PAGE), "confirmed": digest_of(registry)[:8]}
    registry.go(Stage.QUARANTINED)
    answered = desk.send(f"{PAGE}/approve", form)

    assert answered.status_code == 409
    assert "by the log private@1 is quarantined" in answered.text
    assert desk.signer.labels == []
