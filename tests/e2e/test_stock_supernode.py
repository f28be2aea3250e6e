"""In development a stock `flower-supernode` runs the same ClientApp, a process a message."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from client.keystore import load_node_key
from coordinator.db.schema import RunState
from protos.egress import child_environment
from simulation.deployment import free_port
from tests.e2e.conftest import Federation, lay_out, start

pytestmark = [pytest.mark.engine]


@pytest.mark.slow
def test_the_client_app_runs_under_a_stock_supernode(tmp_path: Path) -> None:
    deployment, plan = lay_out(tmp_path, rounds="1", minimum="4", every="1")
    # A process a message forgets its keys between two steps, so secure aggregation needs the warm agent; and each message is a start, for which
    # peers would have to vouch, so the plan asks for one witness alone.
    text = re.sub(r"aggregation: \{.*\}", "aggregation: {mode: plain}", plan.read_text())
    plan.write_text(text.replace("  minimum: 4\n", "  minimum: 4\n  witnesses: 1\n"))
    federation = Federation(deployment, plan)
    warm, stock = federation.sites[:3], federation.sites[3]
    with deployment:
        start(deployment, warm)
        supernode = start_supernode(federation, stock, tmp_path)
        try:
            finished = federation.finish(federation.launch())
        finally:
            os.killpg(supernode.pid, signal.SIGKILL)
            supernode.wait()
    assert finished.state is RunState.COMPLETED
    assert finished.committed == 1


def start_supernode(federation: Federation, site: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    deployment = federation.deployment
    folder = deployment.site_folder(site)
    key = tmp_path / "node.ssh"
    key.write_bytes(
        load_node_key(folder / "node.key").private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    key.chmod(0o600)
    binaries = Path(sys.executable).parent
    environment = child_environment(flower_home=tmp_path / "stock")
    with (tmp_path / "supernode.log").open("wb") as log:
        return subprocess.Popen(
            [
                str(binaries / "flower-supernode"),
                "--superlink", f"127.0.0.1:{deployment.port}",
                "--root-certificates", str(folder / "ca.crt"),
                "--auth-supernode-private-key", str(key),
                "--port", str(free_port()),
                "--node-config", f'site="{folder / "site.yaml"}"',
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment | {"PATH": f"{binaries}:{environment['PATH']}"},
            start_new_session=True,
        )  # fmt: skip
