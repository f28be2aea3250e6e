"""Nothing personal reaches the rounds: the process that answers does not know the room, and its answers are the same bytes with it and without."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from client.bootstrap import open_participant
from client.participant import Participant
from client.personal.room import Room
from client.shared_models import SharedModels
from protos.codec import encode_request
from protos.frames import Stage
from protos.site import load_site
from strategies.analytics.moments import scaling_from
from strategies.encoding import vector_digest
from strategies.features import Scaling
from tests.bank_for_tests import make_bank
from tests.client import loans_for_tests as loans
from tests.client.personal_for_tests import NOW, RUN, odd, quiet, shared_of
from tests.client.secure_for_tests import (
    SCALING,
    SITES,
    VICTIM,
    SecureBank,
    Sum,
    Told,
    begun,
    secure_bank,
    secure_plan,
)
from tests.witness_for_tests import vouched

ROWS = 1500
_PERSONAL = "personal: {tell_registry: true}\n"


# --- the room is closed to whoever answers --------------------------------------------------------------------------------


def test_the_process_that_answers_has_not_loaded_the_room() -> None:
    code = "import client.cli, client.process, sys; sys.exit(any(each.startswith('client.personal') for each in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_agent_that_has_answered_has_opened_nothing_that_is_personal(bank_with_rows: SecureBank) -> None:
    own = _make_personal(bank_with_rows.folder / VICTIM) / "own"
    opened: list[str] = []
    hearing = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if hearing[0] and event in {"open", "os.listdir", "os.scandir"} and arguments:
            opened.append(str(arguments[0]))

    sys.addaudithook(hear)
    try:
        _run(bank_with_rows)
    finally:
        hearing[0] = False
    assert any("rows.parquet" in each for each in opened)
    assert not [each for each in opened if "personal/own" in each]
    assert list(SharedModels(own.parent / "shared").all())  # the run's model was kept


# --- the same bytes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bank_with_rows() -> Iterator[SecureBank]:
    with secure_bank(secure_plan(rounds=1)) as bank:
        pq.write_table(odd(ROWS), bank.folder / VICTIM / "rows.parquet")
        bank.edit(VICTIM, "data:\n", _PERSONAL + "data:\n")
        yield bank


def _entropy(name: str) -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: b"".join(
        sha256(f"{name}/{next(numbers)}".encode()).digest() for _ in range(-(-size // 32))
    )[:size]


def _make_personal(folder: Path) -> Path:
    """A personal model of a shared model that was there before; returns the folder of all that is personal."""
    shared = shared_of()
    models = SharedModels(folder / "personal" / "shared")
    models.keep(shared.plan, shared.contract, RUN, shared.vector, shared.scaling)
    Room(load_site(folder / "site.yaml"), lambda: NOW).make(RUN, quiet)
    return folder / "personal"


def _run(bank: SecureBank) -> Told:
    """All stages of a run of one round, opened; what the coordinator says last."""
    Sum(bank).opened()
    told = begun(bank)
    Sum(bank, Stage.TRAIN, 1, told=told).opened()
    assert told.model is not None
    assert told.optimizer is not None
    aggregate = np.linspace(-0.1, 0.1, told.model.size)
    model, optimizer = bank.plan.server_optimizer().step(told.model, aggregate, told.optimizer)
    last = Told(model=model, optimizer=optimizer, scaling=SCALING, aggregate=aggregate)
    Sum(bank, Stage.EVALUATE, 1, told=last).opened()
    return last


class _Recorded:
    """A participant whose requests and replies are written down."""

    def __init__(self, inner: Participant) -> None:
        self.inner = inner
        self.said: list[tuple[bytes, bytes]] = []

    def answer(self, frame: bytes) -> bytes:
        reply = self.inner.answer(frame)
        self.said.append((frame, reply))
        return reply

    def close(self) -> None:
        self.inner.close()


def _answers(
    folder: Path, frames: list[bytes], entropy: str, between: Callable[[int], object]
) -> list[bytes]:
    agent = vouched(open_participant(folder / "site.yaml", entropy=_entropy(entropy)), SITES)
    try:
        replies = []
        for number, frame in enumerate(frames):
            between(number)
            replies.append(agent.answer(frame))
        return replies
    finally:
        agent.close()


@pytest.mark.slow
def test_secure_answers_are_the_same_bytes_with_personal_models_and_without(
    bank_with_rows: SecureBank, tmp_path: Path
) -> None:
    bank = bank_with_rows
    assert bank.task.witness  # all have witnessed the run, so that what follows is the rounds alone
    bank.close()
    for name in ("without", "with", "other-randomness"):
        shutil.copytree(bank.folder / VICTIM, tmp_path / name / VICTIM)
        shutil.copy(bank.folder / "root.json", tmp_path / name / "root.json")
    plain = tmp_path / "without" / VICTIM / "site.yaml"
    plain.write_text(plain.read_text().replace(_PERSONAL, ""))
    recorded = _Recorded(bank.start(VICTIM, entropy=_entropy("a")))
    bank._running[VICTIM] = recorded  # type: ignore[assignment]
    last = _run(bank)
    frames, replies = [frame for frame, _ in recorded.said], [reply for _, reply in recorded.said]
    assert len(frames) >= 3 * 4

    beside = tmp_path / "with" / VICTIM
    _make_personal(beside)
    made = lambda number: _make_personal(beside) if number == len(frames) // 2 else None  # noqa: E731
    assert _answers(plain.parent, frames, "a", lambda _: None) == replies
    assert _answers(beside, frames, "a", made) == replies
    assert _answers(tmp_path / "other-randomness" / VICTIM, frames, "b", lambda _: None) != replies

    assert last.model is not None
    kept = {each.digest for each in SharedModels(beside / "personal" / "shared").all()}
    assert vector_digest(last.model) in kept
    assert not (plain.parent / "personal").exists()


def test_plain_updates_are_the_same_bytes_with_personal_models_and_without(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    bank, plan = make_bank(tmp_path / "bank"), loans.plan(rounds=1)
    pq.write_table(odd(ROWS), bank.folder / "west" / "rows.parquet")
    scaling: Scaling = scaling_from(loans_moments())
    model = np.linspace(-0.5, 0.5, shared_of().shape.size)
    requests = [
        bank.request(plan),
        bank.request(plan, Stage.TRAIN, model=model, scaling=scaling, number=1),
        bank.request(plan, Stage.EVALUATE, model=model, scaling=scaling, number=1),
    ]
    frames = [encode_request(each) for each in requests]
    for name in ("without", "with"):
        shutil.copytree(bank.folder, tmp_path / name)
    beside = tmp_path / "with" / "west"
    (beside / "site.yaml").write_text((beside / "site.yaml").read_text() + _PERSONAL)
    _make_personal(beside)
    first = _answers(tmp_path / "without" / "west", frames, "a", lambda _: None)
    assert _answers(beside, frames, "a", lambda number: number == 1 and _make_personal(beside)) == first
    kept = {each.digest for each in SharedModels(beside / "personal" / "shared").all()}
    assert vector_digest(model) in kept


def loans_moments() -> np.ndarray:
    from client.training import TrainingSession

    return TrainingSession(loans.plan(rounds=1), loans.CONTRACT, loans.table(300), site=VICTIM).moments()


def test_a_disk_that_is_full_costs_the_copy_and_no_answer(
    bank_with_rows: SecureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("client.shared_models.replace_file", full)
    _run(bank_with_rows)
    assert not list(SharedModels(bank_with_rows.folder / VICTIM / "personal" / "shared").all())
