"""The control API as the coordinator calls it: what a SuperLink's refusal to stop a run means. Over HTTP, with the wire cut short."""

from __future__ import annotations

from pathlib import Path

import certifi
import httpx
import pytest
from flwr.proto.control_pb2 import StopRunRequest, StopRunResponse

from coordinator.flower.control import Control
from coordinator.settings import SuperLinkAddress
from strategies.errors import CovenantError


def control(folder: Path, status: int, asked: list[httpx.Request]) -> Control:
    """A client of a SuperLink that answers every call with `status`."""

    def superlink(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        content = StopRunResponse(success=True).SerializeToString() if status == httpx.codes.OK else b"no"
        return httpx.Response(status, content=content, headers={"content-type": "application/x-protobuf"})

    token = folder / "token"
    token.write_text("secret")
    address = SuperLinkAddress(
        host="127.0.0.1",
        port=9093,
        ca_file=Path(certifi.where()),
        certificate_file=folder / "certificate",
        key_file=folder / "key",
        control_token_file=token,
        executor_secret_file=folder / "executor",
    )
    made = Control(address)
    made._client._client = httpx.Client(transport=httpx.MockTransport(superlink))
    return made


@pytest.mark.parametrize("status", [200, 412])
def test_a_flower_run_that_has_ended_by_itself_counts_as_stopped(tmp_path: Path, status: int) -> None:
    """A SuperLink answers 412 for one that has finished already: between the look and the call it may."""
    asked: list[httpx.Request] = []
    with control(tmp_path, status, asked) as client:
        client.stop_run(42)
    (request,) = asked
    assert StopRunRequest.FromString(request.content).run_id == 42


@pytest.mark.parametrize("status", [401, 404, 409, 500])
def test_any_other_refusal_to_stop_a_run_is_told(tmp_path: Path, status: int) -> None:
    with (
        control(tmp_path, status, []) as client,
        pytest.raises(CovenantError, match=f"answered HTTP {status}"),
    ):
        client.stop_run(42)
