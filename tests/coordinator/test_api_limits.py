"""What the control API takes: messages of a bounded size, work that somebody still waits for, and so many streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from coordinator.api.client import ControlClient
from coordinator.api.door import MOST_STREAMS_AN_OFFICER
from coordinator.api.pages import page_of
from coordinator.api.server import MOST_MESSAGE_BYTES, ControlServer
from protos import control_pb2 as control
from protos import governance_pb2 as governance
from strategies.errors import CovenantError, DiskError, Refused, Unreachable, UsageError
from tests.coordinator.api_for_tests import Bank, new_id, serving
from tests.coordinator.test_api_runs import LAUNCH, launching, runs_of


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


def test_a_message_of_a_hundred_megabytes_is_refused_and_changes_nothing(bank: Bank) -> None:
    client = bank.client("author-1")
    bank.access("author-1")
    before = bank.told()
    request = control.LaunchRunRequest(
        request_id=new_id(), documents=control.Documents(plan=bytes(100_000_000))
    )
    with pytest.raises(Refused, match=r"takes no such message.*larger than max"):
        client.ask(LAUNCH, request, control.LaunchRunResponse)
    assert runs_of(bank) == []
    assert bank.told() == before
    assert client.ask(LAUNCH, launching(), control.LaunchRunResponse).run


def test_a_document_that_is_none_is_refused(bank: Bank) -> None:
    request = control.LaunchRunRequest(request_id=new_id(), documents=control.Documents(plan=b"{}"))
    with pytest.raises(Refused, match="the Plan received"):
        bank.client("author-1").ask(LAUNCH, request, control.LaunchRunResponse)
    with pytest.raises(UsageError, match="a launch of nothing"):
        bank.client("author-1").ask(
            LAUNCH, control.LaunchRunRequest(request_id=new_id()), control.LaunchRunResponse
        )


def test_work_whose_deadline_has_passed_is_not_begun(tmp_path: Path) -> None:
    """One worker, whom a stream keeps busy: the launch behind it is too late when its turn comes."""
    bank = Bank.make(tmp_path / "bank")
    from tests.coordinator.cli_for_tests import open_accounts

    open_accounts(bank.centre, 60.0)
    with bank.serve(workers=1):
        client = bank.client("author-1", deadline_s=0.5)
        call = client.channel.unary_stream(
            "/covenant.governance.v1.Log/WatchEvents",
            request_serializer=governance.WatchEventsRequest.SerializeToString,
            response_deserializer=governance.Entry.FromString,
        )(governance.WatchEventsRequest(start=0), timeout=30)
        next(iter(call))
        with pytest.raises(Unreachable, match="did not answer in time"):
            client.ask(LAUNCH, launching(), control.LaunchRunResponse)
        call.cancel()
        assert runs_of(bank) == []
        assert bank.transport.started == []
    bank.close()


def test_an_officer_has_so_many_streams(bank: Bank) -> None:
    client = bank.client("operator-1")
    open_ = [
        client.stream(
            "covenant.governance.v1.Log/WatchEvents",
            governance.WatchEventsRequest(start=0),
            governance.Entry,
        )
        for _ in range(MOST_STREAMS_AN_OFFICER)
    ]
    for each in open_:
        next(each)
    one_more = client.stream(
        "covenant.governance.v1.Log/WatchEvents", governance.WatchEventsRequest(start=0), governance.Entry
    )
    with pytest.raises(CovenantError, match="operator-1 has 8 streams open"):
        next(one_more)
    open_.pop().close()
    time.sleep(0.5)
    again = client.stream(
        "covenant.governance.v1.Log/WatchEvents", governance.WatchEventsRequest(start=0), governance.Entry
    )
    assert next(again).seq == 0
    for each in (*open_, again):
        each.close()


def test_a_taken_port_is_refused(bank: Bank) -> None:
    with pytest.raises(CovenantError, match=r"the control API cannot listen on 127\.0\.0\.1:"):
        ControlServer(bank.centre).start()


def test_an_end_of_the_server_ends_its_streams(tmp_path: Path) -> None:
    bank = Bank.make(tmp_path / "bank")
    heard: list[CovenantError | None] = []
    with bank.serve() as server:
        client = bank.client("operator-1")
        stream = client.stream(
            "covenant.governance.v1.Log/WatchEvents",
            governance.WatchEventsRequest(start=0),
            governance.Entry,
        )
        next(stream)

        def drain() -> None:
            try:
                list(stream)
            except CovenantError as error:
                heard.append(error)
            else:
                heard.append(None)

        thread = threading.Thread(target=drain)
        thread.start()
        began = time.monotonic()
        server.stop()
        thread.join(5)
        assert time.monotonic() - began < 3
    assert len(heard) == 1
    bank.close()


def test_nobody_answers(bank: Bank, tmp_path: Path) -> None:
    folder = bank.access("author-1")
    text = (folder / "access.yaml").read_text().replace(bank.address, "127.0.0.1:1")
    (folder / "access.yaml").write_text(text)
    with ControlClient(folder) as client, pytest.raises(Unreachable, match="Check that the coordinator runs"):
        client.ask("covenant.control.v1.Runs/ListRuns", control.ListRunsRequest(), control.ListRunsResponse)


def test_a_key_that_others_can_read_is_not_used(bank: Bank) -> None:
    folder = bank.access("author-1")
    (folder / "author-1-tls.key").chmod(0o644)
    with pytest.raises(UsageError, match="others"):
        ControlClient(folder)


def test_no_proxy_of_the_environment_is_asked(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert list(bank.desk("author-1").runs()) == []


def test_codes_are_those_of_grpc(bank: Bank) -> None:
    """Clients in other languages act on the code."""
    call = bank.client("author-1").channel.unary_unary(
        "/covenant.control.v1.Runs/Nothing", request_serializer=bytes, response_deserializer=bytes
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=5)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_disk_that_failed_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel could not write it may have dropped, so no further call may find the disk mended."""

    def fails(*_: object) -> None:
        raise DiskError("the disk failed")

    bank = Bank.make(tmp_path / "other")
    request = control.GetRunRequest(run="run-0000000000000000")
    with bank.serve() as server:
        client = bank.client("author-1")
        monkeypatch.setattr("coordinator.runs.view", fails)
        with pytest.raises(CovenantError, match="the disk failed"):
            client.ask("covenant.control.v1.Runs/GetRun", request, control.Run)
        monkeypatch.undo()
        assert isinstance(server.failed, DiskError)
        with pytest.raises(CovenantError, match="the coordinator is ending"):
            client.ask(
                "covenant.control.v1.Runs/ListRuns", control.ListRunsRequest(), control.ListRunsResponse
            )


def test_a_defect_shows_a_number_and_nothing_of_the_server(
    bank: Bank, monkeypatch: pytest.MonkeyPatch, heard: list[dict[str, object]]
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a secret of the server")

    monkeypatch.setattr("coordinator.runs.view", fails)
    with pytest.raises(CovenantError, match="its log has the reason under number") as caught:
        bank.client("author-1").ask(
            "covenant.control.v1.Runs/GetRun", control.GetRunRequest(run="run-0000000000000000"), control.Run
        )
    assert "secret" not in str(caught.value)
    (line,) = (each for each in heard if each["event"] == "a call failed")
    assert str(line["number"]) in str(caught.value)


def test_a_page_fits_a_message_whatever_it_holds() -> None:
    many = (control.Run(run="r", round_s=[1.0] * 50_000) for _ in range(20))
    page, token = page_of(0, 500, many)
    assert 1 < len(page) < 20
    assert token == str(len(page))
    assert control.ListRunsResponse(runs=page).ByteSize() < MOST_MESSAGE_BYTES
