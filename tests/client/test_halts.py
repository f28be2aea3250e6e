"""People at a site stop a run, or everything, alone: the agent that runs refuses at once, and says so in an order that the centre can take."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client import cli
from client.bootstrap import open_halts
from client.plain import PlainRounds
from protos.codec import decode_reply, encode_request
from protos.frames import REFUSAL, Moments, Refusal, RefusalCode, Request
from protos.halts import HaltOrder, require_halt
from protos.identities import Identities
from protos.shell import run_command
from strategies.errors import Refused
from tests.bank_for_tests import RUN, Bank, make_bank
from tests.client.loans_for_tests import plan
from tests.halts_for_tests import FEDERATION

OTHER_RUN = "run-00000000000000aa"


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


def agent(bank: Bank, *arguments: str) -> int:
    """The exit code of a command at the site west."""
    with pytest.raises(SystemExit) as left:
        run_command(
            lambda: cli.app([*arguments, "--config", str(bank.config_file("west"))], standalone_mode=False)
        )
    return left.value.code


def refused(bank: Bank, reply: bytes) -> Refusal:
    """The refusal in a reply, which its site has signed, evidence included."""
    said = decode_reply(reply)
    assert isinstance(said.body, Refusal)
    keys = {each.site: each.identity_key for each in bank.members.signed.list.members}
    message = said.body.message(said.statement_digest, said.site)
    assert Identities(keys).verify(said.site, REFUSAL, message, said.body.signature)
    return said.body


def test_the_running_agent_refuses_at_once_with_the_signed_order_and_goes_on_once_it_is_lifted(
    bank: Bank, capsys: pytest.CaptureFixture[str]
) -> None:
    west, frame = bank.participant("west"), encode_request(bank.request(plan()))
    first = west.answer(frame)
    assert agent(bank, "halt", "--run", RUN, "--reason", "our rows are wrong") == 0
    said = refused(bank, west.answer(frame))
    assert said.code is RefusalCode.HALTED
    assert "site west halted run" in said.reason
    assert "our rows are wrong" in said.reason
    order = HaltOrder.from_canonical(said.evidence)
    assert require_halt(order, bank.members.signed.list, FEDERATION, datetime.now(UTC)).order.target == RUN
    again = bank.participant("west")  # also after a restart
    assert refused(bank, again.answer(frame)).evidence == said.evidence
    capsys.readouterr()
    assert agent(bank, "halts", "--json") == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["halts"]] == [order.id]
    assert agent(bank, "resume", "--run", RUN, "--reason", "mended") == 0
    assert again.answer(frame) == first
    assert agent(bank, "resume", "--run", RUN, "--reason", "mended") == 3


def test_a_halt_of_another_run_changes_nothing_and_one_of_all_everything(bank: Bank) -> None:
    west, frame = bank.participant("west"), encode_request(bank.request(plan()))
    assert agent(bank, "halt", "--run", OTHER_RUN, "--reason", "odd") == 0
    assert isinstance(decode_reply(west.answer(frame)).body, Moments)
    assert agent(bank, "halt", "--all", "--reason", "the machine is compromised") == 0
    assert "site west halted everything" in refused(bank, west.answer(frame)).reason


def test_what_was_being_computed_when_the_halt_came_does_not_leave(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    west, frame = bank.participant("west"), encode_request(bank.request(plan()))
    computed = PlainRounds.answer

    def interrupted(rounds: PlainRounds, request: Request) -> object:
        body = computed(rounds, request)
        assert agent(bank, "halt", "--run", RUN, "--reason", "stop") == 0
        return body

    monkeypatch.setattr(PlainRounds, "answer", interrupted)
    assert refused(bank, west.answer(frame)).code is RefusalCode.HALTED
    assert agent(bank, "resume", "--run", RUN, "--reason", "go on") == 0
    assert isinstance(decode_reply(west.answer(frame)).body, Moments)


def test_the_order_is_saved_for_the_centre(bank: Bank, tmp_path: Path) -> None:
    out = tmp_path / "order.json"
    assert agent(bank, "halt", "--all", "--reason", "odd", "--out", str(out)) == 0
    order = HaltOrder.from_canonical(out.read_bytes().strip())
    assert (order.scope, order.by.words) == ("all", "site west")


@pytest.mark.parametrize("what", [[], ["--run", RUN, "--all"], ["--run", "everything"]])
def test_what_is_halted_is_named_once(bank: Bank, what: list[str]) -> None:
    assert agent(bank, "halt", "--reason", "odd", *what) == 2
    book = open_halts(bank.config("west"))
    assert book.standing() == ()
    book.close()


def test_an_order_is_lifted_once(bank: Bank) -> None:
    agent(bank, "halt", "--all", "--reason", "odd")
    book = open_halts(bank.config("west"))
    (order,) = book.standing()
    book.lift(order, "mended")
    with pytest.raises(Refused, match="does not stand at this site"):
        book.lift(order, "mended")
    book.close()
