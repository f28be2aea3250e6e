"""Every method of every service with every role, over a real server with real certificates: default deny."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from coordinator.api.door import Door, name_of
from coordinator.api.errors import problem_of
from coordinator.api.roles import RULES
from coordinator.api.server import SERVICES
from coordinator.control_tls import control_files
from coordinator.tls import make_transport_certificates
from protos import control_pb2
from protos.keys import create_node_key
from protos.membership import Role
from strategies.errors import CovenantError, Refused, Unreachable
from tests.coordinator.api_for_tests import BY_ROLE, Bank, new_id, serving

METHODS = {name_of(method): method for service in SERVICES for method in service.methods}
UNANSWERED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    yield from serving(tmp_path_factory.mktemp("bank"), accounts=False)


def call(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode | None:
    """What an empty request ends with; None if it is answered at all. A request id makes it one that is asked for something."""
    kind = GetMessageClass(method.input_type)
    request: Any = kind()
    if "request_id" in method.input_type.fields_by_name:
        request.request_id = new_id()
    if method.name == "WatchEvents":
        request.start = 0  # so that there is something to tell
    names = {
        "request_serializer": kind.SerializeToString,
        "response_deserializer": GetMessageClass(method.output_type).FromString,
    }
    path = f"/{name_of(method)}"
    try:
        if not method.server_streaming:
            channel.unary_unary(path, **names)(request, timeout=10)
        elif method.client_streaming:
            list(channel.stream_stream(path, **names)(iter([request]), timeout=10))
        else:
            stream = channel.unary_stream(path, **names)(request, timeout=0.5)
            next(iter(stream))
            stream.cancel()
    except grpc.RpcError as error:
        code = error.code()  # type: ignore[attr-defined]
        # A stream that was let in and has nothing to tell ends with its deadline.
        return None if code == grpc.StatusCode.DEADLINE_EXCEEDED else code
    return None


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    assert set(RULES) == set(METHODS)


def test_a_server_with_a_method_without_a_rule_does_not_start(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RULES, "covenant.control.v1.Runs/GetRun")
    with pytest.raises(CovenantError, match="Runs/GetRun has no rule"):
        Door(bank.centre, None).handlers(SERVICES, dict.fromkeys(METHODS))  # type: ignore[arg-type]


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_call_what_its_rules_say_and_nothing_else(role: Role, bank: Bank) -> None:
    channel = bank.client(BY_ROLE[role]).channel
    for name, method in METHODS.items():
        code = call(channel, method)
        if role in RULES[name].roles:
            assert code not in UNANSWERED, name
        else:
            assert code == grpc.StatusCode.PERMISSION_DENIED, name


def test_separation_of_duties() -> None:
    """What no table of roles may ever say."""
    changes = {name: rule.roles for name, rule in RULES.items() if rule.changes}
    approving = changes["covenant.governance.v1.Plans/ApprovePlan"]
    carrying = (
        changes["covenant.control.v1.Runs/LaunchRun"] | changes["covenant.governance.v1.Plans/ProposePlan"]
    )
    assert not approving & carrying
    deploying = {
        roles
        for name, roles in changes.items()
        if name.endswith(("/StartRollout", "/PromoteRollout", "/RenewRelease"))
    }
    assert deploying == {frozenset({Role.ML_ENGINEER})}
    assert approving <= changes["covenant.deploy.v1.Deployments/RecallModel"]
    halting, lifting = (f"covenant.governance.v1.Halts/{name}" for name in ("GiveHalt", "SayLift"))
    assert changes[halting] == set(Role)
    telling = "covenant.control.v1.Models/TellPersonal"
    commenting = "covenant.governance.v1.Plans/CommentPlan"
    assert {name for name, roles in changes.items() if Role.AUDITOR in roles} == {halting, commenting}
    assert {name for name, roles in changes.items() if Role.SITE_OPERATOR in roles} == {halting, telling}
    assert {name for name, roles in changes.items() if Role.ADMIN in roles} == {
        "covenant.control.v1.Runs/StopRun",
        "covenant.deploy.v1.Deployments/AddTarget",
        "covenant.monitor.v1.Monitors/RetryAlert",
        halting,
        lifting,
    }
    assert not changes[lifting] & carrying


def _no_certificate(bank: Bank, folder: Path) -> grpc.Channel:
    ca = control_files(bank.centre.settings, datetime.now(UTC)).ca.read_bytes()
    return grpc.secure_channel(bank.address, grpc.ssl_channel_credentials(ca))


def _of_the_transport(bank: Bank, folder: Path) -> grpc.Channel:
    """A certificate that the transport's authority made."""
    make_transport_certificates(folder, federation="demo", hosts=["author-1"], now=datetime.now(UTC))
    ca = control_files(bank.centre.settings, datetime.now(UTC)).ca.read_bytes()
    key, certificate = (folder / "superlink.key").read_bytes(), (folder / "superlink.crt").read_bytes()
    return grpc.secure_channel(bank.address, grpc.ssl_channel_credentials(ca, key, certificate))


