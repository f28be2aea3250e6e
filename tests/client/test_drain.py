"""An agent that is told to leave finishes what others count on, begins nothing, and is found by the command that tells it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message

from client.agent import Agent
from client.cli import app as commands
from client.fleet.connection import AwayError
from client.operation.state import AgentState, StateFolder
from client.operation.watching import Watcher
from protos.envelope import seal
from protos.frames import RefusalCode
from strategies.errors import UsageError
from strategies.ids import RunId
from tests.bank_for_tests import make_bank
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, Sum
from tests.client.test_agent import FakeSuperLink, app
from tests.flower_for_tests import message


def test_an_idle_site_is_done_at_once(bank: SecureBank) -> None:
    drain = bank.participant(VICTIM).drain
    assert not drain.done
    drain.begin()
    assert drain.done


def test_a_masked_attempt_is_finished_and_nothing_else_is_begun(bank: SecureBank) -> None:
    asked = Sum(bank)
    confirming = asked.mask(asked.set_up(), SITES)
    site = bank.participant(VICTIM)
    site.drain.begin()
    assert not site.drain.done
    unmasking = asked.confirm(confirming)
    refusal = bank.refusal(VICTIM, Sum(bank, attempt_number=2, run=another(1)).advertise_request())
    assert refusal.code is RefusalCode.FAILED
    assert "this site drains" in refusal.reason
    assert not site.drain.done
    asked.unmask(unmasking)
    assert site.drain.done


def test_what_was_answered_is_said_again(bank: SecureBank) -> None:
    asked = Sum(bank)
    unmasking = asked.confirm(asked.mask(asked.set_up(), SITES))
    bank.participant(VICTIM).drain.begin()
    request = asked.request(unmasking.request)
    first = bank.step(VICTIM, request)
    assert bank.participant(VICTIM).drain.done
    assert bank.step(VICTIM, request) == first


def test_an_attempt_that_its_run_has_left_behind_holds_nobody_back(bank: SecureBank) -> None:
    asked = Sum(bank)
    asked.mask(asked.set_up(), SITES)
    site = bank.participant(VICTIM)
    site.drain.begin()
    bank.refusal(VICTIM, Sum(bank, attempt_number=2).advertise_request())
    assert site.drain.done


class Told(Watcher):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def draining(self) -> None:
        self.heard.append("draining")


def test_an_agent_waits_for_what_it_has_in_hand_and_no_longer_than_it_was_told(
    tmp_path: Path, bank: SecureBank
) -> None:
    """The next message never comes: it leaves `drain_within_s` after the last one."""
    asked = Sum(bank)
    asked.mask(asked.set_up(), SITES)
    superlink, told = FakeSuperLink(), Told()
    agent = Agent(
        config=make_bank(tmp_path).config("south"),
        app=app,
        node_config={},
        connect=superlink.connect,
        draining=bank.participant(VICTIM).drain,
        drain_within_s=0.6,
        watcher=told,
    )
    agent._last_message = time.monotonic()
    superlink.on_empty = agent.drain
    began = time.monotonic()
    agent.serve()
    assert time.monotonic() - began >= 0.6
    assert (superlink.goodbyes, told.heard) == (1, ["draining"])


def agent_of(bank: SecureBank, superlink: FakeSuperLink, folder: Path, **options: float) -> Agent:
    site = bank.participant(VICTIM)
    agent = Agent(
        config=make_bank(folder).config("south"),
        app=app,
        node_config={},
        connect=superlink.connect,
        draining=site.drain,
        **options,  # type: ignore[arg-type]
    )
    superlink.on_empty = agent.drain
    return agent


def test_shares_that_were_lost_on_their_way_are_waited_to_be_asked_for_again(
    tmp_path: Path, bank: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the journal, and the sum of the others does not open without them."""
    asked = Sum(bank)
    unmasking = asked.confirm(asked.mask(asked.set_up(), SITES))
    request = asked.request(unmasking.request)
    superlink = FakeSuperLink(pulls=[message(seal(b"shares")), message(seal(b"shares again"))])
    agent = agent_of(bank, superlink, tmp_path, drain_within_s=20.0)
    lost = [AwayError("the reply is lost")]

    def push(reply: Message) -> None:
        if lost:
            agent.drain()
            raise lost.pop()
        superlink.pushed.append(reply)

    monkeypatch.setattr(superlink, "push", push)
    monkeypatch.setattr(agent, "_computed", lambda got, _: bank.step(VICTIM, request) and got)
    agent.serve()
    assert len(superlink.pushed) == 1
    assert superlink.connections == 2


