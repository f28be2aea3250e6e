"""Ray for one simulation: started for it on loopback and ended with it, or a cluster that others started, which is joined and left.

1. Nothing leaves the machine unasked: a Ray that is started here listens on loopback, without dashboard and usage statistics, and asks whoever connects
   for a token that this process drew, because Ray runs what it is sent, and whoever is on the machine reaches its loopback. A cluster is
   joined only where it is named. $RAY_ADDRESS is not asked.
2. Flower's engine waits for ever for processors that nobody gives it, so they are counted first.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from strategies.errors import CovenantError, UsageError

_LOOPBACK: Final = "127.0.0.1"
_ASKED: Final = {"RAY_ENABLE_AUTO_CONNECT": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""A Ray is had by `ray_for` or not at all, never by a call that comes too late. The other one is what Ray will do by itself some day, and warns of until
then: a process without a GPU sees the variables that it was given."""
_ADDRESS: Final = re.compile(r"auto|[A-Za-z0-9.-]+:\d{1,5}")
_AUTO: Final = "auto"
_HEAD_ANSWERS_WITHIN_S: Final = 10.0
_FREE_WITHIN_S: Final = 20.0
_LOOK_S: Final = 0.2
_CPU: Final = "CPU"
_SITE_BYTES: Final = 1 << 28
"""What a site's process takes for itself before it has read a row: measured, 255 MB."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray that this process is connected to. `cpus_a_worker` is what Flower's engine is to give each of its workers."""

    cpus: int
    cpus_a_worker: int
    memory: int
    """Bytes that its processes may take, on all machines."""
    on_this_machine: bool
    """Whether all its processes see this machine's files."""

    def require_memory(self, sites: int) -> None:
        """Raise `CovenantError` where the processes of so many sites do not fit."""
        if sites * _SITE_BYTES > self.memory:
            raise CovenantError(
                f"{sites} sites take at least {sites * _SITE_BYTES / 2**30:.1f} GiB, a process for each, and Ray has {self.memory / 2**30:.1f} GiB; "
                "simulate fewer sites, join a larger cluster, or use the engine memory"
            )


@contextmanager
def ray_for(address: str | None, sites: int) -> Iterator[Cluster]:
    """Ray for so many sites: a new one on this machine, or the cluster at `address` (`HOST:PORT`, or `auto` for the one that this machine is in).

    Raises `UsageError` for an address of another form and where ray is not installed, `CovenantError` where it can't be had.
    """
    if address is not None and not _ADDRESS.fullmatch(address):
        raise UsageError(
            f"{address} is no address of a Ray cluster; use HOST:PORT of a cluster's head, such as 10.0.0.5:6379, or auto for the one this machine is in"
        )
    if address not in {None, _AUTO}:
        _require_head(str(address))
    os.environ |= _ASKED | (_own_environment() if address is None else {})
    ray = _ray()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        given: dict[str, Any] = {"address": address}
        if address is None:
            given = {
                "address": "local",
                "num_cpus": min(len(os.sched_getaffinity(0)), sites),
                "num_gpus": 0,
                "include_dashboard": False,
                "_node_ip_address": _LOOPBACK,
                "_temp_dir": folder,
            }
        try:
            with _handler_kept(), _said_plainly(address):
                ray.init(namespace=_namespace(), log_to_driver=False, logging_level=logging.CRITICAL, **given)
            if address is None:
                _require_loopback(ray.nodes())
            nodes = _cpus(ray)
            yield Cluster(sum(nodes), _share(nodes, sites), _memory(ray), on_this_machine=address is None)
        finally:
            ray.shutdown()


def _own_environment() -> dict[str, str]:
    """What makes a Ray that is started under it one's own. It is read when ray is imported, here and in the processes that Ray starts.

    Ray takes the machine's outward address even if it is told another, unless it believes to be where there are no clusters. The token is in the
    environment of its processes, which the same user and root can read, and in no argument and no log.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
    }


@cache
def _token() -> str:
    """One a process, because Ray reads it once a process."""
    return secrets.token_hex(32)


@contextmanager
def _handler_kept() -> Iterator[None]:
    """`ray.init` puts a handler of SIGTERM of its own, which leaves without unwinding, in the place of the command's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _require_head(address: str) -> None:
    """Ray looks for a head that is not there for minutes, so a connection is tried first."""
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_HEAD_ANSWERS_WITHIN_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise CovenantError(
            f"there is no Ray cluster to join at {address} ({error}); start its head with `ray start --head`, and see that its port is open to this machine"
        ) from error


def require_ray(what: str) -> None:
    """Raise UsageError where Ray, which `what` needs, is not installed."""
    if find_spec("ray") is None:
        raise UsageError(
            f"{what} needs Ray, which is not installed; install it with: pip install 'covenant-fl[ray]'"
        )


def _ray() -> Any:  # noqa: ANN401 (a module)
    require_ray("the engine ray")
    import ray

    return ray


def _namespace() -> str:
    """Names of actors of this simulation are nobody else's on the cluster."""
    return f"covenant-{os.getpid()}-{time.time_ns():x}"


@contextmanager
def _said_plainly(address: str | None) -> Iterator[None]:
    where = "Ray could not be started" if address is None else f"there is no Ray cluster to join at {address}"
    try:
        yield
    except Exception as error:  # Ray raises OSError, RuntimeError, ValueError, ConnectionError and its own
        why = " ".join(str(error).split())
        hint = (
            "free some memory, or shorten $TMPDIR"
            if address is None
            else "start one with `ray start --head` and join it with `ray start --address`"
        )
        raise CovenantError(f"{where} ({why}); {hint}") from error


def _require_loopback(nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise `CovenantError` where a node of a Ray that was to be on loopback is elsewhere."""
    away = {str(node["NodeManagerAddress"]) for node in nodes} - {_LOOPBACK}
    if away:
        raise CovenantError(
            f"Ray listens on {', '.join(sorted(away))} and was to listen on {_LOOPBACK} only; this version of Ray can't be used here"
        )


def _cpus(ray: Any) -> list[int]:  # noqa: ANN401 (a module)
    """The processors of each machine. Raises `CovenantError` where there is none, or somebody else uses one."""
    nodes = [int(node["Resources"].get(_CPU, 0)) for node in ray.nodes() if node["Alive"]]
    if not sum(nodes):
        raise CovenantError(
            "the Ray cluster has no CPU to give; start one of its machines with `ray start --num-cpus N`, N at least 1"
        )
    _require_free(ray, sum(nodes))
    return nodes


def _memory(ray: Any) -> int:  # noqa: ANN401 (a module)
    return sum(int(node["Resources"].get("memory", 0)) for node in ray.nodes() if node["Alive"])


def _share(nodes: Sequence[int], sites: int) -> int:
    """How many processors each of Flower's workers takes, so that there are hardly more of these than sites. A worker is on one machine."""
    each = 1
    while sum(cpus // (each + 1) for cpus in nodes) >= sites:
        each += 1
    return each


def _require_free(ray: Any, total: int) -> None:  # noqa: ANN401 (a module)
    """All processors have to be free: Flower starts a worker for each, and would wait for one that it does not get."""
    until = time.monotonic() + _FREE_WITHIN_S
    while (free := int(ray.available_resources().get(_CPU, 0))) < total:
        if time.monotonic() > until:
            raise CovenantError(
                f"{total - free} of the Ray cluster's {total} CPUs are in use by somebody else, and Flower's engine needs all of them; "
                "wait until they are free, or start a cluster for this simulation"
            )
        time.sleep(_LOOK_S)
