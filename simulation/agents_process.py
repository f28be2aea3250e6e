"""The agents of many sites as forks of one process that has imported everything: real agents, which share the memory of their code.

`python -m simulation.agents_process FOLDER SITE...`, where FOLDER/SITE is a site's folder; `Deployment.start_agents` does that.

1. It forks while it has one thread, which it checks (but for those that are ready for it): a lock that another thread holds would stay locked
   in the child for ever.
2. A child is an agent as `covenant-agent run` makes one: its own key, journal, rows, connection and log.
3. An agent that ends by itself ends them all, with exit code 1. Told to leave, this process tells each agent by its id, and kills who stays.
4. The kernel kills an agent whose parent is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from protos.egress import keep_quiet
from protos.logs import configure
from protos.shell import run_command
from strategies.errors import CovenantError

PIDS_FILE: Final = "agents.json"
LOG_FILE: Final = "agent.log"
_PR_SET_PDEATHSIG: Final = 1
_GIVES_WAY: Final = 10
"""Niceness: sites have machines of their own, and must not keep the centre's processes from theirs."""
_READY_TO_FORK: Final = ("jemalloc_bg_thd",)
"""Threads whose library lets go of its locks around a fork: pyarrow's allocator has one as soon as it is loaded."""
_LEAVE_WITHIN_S: Final = 10.0
_DRAIN_WITHIN_S: Final = 2.0
_POLL_S: Final = 0.05
_WAITED_FOR: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def serve(folder: Path, sites: Sequence[str]) -> int:
    """Run the agents of `sites` until told to leave, and return the exit code. Raises CovenantError where one ends by itself."""
    _die_with_parent(signal.SIGTERM)
    os.nice(_GIVES_WAY)
    keep_quiet()
    _import_all()
    _require_one_thread()
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    agents: dict[int, str] = {}
    try:
        for site in sites:
            agents[_forked(folder / site)] = site
        _tell_ids(folder, {site: pid for pid, site in agents.items()})
        while signal.sigwait(_WAITED_FOR) == signal.SIGCHLD:
            for pid, code in _ended(agents):
                raise CovenantError(
                    f"the agent of {agents.pop(pid)} ended by itself with exit code {code}; its log, {LOG_FILE} in its folder, says why"
                )
        return 0
    finally:
        _end(agents)


def _import_all() -> None:
    """All that an agent imports sooner or later, so that it is imported once."""
    import torch  # noqa: F401

    import client.cli.run
    import client.process  # noqa: F401


def _forked(folder: Path) -> int:
    """The process id of a new agent of the site in `folder`; the child does not return."""
    parent = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        _die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(code)  # it ended before the kernel was told
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WAITED_FOR)
        log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(log, stream)
        _be_agent(folder / "site.yaml")
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    finally:
        # Not the interpreter's own end: what the parent would tidy up is not this process's.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _be_agent(config: Path) -> None:
    from client.cli.run import run

    configure()
    run_command(lambda: run(config, give_up_after=None, drain_within=_DRAIN_WITHIN_S))


def _require_one_thread() -> None:
    names = [(each / "comm").read_text().strip() for each in Path("/proc/self/task").iterdir()]
    others = [name for name in names if name not in _READY_TO_FORK]
    if len(others) != 1:
        raise CovenantError(
            f"threads run already, and a fork has one ({', '.join(others)}): an import has started them. Start with OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1"
        )


def _die_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent has ended."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise CovenantError(f"the kernel does not tell of a parent's end: {os.strerror(ctypes.get_errno())}")


def _tell_ids(folder: Path, ids: Mapping[str, int]) -> None:
    """Write which process is whose agent, as a whole."""
    made = folder / f"{PIDS_FILE}.new"
    made.write_text(json.dumps(ids))
    made.replace(folder / PIDS_FILE)


def _ended(agents: Mapping[int, str]) -> list[tuple[int, int]]:
    """The agents that have ended, and their exit codes."""
    gone = [(pid, os.waitpid(pid, os.WNOHANG)) for pid in agents]
    return [(pid, os.waitstatus_to_exitcode(status)) for pid, (found, status) in gone if found]


def _end(agents: dict[int, str]) -> None:
    """Tell each agent to leave, wait, and kill who stays."""
    for pid in agents:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _LEAVE_WITHIN_S
    while agents and time.monotonic() < deadline:
        for pid, _ in _ended(agents):
            del agents[pid]
        time.sleep(_POLL_S)
    for pid in agents:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run as a command."""
    configure()
    run_command(lambda: serve(Path(arguments[0]), arguments[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
