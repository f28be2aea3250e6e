"""A window is charged before it is told, told once, and tells of decisions what its noise allows."""

from __future__ import annotations

import math
import secrets
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from coordinator.deploy.scoring.arms import Arm, InForce, load
from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.windows.account import release_of
from coordinator.deploy.scoring.windows.bins import Bins
from coordinator.deploy.scoring.windows.standing import standing_of
from coordinator.deploy.scoring.windows.store import Store
from coordinator.deploy.scoring.windows.watch import Watch
from coordinator.deploy.scoring.words import Words
from protos.keys import SigningKey
from strategies.analytics.noisy import logit_counts
from strategies.errors import Refused
from tests.coordinator.scoring_for_tests import INFER, contract, exportable, log_in, opened, question, serving
from tests.coordinator.windows_for_tests import (
    AGREED,
    BEGINS,
    CELLS,
    Clock,
    monitor,
    place,
    raw,
    table,
    watched,
)

NEARLY_EXACT = "{noise: 0.5, limit: {epsilon: 50, delta: 1e-6}, period: 365d}"


def test_two_windows_tell_what_was_decided_in_them(tmp_path: Path) -> None:
    with place(tmp_path, monitor(privacy=NEARLY_EXACT)) as service:
        for _ in range(30):
            service.ask()
        service.scorer.count_windows()
        exact = raw(tmp_path)
        (first,) = service.next_day()
        (second,) = service.next_day()
    assert exact.sum() == 30 * 3 * 4
    assert len(exact) == CELLS
    assert (first.number, first.sequence, second.number, second.sequence) == (1, 1, 2, 2)
    assert (first.begins, first.ends) == (BEGINS, BEGINS.replace(day=27))
    assert (first.model, first.version_digest, first.contract) == (
        "lending@3",
        watched().digest,
        AGREED.digest,
    )
    told = [*first.counted.scores, *(cell for each in first.counted.profile.values() for cell in each)]
    assert first.counted.noise_std == pytest.approx(0.5 * math.sqrt(4))
    assert np.abs(np.array(told) - exact).max() <= 8
    assert first.counted.profile["term"][0] == pytest.approx(30, abs=8)
    assert np.abs([*second.counted.scores]).max() <= 8  # a window with no traffic tells of none
    assert 0 < first.spent < second.spent
    assert table(tmp_path, "SELECT count(*) FROM counts WHERE number < 3") == [(0,)]


def test_a_line_of_the_log_has_the_bins_that_the_window_counts(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        service.ask()
        service.scorer.count_windows()
    (path,) = (tmp_path / "decisions").glob("*.jsonl")
    text = path.read_text()
    assert f'"monitor":"{monitor().digest}"' in text
    bins = Bins.read(text.partition('"bins":"')[2].partition('"')[0])
    assert len(bins) == 3
    assert np.array_equal(np.bincount(bins, minlength=8), raw(tmp_path)[:8])


def test_score_bins_are_those_of_the_noisy_evaluation() -> None:
    bins = Bins.of(monitor(), AGREED, ("amount",))
    logits = np.linspace(-9, 9, 1001)
    scores = (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)[:, None]
    counted = np.bincount(bins.of_scores(scores), minlength=8)
    assert np.abs(counted - logit_counts(logits, np.zeros(1001), 8)[0]).max() <= 1  # the middle, to float32
    even = Bins.of(monitor(score_scale="even"), AGREED, ("amount",))
    assert even.of_scores(np.array([[0.0], [0.124], [0.125], [0.999], [1.0]], np.float32)).tolist() == [
        0,
        0,
        1,
        7,
        7,
    ]


ROWS = st.tuples(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_infinity=False),
    st.sampled_from(["36", "60", "", "other", "x"]),
    st.floats(0, 1, width=32),
)


@with_settings(deadline=None)
@given(st.lists(ROWS, max_size=6), ROWS)
def test_any_decision_moves_a_window_by_no_more_than_it_is_charged_for(rows, more) -> None:
    bins = Bins.of(monitor(), AGREED, ("amount", "income", "term"))

    def counts(several) -> np.ndarray:
        if not several:
            return np.zeros(bins.dimension)
        amount, income, term, scores = zip(*several, strict=True)
        batch = Batch(numbers=np.array([amount, income]), words=(Words.of(term),))
        placed = bins.of_scores(np.array(scores, dtype=np.float32)[:, None])
        return bins.counts(batch, placed)

    moved = np.linalg.norm(counts([*rows, more]) - counts(rows))
    release = release_of(monitor(), "decisions", cells_of_one=bins.cells_of_one, dimension=bins.dimension)
    assert 0 < moved <= release.sensitivity
    assert release.variance == (4.0 * release.sensitivity) ** 2


def test_counts_go_on_after_a_restart(tmp_path: Path) -> None:
    agreed = monitor(privacy=NEARLY_EXACT)
    clock = Clock()
    for _ in range(2):
        with place(tmp_path, agreed, clock=clock) as service:
            for _ in range(20):
                service.ask()
    with place(tmp_path, agreed, clock=clock) as service:
        (told,) = service.next_day()
    assert sum(told.counted.scores) == pytest.approx(2 * 20 * 3, abs=20)
    assert standing_of(Store.of(tmp_path), clock.now.timestamp()).gaps == []


