"""Connections that ask nothing are closed, so that nobody without a token keeps the callers out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from coordinator.deploy.scoring import app, server
from coordinator.deploy.scoring.reload import serve_one
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.server import Listening
from tests.coordinator.scoring_for_tests import INFER, NOW, opened

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n"


def play(story: Callable[[int], Awaitable[None]]) -> None:
    """A story with the port of a running service."""

    async def whole() -> None:
        scorer = Scorer(None, clock=lambda: NOW)
        serve_one(scorer, opened(), None)
        listening = Listening(port=0, no_auth_on_loopback=True)
        http = server._Server(server._config(scorer, listening, listening.door()))
        task = asyncio.create_task(http.serve())
        while not http.started:  # noqa: ASYNC110  (uvicorn has no event for it)
            await asyncio.sleep(0.01)
        try:
            await story(http.servers[0].sockets[0].getsockname()[1])
        finally:
            http.should_exit = True
            await task
            await scorer.close()

    asyncio.run(whole())


def test_a_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_HEAD_S", 0.3)
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 4)

    async def story(port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        held[1][1].write(b"GET /v2/health/live HTTP/1.1\r\nX-Slow: ")
        held[2][1].write(LIVE)
        held[2][1].write(b"GET /v2/health/live HTTP/1.1\r\nX-Slow: ")
        for reader, writer in held:
            await asyncio.wait_for(reader.read(), timeout=20)
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVE)
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()

    play(story)


def test_a_request_whose_body_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_BODY_S", 0.2)

    async def story(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {INFER} HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert await asyncio.wait_for(reader.readline(), timeout=20) == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()

    play(story)
