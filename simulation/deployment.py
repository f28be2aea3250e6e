"""A whole federation of real processes on this machine: a coordinator with its SuperLink, and one agent a site.

Each site has a folder of its own with its key, its configuration and only its own rows. The officers' keys are made beside them, and
passphrases beside keys, which is fit for a demonstration and nothing else.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from client.enrolment.new_site import REQUEST_FILE, NewSite
from coordinator.bootstrap import Centre, open_centre
from coordinator.cli.centre import init as init_centre
from coordinator.cli.keys import new as new_key
from coordinator.cli.keys import signing
from coordinator.flower.control import Control
from coordinator.settings import load_settings
from protos.artifact_keys import ARTIFACTS
from protos.egress import child_environment
from protos.shell import people
from simulation.agents_process import PIDS_FILE
from simulation.officers import Officers, make_passphrase
from strategies.errors import CovenantError, Unreachable
from strategies.ids import SiteName

_AGENTS = "agents"
_STOP_WITHIN_S = 15.0
_START_WITHIN_S = 90.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Many processes share the cores, and an agent that is forked may have no second thread before."""


@dataclass
class Deployment:
    """A federation in `folder`. Use as a context manager: whatever it started is ended when the block is left."""

    folder: Path
    federation: str = "demo"
    port: int = 0
    control_port: int = 0
    enrolment_port: int | None = None
    """Of the enrolment door, if there is to be one."""
    console_port: int | None = None
    """Of the web console, if there is to be one."""
    sites_in: Path | None = None
    """Where the sites' folders lie, if not in `folder`."""
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logs: list[IO[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        self.stop()

    @property
    def home(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"

    @property
    def logs(self) -> Path:
        """Where the processes write their logs."""
        return self.folder / "logs"

    @property
    def members(self) -> Path:
        """The signed member list, with the roots that lead to it."""
        return self.home / "members.json"

    @property
    def officers(self) -> Officers:
        """Who decides, with their keys."""
        return Officers(self.folder / "officers")

    def site_folder(self, site: str) -> Path:
        """The folder of a site."""
        return (self.sites_in or self.folder / "sites") / site

    def centre(self) -> Centre:
        """The coordinator's services, from this process."""
        return open_centre(load_settings(self.home))

    def lay_out(
        self,
        tables: Mapping[SiteName, pa.Table],
        contract: Path,
        *,
        purpose: str,
        allow_plain: bool = False,
        privacy: Sequence[str] = ("none",),
        account: str | None = None,
    ) -> None:
        """Make the officers, the coordinator, and every site with its own rows; sign the member list. Sites recognise each other.

        `privacy` and `account` are what each site admits, as `covenant-agent init` takes them.
        """
        self.port = self.port or free_port()
        self.control_port = self.control_port or free_port()
        with people.capture():
            self.officers.make(self.federation)
            self.home.mkdir(parents=True)
            init_centre(
                self.home,
                self.federation,
                "127.0.0.1",
                self.port,
                [],
                make_passphrase(self.home / "passphrase"),
                self.control_port,
                enrolment_port=self.enrolment_port,
                console_port=self.console_port,
            )
            (self.home / "root.json").write_bytes(self.officers.root.read_bytes())
            self._let_sign_models()
            for site, table in tables.items():
                self._lay_out_site(
                    site,
                    table,
                    contract,
                    purpose,
                    peers=list(tables),
                    allow_plain=allow_plain,
                    privacy=privacy,
                    account=account,
                )
            requests = [self.site_folder(site) / REQUEST_FILE for site in tables]
            cards = {purpose: self.home / f"{purpose}.pub" for purpose in ("log", ARTIFACTS)}
            self.officers.certify(requests, cards, self.members)

    def _let_sign_models(self) -> None:
        """Make the key that signs models, and the service's that vouches for it."""
        passphrase = self.home / "passphrase"
        new_key(ARTIFACTS, self.home, passphrase)
        signing(self.home, self.home / f"{ARTIFACTS}.key", self.officers.root, passphrase)

    def _lay_out_site(
        self,
        site: SiteName,
        table: pa.Table,
        contract: Path,
        purpose: str,
        *,
        peers: list[SiteName],
        allow_plain: bool,
        privacy: Sequence[str],
        account: str | None,
    ) -> None:
        folder = self.site_folder(site)
        (folder / "data").mkdir(parents=True)
        folder.chmod(0o700)
        data = folder / "data" / "rows.parquet"
        pq.write_table(table, data)
        data.chmod(0o600)
        made = NewSite(
            site=site,
            federation=self.federation,
            superlink=f"127.0.0.1:{self.port}",
            ca=self.home / "tls" / "ca.crt",
            root=self.officers.root,
            contract=contract,
            data=data,
            purposes=[purpose],
            peers=peers,
            allow_plain=allow_plain,
            privacy=privacy,
            account=account,
            passphrase_file=make_passphrase(folder / "passphrase"),
        )
        made.make(folder)

    def approve(self, plan: Path, contract: Path | None = None) -> None:
        """Have the officers sign and approve a plan, which the sites ask for."""
        with people.capture():
            self.officers.approve(plan, contract)

    def start_coordinator(self) -> None:
        """Start the coordinator and wait until its SuperLink takes commands."""
        self._spawn("coordinator", "coordinator.main", "serve", "--home", str(self.home))

    def start_agent(self, site: str, installation: Path | None = None) -> None:
        """Start the agent of one site, from another installation of this package than this process's if one is given."""
        config = self.site_folder(site) / "site.yaml"
        self._spawn(site, "client.cli", "run", "--config", str(config), installation=installation)

    def start_agents(self, sites: Sequence[str]) -> None:
        """Start the agents of many sites, each a process, which share the memory of what they import (`simulation.agents_process`)."""
        self._spawn(_AGENTS, "simulation.agents_process", str(self.site_folder("")), *sites)

    def start_scoring(self, model: str, port: int) -> None:
        """Start a scoring service for a registered model."""
        self._spawn(
            "scoring",
            "coordinator.main",
            "score",
            "serve",
            model,
            "--home",
            str(self.home),
            "--port",
            str(port),
            "--no-auth-on-loopback",
        )

    def start_target(self, name: str, state: Path, port: int, watch: Sequence[str] = ()) -> None:
        """Start the scoring service that is the target `name`, which takes packages from `state` alone; `watch` are its options of monitoring."""
        trusted = ("--state", str(state), "--root", str(self.officers.root), "--target", name)
        listens = ("--port", str(port), "--no-auth-on-loopback")
        self._spawn(name, "coordinator.main", "score", "serve", *trusted, *listens, *watch)

    def wait_until_ready(self) -> None:
        """Return once the coordinator takes commands; raises `CovenantError` if it does not, naming its log."""
        deadline = time.monotonic() + _START_WITHIN_S
        while time.monotonic() < deadline:
            self.check()
            try:
                with Control(load_settings(self.home).superlink) as control:
                    if control.registered():
                        return
            except Unreachable:
                pass  # it is still starting
            time.sleep(0.1)
        raise CovenantError(
            f"the coordinator did not start within {_START_WITHIN_S:.0f} s; see {self.logs / 'coordinator.log'}"
        )

    def check(self) -> None:
        """Raise `CovenantError` if a process has ended by itself."""
        for name, child in self._children.items():
            if (code := child.poll()) is not None:
                raise CovenantError(
                    f"{name} ended with exit code {code}; its log, {self.log_of(name)}, says why"
                )

    def log_of(self, name: str) -> Path:
        """The log of a process."""
        return self.logs / f"{name}.log"

    def pid(self, name: str) -> int:
        """Process id of "coordinator", "scoring", a target's scoring service or a site's agent."""
        return self._children[name].pid

    def agent_pids(self) -> Mapping[str, int]:
        """Process ids of the agents that `start_agents` has started, by site; empty until all of them are."""
        file = self.site_folder(PIDS_FILE)
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def coordinators_child(self, module: str) -> int | None:
        """Process id of the coordinator's newest child that runs `module` (`superlink_process`, `server_process`), or None.

        The newest, because the server process of a run that has just completed takes a second to end.
        """
        parent = self.pid("coordinator")
        children = [
            int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _runs(stat, module, parent)
        ]
        return max(children, default=None)

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL, as a fault would."""
        child = self._children.pop(name)
        child.kill()
        child.wait()

    def end(self, name: str) -> int:
        """End one process politely; returns its exit code."""
        child = self._children.pop(name)
        child.send_signal(signal.SIGTERM)
        return child.wait(_STOP_WITHIN_S)

    def stop(self) -> None:
        """End every process: agents first, so that they can say goodbye, the coordinator last."""
        for names in (self._children.keys() - {"coordinator"}, self._children.keys() & {"coordinator"}):
            ending = [self._children.pop(name) for name in sorted(names)]
            for child in ending:
                child.terminate()
            deadline = time.monotonic() + _STOP_WITHIN_S
            for child in ending:
                try:
                    child.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        while self._logs:
            self._logs.pop().close()

    def _spawn(self, name: str, module: str, *arguments: str, installation: Path | None = None) -> None:
        packages = {} if installation is None else {"PYTHONPATH": str(installation)}
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.log_of(name).open("ab")
        self._logs.append(log)
        self._children[name] = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment() | _ONE_THREAD | {"PYTHONUNBUFFERED": "1"} | packages,
            cwd=self.folder,
            # A group of its own: Ctrl-C reaches this process alone, which then ends the others in order.
            process_group=0,
        )


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _runs(stat: Path, module: str, parent: int) -> bool:
    """Whether the process of /proc/PID/stat is a living child of `parent` whose command line names `module`."""
    try:
        state, its_parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
        command = (stat.parent / "cmdline").read_text()
    except OSError:
        return False
    return int(its_parent) == parent and state != "Z" and module in command
