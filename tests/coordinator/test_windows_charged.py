"""What windows cost: a budget that is spent lets nothing leave, another monitor forgets nothing of it, and no crash gives any of it back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.deploy.scoring.windows.account import windows_that_fit
from coordinator.deploy.scoring.windows.bins import Bins
from coordinator.deploy.scoring.windows.standing import standing_of
from coordinator.deploy.scoring.windows.store import Store
from coordinator.deploy.scoring.windows.verdicts import Judge
from protos.drift import DriftReference
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from tests.coordinator.windows_for_tests import (
    AGREED,
    Clock,
    monitor,
    place,
    raw,
    table,
)


def test_a_budget_that_is_spent_lets_nothing_leave(tmp_path: Path) -> None:
    agreed = monitor(privacy="{noise: 2.0, limit: {epsilon: 4, delta: 1e-6}, period: 365d}")
    fits, period = windows_that_fit(agreed)
    assert 1 <= fits < 10
    assert period == 365
    with place(tmp_path, agreed) as service:
        told = [service.next_day()[0] for _ in range(fits + 2)]
        service.ask()
    assert [each.counted is not None for each in told] == [True] * fits + [False] * 2
    assert told[-1].spent == told[fits - 1].spent <= 4
    ceiling = Ceiling.fixed(epsilon=4, delta=1e-6, unit=PrivacyUnit(kind=UnitKind.RECORD))
    assert ceiling.epsilon >= told[-1].spent
    assert b"counted" not in told[-1].canonical
    assert b"profile" not in told[-1].canonical
    now = service.clock.now.timestamp()
    assert standing_of(Store.of(tmp_path), now).fits == 0
    assert standing_of(Store.of(tmp_path), now + 366 * 86400).fits == fits  # a new period


def test_a_place_whose_budget_is_spent_judges_for_itself(tmp_path: Path) -> None:
    agreed = monitor(privacy="{noise: 0.5, limit: {epsilon: 12, delta: 1e-6}, period: 365d}")
    with place(tmp_path, agreed) as service:
        for _ in range(400):
            service.one("x", 100.0)
        service.scorer.count_windows()
        exact = raw(tmp_path).copy()
        (told,) = service.next_day()
        bins = Bins.of(agreed, AGREED, ("amount", "income", "term"))
        scores, profile = bins.told(exact)
        reference = DriftReference(
            model=told.model,
            version_digest=told.version_digest,
            contract=told.contract,
            noise_std=0.0,
            profile_noise_std=0.0,
            scores=(scores, (0,) * 8),
            profile=profile,
            labels=bins.profile.labels,
        )
        (tmp_path / "reference.json").write_bytes(reference.canonical)
        while service.next_day()[0].counted is not None:
            pass
        service.scorer.watch.judge = Judge.reading(agreed, [tmp_path / "reference.json"], None)
        for amount in (100.0, 900.0):
            for _ in range(400):
                service.one("x", amount)
            (silent,) = service.next_day()
            assert silent.counted is None
        service.next_day()
    verdicts = standing_of(Store.of(tmp_path), service.clock.now.timestamp()).verdicts
    assert "nothing of lending@3 has moved" in verdicts[0][1]
    assert "input amount (PSI" in verdicts[1][1]
    assert "income" not in verdicts[1][1]
    assert "nothing can be said" in verdicts[2][1]  # no traffic
    for each in Store.of(tmp_path).windows(0, 10**9)[0]:
        assert b"moved" not in each.canonical


def test_another_monitor_in_the_same_period_finds_what_was_spent(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        (first,) = service.next_day()
        clock = service.clock
    other = monitor(score_bins="6")
    with place(tmp_path, other, clock=clock) as service:
        (second,) = service.next_day()
    assert second.number == 1  # windows of another monitor
    assert second.sequence == 2
    assert second.monitor == other.digest != first.monitor
    assert second.spent > first.spent


def test_a_monitor_of_a_shorter_period_forgets_nothing_of_the_longer_one(tmp_path: Path) -> None:
    spent = monitor(privacy="{noise: 4.0, limit: {epsilon: 1.5, delta: 1e-6}, period: 365d}")
    daily = monitor(privacy="{noise: 4.0, limit: {epsilon: 1.5, delta: 1e-6}, period: 1d}")
    clock = Clock()
    with place(tmp_path, spent, clock=clock) as service:
        (first,) = service.next_day()
        (second,) = service.next_day()
    assert (first.counted is None, second.counted is None) == (False, True)
    with place(tmp_path, daily, clock=clock) as service:
        assert service.next_day()[0].counted is None
        clock.on(days=100)  # into the next period of 365 days since 1970
        service.scorer.count_windows()
        assert service.next_day()[0].counted is not None


_DIES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import tests.coordinator.windows_for_tests as parts
def dies(size):
    os.kill(os.getpid(), signal.SIGKILL)
with parts.place(Path(sys.argv[1])) as service:
    service.scorer.watch.place = replace(service.scorer.watch.place, entropy=dies)
    service.ask()
    service.next_day()
"""


@pytest.mark.slow
def test_a_window_whose_service_is_killed_between_charge_and_noise_stays_charged_and_is_never_told(
    tmp_path: Path,
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _DIES, str(tmp_path)], env=os.environ, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert table(tmp_path, "SELECT number, kind FROM charges") == [(1, "decisions")]
    assert table(tmp_path, "SELECT count(*) FROM counts") != [(0,)]
    clock = Clock()
    clock.on(days=1)
    with place(tmp_path, clock=clock) as service:
        assert table(tmp_path, "SELECT count(*) FROM counts WHERE number = 1") == [(0,)]
        (second,) = service.next_day()
    found = standing_of(Store.of(tmp_path), clock.now.timestamp())
    assert found.lost == [1]
    assert (second.number, second.sequence) == (2, 1)
    assert table(tmp_path, "SELECT count(*) FROM charges") == [(2,)]
    assert found.epsilon == second.spent
    assert any("lost" in each for each in found.words)


_KILLED = """
import os, signal, sys
from pathlib import Path
import tests.coordinator.windows_for_tests as parts
with parts.place(Path(sys.argv[1])) as service:
    for _ in range(4):
        service.ask()
    service.clock.on(seconds=1)
    service.scorer.count_windows()
    service.clock.on(seconds=0.5)
    service.ask()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_service_that_was_killed_says_how_many_decisions_it_may_not_have_counted(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env=os.environ, timeout=120, check=False)
    clock = Clock()
    clock.on(minutes=1)
    with place(tmp_path, clock=clock) as service:
        service.scorer.count_windows()
        assert raw(tmp_path)[:8].sum() == 4 * 3
    (gap,) = standing_of(Store.of(tmp_path), clock.now.timestamp()).gaps
    assert gap.decisions == 3
    assert gap.until - gap.since == pytest.approx(59)


def test_charges_cannot_be_changed(tmp_path: Path) -> None:
    with place(tmp_path) as service:
        service.next_day()
    for sql in ("DELETE FROM charges", "UPDATE charges SET at = 0"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
            table(tmp_path, sql)
