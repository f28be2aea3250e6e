"""What `run` in site.yaml says about the machine, told to the kernel and to the libraries that compute.

1. Threads: torch, BLAS and OpenMP, and Arrow. A library that is loaded later takes its number from the environment.
2. Memory is what the process allocates for itself (`RLIMIT_DATA`: private writable memory, thread stacks among it). Beyond it an allocation fails, and
   nothing else of the machine suffers. What libraries map of their own files does not count.
3. Results depend on none of this: blocks are constants of the model (`client.training.descent`).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from protos.quantities import format_size
from protos.site import SiteConfig
from protos.site_run import Run
from strategies.errors import CovenantError, UsageError

_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_NO_MEMORY: Final = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "malloc of size",
    "out of memory",
    "failed to allocate",
)
"""How torch, Arrow and DuckDB say it, whose errors have no class of their own."""


_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_TO_WORK_WITH: Final = 64 << 20


class OutOfMemory(CovenantError):  # noqa: N818 (names the state)
    """The process has reached `run.memory`."""


def apply_limits(run: Run) -> None:
    """Hold this process, and all that it has loaded, to `run`. Raises UsageError where the kernel does not let it."""
    limit_threads(run.cpu_threads)
    if run.priority:
        os.setpriority(os.PRIO_PROCESS, 0, max(run.priority, os.getpriority(os.PRIO_PROCESS, 0)))
    if run.memory is not None:
        _limit_memory(run.memory)


def limit_threads(threads: int) -> None:
    """Let torch, BLAS, OpenMP and Arrow compute with so many threads in this process."""
    import pyarrow as pa
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    os.environ.update(dict.fromkeys(_VARIABLES, str(threads)))
    threadpool_limits(limits=threads)
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)


def _limit_memory(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY and hard < most:
        raise UsageError(
            f"`run.memory` is {format_size(most)}, and the service manager allows this process {format_size(hard)}; make them the same"
        )
    taken = _taken()
    if most < taken + _TO_WORK_WITH:
        raise UsageError(
            f"`run.memory` is {format_size(most)}, and the agent's libraries alone take {taken / _MIB:.0f} MiB; use {(taken + _TO_WORK_WITH) / _MIB:.0f} MiB or more"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _taken() -> int:
    """What this process has allocated so far, in bytes, as the kernel counts it for the limit."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * _KIB
    return 0


@contextmanager
def told_of_memory(config: SiteConfig) -> Iterator[None]:
    """Turn an allocation that fails into one sentence: raises `OutOfMemory`."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not isinstance(error, MemoryError) and not any(each in str(error).lower() for each in _NO_MEMORY):
            raise
        most = config.run.memory
        allowed = "the machine has no more" if most is None else f"`run.memory` allows {format_size(most)}"
        raise OutOfMemory(
            f"an allocation failed: {allowed}. Raise it, or give this site's plans fewer rows; `covenant-agent rehearse` measures what a plan needs"
        ) from error
