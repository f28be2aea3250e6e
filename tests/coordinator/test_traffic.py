"""A SuperLink counts each request once, whatever becomes of it, and keeps nothing of it but numbers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from coordinator.flower.traffic import Counted, Scope, Traffic, file_in
from strategies.errors import CovenantError


def ask(app: Counted, path: str, *bodies: bytes) -> None:
    """One request, whose body comes in pieces; the answer goes nowhere."""
    left = list(bodies)

    async def receive() -> Scope:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(_message: Scope) -> None:
        pass

    asyncio.run(app({"type": "http", "path": path}, receive, send))


async def echo(scope: Scope, receive, send) -> None:
    """Refuses what is not at /v1, breaks at /v1/broken, and otherwise answers each piece with itself."""
    if scope["path"] == "/v1/broken":
        raise RuntimeError("broken")
    await send({"type": "http.response.start", "status": 200 if scope["path"].startswith("/v1") else 401})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


@pytest.fixture
def app(tmp_path: Path) -> Counted:
    file_in(tmp_path).parent.mkdir()
    return Counted(echo, file_in(tmp_path))


def test_requests_polls_refusals_and_bytes_are_counted(app: Counted, tmp_path: Path) -> None:
    ask(app, "/v1/fleet/pull-messages", b"abc")
    ask(app, "/v1/fleet/push-object", b"de", b"fghi")
    ask(app, "/elsewhere", b"")
    found = Traffic.read(tmp_path)
    assert found is not None
    assert (found.requests, found.polls, found.refused) == (3, 1, 1)
    assert (found.bytes_in, found.bytes_out) == (9, 9)
    assert (found.site_bytes_in, found.site_bytes_out) == (9, 9)
    assert found.microseconds > 0


def test_bytes_of_sites_are_told_apart_from_those_of_the_server_process(app: Counted, tmp_path: Path) -> None:
    ask(app, "/v1/runtime/push-messages", b"abc")
    found = Traffic.read(tmp_path)
    assert (found.bytes_in, found.site_bytes_in, found.site_bytes_out) == (3, 0, 0)


def test_a_request_that_breaks_counts_as_one(app: Counted, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"):
        ask(app, "/v1/broken", b"abc")
    found = Traffic.read(tmp_path)
    assert (found.requests, found.refused) == (1, 1)


def test_what_is_no_request_passes_uncounted(app: Counted, tmp_path: Path) -> None:
    async def lifespan(scope: Scope, _receive, _send) -> None:
        scope["reached"] = True

    scope: Scope = {"type": "lifespan"}
    asyncio.run(Counted(lifespan, file_in(tmp_path))(scope, None, None))
    assert scope["reached"]
    assert Traffic.read(tmp_path) == Traffic()


def test_a_new_superlink_begins_at_nothing_and_leaves_the_old_ones_counts_alone(
    app: Counted, tmp_path: Path
) -> None:
    ask(app, "/v1/one", b"a")
    later = Counted(echo, file_in(tmp_path))
    ask(app, "/v1/one", b"a")
    assert Traffic.read(tmp_path) == Traffic()
    ask(later, "/v1/one", b"a")
    assert Traffic.read(tmp_path).requests == 1


def test_without_a_superlink_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert Traffic.read(tmp_path) is None
    file_in(tmp_path).parent.mkdir()
    file_in(tmp_path).write_bytes(b"short")
    assert Traffic.read(tmp_path) is None


def test_counts_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    file_in(tmp_path).mkdir(parents=True)  # whoever may read everything cannot read a folder
    with pytest.raises(CovenantError, match=r"cannot be read from .*superlink/traffic \(Is a directory\)"):
        Traffic.read(tmp_path)
