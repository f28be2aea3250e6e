"""The agent's loop, over a connection that plays a SuperLink: what it survives, what it refuses, when it leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.agent import Agent
from client.fleet.connection import AwayError, Bundle, RunOverError, UnknownSiteError
from client.journal.entries import JournalBroken
from coordinator.flower.manifest import build_bundle
from protos.codec_fields import CodecError
from protos.envelope import seal, unseal
from strategies.errors import Unreachable
from tests.bank_for_tests import make_bank
from tests.flower_for_tests import message

Script = Iterator[Callable[[], Message | None]]


@dataclass
class FakeSuperLink:
    """Hands out one connection after another; `activations` and `pulls` say what each call does."""

    activations: list[Exception | None] = field(default_factory=list)
    pulls: list[Exception | Message | None] = field(default_factory=list)
    bundle_content: bytes = build_bundle().content
    pushed: list[Message] = field(default_factory=list)
    confirmed: int = 0
    goodbyes: int = 0
    connections: int = 0
    on_empty: Callable[[], None] = lambda: None
    node_id: int = 7

    def connect(self) -> Any:
        self.connections += 1
        return self

    def activate(self) -> None:
        outcome = self.activations.pop(0) if self.activations else None
        if outcome is not None:
            raise outcome

    def pull(self) -> Message | None:
        if not self.pulls:
            self.on_empty()
            return None
        outcome = self.pulls.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def bundle(self, run: int) -> Bundle:
        import hashlib

        return Bundle(
            content=self.bundle_content, named=hashlib.sha256(self.bundle_content).hexdigest(), series=run
        )

    def push(self, reply: Message) -> None:
        self.pushed.append(reply)

    def confirm(self, _: Message) -> None:
        self.confirmed += 1

    def heartbeat(self) -> None:
        pass

    def deactivate(self) -> None:
        self.goodbyes += 1

    def close(self) -> None:
        pass


app = ClientApp()


@app.train()
def echo(received: Message, _: Context) -> Message:
    return Message(seal(b"echo " + unseal(received)), reply_to=received)


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Agent]:
    """Serves against a fake SuperLink until its script is played."""
    config = make_bank(tmp_path).config("west")

    def run(superlink: FakeSuperLink, **options: Any) -> Agent:
        agent = Agent(config=config, app=app, node_config={}, connect=superlink.connect, **options)
        superlink.on_empty = agent.drain
        thread = threading.Timer(20, agent.drain)
        thread.start()
        try:
            agent.serve()
        finally:
            thread.cancel()
        return agent

    return run


def asked(text: bytes = b"hello") -> Message:
    return message(seal(text), message_id="m" * 64)


def test_a_message_is_answered_confirmed_and_the_goodbye_said(serve: Callable[..., Agent]) -> None:
    superlink = FakeSuperLink(pulls=[asked()])
    serve(superlink)
    assert [unseal(reply) for reply in superlink.pushed] == [b"echo hello"]
    assert (superlink.confirmed, superlink.goodbyes, superlink.connections) == (1, 1, 1)


def test_it_comes_back_after_the_superlink_went_away_and_forgot_it(serve: Callable[..., Agent]) -> None:
    superlink = FakeSuperLink(
        activations=[None, AwayError("down"), UnknownSiteError("401"), None],
        pulls=[UnknownSiteError("401"), asked()],
    )
    serve(superlink)
    assert superlink.connections == 4
    assert len(superlink.pushed) == 1


def test_it_gives_up_only_before_the_first_connection(serve: Callable[..., Agent]) -> None:
    superlink = FakeSuperLink(activations=[AwayError("nobody listens")] * 100)
    with pytest.raises(Unreachable, match="nobody listens; gave up after") as given_up:
        serve(superlink, give_up_after_s=0.3)
    assert given_up.value.exit_code == 4
    later = FakeSuperLink(
        activations=[None, AwayError("down"), AwayError("down")], pulls=[AwayError("down"), asked()]
    )
    serve(later, give_up_after_s=0.0)
    assert len(later.pushed) == 1


def test_a_bundle_that_carries_code_gets_an_error_reply_and_the_app_never_runs(
    serve: Callable[..., Agent],
) -> None:
    superlink = FakeSuperLink(pulls=[asked()], bundle_content=b"not a manifest")
    serve(superlink)
    (reply,) = superlink.pushed
    assert reply.has_error()
    assert "not an archive" in str(reply.error.reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CodecError("bytes that are not a frame"), "bytes that are not a frame"),
        (RuntimeError("row 17 has income 12345"), "the app failed; the site's log says why"),
    ],
)
def test_a_fault_in_the_app_is_an_error_reply_without_data_and_the_agent_goes_on(
    serve: Callable[..., Agent], error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[Exception | None] = [error, None]

    def fail_once(self: ClientApp, message: Message, context: Context) -> Message:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return echo(message, context)

    monkeypatch.setattr(ClientApp, "__call__", fail_once)
    superlink = FakeSuperLink(pulls=[asked(), asked()])
    serve(superlink)
    failed, answered = superlink.pushed
    assert failed.error.reason == reason
    assert unseal(answered) == b"echo hello"
    assert superlink.connections == 1


def test_a_message_of_a_run_that_has_ended_is_dropped(serve: Callable[..., Agent]) -> None:
    superlink = FakeSuperLink(pulls=[RunOverError("ended"), asked()])
    serve(superlink)
    assert len(superlink.pushed) == 1
    assert superlink.connections == 1


def test_a_journal_that_cannot_be_written_ends_the_agent(
    serve: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an answer, not an error message, not another try: nothing may leave any more."""

    def fail(*_: object, **__: object) -> Message:
        raise JournalBroken("the disk is full")

    monkeypatch.setattr(ClientApp, "__call__", fail)
    superlink = FakeSuperLink(pulls=[asked(), asked()])
    with pytest.raises(JournalBroken, match="the disk is full"):
        serve(superlink)
    assert superlink.pushed == []
    assert (superlink.connections, len(superlink.pulls)) == (1, 1)
