"""The system call itself fails: a real process, a real fsync that returns EIO, and no second try."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.journal.entries import Owner
from client.journal.file import Journal

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int fails(void) {
    const char *trigger = getenv("FAIL_WHEN_THERE"), *log = getenv("FAILED_CALLS");
    if (!trigger || access(trigger, F_OK)) return 0;
    int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(file, "x", 1) != 1) abort();
    close(file);
    errno = EIO;
    return 1;
}
int fsync(int file) { return fails() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file); }
int fdatasync(int file) { return fails() ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file); }
"""
_AGENT = """
import sys
from pathlib import Path
from client.cli.run import _end_at_once
from client.journal.entries import JournalBroken, Owner
from client.journal.file import Journal
journal = Journal.open(Path(sys.argv[1]), Owner(federation="demo", root="r", site="west", identity="i"))
journal.append("answered", {"number": 1}, b"first")
Path(sys.argv[2]).touch()
try:
    journal.append("answered", {"number": 2}, b"second")
except JournalBroken as broken:
    _end_at_once(broken)
"""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        if os.environ.get("CI"):
            pytest.fail("no C compiler; CI must run this test")
        pytest.skip("needs Linux and a C compiler to make fsync fail")
    (tmp_path / "shim.c").write_text(_SHIM)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", tmp_path / "shim.so", tmp_path / "shim.c", "-ldl"],
        check=True,
        timeout=60,
    )
    return tmp_path / "shim.so"


def test_a_failed_fsync_ends_the_process_and_is_never_retried(shim: Path, tmp_path: Path) -> None:
    journal, trigger, log = tmp_path / "journal.db", tmp_path / "now", tmp_path / "calls"
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "FAIL_WHEN_THERE": str(trigger),
        "FAILED_CALLS": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", _AGENT, journal, trigger],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "this agent stops" in done.stderr
    assert "Traceback" not in done.stderr
    assert log.read_bytes() == b"x"  # one call failed, and there was none after it
    again = Journal.open(journal, Owner(federation="demo", root="r", site="west", identity="i"))
    assert [entry.body["number"] for entry in again.entries("answered")][:1] == [1]
