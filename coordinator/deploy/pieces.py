"""The files of a package, as a folder or as one file, read whole into memory before anybody believes a byte of them.

1. A package is flat: plain names, ordinary files, no folders and no links. Anything else is refused, so no name of another party becomes a path.
2. Sizes are bounded before anything is read, and files of a bundle are stored as they are: nothing unpacks to more than it weighs.
   Who writes refuses what nobody reads, and a version that is too large is not released at all.
3. A package appears as a whole or not at all, and is on disk when the writer returns.
4. The same files give the same bundle, byte for byte.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final

from protos.files import replace_file, write_new
from strategies.errors import DiskError, Refused, UsageError

BUNDLE_SUFFIX: Final = ".covenant"
MOST_FILES: Final = 60
MOST_FILE_BYTES: Final = 64 << 20
MOST_PACKAGE_BYTES: Final = 192 << 20
_BESIDE_BYTES: Final = 8 << 20
"""What a package is left room for beside its version's files: release, member list, approvals, signature, key and certificate."""
_WEIGHT_BYTES: Final = 4
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODE: Final = 0o644
_END_BYTES: Final = 22
"""Of a zip file's end: without a comment, and without the larger numbers of ZIP64 before it."""
_MOST_ENTRY_BYTES: Final = 46 + 100
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)


def require_packable(version: str, sizes: Mapping[str, int]) -> None:
    """Check that whoever reads packages takes one of a `version` whose files have these `sizes` in bytes by name. Raises Refused."""
    _require_taken(version, sizes, beside=_BESIDE_BYTES)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Have `folder`, which its content names, hold exactly `files`. A folder that is there already stays as it is. Raises DiskError, Refused
    for what is too large to be read."""
    if folder.exists():
        return
    _require_taken(f"the package {folder}", _sizes(files))
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
        for name, data in sorted(files.items()):
            write_new(beside / name, data, mode=_MODE)
        beside.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        if folder.exists():  # somebody else has written the same
            shutil.rmtree(beside, ignore_errors=True)
            return
        raise DiskError(f"the package {folder} cannot be written: {error.strerror}") from error


def write_bundle(path: Path, files: Mapping[str, bytes]) -> None:
    """Have `path` hold `files` as one file, as a whole or not at all. Raises UsageError, Refused for what is too large to be read."""
    _require_taken(f"the bundle {path}", _sizes(files))
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _BEGINNING)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | _MODE) << 16
            archive.writestr(entry, data)
    _require_light(path, buffer.tell())
    replace_file(path, buffer.getvalue(), mode=_MODE)


def read_pieces(source: Path) -> dict[str, bytes]:
    """The files of the package in `source`, a folder or a bundle. Raises Refused for what is no package, UsageError where it cannot be read."""
    try:
        return _read_folder(source) if source.is_dir() else _read_bundle(source)
    except OSError as error:
        raise UsageError(f"the package {source} cannot be read: {error.strerror}") from error


def _read_folder(folder: Path) -> dict[str, bytes]:
    names = sorted(each.name for each in islice(folder.iterdir(), MOST_FILES + 1))
    _require_few(folder, len(names))
    found: dict[str, bytes] = {}
    for name in names:
        _require_name(folder, name)
        found[name] = read_ordinary(folder / name, MOST_FILE_BYTES + 1)
        _require_bounded(folder, name, found[name])
        _require_light(folder, sum(map(len, found.values())))
    return found


def read_ordinary(path: Path, most: int) -> bytes:
    """At most `most` bytes of an ordinary file that somebody else may have made: no link is followed, and nothing waited for. Raises Refused, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path} is no ordinary file; fetch it again")
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)


def _read_bundle(path: Path) -> dict[str, bytes]:
    data = read_ordinary(path.resolve(), MOST_PACKAGE_BYTES + 1)
    if len(data) > MOST_PACKAGE_BYTES:
        raise Refused(f"the bundle {path} has more than {MOST_PACKAGE_BYTES} bytes, the most that is read")
    _require_small_directory(path, data)
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            _require_few(path, len(entries))
            _require_light(path, sum(each.file_size for each in entries))
            found: dict[str, bytes] = {}
            for each in entries:
                _require_entry(path, each, found)
                with archive.open(each) as file:
                    found[each.filename] = file.read(MOST_FILE_BYTES + 1)
                _require_bounded(path, each.filename, found[each.filename])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"{path} is no bundle, or is damaged; carry it here again") from error
    return found


def _sizes(files: Mapping[str, bytes]) -> dict[str, int]:
    return {name: len(data) for name, data in files.items()}


def _require_taken(what: str, sizes: Mapping[str, int], *, beside: int = 0) -> None:
    for name, size in sorted(sizes.items()):
        if size > MOST_FILE_BYTES:
            raise Refused(
                f"{what} has {size} bytes in {name}, and no machine takes a file of more than {MOST_FILE_BYTES} in a package"
                f" ({MOST_FILE_BYTES // _WEIGHT_BYTES} weights of a model); train a smaller model"
            )
    total, most = sum(sizes.values()), MOST_PACKAGE_BYTES - beside
    if total > most:
        raise Refused(
            f"{what} has {total} bytes, and no machine takes more than {most} in a package; train a smaller model"
        )


def _require_entry(path: Path, entry: zipfile.ZipInfo, found: Mapping[str, bytes]) -> None:
    _require_name(path, entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in {0, stat.S_IFREG} or entry.is_dir():
        raise Refused(
            f"{entry.filename} of the bundle {path} is no ordinary file; carry the bundle here again"
        )
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise Refused(
            f"{entry.filename} of the bundle {path} is not stored as it is; carry the bundle here again"
        )
    if entry.filename in found:
        raise Refused(f"the bundle {path} has two files called {entry.filename}")


def _require_name(source: Path, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Refused(
            f"the package {source} has a file called {name[:100]!r}; a package has plain names only"
        )


def _require_few(source: Path, count: int) -> None:
    if count > MOST_FILES:
        raise Refused(f"the package {source} has {count} files; at most {MOST_FILES} are read")


def _require_light(source: Path, size: int) -> None:
    if size > MOST_PACKAGE_BYTES:
        raise Refused(f"the package {source} has more than {MOST_PACKAGE_BYTES} bytes, the most that is read")


def _require_bounded(source: Path, name: str, data: bytes) -> None:
    if len(data) > MOST_FILE_BYTES:
        raise Refused(
            f"{name} of the package {source} has more than {MOST_FILE_BYTES} bytes, the most that is read"
        )


def _require_small_directory(path: Path, data: bytes) -> None:
    """Check what the bundle says of its directory before anybody builds it: millions of empty entries weigh little and unpack to gigabytes of memory."""
    end = data[-_END_BYTES:]
    size = int.from_bytes(end[12:16], "little")
    plain = end.startswith(b"PK\x05\x06") and end[20:22] == b"\0\0" and data[-42:-38] != b"PK\x06\x07"
    if not plain or size > MOST_FILES * _MOST_ENTRY_BYTES:
        raise Refused(f"{path} is no bundle, or is damaged; carry it here again")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
