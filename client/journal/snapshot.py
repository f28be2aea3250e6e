"""What an agent that runs has on disk. It keeps its files for itself, so others read a copy of them, which may be torn: the file's own checksums,
or the head that it is held against, must show that it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_PARTS: Final = ("", "-wal")


@contextmanager
def snapshot(file: Path) -> Iterator[Path]:
    """A copy of SQLite's `file` and of what stands in its write-ahead log, for as long as the block runs."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        for part in _PARTS:
            source = Path(f"{file}{part}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{part}")
        yield copy