def _of_the_server(bank: Bank, folder: Path) -> grpc.Channel:
    """The API's own certificate: the right authority, but for a server, and on no request."""
    files = control_files(bank.centre.settings, datetime.now(UTC))
    return grpc.secure_channel(
        bank.address,
        grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        ),
    )


@pytest.mark.parametrize("stranger", [_no_certificate, _of_the_transport, _of_the_server])
def test_who_has_no_certificate_of_the_control_authority_gets_no_answer(
    stranger: Any, bank: Bank, tmp_path: Path
) -> None:
    with stranger(bank, tmp_path) as channel:
        for name, method in METHODS.items():
            assert call(channel, method) == grpc.StatusCode.UNAVAILABLE, name


def test_a_certificate_on_a_request_that_nobody_granted_opens_nothing(bank: Bank, tmp_path: Path) -> None:
    """Whoever stole the authority's key can make certificates, and is still nobody."""
    from coordinator.control_tls import issue
    from protos.access import AccessRequest
    from tests.trust_for_tests import key_of

    until = datetime.now(UTC) + timedelta(days=1)
    public = create_node_key(tmp_path / "author-1-tls.key")
    request = AccessRequest.create("demo", "author-1", public, key_of("stranger"), until=until)
    files = control_files(bank.centre.settings, datetime.now(UTC))
    (tmp_path / "author-1.crt").write_bytes(issue(files, request, datetime.now(UTC), until))
    bank.profile(tmp_path, "author-1", files.ca)
    from coordinator.api.client import ControlClient

    with ControlClient(tmp_path) as client:
        for name, method in METHODS.items():
            assert call(client.channel, method) == grpc.StatusCode.UNAUTHENTICATED, name


def test_a_refusal_says_what_where_and_what_to_do(bank: Bank) -> None:
    channel = bank.client("auditor-1").channel
    stop = channel.unary_unary(
        "/covenant.control.v1.Runs/StopRun",
        request_serializer=control_pb2.ChangeRunRequest.SerializeToString,
        response_deserializer=control_pb2.Run.FromString,
    )
    with pytest.raises(grpc.RpcError) as caught:
        stop(control_pb2.ChangeRunRequest(request_id=new_id(), run="run-0123456789abcdef"), timeout=5)
    problem = problem_of(caught.value)
    assert problem is not None
    assert (problem.where, problem.rule, problem.exit_code) == (
        "covenant.control.v1.Runs/StopRun",
        "role",
        Refused.exit_code,
    )
    assert (
        "auditor-1 is auditor, and covenant.control.v1.Runs/StopRun takes admin or ml_engineer"
        in problem.what
    )
    assert "ask an officer who has the role" in problem.remedy


def test_the_server_is_proved_by_the_authority_that_the_folder_pins(bank: Bank, tmp_path: Path) -> None:
    folder = bank.access("author-1")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / file.name).chmod(0o600)
    make_transport_certificates(tmp_path / "other", federation="demo", hosts=["x"], now=datetime.now(UTC))
    (tmp_path / "control-ca.crt").write_bytes((tmp_path / "other/ca.crt").read_bytes())
    from coordinator.api.client import ControlClient

    with ControlClient(tmp_path) as client, pytest.raises(Unreachable, match="did not answer"):
        client.ask(
            "covenant.control.v1.Runs/ListRuns", control_pb2.ListRunsRequest(), control_pb2.ListRunsResponse
        )


# --- officers who are no more, last: each changes the list


def test_whoever_is_taken_off_the_list_or_expires_is_nobody_at_the_next_call(bank: Bank) -> None:
    gone, expired = bank.client("privacy-2").channel, bank.client("author-2").channel
    listing = METHODS["covenant.control.v1.Runs/ListRuns"]
    assert call(gone, listing) is None
    assert call(expired, listing) is None
    bank.without("privacy-2")
    assert call(gone, listing) == grpc.StatusCode.UNAUTHENTICATED
    assert call(expired, listing) is None
    bank.expiring("author-2", datetime.now(UTC) - timedelta(seconds=1))
    for name, method in METHODS.items():
        assert call(gone, method) == grpc.StatusCode.UNAUTHENTICATED, name
        assert call(expired, method) == grpc.StatusCode.UNAUTHENTICATED, name
    assert call(bank.client("author-1").channel, listing) is None


def test_an_older_list_does_not_come_back(bank: Bank) -> None:
    """Whoever was taken off would be back."""
    channel, listing = bank.client("auditor-1").channel, METHODS["covenant.control.v1.Runs/ListRuns"]
    newest = bank.centre.settings.members_file.read_bytes()
    older = bank.listed
    bank.without("operator-1")
    assert call(channel, listing) is None
    bank.certify(older)
    assert call(channel, listing) == grpc.StatusCode.UNAUTHENTICATED
    bank.centre.settings.members_file.write_bytes(newest)
