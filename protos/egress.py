"""Nothing leaves this machine unasked: the environment in which Covenant's processes, and Flower inside them, run.

Proxies come from configuration, never from the environment, and loopback is never proxied. Flower's telemetry, its update
check and its installation of dependencies at run time are off, and so are Ray's usage statistics.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_PROXY_VARIABLES = frozenset(
    {"http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "no_proxy", "no_grpc_proxy"}
)
_LOOPBACK = "localhost,127.0.0.0/8,127.0.0.1,::1"
_CALLS_HOME_OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "GRPC_VERBOSITY": "error",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def quiet_environment(given: Mapping[str, str], *, proxy: str | None = None) -> dict[str, str]:
    """`given` without its proxies and with Flower's and Ray's calls home off; `proxy` is a URL from configuration, or None."""
    kept = {name: value for name, value in given.items() if name.lower() not in _PROXY_VARIABLES}
    if proxy is not None:
        kept |= {"https_proxy": proxy, "http_proxy": proxy, "grpc_proxy": proxy}
    return kept | _CALLS_HOME_OFF | {"no_proxy": _LOOPBACK, "no_grpc_proxy": _LOOPBACK}


def child_environment(*, flower_home: Path | None = None, proxy: str | None = None) -> dict[str, str]:
    """The environment for a child process; `flower_home` is where Flower keeps its files."""
    quiet = quiet_environment(os.environ, proxy=proxy)
    return quiet if flower_home is None else quiet | {"FLWR_HOME": str(flower_home)}


def keep_quiet(*, flower_home: Path | None = None, proxy: str | None = None) -> None:
    """Make this process's own environment quiet. Call before flwr is imported: it reads its switches at import."""
    quiet = child_environment(flower_home=flower_home, proxy=proxy)
    os.environ.clear()
    os.environ.update(quiet)