def test_a_window_that_ended_while_the_service_was_down_is_told_when_it_is_back(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        service.ask()
        clock = service.clock
    clock.on(days=3)
    with place(tmp_path, clock=clock) as service:
        (told,) = service.windows().windows
        assert told.number == 1
        service.next_day()
        assert [each.number for each in service.windows().windows] == [1, 4]


def test_a_canarys_versions_are_one_release(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        arms = [
            Arm(
                role=role,
                loaded=load(opened(version, exportable(AGREED, seed=version), AGREED)),
                since=BEGINS,
            )
            for role, version in (("stable", 3), ("challenger", 4))
        ]
        service.scorer.in_force = InForce(
            revision=2, stable=arms[0], challenger=arms[1], mode="canary", share=0.5
        )
        service.ask()
        service.scorer.count_windows()
        first, second = service.next_day()
    assert {first.model, second.model} == {"lending@3", "lending@4"}
    assert first.spent == second.spent
    assert table(tmp_path, "SELECT count(*) FROM charges") == [(1,)]


def arm(version: int) -> Arm:
    loaded = load(opened(version, exportable(AGREED, seed=version), AGREED))
    return Arm(role="stable", loaded=loaded, since=BEGINS)


def test_a_decision_that_comes_late_to_a_version_that_was_replaced_makes_no_window(tmp_path: Path) -> None:
    """Else the window's being there would say, without noise, that somebody was decided about."""
    with place(tmp_path) as service:
        before = service.scorer.in_force
        service.scorer.in_force = InForce(revision=2, stable=arm(4))
        service.scorer.count_windows()
        service.clock.on(seconds=1)
        service.scorer.count_windows()
        told = service.next_day()
        assert {each.model for each in told} == {"lending@3", "lending@4"}  # both were in force that day
        service.scorer.in_force = before  # a request that took it before it was replaced
        service.ask()
        service.scorer.in_force = InForce(revision=2, stable=arm(4))
        assert [each.model for each in service.next_day()] == ["lending@4"]
        assert [each.model for each in service.next_day()] == ["lending@4"]
    assert table(tmp_path, "SELECT count(*) FROM counts WHERE number < 4") == [(0,)]


def test_an_older_copy_of_the_memory_and_a_new_one_in_its_place_tell_nothing(tmp_path: Path) -> None:
    file = tmp_path / "watch.sqlite3"
    clock = Clock()
    with place(tmp_path, clock=clock) as service:
        service.ask()
        service.scorer.count_windows()
        older = file.read_bytes()
        service.next_day()
        service.ask()
        service.next_day()
    newest = file.read_bytes()
    file.write_bytes(older)
    for known in ("2026-11-26 12:00", "no time"):
        with pytest.raises(
            Refused, match=f"knows of windows up to {known} UTC.*has forgotten what was spent"
        ):
            Watch.begun(
                tmp_path,
                monitor(),
                "branch",
                tmp_path / "decisions",
                clock=clock,
                entropy=secrets.token_bytes,
            )
        file.unlink()
    file.write_bytes(newest)
    with place(tmp_path, clock=clock) as service:
        service.ask()
        (third,) = service.next_day()
    assert (third.number, third.sequence) == (3, 3)


def test_another_model_is_not_watched(tmp_path: Path) -> None:
    with place(tmp_path, monitor(model="cards")) as service:
        service.ask()
        assert service.next_day() == ()
        assert '"bins"' not in next((tmp_path / "decisions").glob("*.jsonl")).read_text()


def test_two_services_are_not_watched_in_one_folder(tmp_path: Path) -> None:
    with place(tmp_path), pytest.raises(Refused, match="another scoring service"):
        Watch.begun(
            tmp_path, monitor(), "other", tmp_path / "decisions", clock=Clock(), entropy=secrets.token_bytes
        )


def test_what_cannot_be_written_stops_no_decision(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        assert "covenant_scoring_watched 1.0" in service.client.get("/metrics").text
        (tmp_path / "watch.sqlite3").write_bytes(b"no database" * 1000)
        service.scorer.count_windows()
        assert "covenant_scoring_watched 0.0" in service.client.get("/metrics").text
        service.ask()
        status = service.client.get("/covenant/v1/status").json()
        assert "watch.sqlite3" in status["unwatched"]
        assert status["monitor"] == monitor().digest
        service.scorer.watch = None


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "١", "9" * 30])
def test_a_sequence_that_is_none_is_refused(tmp_path: Path, after: str) -> None:
    with place(tmp_path) as service:
        answer = service.client.get("/covenant/v1/windows", params={"after": after})
    assert answer.status_code == 400


def test_windows_of_an_unwatched_service_are_not_found(tmp_path: Path) -> None:
    with serving(opened(), decisions=log_in(tmp_path)) as client:
        assert client.get("/covenant/v1/windows").status_code == 404
        assert client.post(INFER, json=question()).is_success


def test_a_signed_file_of_windows_is_its_places(tmp_path: Path) -> None:
    key, other = SigningKey.generate(), SigningKey.generate()
    with place(tmp_path) as service:
        service.next_day()
        told = service.windows()
    signed = type(told).from_canonical(told.signed(key).canonical)
    signed.require(key.public)
    for bad in (told, told.signed(other), signed.model_copy(update={"last": 7})):
        with pytest.raises(Refused, match="not signed by branch"):
            bad.require(key.public)


def test_a_contract_without_a_feature_is_not_counted() -> None:
    with pytest.raises(Exception, match="no column"):
        Bins.of(monitor(), contract(), ("nothing",))
