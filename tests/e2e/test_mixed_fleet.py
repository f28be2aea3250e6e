"""Sites patch weeks apart: agents of different releases aggregate together as long as their training behaves alike, and no further."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round
from strategies.ids import RunId
from tests.e2e.conftest import ROUNDS, Federation, lay_out

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PACKAGES = ("client", "coordinator", "protos", "simulation", "strategies")


def release(folder: Path, version: str, *, component: str = "tabular/1") -> Path:
    """This package as another release of itself, unpacked from its wheel."""
    checkout, source = Path(__file__).parents[2], folder / "source"
    for name in PACKAGES:
        shutil.copytree(checkout / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(checkout / name, source)
    project = (checkout / "pyproject.toml").read_text()
    (source / "pyproject.toml").write_text(re.sub(r'(?m)^version = ".*"', f'version = "{version}"', project))
    session = source / "client" / "training" / "session.py"
    session.write_text(session.read_text().replace('"tabular/1"', f'"{component}"'))
    build = ["pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob(f"covenant_fl-{version}-*.whl")
    shutil.unpack_archive(wheel, folder / "installed", "zip")
    return folder / "installed"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """West and midwest run this release, northeast a later one, south one whose training behaves otherwise."""
    folder = tmp_path_factory.mktemp("fleet")
    deployment, plan = lay_out(folder)
    federation = Federation(deployment, plan)
    with deployment:
        deployment.start_coordinator()
        for site in ("west", "midwest"):
            deployment.start_agent(site)
        deployment.start_agent("northeast", release(folder / "later", "0.2.0"))
        deployment.start_agent("south", release(folder / "other", "0.3.0", component="tabular/9"))
        deployment.wait_until_ready()
        yield federation


def rounds(federation: Federation, run: RunId) -> list[Round]:
    with Session(federation.deployment.centre().engine) as session:
        return list(session.scalars(select(Round).where(Round.run_id == run).order_by(Round.number)))


def release_of(federation: Federation, site: str) -> tuple[str, str]:
    """Version and component, as the agent of `site` says when it connects."""
    federation.wait(lambda: federation.connections(site) > 0, f"the connection of {site}")
    line = next(line for line in federation.log(site).splitlines() if '"connected"' in line)
    said = json.loads(line)
    return said["version"], said["components"][0]


def test_masks_of_two_releases_cancel_and_another_behaviour_stays_out(fleet: Federation) -> None:
    releases = {site: release_of(fleet, site) for site in fleet.sites}
    assert releases["northeast"] == ("0.2.0", "tabular/1")
    assert releases["south"] == ("0.3.0", "tabular/9")
    assert releases["west"][0] not in {"0.2.0", "0.3.0"}
    run = fleet.launch()
    assert fleet.finish(run).committed == ROUNDS
    committed = [row for row in rounds(fleet, run) if row.state == "committed"]
    assert [row.survivors for row in committed] == [["midwest", "northeast", "west"]] * ROUNDS
    assert "training component tabular/1 is not installed; this site has tabular/9" in fleet.log("south")
