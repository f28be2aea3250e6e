"""The unit and the container file that sites get: what systemd says of the unit, and that both name commands and options that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from client.cli import app

PACKAGING = Path(__file__).parents[2] / "client" / "packaging"
UNIT = PACKAGING / "covenant-agent.service"


def settings() -> dict[str, str]:
    pairs = (line.partition("=") for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line))
    return {name: value for name, _, value in pairs}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With a program that is there in the place of one that is not installed."""
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/opt/covenant/current/bin/covenant-agent", "/bin/true")
    unit.write_text(re.sub(r"(?m)^(User|Group)=.*$", r"\1=root", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []


def test_stopping_the_service_leaves_time_to_drain() -> None:
    found = re.search(r"--drain-within (\d+)", settings()["ExecStart"])
    assert found is not None
    assert settings()["KillSignal"] == "SIGTERM"
    assert int(settings()["TimeoutStopSec"]) > int(found[1])


def test_the_service_has_limits_and_one_folder() -> None:
    found = settings()
    assert {"MemoryMax", "CPUQuota", "TasksMax", "LimitNOFILE"} <= found.keys()
    assert (found["ProtectSystem"], found["NoNewPrivileges"], found["LimitCORE"]) == ("strict", "yes", "0")
    assert found["StateDirectory"] == "covenant-agent"
    assert "LoadCredentialEncrypted" in found


@pytest.mark.parametrize("name", ["covenant-agent.service", "Containerfile"])
def test_commands_and_options_are_those_that_there_are(name: str) -> None:
    command = typer.main.get_command(app)
    known = {option for each in command.commands.values() for param in each.params for option in param.opts}  # type: ignore[attr-defined]
    used = re.findall(r"(?m)^(?:ExecStart=|HEALTHCHECK|ENTRYPOINT|CMD).*$", (PACKAGING / name).read_text())
    options = set(re.findall(r"--(?:config|drain-within|check)\b", " ".join(used)))
    assert options
    assert options <= known
