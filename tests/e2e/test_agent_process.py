"""The agent as a process of its own: what it refuses, what it survives, how it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from client.agent import Agent
from client.fleet.connection import FleetConnection
from client.fleet.probe import Intercepted
from client.keystore import load_node_key
from protos.egress import child_environment
from protos.site import load_site
from simulation.deployment import Deployment
from tests.e2e.conftest import Federation, lay_out, start

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def run_agent(deployment: Deployment, site: str, *options: str) -> subprocess.CompletedProcess[str]:
    config = deployment.site_folder(site) / "site.yaml"
    return subprocess.run(
        [sys.executable, "-m", "client.cli", "run", "--config", str(config), *options],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_dead_superlink_gets_one_sentence_and_exit_code_4(tmp_path: Path) -> None:
    deployment, _ = lay_out(tmp_path)
    done = run_agent(deployment, "west", "--give-up-after", "1")
    assert done.returncode == 4
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the SuperLink at 127.0.0.1:")
    assert "cannot be reached" in last
    assert "federation.superlink" in last


@pytest.mark.slow
def test_a_fab_that_the_site_does_not_pin_is_refused(tmp_path: Path) -> None:
    deployment, plan = lay_out(tmp_path, minimum="4", join_within="60s")
    config = deployment.site_folder("south") / "site.yaml"
    pinned = "0" * 64
    config.write_text(config.read_text().replace("fab_sha256: []", f'fab_sha256: ["{pinned}"]'))
    federation = Federation(deployment, plan)
    with deployment:
        start(deployment, federation.sites)
        run = federation.launch()
        federation.wait(lambda: federation.view(run).state == "failed", "the refusal")
        reason = federation.view(run).reason
    assert reason is not None
    assert "south" in reason
    assert "`allow.fab_sha256` pins at this site" in reason
    assert federation.view(run).committed == 0


@pytest.mark.slow
def test_a_site_whose_data_breaks_the_contract_says_so_and_nothing_more(tmp_path: Path) -> None:
    """The missing column is named in the site's own log; the centre hears `contract`."""
    deployment, plan = lay_out(tmp_path, minimum="4")
    rows = deployment.site_folder("south") / "data" / "rows.parquet"
    pq.write_table(pq.read_table(rows).drop_columns(["annual_inc"]), rows)
    federation = Federation(deployment, plan)
    with deployment:
        start(deployment, federation.sites)
        run = federation.launch()
        federation.wait(lambda: federation.view(run).state == "failed", "the refusal")
        reason = federation.view(run).reason
    assert reason is not None
    assert "south refused (contract)" in reason
    assert "annual_inc" not in reason
    assert "column 'annual_inc' of rows.parquet is missing" in federation.log("south")
    assert federation.view(run).committed == 0


@pytest.mark.slow
def test_an_idle_agent_asks_less_than_twice_a_second(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts the real requests of a real agent object against the real SuperLink."""
    from client import app as client_app
    from client import process

    calls: list[float] = []
    pull = FleetConnection.pull

    def counting(self: FleetConnection) -> object:
        calls.append(time.monotonic())
        return pull(self)

    monkeypatch.setattr(FleetConnection, "pull", counting)
    federation.deployment.end("west")
    site_file = federation.deployment.site_folder("west") / "site.yaml"
    import threading

    agents: list[Agent] = []

    def serve() -> None:
        with process.open_agent(site_file) as agent:
            agents.append(agent)
            agent.serve()
        # An agent's process lets go of its journal when it ends; this one goes on with the tests.
        client_app.participant(site_file).close()
        client_app.participant.cache_clear()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        federation.wait(lambda: len(calls) > 0, "the first poll")
        began, before = time.monotonic(), len(calls)
        time.sleep(8)
        rate = (len(calls) - before) / (time.monotonic() - began)
    finally:
        agents[0].drain()
        thread.join(20)
        federation.restart("west")
    assert 0 < rate <= 1.5, (
        "with a heartbeat every 15 s an idle agent must stay at two requests a second at most"
    )


@pytest.mark.slow
def test_an_unregistered_site_is_told_so_and_goes_on_trying(federation: Federation, tmp_path: Path) -> None:
    stranger, _ = lay_out(tmp_path)
    config = stranger.site_folder("west") / "site.yaml"
    text = config.read_text().replace(f"127.0.0.1:{stranger.port}", f"127.0.0.1:{federation.deployment.port}")
    config.write_text(text)
    (stranger.site_folder("west") / "ca.crt").write_bytes(
        (federation.deployment.home / "tls" / "ca.crt").read_bytes()
    )
    done = run_agent(stranger, "west", "--give-up-after", "2")
    assert done.returncode == 4
    assert "refused this site's key" in done.stderr


def test_a_superlink_with_another_certificate_authority_is_not_trusted(
    federation: Federation, tmp_path: Path
) -> None:
    stranger, _ = lay_out(tmp_path)
    site = load_site(stranger.site_folder("west") / "site.yaml")
    connection = FleetConnection(
        address=f"127.0.0.1:{federation.deployment.port}",
        ca_file=site.federation.ca,
        key=load_node_key(site.identity.node_key),
        node_file=tmp_path / "node-id",
    )
    with pytest.raises(Intercepted, match="not of the pinned authority"):
        connection.activate()
    connection.close()
