"""Files that must be on disk when a command says so: made once and never overwritten, or replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from strategies.errors import UsageError


@contextmanager
def new_file(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """A new file to write to, on disk when the block ends, and gone if the block raises; `mode` is exact, None leaves it to the umask.

    Raises UsageError if it exists, or cannot be made or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and is never overwritten; move it away first if it is obsolete, or name another file"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # exactly, whatever the umask took away
            yield file
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.absolute().parent)
    except BaseException as error:
        path.unlink(missing_ok=True)  # half a key would block the next attempt, and half a log is none
        if isinstance(error, OSError):
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
        raise


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create `path` with `data` and `mode`, on disk when this returns. Raises as `new_file`."""
    with new_file(path, mode=mode) as file:
        file.write(data)


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Have `path` hold `data`, as a whole or not at all, on disk when this returns. Raises UsageError."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.unlink(missing_ok=True)  # what a command left that was killed
        write_new(beside, data, mode=mode)
        beside.replace(path)
        _sync_folder(path.absolute().parent)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
