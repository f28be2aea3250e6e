"""Files that must be on disk when a command says so: made once and never overwritten, or replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from strategies.errors import UsageError


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create `path` with `data` and `mode`, on disk when this returns; UsageError if it exists or cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise UsageError(
            f"{path} exists and is never overwritten; move it away first if it is obsolete"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be created: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # exactly, whatever the umask took away
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _sync_folder(path.absolute().parent)
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would block the next attempt
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def writing_new(path: Path) -> Iterator[BinaryIO]:
    """A new file to write piece by piece: on disk when the block ends, and gone where it breaks off. Raises UsageError if it exists or cannot be written."""
    try:
        with path.open("xb") as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        _sync_folder(path.absolute().parent)
    except FileExistsError as error:
        raise UsageError(f"{path} exists; name another file") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


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