def test_the_hours_do_not_end_before_shares_have_left(
    tmp_path: Path, bank: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Sum(bank)
    unmasking = asked.confirm(asked.mask(asked.set_up(), SITES))
    request, drain = asked.request(unmasking.request), bank.participant(VICTIM).drain
    superlink = FakeSuperLink(pulls=[message(seal(b"shares")), message(seal(b"shares again"))])
    agent = agent_of(bank, superlink, tmp_path, drain_within_s=20.0)
    agent.is_away = lambda: not drain._in_hand
    lost = [AwayError("the reply is lost")]

    def push(reply: Message) -> None:
        if lost:
            raise lost.pop()
        superlink.pushed.append(reply)
        agent.drain()

    monkeypatch.setattr(superlink, "push", push)
    monkeypatch.setattr(agent, "_computed", lambda got, _: bank.step(VICTIM, request) and got)
    leave = threading.Timer(15.0, agent.drain)
    leave.start()
    agent.serve()
    leave.cancel()
    assert len(superlink.pushed) == 1


def test_messages_that_go_on_with_nothing_do_not_keep_it_from_leaving(
    tmp_path: Path, bank: SecureBank
) -> None:
    """Whoever may send to a site sends something for ever; what it has in hand does not go on."""
    asked = Sum(bank)
    asked.mask(asked.set_up(), SITES)

    class Chatter(FakeSuperLink):
        def pull(self) -> Message | None:
            return message(seal(b"hello"))

    superlink = Chatter()
    agent = agent_of(bank, superlink, tmp_path, drain_within_s=0.5)
    agent._last_message = time.monotonic()
    agent.drain()
    serving = threading.Thread(target=agent.serve, daemon=True)
    serving.start()
    serving.join(20.0)
    assert not serving.is_alive()
    assert superlink.goodbyes == 1


def test_it_may_be_told_to_drain_at_any_moment_of_a_wait() -> None:
    """A signal handler runs between any two steps of the thread that waits, which must not hold what `begin` needs."""
    script = """
import signal, sys
from client.operation.drain import Drain
drain = Drain()
def stepped(frame, event, _):
    if event == "line" and frame.f_code.co_name == "wait":
        drain.begin()
    return stepped
signal.alarm(20)
sys.settrace(stepped)
drain.wait(60.0)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == 0


def test_a_look_at_the_lock_does_not_keep_an_agent_from_starting(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.held():
        pass
    looking = os.open(tmp_path / "agent.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    looked = threading.Timer(0.3, os.close, [looking])
    looked.start()
    with folder.held():
        assert folder.alive
    looked.join()


def test_a_number_of_another_container_is_of_nobody_here(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    """The lock is held, and the number that stands in it is another process's, seen from here."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (tmp_path / "agent.lock").write_text(str(stranger.pid))
    try:
        with pytest.raises(UsageError, match="runs in a container"):
            StateFolder(tmp_path).drain(0.1)
        assert stranger.poll() is None
        assert holder.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


HOLDER = """
import signal, sys, threading
from pathlib import Path
from client.operation.state import StateFolder
gone = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: gone.set())
with StateFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    gone.wait()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of an agent in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_draining_ends_the_process_that_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = StateFolder(tmp_path)
    assert folder.alive
    reaper = threading.Thread(target=holder.wait)
    reaper.start()
    assert folder.drain(20.0)
    reaper.join()
    assert holder.returncode == 0
    assert not folder.alive


def test_two_agents_do_not_share_a_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(UsageError, match="another agent of this site runs already"),
        StateFolder(tmp_path).held(),
    ):
        pytest.fail("the lock was had twice")


def test_a_number_in_a_lock_that_nobody_holds_is_of_nobody(tmp_path: Path) -> None:
    """A process of another kind may have the number by now: this very one, which must live on."""
    (tmp_path / "agent.lock").write_text(str(os.getpid()))
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: pytest.fail("a process that is no agent was told to leave"))
    try:
        with pytest.raises(UsageError, match="no agent runs"):
            StateFolder(tmp_path).drain(0.1)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_state_is_read_as_it_was_written_and_a_torn_one_is_none(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert folder.read() is None
    state = AgentState(pid=7, version="1", started_at="2026-01-01T00:00:00+00:00", connected=True)
    assert folder.write(state)
    assert folder.read() == state
    (tmp_path / "agent.json").write_text('{"pid": 7')
    assert folder.read() is None


def test_a_state_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    state = AgentState(pid=7, version="1", started_at="2026-01-01T00:00:00+00:00")
    assert not StateFolder(tmp_path / "absent").write(state)


def test_the_command_says_that_nobody_is_there(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config_file("south")
    with pytest.raises(UsageError, match="no agent runs"):
        commands(["drain", "--config", str(config)], standalone_mode=False)


def another(number: int) -> RunId:
    return RunId(f"run-{number:016x}")
