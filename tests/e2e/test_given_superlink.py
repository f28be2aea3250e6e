"""A coordinator that uses a SuperLink it did not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.flower.superlink import SuperLink
from coordinator.settings import load_settings
from tests.e2e.conftest import ROUNDS, Federation, lay_out, start

pytestmark = [pytest.mark.engine]


@pytest.mark.slow
def test_a_given_superlink_is_used_and_learns_the_sites_again_after_it_forgot_them(tmp_path: Path) -> None:
    deployment, plan = lay_out(tmp_path)
    config = deployment.home / "covenant.yaml"
    given = f"port: {deployment.port}"
    config.write_text(config.read_text().replace(given, f"{given}, managed: false"))
    federation = Federation(deployment, plan)
    address = load_settings(deployment.home).superlink
    with (tmp_path / "superlink.log").open("wb") as log, deployment:
        with SuperLink(address=address, home=tmp_path / "elsewhere", log=log):
            start(deployment, federation.sites)
            assert federation.finish(federation.launch()).committed == ROUNDS
        with SuperLink(address=address, home=tmp_path / "elsewhere", log=log):
            federation.wait(
                lambda: all(federation.connections(site) >= 2 for site in federation.sites),
                "the reconnection of all agents",
            )
            assert federation.finish(federation.launch()).committed == ROUNDS
