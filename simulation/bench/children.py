"""Programs of stock Flower that are measured as processes of their own, and say their figures in one marked line among whatever else they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from strategies.errors import CovenantError

MARK: Final = "STOCK "
_LAST_WORDS: Final = 800


def told_by(
    command: Sequence[str],
    what: str,
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    folder: Path | None = None,
) -> Any:  # noqa: ANN401 (JSON)
    """What a child says after `MARK`, from JSON; it runs in `folder`.

    Raises `CovenantError` where it has not ended in time, when it is killed with all that it has started, and where it says nothing.
    """
    child = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CovenantError(
            f"{what} did not finish within {timeout_s:.0f} s; measure a smaller size, or leave --peer out"
        ) from error
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return told_in(said, what)


def told_in(said: str, what: str) -> Any:  # noqa: ANN401 (JSON)
    """The JSON of the marked line. Raises `CovenantError` with the last words where there is none."""
    for line in said.splitlines():
        if MARK in line:
            return json.loads(line.partition(MARK)[2])
    raise CovenantError(f"{what} ended without its figures: {said[-_LAST_WORDS:]}")
