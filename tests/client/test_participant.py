"""A site in its rounds: computes once, answers alike, and says nothing about rows when it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from client.journal.entries import JournalBroken
from protos.codec import decode_reply, encode_request
from protos.codec_fields import CodecError
from protos.frames import Moments, Refusal, RefusalCode, ScoreCounts, Stage, Update
from strategies.features import Scaling
from tests.bank_for_tests import Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan

SCALING = Scaling(mean=(0.5, 0.5), std=(0.3, 0.3))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


def width() -> int:
    return plan().dense_model(CONTRACT.feature_spec(plan().features).width).size


def test_each_stage_is_answered_with_its_own_kind(bank: Bank) -> None:
    west, model = bank.participant("west"), np.zeros(width())
    bodies = [
        decode_reply(west.answer(encode_request(request))).body
        for request in (
            bank.request(plan()),
            bank.request(plan(), Stage.TRAIN, model=model, scaling=SCALING, number=1),
            bank.request(plan(), Stage.EVALUATE, model=model, scaling=SCALING, number=1),
        )
    ]
    assert [type(body) for body in bodies] == [Moments, Update, ScoreCounts]


def test_the_same_request_gets_the_same_bytes_also_after_a_restart(bank: Bank) -> None:
    frame = encode_request(
        bank.request(plan(), Stage.TRAIN, model=np.zeros(width()), scaling=SCALING, number=1)
    )
    west = bank.participant("west")
    first = west.answer(frame)
    assert west.answer(frame) == first
    assert bank.participant("west").answer(frame) == first


def test_the_answer_after_a_restart_is_the_recorded_one_and_not_computed_anew(bank: Bank) -> None:
    """In later modes an update has fresh noise each time: two of them for one round would be two releases."""
    frame = encode_request(bank.request(plan()))
    first = bank.participant("west").answer(frame)
    (bank.folder / "west" / "rows.parquet").unlink()
    assert bank.participant("west").answer(frame) == first


def test_an_attempt_is_answered_for_one_statement_only_also_after_a_restart(bank: Bank) -> None:
    request = bank.request(plan(), Stage.TRAIN, model=np.zeros(width()), scaling=SCALING, number=1)
    other = bank.request(plan(), Stage.TRAIN, model=np.ones(width()), scaling=SCALING, number=1)
    first = bank.participant("west").answer(encode_request(request))
    for _ in range(2):
        west = bank.participant("west")
        body = decode_reply(west.answer(encode_request(other))).body
        assert isinstance(body, Refusal)
        assert body.code is RefusalCode.PROTOCOL
        assert "has answered attempt 1 at the train stage of round 1 for another statement" in body.reason
        assert west.answer(encode_request(request)) == first
    retried = replace(other, statement=replace(other.statement, attempt=2))
    assert isinstance(decode_reply(bank.participant("west").answer(encode_request(retried))).body, Update)


def test_an_answer_whose_bytes_are_no_longer_kept_is_not_given_a_second_time(bank: Bank) -> None:
    west = bank.participant("west")
    requests = [
        bank.request(plan(rounds=17), Stage.TRAIN, model=np.zeros(width()), scaling=SCALING, number=number)
        for number in range(1, 18)
    ]
    replies = [west.answer(encode_request(request)) for request in requests]
    assert west.answer(encode_request(requests[-1])) == replies[-1]
    body = decode_reply(west.answer(encode_request(requests[0]))).body
    assert isinstance(body, Refusal)
    assert "too long ago to say it again" in body.reason


def test_nothing_leaves_when_it_cannot_be_recorded(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    west = bank.participant("west")

    def fail(*_: object, **__: object) -> None:
        raise JournalBroken("no")

    monkeypatch.setattr(west.answers.journal, "append", fail)
    with pytest.raises(JournalBroken):
        west.answer(encode_request(bank.request(plan())))


def test_a_refusal_is_judged_anew_when_it_is_asked_again(bank: Bank) -> None:
    frame = encode_request(bank.request(plan()))
    bank.edit("west", "purpose: credit-risk", "purpose: another")
    assert isinstance(decode_reply(bank.participant("west").answer(frame)).body, Refusal)
    bank.edit("west", "purpose: another", "purpose: credit-risk")
    assert isinstance(decode_reply(bank.participant("west").answer(frame)).body, Moments)


def test_a_refused_request_stays_refused_and_is_not_computed(bank: Bank) -> None:
    bank.edit("west", "purpose: credit-risk", "purpose: another")
    west = bank.participant("west")
    (bank.folder / "west" / "rows.parquet").unlink()
    body = decode_reply(west.answer(encode_request(bank.request(plan())))).body
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.POLICY
    assert body.reason.startswith("`policy.accept` at this site admits purpose another")


@pytest.mark.parametrize("defect", ["missing column", "one class", "no rows", "no file"])
def test_data_that_breaks_the_contract_says_contract_and_nothing_more(bank: Bank, defect: str) -> None:
    path = bank.folder / "west" / "rows.parquet"
    table = pq.read_table(path)
    if defect == "missing column":
        pq.write_table(table.drop_columns(["income"]), path)
    elif defect == "one class":
        pq.write_table(table.filter(pc.equal(table["status"], "good")), path)
    elif defect == "no rows":
        pq.write_table(table.slice(0, 0), path)
    else:
        path.unlink()
    body = decode_reply(bank.participant("west").answer(encode_request(bank.request(plan())))).body
    assert body == Refusal(RefusalCode.CONTRACT, "")


def test_a_model_of_another_size_is_refused(bank: Bank) -> None:
    request = bank.request(plan(), Stage.TRAIN, model=np.zeros(width() + 1), scaling=SCALING, number=1)
    body = decode_reply(bank.participant("west").answer(encode_request(request))).body
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.PROTOCOL
    assert f"a model of {width() + 1} values; the plan's has {width()}" in body.reason


def test_an_accepted_plan_does_not_admit_a_later_request_with_other_documents(bank: Bank) -> None:
    west = bank.participant("west")
    request = bank.request(plan())
    west.answer(encode_request(request))
    forged = replace(request, task=replace(request.task, plan=plan(rounds=9).canonical))
    body = decode_reply(
        west.answer(encode_request(replace(forged, statement=replace(forged.statement, round=1))))
    ).body
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.PROTOCOL


def test_bytes_that_are_no_request_are_a_codec_error(bank: Bank) -> None:
    with pytest.raises(CodecError):
        bank.participant("west").answer(b"\xff\xff")
