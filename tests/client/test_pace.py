"""Training within a round's time and a machine's memory: late is late, blocks are constants, and an operator sees steps."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from structlog.testing import capture_logs

from client.progress import LoggedProgress, ShownProgress, progress_for
from client.training import PrivateSession, TrainingSession, descent
from client.training.descent import Block, at_a_time, gradients_of
from client.training.network import DenseNetwork
from client.training.pace import Paced, TooLate, no_progress
from protos.codec import decode_reply, encode_request
from protos.frames import Refusal, RefusalCode, Stage, Update
from strategies.ids import site_name
from strategies.models import DenseModel
from strategies.secagg.secrets import MaskSeed
from tests.bank_for_tests import make_bank
from tests.client.loans_for_tests import CONTRACT, plan, table
from tests.client.private_for_tests import LOCAL, private_plan
from tests.client.secure_for_tests import SCALING

WEST = site_name("west")
MLP = "{kind: mlp, hidden: [8, 4]}"


class Hand:
    """A clock that moves on by `step` seconds each time somebody looks."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def pace(step: float, deadline: float) -> Paced:
    return Paced(what="round 1", began=0.0, deadline_s=deadline, monotonic=Hand(step), progress=no_progress)


def session(**settings: object) -> TrainingSession:
    return TrainingSession(plan(**settings), CONTRACT, table(), site=WEST)  # type: ignore[arg-type]


# --- deadlines


def test_a_site_that_is_late_computes_nothing_rather_than_less() -> None:
    one = session()
    start = one.model.initial(1)
    with pytest.raises(
        TooLate, match=r"round 1 was at step 9 of \d+ when the plan's round_deadline of 9 s had passed"
    ):
        one.train(start, SCALING, 1, pace(1.0, 9.0))
    in_time = one.train(start, SCALING, 1, pace(1.0, 1000.0))
    np.testing.assert_array_equal(in_time, one.train(start, SCALING, 1))


def test_what_was_done_when_the_deadline_passed_is_done() -> None:
    """After the last step there is nothing left to give up."""
    on_time = Paced(what="x", began=0.0, deadline_s=1.0, monotonic=lambda: 2.0, progress=no_progress)
    on_time(5, 5)
    with pytest.raises(TooLate):
        on_time(4, 5)


def test_private_steps_are_all_taken_or_none_is_sent() -> None:
    of = private_plan(LOCAL)
    one = PrivateSession(of, CONTRACT, table())
    start = one.model.initial(1)
    heard: list[tuple[int, int]] = []
    one.local_update(start, SCALING, MaskSeed(bytes(32)), lambda done, of: heard.append((done, of)))
    steps = of.training.local_steps  # type: ignore[union-attr]
    assert heard == [(step, steps) for step in range(steps + 1)]
    with pytest.raises(TooLate):
        one.local_update(start, SCALING, MaskSeed(bytes(32)), pace(1.0, 0.5))


def test_a_late_site_refuses_the_attempt_and_answers_the_next(tmp_path: Path) -> None:
    bank = make_bank(tmp_path)
    west, hand = bank.participant("west"), Hand(60.0)
    model = west_model = plan().dense_model(CONTRACT.feature_spec(plan().features).width).initial(1)
    frame = encode_request(bank.request(plan(), Stage.TRAIN, model=model, scaling=SCALING, number=1))
    west.monotonic = hand
    said = decode_reply(west.answer(frame)).body
    assert isinstance(said, Refusal)
    assert (said.code, said.reason) == (
        RefusalCode.FAILED,
        "could not compute the train stage; the site's log says why",
    )
    hand.step = 0.0
    said = decode_reply(west.answer(frame)).body
    assert isinstance(said, Update)
    assert west_model is model


# --- blocks


def test_no_more_rows_are_computed_at_a_time_than_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    logits = DenseNetwork.logits
    monkeypatch.setattr(DenseNetwork, "logits", lambda self, x: seen.append(len(x)) or logits(self, x))  # type: ignore[func-returns-value]
    monkeypatch.setattr(descent, "BLOCK_NUMBERS", 200)
    one = session(model=MLP, batch_size=64)
    one.train(one.model.initial(1), SCALING, 1)
    assert max(seen) == at_a_time(one.model)
    assert at_a_time(one.model) < 64


def test_a_batch_in_blocks_has_the_gradient_of_the_whole() -> None:
    source = torch.Generator().manual_seed(1)
    model = DenseModel(inputs=5, hidden=(4,))
    network = DenseNetwork(model, model.initial(3))
    x = torch.rand((101, 5), generator=source)
    y = (torch.rand(101, generator=source) > 0.5).to(torch.float32)
    importance = torch.where(y > 0, 2.5, 1.0)
    whole = gradients_of(network, [Block(x, y, importance)], 101)
    parts = [Block(x[i : i + 7], y[i : i + 7], importance[i : i + 7]) for i in range(0, 101, 7)]
    for one, other in zip(whole, gradients_of(network, parts, 101), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_how_many_rows_are_computed_at_a_time_follows_from_the_model_alone() -> None:
    assert at_a_time(DenseModel(inputs=20)) == (1 << 22) // 21
    assert at_a_time(DenseModel(inputs=20, hidden=(64, 32))) == (1 << 22) // 117
    assert at_a_time(DenseModel(inputs=1 << 23)) == 1


@pytest.mark.parametrize("private", [False, True])
def test_scores_are_counted_in_blocks_exactly(monkeypatch: pytest.MonkeyPatch, private: bool) -> None:
    one = PrivateSession(private_plan(), CONTRACT, table()) if private else session()
    model = one.model.initial(2) + 0.5
    whole = one.evaluate(model, SCALING)
    monkeypatch.setattr("client.data.table.BLOCK_ROWS", 7)
    np.testing.assert_array_equal(one.evaluate(model, SCALING), whole)
    assert whole.sum() == one.rows[1]


# --- progress


def test_the_log_hears_now_and_then_of_what_takes_long() -> None:
    progress = LoggedProgress(monotonic=Hand(4.0))
    with capture_logs() as lines:
        for done in range(7):
            progress("round 1", done, 6)
        for done in range(2):
            progress("round 2", done, 2)
    assert [(line["what"], line["step"], line["of"]) for line in lines] == [
        ("round 1", 3, 6),
        ("round 1", 6, 6),
    ]


def test_a_terminal_shows_a_bar_which_goes_away() -> None:
    console = Console(file=StringIO(), force_terminal=True, width=100)
    progress = ShownProgress(console)
    for done in range(4):
        progress("train stage of round 1", done, 3)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "train stage of round 1" in shown
    assert "\x1b[2K" in shown


def test_who_has_no_terminal_gets_lines() -> None:
    assert isinstance(progress_for(Console(file=StringIO())), LoggedProgress)
