"""Bytes kept under their own digest, so that a row in the database can point at exactly one content.

1. A file appears under its name complete and flushed, or not at all: temporary file, fsync, rename, fsync of the folder.
2. What is read is verified: a file that no longer matches its name is an error, never a result.
3. A name is a SHA-256 digest; nothing a caller says becomes any other path.
4. A failed write or fsync is reported and not retried: the kernel may have dropped the pages it could not write.
5. What a process that was killed left half-written is removed by its age, a day: every part that is written touches the file, so nobody writes it any
   more. Other processes write to the folder meanwhile, also of other machines, where a lock need not be seen.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from strategies.encoding import Vector, first_not_finite, sha256_hex, vector_digest
from strategies.errors import CovenantError, DiskError, Refused
from strategies.ids import Digest, digest
from strategies.pieces import Bytes, pieces_of

_OUT_OF_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_BLOCK_BYTES: Final = 1 << 20
_LEFT_OVER: Final = timedelta(days=1)


class ArtifactStore:
    """A content-addressed folder: `sha256/ab/cdef...` under `folder`, with `tmp` for files in the making."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary = folder / "tmp"
        self._flushed: set[Path] = set()

    def path(self, name: Digest) -> Path:
        """Where the artifact `name` lies, whether it exists or not. Raises UsageError for what is not a digest."""
        checked = digest(name)
        return self._folder / "sha256" / checked[:2] / checked[2:]

    def put(self, data: Bytes) -> Digest:
        """Keep `data` and return its digest; on return it survives a power cut. Raises CovenantError."""
        name = sha256_hex(data)
        target = self.path(name)
        try:
            self._keep_folder(target.parent)
            self._keep_folder(self._temporary)
            if not _holds(target, data):
                self._write(target, data)
            # Also when the file was there already: whoever renamed it may not have got this far.
            _sync_folder(target.parent)
        except OSError as error:
            kind = CovenantError if error.errno in _OUT_OF_SPACE else DiskError
            raise kind(_write_failure(self._folder, name, error)) from error
        return name

    def get(self, name: Digest) -> bytes:
        """The bytes whose digest is `name`. Raises CovenantError when they are absent, unreadable or altered."""
        path = self.path(name)
        with _reading(self._folder, name, path):
            data = path.read_bytes()
        _require_unaltered(path, name, sha256_hex(data))
        return data

    def size(self, name: Digest) -> int | None:
        """How many bytes the artifact `name` has; None where it is absent or cannot be looked at, which `get` tells."""
        with suppress(OSError):
            return self.path(name).stat().st_size
        return None

    def vector(self, name: Digest) -> Vector:
        """The vector whose bytes have the digest `name`, (d,) float64, read into its own memory at once. Raises as `get` does, and Refused where they
        are no finite float64 values."""
        path = self.path(name)
        with _reading(self._folder, name, path):
            vector = np.fromfile(path, dtype="<f8").astype(np.float64, copy=False)
            whole = path.stat().st_size == vector.nbytes
        _require_unaltered(path, name, vector_digest(vector) if whole else None)
        bad = first_not_finite(vector)
        if bad is not None:
            raise Refused(f"value {bad} of the vector in {path} is {vector[bad]}; every value must be finite")
        return vector

    def remove_left_over(self, now: datetime) -> int:
        """Remove what was being written a day before `now` and never got its name; how many files. One that cannot be removed stays."""
        removed = 0
        for path in self._temporary.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime < (now - _LEFT_OVER).timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _keep_folder(self, folder: Path) -> None:
        """Have `folder`, the store's or one in it, be there and flushed in its parent. Once in a process also where it is there already: whoever made it
        may have been killed before it was flushed."""
        if folder in self._flushed and folder.is_dir():
            return
        if folder == self._folder:
            _make_folders(folder)
            with suppress(PermissionError):  # what this user may not read, another has made
                _sync_folder(folder.parent)
        else:
            self._keep_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
        self._flushed.add(folder)

    def _write(self, target: Path, data: Bytes) -> None:
        """Write `data` to a temporary file, flush it and give it its name. Leaves nothing where it raises, whatever that is: OSError, or out of memory."""
        handle, temporary = tempfile.mkstemp(dir=self._temporary)
        try:
            with os.fdopen(handle, "wb") as file:
                for part in pieces_of(data).parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(temporary).unlink()
            raise


@contextmanager
def _reading(folder: Path, name: Digest, path: Path) -> Iterator[None]:
    """Says in words why an artifact cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise CovenantError(
            f"the artifact {name} is not in {folder}; restore the folder from the same backup as the database"
        ) from error
    except OSError as error:
        raise CovenantError(
            f"the artifact {path} cannot be read ({error.strerror}); check its rights and the disk"
        ) from error


def _require_unaltered(path: Path, name: Digest, found: Digest | None) -> None:
    if found != name:
        had = "no whole number of values" if found is None else f"the digest {found}"
        raise CovenantError(f"the artifact {path} has {had}, so it was altered; restore it from a backup")


def _holds(path: Path, data: Bytes) -> bool:
    """Whether `path` already has exactly this content; an altered file is written afresh."""
    try:
        if path.stat().st_size != len(data):
            return False
        with path.open("rb") as file:
            return all(file.read(len(block)) == block for block in pieces_of(data).blocks(_BLOCK_BYTES))
    except FileNotFoundError:
        return False


def _make_folders(folder: Path) -> None:
    """Create `folder` and its parents; every new entry is flushed in its parent."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk: a rename is not durable before that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_failure(folder: Path, name: Digest, error: OSError) -> str:
    """The sentence for a write that failed."""
    remedy = "free space on its volume" if error.errno in _OUT_OF_SPACE else "check its rights and the disk"
    return (
        f"the artifact {name} cannot be written to {folder} ({error.strerror}); nothing was kept under its name; "
        f"{remedy}, then run the command again"
    )
