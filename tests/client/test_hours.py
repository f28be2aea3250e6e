"""Outside its hours a site begins nothing, finishes what it has masked an input for, and is not at the SuperLink."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from client.admission.findings import NOT_NOW
from client.agent import Agent
from client.participant import Participant
from protos.frames import RefusalCode
from protos.site_run import Window
from tests.bank_for_tests import make_bank
from tests.client.secure_for_tests import VICTIM, SecureBank, Sum, secure_bank
from tests.client.test_agent import FakeSuperLink, app, asked

WINDOW = Window.model_validate({"from": "20:00", "to": "06:00", "zone": "UTC"})
NIGHT = datetime(2026, 11, 26, 22, tzinfo=UTC)
DAY = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Hands:
    """The clocks of one site."""

    def __init__(self) -> None:
        self.now, self.seconds = NIGHT, 0.0


def kept_to_hours(participant: Participant) -> Hands:
    """Give a participant hours, and clocks that a test moves."""
    hands, presence = Hands(), participant.presence
    presence.window, presence.clock, presence.monotonic = WINDOW, lambda: hands.now, lambda: hands.seconds
    return hands


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def test_nothing_is_begun_outside_the_hours(bank: SecureBank) -> None:
    hands, asked_for = kept_to_hours(bank.participant(VICTIM)), Sum(bank)
    hands.now = DAY
    said = bank.refusal(VICTIM, asked_for.advertise_request())
    assert (said.code, said.reason) == (RefusalCode.LATER, NOT_NOW)
    hands.now = NIGHT
    bank.step(VICTIM, asked_for.advertise_request())


def test_no_input_is_sent_for_keys_that_were_exchanged_within_the_hours(bank: SecureBank) -> None:
    hands, asked_for = kept_to_hours(bank.participant(VICTIM)), Sum(bank)
    step = asked_for.set_up()
    hands.now = DAY
    assert bank.refusal(VICTIM, asked_for.mask_request(step, VICTIM)).code is RefusalCode.LATER
    assert bank.participant(VICTIM).presence.is_away


def test_what_was_masked_within_the_hours_is_confirmed_and_opened_after_them(bank: SecureBank) -> None:
    hands, asked_for = kept_to_hours(bank.participant(VICTIM)), Sum(bank)
    presence = bank.participant(VICTIM).presence
    step = asked_for.mask(asked_for.set_up())
    hands.now = DAY
    assert not presence.is_away
    unmasking = asked_for.confirm(step)
    asked_for.unmask(unmasking)
    assert presence.is_away


def test_nobody_is_waited_for_longer_than_two_deadlines(bank: SecureBank) -> None:
    hands = kept_to_hours(bank.participant(VICTIM))
    asked_for = Sum(bank)
    asked_for.mask(asked_for.set_up())
    hands.now, deadline = DAY, bank.plan.training.round_deadline
    presence = bank.participant(VICTIM).presence
    hands.seconds = 2 * deadline - 1
    assert not presence.is_away
    hands.seconds = 2 * deadline
    assert presence.is_away


def test_the_agent_says_goodbye_and_comes_back_by_itself(tmp_path: Any) -> None:
    config = make_bank(tmp_path).config("west")
    config = config.model_copy(update={"run": config.run.model_copy(update={"idle_poll": 0.01})})
    superlink, away = FakeSuperLink(), [False, True, True, False, False]
    answered: list[int] = []

    def is_away() -> bool:
        return away.pop(0) if len(away) > 1 else away[0]

    def empty() -> None:
        answered.append(superlink.goodbyes)
        if not away[0]:
            agent.drain()

    superlink.on_empty = empty
    agent = Agent(config=config, app=app, node_config={}, connect=superlink.connect, is_away=is_away)
    late = threading.Timer(20, agent.drain)
    late.start()
    agent.serve()
    late.cancel()
    assert superlink.connections == 2
    assert superlink.goodbyes >= 1


def test_an_agent_that_starts_outside_the_hours_does_not_connect(tmp_path: Any) -> None:
    config = make_bank(tmp_path).config("west")
    superlink = FakeSuperLink(pulls=[asked()])
    looks: list[int] = []

    def is_away() -> bool:
        looks.append(superlink.connections)
        if len(looks) > 2:
            agent.drain()
        return True

    fast = config.model_copy(update={"run": config.run.model_copy(update={"idle_poll": 0.01})})
    agent = Agent(config=fast, app=app, node_config={}, connect=superlink.connect, is_away=is_away)
    agent.serve()
    assert (superlink.connections, superlink.pushed) == (0, [])


def test_plan_test_says_when(bank: SecureBank) -> None:
    hands = kept_to_hours(bank.participant(VICTIM))
    presence = bank.participant(VICTIM).presence
    assert "open until 2026-11-27 06:00 UTC" in presence.hours.admits
    hands.now = DAY + timedelta(hours=1)
    assert presence.hours.remedy == "this site takes part again at 2026-11-27 20:00 UTC"
