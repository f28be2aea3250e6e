"""The process of one run's ServerApp: Flower's own runner, given its token through a pipe.

Run as `python -m coordinator.flower.server_process ADDRESS CA_FILE PARENT_PID`; the coordinator's executor does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from queue import Queue

from flwr.superlink.runtime import run_serverapp


def main(address: str, ca_file: str, parent_pid: str) -> None:
    """Run until the ServerApp ends; leaves with flwr's exit code."""
    run_serverapp(
        runtime_api_address=address,
        log_queue=Queue[str | None](),
        token=sys.stdin.read(),
        insecure=False,
        certificates=Path(ca_file).read_bytes(),
        parent_pid=int(parent_pid),
        runtime_dependency_install=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:4])
