"""Deployments over the control API: who may what, each request once, and the same facts as at the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.api.deploy_desk import RemoteDeployDesk
from coordinator.deploy.targets.settings import LocalSettings
from coordinator.keys import make_key
from coordinator.office.deploy_desk import LocalDeployDesk
from protos import deployments_pb2 as wire
from protos.log_deploy_events import TargetAdded
from protos.log_office import CallDenied
from protos.membership import Service
from protos.rollouts import Full, RolloutRules, Shadow
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, new_id, serving

_SERVICE = "covenant.deploy.v1.Deployments/"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    for bank in serving(tmp_path, accounts=False):
        card = make_key(bank.centre.settings.home, "artifacts", None)
        service = Service(name="artifacts", purpose="artifacts", key=card.public_key)
        bank.certify(bank.listed.next(services=[service]))
        yield bank


def settings_in(bank: Bank) -> LocalSettings:
    return LocalSettings(state=str(bank.centre.settings.targets / "branch"), url="http://127.0.0.1:8080")


def desk(bank: Bank, name: str) -> RemoteDeployDesk:
    return RemoteDeployDesk(bank.client(name))


def test_an_admin_adds_targets_and_everybody_concerned_sees_them(bank: Bank) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    for name in ("author-1", "privacy-1", "risk-1", "auditor-1", "admin-1"):
        (found,) = desk(bank, name).targets()
        assert (found["name"], found["kind"], found["added_by"]) == ("branch", "local", "admin-1")
    assert desk(bank, "author-1").targets() == LocalDeployDesk(bank.centre).targets()
    (told,) = bank.told("target-added")
    assert isinstance(told, TargetAdded)
    assert (told.name, told.by) == ("branch", "admin-1")
    assert bank.audited().deployments.targets.keys() == {"branch"}


def test_who_approves_does_not_deploy(bank: Bank) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    for name in ("risk-1", "privacy-1", "admin-1", "auditor-1", "operator-1"):
        with pytest.raises(Refused, match=f"{name} is .*takes ml_engineer"):
            desk(bank, name).start("lending-default", 1, "branch", Full(), RolloutRules(), "why")
    assert {each.officer for each in bank.told("denied") if isinstance(each, CallDenied)} >= {"risk-1"}
    with pytest.raises(Refused, match="takes admin"):
        desk(bank, "author-1").add_target("another", settings_in(bank))


def test_what_cannot_be_done_is_said_in_the_words_of_the_coordinator(bank: Bank) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    engineer = desk(bank, "author-1")
    with pytest.raises(UsageError, match="lending-default@1 is not registered"):
        engineer.start("lending-default", 1, "branch", Full(), RolloutRules(), "why")
    with pytest.raises(Refused, match="nothing serves at branch"):
        engineer.start("lending-default", 1, "branch", Shadow(), RolloutRules(), "why")
    with pytest.raises(Refused, match="no rollout is under way"):
        engineer.promote("branch", None, "why")
    for name in ("author-1", "risk-1", "privacy-1"):
        with pytest.raises(Refused, match="nothing was deployed"):
            desk(bank, name).roll_back("branch", "why")
        with pytest.raises(Refused, match="runs nowhere"):
            desk(bank, name).recall("lending-default", 1, None, "why")
    assert (engineer.rollouts(None), engineer.orders("branch")) == ([], [])
    assert (engineer.running(past=True), engineer.recalls()) == ([], [])


def test_what_was_seen_goes_along(bank: Bank) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    engineer = desk(bank, "author-1")
    with pytest.raises(Refused, match="nothing was deployed"):
        engineer.roll_back("branch", "why", 0)
    for decide in (
        lambda: engineer.promote("branch", None, "why", 7),
        lambda: engineer.roll_back("branch", "why", 7),
        lambda: engineer.renew("branch", "why", 7),
    ):
        with pytest.raises(Refused, match="order 7 in sight"):
            decide()


def test_a_request_that_is_sent_again_adds_one_target(bank: Bank) -> None:
    client = bank.client("admin-1")
    request = wire.AddTargetRequest(request_id=new_id(), name="branch", settings=settings_in(bank).canonical)
    for _ in range(2):
        client.ask(f"{_SERVICE}AddTarget", request, wire.Done)
    assert len(bank.told("target-added")) == 1


@pytest.mark.parametrize(
    "settings", [b"", b"{}", b'{"kind":"cloud"}', b'{"kind":"local","state":"s","url":"http://elsewhere:1"}']
)
def test_settings_that_are_none_are_refused(bank: Bank, settings: bytes) -> None:
    request = wire.AddTargetRequest(request_id=new_id(), name="branch", settings=settings)
    with pytest.raises(Refused, match="no settings of a target"):
        bank.client("admin-1").ask(f"{_SERVICE}AddTarget", request, wire.Done)
    assert desk(bank, "admin-1").targets() == []


@pytest.mark.parametrize(
    ("step", "share"), [("canary", 0.0), ("canary", 1.0), ("canary", float("nan")), ("half", 0.5)]
)
def test_a_step_that_is_none_is_refused(bank: Bank, step: str, share: float) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    request = wire.PromoteRolloutRequest(
        request_id=new_id(), target="branch", step=step, share=share, why="w"
    )
    with pytest.raises(UsageError, match=r"share between 0 and 1|is no step"):
        bank.client("author-1").ask(f"{_SERVICE}PromoteRollout", request, wire.Done)


@pytest.mark.parametrize(
    "path", ["/etc", "targets/../../elsewhere", "{targets}/../x", "{targets}/out/x", "relative", "a\x00b"]
)
@pytest.mark.parametrize("field", ["state", "token_file", "ca_file"])
def test_who_calls_from_elsewhere_chooses_no_file_of_the_coordinator(
    bank: Bank, path: str, field: str
) -> None:
    folder = bank.centre.settings.targets
    folder.mkdir()
    (folder / "out").symlink_to("/etc")
    settings = settings_in(bank).model_copy(update={field: path.format(targets=folder)})
    with pytest.raises(Refused, match=f"{field} of the target .* outside"):
        desk(bank, "admin-1").add_target("branch", settings)
    assert bank.told("target-added") == []


def test_a_decision_in_sight_of_another_order_is_refused_in_the_api_too(bank: Bank) -> None:
    desk(bank, "admin-1").add_target("branch", settings_in(bank))
    for name, request in (
        ("RollBack", wire.RollBackRequest(request_id=new_id(), target="branch", why="w", seen=1)),
        ("RenewRelease", wire.RenewReleaseRequest(request_id=new_id(), target="branch", why="w", seen=1)),
        ("PromoteRollout", wire.PromoteRolloutRequest(request_id=new_id(), target="branch", why="w", seen=1)),
    ):
        with pytest.raises(Refused, match=r"come to order 0.*order 1 in sight"):
            bank.client("author-1").ask(f"{_SERVICE}{name}", request, wire.Done)
    agreed = wire.RollBackRequest(request_id=new_id(), target="branch", why="w", seen=0)
    with pytest.raises(Refused, match="nothing was deployed"):
        bank.client("author-1").ask(f"{_SERVICE}RollBack", agreed, wire.Done)
