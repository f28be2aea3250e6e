"""What every process that a simulation starts on Ray has: nothing leaves it and nothing is logged, and it runs this version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from protos.egress import keep_quiet
from simulation.quiet import silence_logs
from strategies.errors import CovenantError

_STARTS_WITHIN_S: Final = 300.0


class Worker:
    """A process on Ray; call its `__init__` before all else."""

    def __init__(self) -> None:
        import torch

        keep_quiet()
        silence_logs()
        torch.set_num_threads(1)

    def ready(self) -> str:
        """The version of Covenant that this process runs."""
        return version("covenant-fl")


def require_ready(actors: Mapping[str, Any]) -> None:
    """Wait until each of `actors`, by what people call it, has started, and check that it runs this version. Raises `CovenantError`."""
    import ray

    here, until = version("covenant-fl"), time.monotonic() + _STARTS_WITHIN_S
    for called, actor in actors.items():
        try:
            there = ray.get(actor.ready.remote(), timeout=max(1.0, until - time.monotonic()))
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            raise CovenantError(
                f"{called} did not start ({last}); every machine of the cluster needs covenant-fl[coordinator,ray] {here} and free memory"
            ) from error
        if there != here:
            raise CovenantError(
                f"{called} runs covenant-fl {there}, and this command {here}; install {here} on every machine of the cluster"
            )
