"""Ray's processes as the system sees them, and a cluster of two nodes on loopback from the commands of the page about it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from protos.egress import child_environment

PAGE = Path(__file__).parents[3] / "docs" / "ml-team" / "scale.md"
LOOPBACK = "127.0.0.1"
_CPUS = 1
_WORKER_PORTS = 60
_BIN = Path(sys.executable).parent
_RAY = """
from ray._private import services
services.get_node_ip_address = lambda address=None: "127.0.0.1"
from ray.scripts.scripts import main
main()
"""
"""The command `ray`, which would take this machine's outward address; with RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 it would take no second node."""


def environment(**more: str) -> dict[str, str]:
    """What Ray's own commands need to stay on loopback."""
    return child_environment() | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "OMP_NUM_THREADS": "1"} | more


def covenant(*words: str, **more: str) -> subprocess.Popen[str]:
    """A `covenant` command that has begun."""
    return subprocess.Popen(
        [_BIN / "covenant", *words],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, a shell has had SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (one system call)
    )


def parents() -> dict[int, int]:
    """Each process of this machine with its parent."""
    found = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(each.parent.name)] = int(each.read_text().rpartition(")")[2].split()[1])
    return found


def descendants(process: int) -> set[int]:
    """A process's children, and theirs."""
    known = parents()
    found, new = set[int](), {process}
    while new:
        new = {child for child, parent in known.items() if parent in new} - found
        found |= new
    return found


def words(process: int) -> str:
    """What a process was started with, or calls itself; nothing for one that is gone or a zombie."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def living(processes: Sequence[int] | set[int], *, within_s: float = 20.0) -> dict[int, str]:
    """Those of `processes` that are still there after a while."""
    until = time.monotonic() + within_s
    while True:
        left = {each: words(each) for each in processes if words(each)}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.2)


def tcp_addresses(processes: set[int]) -> set[str]:
    """The addresses, own and far, of all TCP sockets of `processes`; those of listening sockets have no far end."""
    sockets = set()
    for each in processes:
        with suppress(OSError):
            sockets |= {str(fd.readlink()) for fd in Path(f"/proc/{each}/fd").iterdir()}
    inodes = {found[1] for name in sockets if (found := re.fullmatch(r"socket:\[(\d+)\]", name))}
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[9] in inodes:
                addresses |= {_address(end) for end in parts[1:3] if not end.endswith(":0000")}
    return addresses


def _address(end: str) -> str:
    host = bytes.fromhex(end.partition(":")[0])
    words_of = b"".join(host[i : i + 4][::-1] for i in range(0, len(host), 4))
    if len(words_of) == 4:
        return socket.inet_ntop(socket.AF_INET, words_of)
    return socket.inet_ntop(socket.AF_INET6, words_of).removeprefix("::ffff:")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@dataclass
class RayCluster:
    """A head and one more node, started by the page's own commands; only hosts, ports and sizes are others."""

    folder: Path
    port: int = field(default_factory=free_port)
    nodes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """What the page exports, with a token of this cluster."""
        line = next(line for line in _lines() if line.startswith("export "))
        names = [each.partition("=") for each in shlex.split(line)[1:]]
        given = {name: value for name, _, value in names}
        assert given["RAY_AUTH_MODE"] == "token"
        return given | {"RAY_AUTH_TOKEN_PATH": str(self.folder / "token")}

    def start(self) -> None:
        token = self.folder / "token"
        token.touch(mode=0o600)
        token.write_text(os.urandom(32).hex())
        for place, line in enumerate(line for line in _lines() if line.startswith("ray start")):
            self._start(place, shlex.split(line)[1:])
        assert len(self.nodes) == 2

    def _start(self, place: int, given: Sequence[str]) -> None:
        ours = {
            "--port": self.port,
            "--address": self.address,
            "--node-manager-port": free_port(),
            "--object-manager-port": free_port(),
            "--min-worker-port": (first := 20000 + os.getpid() % 90 * 100 + place * _WORKER_PORTS // 2),
            "--max-worker-port": first + _WORKER_PORTS // 2 - 1,
        }
        options = [
            f"{name}={ours[name]}" if name in ours else word
            for word in given
            for name in [word.partition("=")[0]]
        ]
        here = [f"--node-ip-address={LOOPBACK}", f"--num-cpus={_CPUS}", "--block"]
        if "--head" in options:
            here.append(f"--temp-dir={self.folder / 'ray'}")
        node = subprocess.Popen(
            [sys.executable, "-c", _RAY, *options, *here],
            env=child_environment() | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.nodes.append(node)
        said = ""
        assert node.stdout is not None
        for line in node.stdout:
            said += line
            if "Ray runtime started" in line:
                return
        raise AssertionError(said)

    def processes(self) -> set[int]:
        return {each for node in self.nodes for each in (node.pid, *descendants(node.pid))}

    def stop(self) -> dict[int, str]:
        """End the nodes that were started here; returns what is left of their processes."""
        started = self.processes()
        for node in reversed(self.nodes):
            node.send_signal(signal.SIGTERM)
        for node in self.nodes:
            node.wait(timeout=60)
            assert node.stdout is not None
            node.stdout.close()
        return living(started)


def _lines() -> Iterator[str]:
    """The page's commands."""
    for block in re.findall(r"^ *```\n(.*?)^ *```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        yield from (line.strip() for line in block.splitlines())


def without(facts: Mapping[str, object], names: Sequence[str]) -> object:
    """Facts without those whose names end so."""

    def kept(value: object) -> object:
        if isinstance(value, Mapping):
            return {k: kept(v) for k, v in value.items() if not str(k).endswith(tuple(names))}
        return [kept(each) for each in value] if isinstance(value, list | tuple) else value

    return kept(facts)
