"""`covenant up --demo`: the demo's federation with its web console, and something to see on every page, until somebody has seen enough.

1. A plan is approved by its officers and its run is going; the next plan waits for somebody to approve it.
2. With `full` there is a past as well: two runs that have ended, their models approved, and one deployed with the other beside it on a share of requests. Before that
   the first served alone and was watched: other applicants came, an alarm names them, and a plan was drafted. Its windows end there, so that they stay in sight.
3. Whoever looks signs in by a link, one for each role, and approves at a desk of their own, from a folder that has no more than an officer's key and access.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from coordinator.cli.runs import watch
from coordinator.console.links import GOOD_FOR, PATH, make_link
from coordinator.console.vault import Vault
from coordinator.control_tls import control_files, fingerprint_of
from coordinator.registry.versions import list_versions
from protos.keys import grouped
from protos.shell import people
from simulation.demo import data
from simulation.demo.demonstration import Demonstration, applicants_of, command_path, step
from simulation.demo.deployed import Rollouts, declined_by_both
from simulation.demo.governed import AUTHOR, Officers
from simulation.demo.traffic import Traffic
from simulation.demo.watched import watched
from simulation.deployment import Deployment, free_port
from simulation.officers import OFFICERS, PRIVACY, ROLES
from strategies.errors import CovenantError, UsageError
from strategies.ids import RunId

_RUNS: Final = 4
"""Runs of the small plan that the accounts have room for, so that a reader can launch some."""
_WITHIN_S: Final = 60.0
_SHORT: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What a reader needs to look: `links` by officer, `run` that is going, and `plan`, the digest of the one that waits to be approved."""

    address: str
    links: Mapping[str, str]
    ca: Path
    fingerprint: str
    home: Path
    machines: Mapping[str, Path]
    run: RunId
    plan: str

    def facts(self) -> dict[str, object]:
        """As one JSON object. A link signs in once, within an hour."""
        return {
            "address": self.address,
            "links": [
                {"officer": officer, "role": str(ROLES[officer]), "link": link}
                for officer, link in self.links.items()
            ],
            "ca": str(self.ca),
            "fingerprint": self.fingerprint,
            "home": str(self.home),
            "machines": {name: str(folder) for name, folder in self.machines.items()},
            "run": self.run,
            "plan": self.plan,
        }

    def show(self) -> None:
        """For people."""
        covenant, minutes = command_path(), round(GOOD_FOR.total_seconds() / 60)
        words = [
            f"\nThe demo's federation is up. Its console: {self.address}",
            f"Your browser does not know who vouches for it: trust {self.ca}, whose fingerprint is",
            f"  {grouped(self.fingerprint)}",
            f"Each link signs one officer in once, within {minutes} minutes:",
            *(f"  {officer:<15}  {link}" for officer, link in self.links.items()),
            f"{self.run} is going; plan {self.plan[:_SHORT]} waits for {' and '.join(name for name in OFFICERS if name != AUTHOR)}.",
            "In another terminal:",
            f"  export COVENANT_HOME={self.home}",
            f"  {covenant} run watch {self.run}",
            f"  {covenant} console link {AUTHOR}      # another link",
            f"  cd {self.machines[PRIVACY]}   # an officer's own folder; to approve from there:",
            f"  {covenant} desk --access access --root root.json --key officer.key --passphrase-file passphrase",
            "Ctrl-C ends it.",
        ]
        for each in words:
            people.print(each, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def kept_up(demonstration: Demonstration, port: int) -> Iterator[tuple[Deployment, Welcome]]:
    """The federation, running, with its console on loopback `port`, or on one that is free for 0. Raises UsageError for one that is taken."""
    console_port = _port(port)
    runs = _RUNS if demonstration.private else 0
    with demonstration.federation(runs, console_port) as deployment:
        with step("the web console"):
            _wait_until_served(deployment)
        with step("officers' own machines, let in over the control API"):
            officers = Officers.let_in(deployment, deployment.folder / "machines")
        agreed = _past(demonstration, deployment, officers) if demonstration.full else None
        if agreed is None:
            with step("a plan, proposed and approved from there"):
                agreed = officers.agree(_copy(officers, data.PLAN, deployment))
        with step("the next plan, which waits for its officers"):
            waiting = officers.propose(_next(demonstration, officers))
        with step(f"a run of plan {agreed[:_SHORT]}"):
            run = officers.launch(agreed)
        yield deployment, _welcome(deployment, officers, run, waiting)


def _past(demonstration: Demonstration, deployment: Deployment, officers: Officers) -> str:
    """Two runs, and what became of their models; the digest of the second one's plan."""
    plan, contract = demonstration.documents()
    centre, digest = deployment.centre(), ""
    for name in (data.PLAN, data.PILOT):
        with step("a plan, proposed and approved from there"):
            digest = officers.agree(_copy(officers, name, deployment))
        with step("its run", spinner=False):
            watch(centre, officers.launch(digest), deployment.check)
    features = contract.feature_spec(plan.features)
    first, second = list_versions(centre.engine, plan.name)
    with step(
        f"{first.ref} and {second.ref}, judged by their plans' gates and approved by two officers each"
    ):
        applicants = applicants_of(plan, contract, data.tables(contract))
        application = declined_by_both(deployment, (first, second), features, applicants)
        rollouts = Rollouts.of(deployment, officers, (first, second), application)
        rollouts.approve()
    with step(f"{first.ref} deployed"):
        rollouts.serve()
    watched(rollouts, Traffic(applicants, features, contract), step)
    with step(f"{second.ref} on a share of applicants beside it"):
        rollouts.share()
    return digest


def _copy(officers: Officers, name: str, deployment: Deployment) -> Path:
    """A plan of the demo, with its contract, in its author's folder: the one that this federation has, where it has its own."""
    author = officers.machines[AUTHOR].folder
    data.copy_document(data.CONTRACT, author)
    target, own = author / name, deployment.folder / name
    target.write_bytes(own.read_bytes())
    return target


def _next(demonstration: Demonstration, officers: Officers) -> Path:
    """The small plan; where that has run already, or where there is no privacy, a plan that differs a little from one that was approved."""
    author = officers.machines[AUTHOR].folder
    if demonstration.private and not demonstration.full:
        return data.copy_document(data.PILOT, author)
    before, changed = (
        ((author / data.PILOT), (r"learning_rate: 0\.03", "learning_rate: 0.02"))
        if demonstration.private
        else ((author / data.PLAN), (r"(?m)^  learning_rate: 0\.5", "  learning_rate: 0.4"))
    )
    text, count = re.subn(*changed, before.read_text())
    if count != 1:
        raise CovenantError(f"{before} has no single {changed[0]}")
    plan = author / "plan-next.yaml"
    plan.write_text(text)
    return plan


def _welcome(deployment: Deployment, officers: Officers, run: RunId, waiting: str) -> Welcome:
    centre = deployment.centre()
    ca, vault = control_files(centre.settings, centre.clock()).ca, Vault(centre.settings.console_key_file)
    address = _address(deployment)
    return Welcome(
        address=address,
        links={
            name: f"{address}{PATH}?key={make_link(centre.engine, vault, name, centre.clock())}"
            for name in ROLES
        },
        ca=ca,
        fingerprint=fingerprint_of(ca),
        home=deployment.home,
        machines={name: each.folder for name, each in officers.machines.items()},
        run=run,
        plan=waiting,
    )


def _address(deployment: Deployment) -> str:
    return f"https://127.0.0.1:{deployment.console_port}"


def _wait_until_served(deployment: Deployment) -> None:
    """Return once the console answers. Raises CovenantError if it does not in time."""
    centre, deadline = deployment.centre(), time.monotonic() + _WITHIN_S
    trusted = ssl.create_default_context(cafile=control_files(centre.settings, centre.clock()).ca)
    with httpx.Client(base_url=_address(deployment), verify=trusted, trust_env=False) as client:
        while time.monotonic() < deadline:
            deployment.check()
            try:
                if client.get("/signin").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
    raise CovenantError(
        f"the console at {_address(deployment)} did not answer within {_WITHIN_S:.0f} s; see {deployment.log_of('coordinator')}"
    )


def _port(port: int) -> int:
    """`port`, or one that is free for 0. Raises UsageError for one that somebody listens on."""
    if not port:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that has just been left is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); name another one with --port, or 0 for any that is free"
            ) from error
    return port
