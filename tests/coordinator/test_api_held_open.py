"""What is held open ends: requests that do not come, streams that nobody reads, and connections without a caller."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from coordinator.api import overseer
from coordinator.api.door import MOST_AWAITED, MOST_STREAMS_AN_OFFICER
from coordinator.api.server import MOST_CONNECTIONS
from protos import control_pb2 as control
from strategies.errors import CovenantError, Unreachable
from tests.coordinator.api_for_tests import Bank, serving

LIST = "covenant.control.v1.Runs/ListRuns"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank", accounts=False)


def held(bank: Bank, name: str, count: int, until: threading.Event) -> list[grpc.Future]:
    """Calls whose request never comes."""

    def nothing() -> Iterator[bytes]:
        until.wait()
        yield b""

    channel = bank.client(name).channel
    return [channel.stream_unary(f"/{LIST}").future(nothing()) for _ in range(count)]


def drain(call: Iterator[bytes]) -> None:
    with suppress(grpc.RpcError):
        next(call)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def asks(bank: Bank, name: str) -> control.ListRunsResponse:
    return bank.client(name, deadline_s=2.0).ask(LIST, control.ListRunsRequest(), control.ListRunsResponse)


def test_requests_that_do_not_come_keep_nobody_else_out(bank: Bank) -> None:
    """Neither those of an officer who was taken off the list, whose certificate TLS still takes, nor those of one who is on it."""
    over = threading.Event()
    bank.access("auditor-1")
    bank.without("auditor-1")
    calls = held(bank, "auditor-1", 60, over) + held(bank, "operator-1", 60, over)
    try:
        time.sleep(0.5)
        assert not asks(bank, "author-1").runs
        assert calls[0].code() is grpc.StatusCode.UNAUTHENTICATED
        busy = [each for each in calls[60:] if each.done()]
        assert len(busy) == 60 - MOST_AWAITED
        assert {each.code() for each in busy} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    finally:
        for each in calls:
            each.cancel()
        over.set()


@pytest.mark.slow
def test_a_request_that_does_not_come_is_not_waited_for(bank: Bank) -> None:
    over = threading.Event()
    (call,) = held(bank, "operator-1", 1, over)
    began = time.monotonic()
    with pytest.raises(grpc.RpcError):
        call.result(timeout=overseer.REQUEST_WITHIN_S + 5)
    over.set()
    assert time.monotonic() - began >= overseer.REQUEST_WITHIN_S - 1
    assert not asks(bank, "operator-1").runs


@pytest.mark.slow
def test_a_stream_that_waits_for_its_caller_ends_with_the_callers_right(bank: Bank) -> None:
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()

    channel = bank.client("operator-1").channel
    calls = [channel.stream_stream(REFLECT)(nothing()) for _ in range(MOST_STREAMS_AN_OFFICER)]
    time.sleep(0.5)
    bank.without("operator-1")
    ended = [threading.Thread(target=drain, args=(each,)) for each in calls]
    for thread in ended:
        thread.start()
    for thread in ended:
        thread.join(10)
    assert not any(thread.is_alive() for thread in ended)
    over.set()


@pytest.mark.slow
def test_connections_without_a_caller_are_bounded(bank: Bank) -> None:
    host, _, port = bank.address.partition(":")
    bank.access("author-1")
    before = open_files()
    mine = [socket.create_connection((host, int(port)), timeout=2) for _ in range(MOST_CONNECTIONS + 200)]
    try:
        time.sleep(1)
        here = open_files() - before - len(mine)
        assert here <= MOST_CONNECTIONS + 50
        with pytest.raises((Unreachable, CovenantError)):
            asks(bank, "author-1")
    finally:
        for each in mine:
            each.close()
    time.sleep(1)
    assert not asks(bank, "author-1").runs
