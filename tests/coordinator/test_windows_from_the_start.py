"""A scoring service that is watched counts from its first request on: before it looks at its windows for the first time by itself."""

from __future__ import annotations

import asyncio
import gc
import secrets
from pathlib import Path

import httpx
import pytest

from coordinator.deploy.scoring import server
from coordinator.deploy.scoring.reload import Follower
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.server import Listening
from coordinator.deploy.scoring.serving import ServingState, write_state
from coordinator.deploy.scoring.windows.store import Store
from coordinator.deploy.scoring.windows.watch import Watch
from coordinator.deploy.targets.local import opener_of
from simulation.bench.releases import TARGET
from simulation.deployment import free_port
from tests.coordinator.scoring_for_tests import INFER, exportable, log_in, package, question, releases_in
from tests.coordinator.windows_for_tests import AGREED, Clock, monitor

REQUESTS = 20


@pytest.fixture(autouse=True)
def _unfrozen():
    """What the process of a service keeps from the collector is this process's own here."""
    yield
    gc.unfreeze()


def test_decisions_of_the_first_second_are_in_the_window_that_ends_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_COUNT_EVERY_S", 3600.0)
    clock = Clock()
    write_state(
        tmp_path,
        ServingState(revision=1, stable=package(tmp_path, 3, exportable(AGREED), AGREED, at=clock.now)),
    )
    log = log_in(tmp_path)
    agreed = monitor(privacy="{noise: 0.5, limit: {epsilon: 50, delta: 1e-6}, period: 365d}")
    decisions = tmp_path / "decisions"
    watch = Watch.begun(tmp_path, agreed, TARGET, decisions, clock=clock, entropy=secrets.token_bytes)
    scorer = Scorer(log, clock=clock, watch=watch)
    opener = opener_of(tmp_path, TARGET, releases_in(tmp_path, clock.now).pinned, clock)
    listening = Listening(port=free_port(), no_auth_on_loopback=True)
    process = server._Process(scorer, listening, listening.door(), Follower(tmp_path, opener, scorer))

    async def story() -> None:
        running = asyncio.create_task(process.run())
        address = f"http://{listening.host}:{listening.port}"
        async with httpx.AsyncClient(
            base_url=address, trust_env=False, transport=httpx.AsyncHTTPTransport(retries=10)
        ) as client:
            for _ in range(REQUESTS):
                assert (await client.post(INFER, json=question())).is_success
        clock.on(days=1)
        process._ending.set()
        await running

    asyncio.run(story())
    (told,), _ = Store.of(tmp_path).windows(0, 1 << 20)
    assert told.number == 1
    assert told.counted is not None
    assert told.counted.profile["term"][0] == pytest.approx(REQUESTS, abs=8)
