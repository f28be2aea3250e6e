"""A new state takes the place of the old without a dropped request, or changes nothing; canaries keep to their keys, and shadows answer nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from coordinator.deploy.scoring.arms import position_of
from coordinator.deploy.scoring.columns import ProtocolError
from coordinator.deploy.scoring.protocol import Answer, Asked, asked_of
from coordinator.deploy.scoring.reload import Follower
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import (
    STATE_FILE,
    Opened,
    Opener,
    PackageRef,
    ServingState,
    write_state,
)
from coordinator.deploy.targets.local import opener_of
from simulation.bench.releases import TARGET
from strategies.encoding import sha256_hex
from tests.coordinator.scoring_for_tests import (
    CONTRACT,
    NOW,
    contract,
    exportable,
    files,
    log_in,
    package,
    question,
    reference,
    releases_in,
)


class Running:
    """A scorer that follows a folder with packages 1 and 2, without a transport."""

    def __init__(self, folder: Path, opener: Opener | None = None) -> None:
        self.folder = folder
        self.now = NOW
        self.scorer = Scorer(log_in(folder), clock=lambda: self.now)
        self.opener = opener_of(folder, TARGET, releases_in(folder).pinned, lambda: self.now)
        self.follower = Follower(folder, opener or self.opener, self.scorer)

    async def put(self, revision: int, **fields: Any) -> None:
        write_state(self.folder, ServingState(revision=revision, **fields))
        await self.follower.look()

    async def ask(self, version: str | None = None, **more: Any) -> Answer:
        return await self.scorer.infer("lending", version, asked(**more), "test")

    def logged(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "decisions").glob("*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def asked(**more: Any) -> Asked:
    return asked_of(json.dumps({**question(), **more}).encode())


def play(folder: Path, story: Callable[[Running], Awaitable[None]], opener: Opener | None = None) -> Running:
    running = Running(folder, opener)

    async def whole() -> None:
        await story(running)
        await running.scorer.close()

    asyncio.run(whole())
    return running


def test_a_service_without_a_state_is_not_ready_and_says_why(tmp_path: Path) -> None:
    async def story(running: Running) -> None:
        await running.follower.look()
        with pytest.raises(ProtocolError, match="no model is deployed") as refused:
            await running.ask()
        assert refused.value.status == 503
        status = running.scorer.status()
        assert (status.ready, status.revision, status.why_not) == (
            False,
            0,
            "no model is deployed to this service",
        )

    play(tmp_path, story)


def test_states_follow_each_other_and_a_recall_ends_them(tmp_path: Path) -> None:
    one, two = package(tmp_path, 1), package(tmp_path, 2)

    async def story(running: Running) -> None:
        await running.put(1, stable=one)
        assert (await running.ask()).version == 1
        await running.put(2, stable=two, decline_at=0.5)
        answer = await running.ask()
        assert answer.version == 2
        np.testing.assert_allclose(answer.scores.ravel(), reference(exportable(seed=2)), atol=1e-5)
        await running.put(3, stable=one)
        assert (await running.ask()).version == 1
        await running.put(4)
        with pytest.raises(ProtocolError, match="no model is deployed"):
            await running.ask()
        assert running.scorer.status().revision == 4

    running = play(tmp_path, story)
    assert [line["model"] for line in running.logged()] == ["lending@1", "lending@2", "lending@1"]


def tampered(folder: Path) -> PackageRef:
    made = package(folder, 5)
    path = Path(made.package) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return made


def unknown_operator(folder: Path) -> PackageRef:
    made = files(exportable())
    model = onnx.load_from_string(made["model.onnx"])
    model.graph.node.append(onnx.helper.make_node("Loop", ["amount"], ["x"]))
    return releases_in(folder).package("lending", 6, {**made, "model.onnx": model.SerializeToString()})


def unapproved(folder: Path) -> PackageRef:
    return package(folder, 8, approvals=1)


def older(folder: Path) -> PackageRef:
    """One that counts no more, since a later one took effect here."""
    made, later = package(folder, 2), package(folder, 3, floor=3)
    opener_of(folder, TARGET, releases_in(folder).pinned, lambda: NOW)(Path(later.package))
    return made


def absent(folder: Path) -> PackageRef:
    return PackageRef(package=str(folder / "absent"), digest=sha256_hex(b""))


def other_contract(folder: Path) -> PackageRef:
    return package(folder, 7, exportable(seed=7), contract(CONTRACT.replace("version: 1", "version: 2")))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tampered, "was approved with"),
        (unapproved, "0 of the 1 approvals as model_risk"),
        (older, "count no more"),
        (unknown_operator, "has the operator 'Loop'"),
        (absent, "cannot be read"),
        (other_contract, "was trained under loans@1"),
    ],
)
def test_a_package_that_is_refused_leaves_the_running_model(
    tmp_path: Path, make: Callable[[Path], PackageRef], why: str
) -> None:
    one, last = package(tmp_path, 1), package(tmp_path, 9)

    async def story(running: Running) -> None:
        await running.put(1, stable=one)
        bad = make(tmp_path)
        before = await running.ask()
        await running.put(2, stable=bad)
        status = running.scorer.status()
        assert (status.revision, status.ready) == (1, True)
        assert status.refused is not None
        assert status.refused.revision == 2
        assert why in status.refused.why
        np.testing.assert_array_equal((await running.ask()).scores, before.scores)
        await running.put(3, stable=last)
        assert running.scorer.status().refused is None

    play(tmp_path, story)


def test_a_file_that_is_no_state_and_an_opener_with_a_defect_change_nothing(tmp_path: Path) -> None:
    one, two = package(tmp_path, 1), package(tmp_path, 2)

    def opener(folder: Path) -> Opened:
        if str(folder) == two.package:
            raise ZeroDivisionError
        return opener_of(tmp_path, TARGET, releases_in(tmp_path).pinned, lambda: NOW)(folder)

    async def story(running: Running) -> None:
        await running.put(1, stable=one)
        await running.put(2, stable=two)
        assert "ZeroDivisionError" in str(running.scorer.status().refused)
        (tmp_path / STATE_FILE).write_bytes(b"{}")
        await running.follower.look()
        assert running.scorer.status().refused is not None
        assert (await running.ask()).version == 1

    play(tmp_path, story, opener)


def test_requests_that_are_under_way_end_under_the_model_they_began_with(tmp_path: Path) -> None:
    one, two = package(tmp_path, 1), package(tmp_path, 2)

    async def story(running: Running) -> None:
        await running.put(1, stable=one)
        early = [asyncio.create_task(running.ask()) for _ in range(40)]
        await asyncio.sleep(0)
        swap = asyncio.create_task(running.put(2, stable=two))
        late = [asyncio.create_task(running.ask()) for _ in range(40)]
        await swap
        answers = await asyncio.gather(*early, *late, running.ask())
        assert answers[-1].version == 2
        expected = {version: reference(exportable(seed=version)) for version in (1, 2)}
        for answer in answers:
            np.testing.assert_allclose(answer.scores.ravel(), expected[answer.version], atol=1e-5)

    running = play(tmp_path, story)
    assert len(running.logged()) == 81


def test_an_expired_package_is_served_no_more(tmp_path: Path) -> None:
    one, two = (package(tmp_path, version, lasts=timedelta(hours=version)) for version in (1, 2))

    async def story(running: Running) -> None:
        await running.put(1, stable=one, challenger=two, mode="canary", share=1.0)
        assert (await running.ask(id="a")).version == 2
        running.now = NOW + timedelta(hours=1)
        with pytest.raises(ProtocolError, match="lending@1 expired at 2026-11-26 13:00 UTC") as refused:
            await running.ask()
        assert refused.value.status == 503
        assert not running.scorer.status().ready
        await running.put(2, stable=two, challenger=one, mode="shadow")
        assert "expired" in str(running.scorer.status().refused)
        await running.put(3, stable=two)
        assert (await running.ask()).version == 2

    play(tmp_path, story)


def test_a_canary_keeps_to_its_keys_and_a_larger_share_keeps_those_of_a_smaller(tmp_path: Path) -> None:
    one, two = package(tmp_path, 1), package(tmp_path, 2)
    keys = [f"applicant-{number}" for number in range(300)]
    found: dict[float, set[str]] = {}

    async def story(running: Running) -> None:
        for revision, share in enumerate((0.0, 0.1, 0.4, 1.0), 1):
            await running.put(revision, stable=one, challenger=two, mode="canary", share=share)
            answers = [
                await running.ask(parameters={"key": key}, id=str(place)) for place, key in enumerate(keys)
            ]
            found[share] = {key for key, answer in zip(keys, answers, strict=True) if answer.version == 2}
        assert (await running.ask("1", id="a")).version == 1
        assert (await running.ask("2", id="a")).version == 2
        with pytest.raises(ProtocolError, match="in version 1 and 2"):
            await running.ask("3")

    running = play(tmp_path, story)
    assert found[0.0] == set()
    assert found[1.0] == set(keys)
    assert found[0.1] < found[0.4]
    assert 10 < len(found[0.1]) < 60
    assert found[0.4] == {key for key in keys if position_of(two.digest, key) < 0.4}
    arms = [line["arm"] for line in running.logged()]
    assert arms.count("challenger") == sum(map(len, found.values())) + 1


def test_a_shadow_scores_everything_and_answers_nothing(tmp_path: Path) -> None:
    wide = contract(
        CONTRACT + "  accounts: {type: integer, unit: accounts, range: [0, 50], missing: indicator}\n"
    )
    one, two = (
        package(tmp_path, 1, exportable(wide, seed=1), wide),
        package(tmp_path, 2, exportable(wide, (*wide.columns,), seed=2), wide),
    )
    accounts = {"name": "accounts", "datatype": "INT64", "shape": [3, 1], "data": [1, 2, None]}

    async def story(running: Running) -> None:
        await running.put(1, stable=one, challenger=two, mode="shadow", decline_at=0.0)
        answer = await running.ask(inputs=[*question()["inputs"], accounts])
        assert answer.version == 1
        # Without the input that only the challenger knows, the caller is answered all the same.
        assert (await running.ask()).version == 1
        # Nor does it answer whoever asks for its version, which nobody is told.
        with pytest.raises(ProtocolError, match=r"has one model, lending, in version 1$"):
            await running.ask("2", inputs=[*question()["inputs"], accounts])

    running = play(tmp_path, story)
    status = running.scorer.status()
    assert (status.stable.requests, status.challenger.requests, status.challenger.errors) == (2, 1, 1)
    assert (status.challenger.rows, status.challenger.declined) == (3, 3)
    told = sorted((line["arm"], line["answered"], line["model"]) for line in running.logged())
    assert told == [
        ("challenger", False, "lending@2"),
        ("stable", True, "lending@1"),
        ("stable", True, "lending@1"),
    ]


def test_what_only_a_canary_refuses_is_its_error_and_answered_by_what_serves(tmp_path: Path) -> None:
    wide = contract(
        CONTRACT + "  accounts: {type: integer, unit: accounts, range: [0, 50], missing: indicator}\n"
    )
    one = package(tmp_path, 1)
    two = package(tmp_path, 2, exportable(wide, (*wide.columns,), seed=2), wide)
    accounts = {"name": "accounts", "datatype": "INT64", "shape": [3, 1], "data": [1, 2, None]}

    async def story(running: Running) -> None:
        await running.put(1, stable=one, challenger=two, mode="canary", share=1.0)
        assert (await running.ask()).version == 1
        assert (await running.ask(inputs=[*question()["inputs"], accounts])).version == 2
        # What both refuse is the caller's error, and so is what a caller asks of one version.
        with pytest.raises(ProtocolError, match="the inputs term are missing"):
            await running.ask(inputs=question(term=None)["inputs"])
        with pytest.raises(ProtocolError, match="the inputs accounts are missing"):
            await running.ask("2")

    status = play(tmp_path, story).scorer.status()
    assert (status.stable.requests, status.stable.errors) == (1, 0)
    assert (status.challenger.requests, status.challenger.errors) == (1, 1)


def test_a_model_that_changes_its_role_counts_anew_and_one_that_keeps_it_goes_on(tmp_path: Path) -> None:
    one, two = package(tmp_path, 1), package(tmp_path, 2)

    async def story(running: Running) -> None:
        await running.put(1, stable=one, challenger=two, mode="canary", share=0.0)
        await running.ask()
        await running.put(2, stable=one, challenger=two, mode="canary", share=1.0)
        await running.ask(id="a")
        status = running.scorer.status()
        assert (status.stable.requests, status.challenger.requests) == (1, 1)
        await running.put(3, stable=two)
        status = running.scorer.status()
        assert (status.stable.version, status.stable.requests, status.challenger) == (2, 0, None)

    play(tmp_path, story)
