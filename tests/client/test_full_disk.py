"""A disk that is really full: one clear sentence, nothing of the answer leaves, and nothing that was answered is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o size=3m tmpfs "$1"'


def in_a_small_file_system(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f"{_MOUNT} || exit 77; {script}",
        "sh",
        str(folder),
    ]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=240, check=False, cwd=Path(__file__).parents[2]
    )  # fmt: skip


@pytest.mark.slow
def test_a_full_disk_ends_the_agent_with_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or in_a_small_file_system(tmp_path, "exit 0").returncode:
        pytest.skip("a file system of its own cannot be mounted here (unshare --mount)")
    run = '"$2" -m tests.client.full_disk_for_tests'
    done = in_a_small_file_system(
        tmp_path, f'{run} before "$1"; code=$?; {run} after "$1" && exit $code; exit 98', sys.executable
    )
    assert done.returncode == 1, done.stderr
    said = done.stdout.splitlines()[-1]  # after what it had logged
    assert "database or disk is full" in said
    assert "nothing that was not recorded has left" in said
    assert "Check the disk and its free space" in said
    assert "this agent stops" in said
