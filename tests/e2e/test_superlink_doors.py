"""The SuperLink's port, as an attacker finds it: every door that stock Flower leaves open is closed."""

from __future__ import annotations

import socket
import ssl

import httpx
import pytest
from flwr.proto.control_pb2 import ListRunsRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, RegisterNodeFleetRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from google.protobuf.message import Message

from tests.e2e.conftest import Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def post(federation: Federation, path: str, request: Message, **headers: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(federation.deployment.home / "tls" / "ca.crt"))
    media = {"content-type": "application/protobuf", "accept": "application/protobuf", **headers}
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.post(
            f"https://127.0.0.1:{federation.deployment.port}{path}",
            content=request.SerializeToString(),
            headers=media,
        )


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/v1/control/start-run", StartRunRequest()),
        ("/v1/control/register-node", RegisterNodeRequest(public_key=b"attacker")),
        ("/v1/control/list-runs", ListRunsRequest()),
    ],
)
@pytest.mark.parametrize("token", [None, "wrong", "x" * 64])
def test_the_control_api_admits_nobody_without_the_token(
    federation: Federation, path: str, request_: Message, token: str | None
) -> None:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    assert post(federation, path, request_, **headers).status_code == 401


def test_the_control_token_opens_the_same_door(federation: Federation) -> None:
    token = (federation.deployment.home / "secrets" / "control-token").read_text()
    answer = post(federation, "/v1/control/list-runs", ListRunsRequest(), authorization=f"Bearer {token}")
    assert answer.status_code == 200


def test_a_stranger_cannot_claim_the_server_process_of_a_run(federation: Federation) -> None:
    answer = post(
        federation, "/v1/runtime/acquire-task", AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
    )
    assert answer.status_code in {401, 403}


@pytest.mark.parametrize(
    "path", ["/v1/runtime/get-nodes", "/v1/runtime/push-messages", "/v1/runtime/pull-task-input"]
)
def test_a_stranger_cannot_speak_for_a_run(federation: Federation, path: str) -> None:
    assert post(federation, path, AcquireTaskRequest()).status_code in {401, 403}


def test_a_site_cannot_register_itself(federation: Federation) -> None:
    request = RegisterNodeFleetRequest(public_key=b"attacker")
    assert post(federation, "/v1/fleet/register-node", request).status_code in {401, 403}
    assert (
        post(federation, "/v1/fleet/activate-node", ActivateNodeRequest(public_key=b"a")).status_code == 401
    )


def test_no_secret_is_in_any_command_line(federation: Federation) -> None:
    from pathlib import Path

    secrets = federation.deployment.home / "secrets"
    token = (secrets / "control-token").read_bytes()
    everybody, ours = b"", b""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes() + (process.parent / "environ").read_bytes()
            where = (process.parent / "cwd").readlink()
        except OSError:
            continue
        everybody += line
        # Of other processes a token is no business of this test: a stock SuperNode, which another one starts, has one in its line.
        if where.is_relative_to(federation.deployment.folder):
            ours += line
    assert b"superlink_process" in ours
    assert token not in everybody
    assert b"--token" not in ours
    for path in secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("path", ["/v1/fleet/push-object", "/v1/runtime/push-object"])
def test_a_body_beyond_the_bound_is_refused_before_it_is_sent(federation: Federation, path: str) -> None:
    """flwr would read all of it before it asks whose it is."""
    context = ssl.create_default_context(cafile=str(federation.deployment.home / "tls" / "ca.crt"))
    with (
        socket.create_connection(("127.0.0.1", federation.deployment.port), timeout=10.0) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\nContent-Length: {1 << 40}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_no_stated_length_is_refused(federation: Federation) -> None:
    context = ssl.create_default_context(cafile=str(federation.deployment.home / "tls" / "ca.crt"))
    with httpx.Client(verify=context, trust_env=False) as client:
        answer = client.post(
            f"https://127.0.0.1:{federation.deployment.port}/v1/fleet/push-object",
            content=iter([b"x" * 100]),
            headers={"content-type": "application/protobuf"},
        )
    assert answer.status_code == 411
