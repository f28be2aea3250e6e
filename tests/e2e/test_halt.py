"""A halt bites within a second in real processes, wherever the run is; and a site alone halts a run for everybody."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from coordinator.db import reading
from coordinator.db.schema import Run, RunState
from coordinator.governance.halts import views
from coordinator.governance.log import open_log
from coordinator.runs import resume
from protos.documents import load_document
from protos.log_audit import audit
from protos.root import SignedRoot
from strategies.errors import Refused
from strategies.ids import RunId
from tests.e2e.conftest import Federation

pytestmark = [pytest.mark.engine, pytest.mark.slow]
LONG = "400"


def covenant(federation: Federation, *arguments: str) -> float:
    """How long a command of the centre took, in a process of its own."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "coordinator.main",
        *arguments,
        "--home",
        str(federation.deployment.home),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return time.monotonic() - began


def by(federation: Federation, name: str) -> list[str]:
    officers = federation.deployment.officers
    return [
        "--officer", name, "--key", str(officers.key(name)), "--passphrase-file", str(officers.passphrase(name)),
    ]  # fmt: skip


def lift_all(federation: Federation) -> None:
    for found in views(federation.deployment.centre().engine):
        if found.lifted_at is None:
            for name in ("privacy-officer", "model-risk"):
                covenant(
                    federation, "halt", "lift", found.order.id, "--reason", "over", *by(federation, name)
                )


def the_run(federation: Federation, run: RunId) -> Run:
    with reading(federation.deployment.centre().engine, "looking") as session:
        return session.get_one(Run, run)


def going(federation: Federation, plan: Path) -> RunId:
    run = federation.launch(plan)
    federation.wait(lambda: federation.view(run).committed >= 2, "round 2")
    return run


def require_no_driver(federation: Federation, within_s: float) -> None:
    federation.wait(
        lambda: federation.deployment.coordinators_child("server_process") is None,
        "the driver's end",
        within_s,
    )


def audited(federation: Federation) -> None:
    centre = federation.deployment.centre()
    log = open_log(centre.engine, centre.settings, centre.clock)
    pinned = load_document(centre.settings.root_file, SignedRoot)
    assert len(audit((each.body for each in log.entries()), pinned).halts.given) >= 1


def test_an_officer_stops_what_is_going_and_two_let_it_go_on(federation: Federation) -> None:
    plan = federation.variant("long", rounds=LONG)
    run = going(federation, plan)
    covenant(federation, "halt", "--all", "--reason", "odd", *by(federation, "ml-engineer"))
    assert the_run(federation, run).state == RunState.STOPPED
    committed = federation.view(run).committed
    with pytest.raises(Refused, match="halted everything"):
        federation.launch(plan)
    require_no_driver(federation, 60.0)
    assert federation.view(run).committed == committed
    with pytest.raises(Refused, match="halted everything"):
        resume(federation.deployment.centre(), run)
    lift_all(federation)
    resume(federation.deployment.centre(), run)
    federation.wait(lambda: federation.view(run).committed > committed, "the next round")
    covenant(federation, "halt", "--run", run, "--reason", "enough", *by(federation, "model-risk"))
    audited(federation)
    lift_all(federation)


def test_a_driver_that_waits_for_a_site_hears_of_a_halt_within_a_second(federation: Federation) -> None:
    """The site is dead, and its deadline a minute away; nobody stops the driver's process but itself."""
    plan = federation.variant("waiting", minimum="4", rounds=LONG)
    run = going(federation, plan)
    federation.deployment.kill("south")
    time.sleep(2.0)
    from coordinator.cli.signing import now
    from coordinator.documents import read_root
    from coordinator.governance.halts import _record
    from protos.halts import OrderedBy, order_halt
    from protos.keys import SigningKey
    from protos.passphrases import read_passphrase

    officers = federation.deployment.officers
    key = SigningKey.load(officers.key("model-risk"), read_passphrase(officers.passphrase("model-risk")))
    giver = OrderedBy(kind="officer", name="model-risk")
    root = read_root(federation.deployment.centre().settings).root.identity
    order = order_halt(root, "run", run, "odd", giver, key, at=now(), entropy=bytes(16))
    _record(federation.deployment.centre(), order, None)
    federation.wait(
        lambda: (
            f"{run} stops: officer model-risk halted"
            in (federation.deployment.home / "logs/serverapp.log").read_text()
        ),
        "the driver's hearing of it",
        within_s=30.0,  # a second, and what a busy machine adds
    )
    require_no_driver(federation, 60.0)
    federation.restart("south")
    lift_all(federation)


def test_a_site_alone_halts_a_run_for_everybody(federation: Federation) -> None:
    plan = federation.variant("sites", rounds=LONG)
    run = going(federation, plan)
    config = ["--config", str(federation.deployment.site_folder("south") / "site.yaml")]
    agent = [sys.executable, "-m", "client.cli"]
    given = [*agent, "halt", "--run", run, "--reason", "our rows are wrong", *config]
    subprocess.run(given, check=True, capture_output=True, timeout=60)
    federation.wait(
        lambda: the_run(federation, run).state == RunState.STOPPED, "the run's stop", within_s=60.0
    )
    assert "site south halted run" in str(the_run(federation, run).reason)
    audited(federation)
    lift_all(federation)
    subprocess.run(
        [*agent, "resume", "--run", run, "--reason", "mended", *config],
        check=True,
        capture_output=True,
        timeout=60,
    )
    committed = federation.view(run).committed
    resume(federation.deployment.centre(), run)
    federation.wait(lambda: federation.view(run).committed > committed, "the next round")
    covenant(federation, "run", "stop", run)
