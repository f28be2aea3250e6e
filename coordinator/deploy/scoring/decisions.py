"""The decision log of a scoring service: which model scored what, when, for whom, and why it declined, without personal data.

1. One line of JSON a request and arm, in files that are only appended to. Each line holds the SHA-256 of the line before it, over files too.
2. Applications stand in it as keyed digests of what the model was given, one a row (`row_digests`). Values of low entropy could be guessed from plain
   hashes; the key stays at the site, and whoever holds it and an application can find its line.
3. A line is with the operating system before its answer leaves: a killed process loses none. It is on disk at most a second later, and at
   the end of each file: a power cut loses a second at most.
4. A write or flush that fails ends the service (`DiskError`): nothing is answered that is not logged.
5. What a crash left of a line stays where it is; the next file says how many bytes of it there are, and goes on from the last whole line.
6. Lines cut off at the end cannot be seen from the files alone. The status tells count and head; keep them elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.row_digests import RowDigests
from protos.files import write_new
from strategies.encoding import sha256_hex
from strategies.errors import DiskError, Refused, UsageError
from strategies.ids import Digest

KEY_FILE: Final = "decisions.key"
MOST_FILE_BYTES: Final = 64 * 2**20
START: Final = Digest("0" * 64)
_KEY_BYTES: Final = 32
_OTHERS: Final = 0o077
_FILE: Final = re.compile(r"decisions-([0-9]{8})\.jsonl")
_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a log ends: lines so far, the digest of the last, the number of its last file, and bytes of a torn line there."""

    lines: int = 0
    digest: Digest = START
    file: int = 0
    torn: int = 0


class SiteKey:
    """The key of digests. It is made once, and never shown."""

    def __init__(self, secret: bytes) -> None:
        self._digests = RowDigests(secret)

    def __repr__(self) -> str:
        return "<secret>"

    @classmethod
    def at(cls, path: Path) -> Self:
        """The key in `path`, made where there is none. Raises UsageError when it cannot be read, others can read it, or it is no key."""
        if not path.exists():
            _make_key(path)
        try:
            with path.open("rb") as file:
                found, secret = os.fstat(file.fileno()), file.read(_KEY_BYTES + 1)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if len(secret) != _KEY_BYTES:
            raise UsageError(f"{path} has {found.st_size} bytes; the key of a decision log has {_KEY_BYTES}")
        if found.st_mode & _OTHERS:
            raise UsageError(
                f"{path} can be read by others, who could guess applications from their digests; run chmod 600 {path}, and consider the key copied"
            )
        return cls(secret)

    def of_text(self, text: str) -> str:
        """The digest of a request's id."""
        return self._digests.of_text(text)

    def of_rows(self, batch: Batch) -> list[str]:
        """The digest of each row."""
        return self._digests.of_rows(batch.numbers, batch.words)


def _make_key(path: Path) -> None:
    """Make the key with its folder; of services that share one and start together, the first has made it. Raises UsageError."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(beside, os.urandom(_KEY_BYTES), mode=0o600)
        with suppress(FileExistsError):
            os.link(beside, path)  # whole, or not there
        beside.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be made: {error.strerror}") from error


class DecisionLog:
    """The log in one folder, which one process writes at a time, from any of its threads."""

    def __init__(self, folder: Path, key: SiteKey, *, most_file_bytes: int = MOST_FILE_BYTES) -> None:
        """Go on where the log in `folder` ends. Raises Refused when another process writes it, or its end is not as written."""
        self.key = key
        self._folder, self._most = folder, most_file_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"another scoring service writes {folder}; give each one a folder of its own"
            ) from error
        self._appending = threading.RLock()
        self.head = head_of(folder)
        self._file = self._size = 0
        self._dirty = False
        self._next_file()

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write one line an entry, with the operating system when this returns. Raises DiskError."""
        with self._appending:
            self._append(entries)

    def flush(self) -> None:
        """Have what was written on disk. Raises DiskError."""
        with self._appending:
            if not self._dirty:
                return
            self._dirty = False
            file = os.dup(self._file)  # appending goes on, and may go on to the next file
        try:
            os.fsync(file)
        except OSError as error:
            raise DiskError(
                f"{self._folder} cannot be flushed: {error.strerror}; mend it, and start again"
            ) from error
        finally:
            os.close(file)

    def close(self) -> None:
        """Flush, and let another process write."""
        self.flush()
        os.close(self._file)
        os.close(self._lock)

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        data = bytearray()
        lines, digest = self.head.lines, self.head.digest
        for entry in entries:
            lines += 1
            line = _line({"n": lines, "previous": digest, **entry})
            digest = sha256_hex(line)
            data += line + b"\n"
        try:
            if os.write(self._file, data) != len(data):
                raise DiskError(
                    f"{self._folder} is full: a decision could not be written whole; free space, and start again"
                )
        except OSError as error:
            raise DiskError(
                f"{self._folder} cannot be written: {error.strerror}; mend it, and start again"
            ) from error
        self.head = Head(lines=lines, digest=digest, file=self.head.file)
        self._size += len(data)
        self._dirty = True
        if self._size >= self._most:
            self.flush()
            self._next_file()

    def _next_file(self) -> None:
        torn, number = self.head.torn, self.head.file + 1
        try:
            if self._file:
                os.close(self._file)
            self._file = os.open(self._folder / f"decisions-{number:08d}.jsonl", _OPEN, 0o600)
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise DiskError(
                f"{self._folder} cannot be written: {error.strerror}; mend it, and start again"
            ) from error
        self._size = 0
        self.head = Head(lines=self.head.lines, digest=self.head.digest, file=number)
        if torn:
            self.append([{"torn": torn}])


def head_of(folder: Path) -> Head:
    """Where the log in `folder` ends, from its last line. Raises Refused when that is not a line of such a log."""
    files, torn = _files(folder), 0
    newest = files[-1][0] if files else 0
    for _, path in reversed(files):
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        torn += len(data) - end
        if end:
            last = data[data.rfind(b"\n", 0, end - 1) + 1 : end - 1]
            lines = _parsed(path, last).get("n")
            if not isinstance(lines, int):
                raise Refused(
                    f"{path} ends in a line that no scoring service wrote; keep it, and start with a new folder"
                )
            return Head(lines=lines, digest=sha256_hex(last), file=newest, torn=torn)
    return Head(file=newest, torn=torn)


def verify(folder: Path) -> Head:
    """Check every line's place in the chain; returns where it ends. Raises Refused naming the first file and line that is not as written."""
    head = Head()
    torn = 0
    for number, path in _files(folder):
        for place, (line, whole) in enumerate(_lines(path), 1):
            if not whole:
                torn += len(line)
                break
            entry = _parsed(path, line)
            if (entry.get("n"), entry.get("previous")) != (head.lines + 1, head.digest) or entry.get(
                "torn", 0
            ) != torn:
                raise Refused(
                    f"{path} line {place} does not follow the line before it: lines were changed, moved or removed"
                )
            head = Head(lines=head.lines + 1, digest=sha256_hex(line), file=number)
            torn = 0
    return Head(lines=head.lines, digest=head.digest, file=head.file, torn=torn)


def entries_with(folder: Path, wanted: Callable[[bytes], bool]) -> Iterator[dict[str, Any]]:
    """The entries of a log, in order, whose line is `wanted`; one that a crash cut off, or that is being written, is none. Raises Refused for what is no entry."""
    for _, path in _files(folder):
        for line, whole in _lines(path):
            if whole and wanted(line):
                yield _parsed(path, line)


def newest_with(folder: Path, sign: bytes) -> dict[str, Any] | None:
    """The newest entry that has `sign` in its line; None where none has, or there is no log. Raises Refused for what is no entry."""
    for _, path in reversed(_files(folder)) if folder.is_dir() else ():
        data = path.read_bytes()
        found = data.rfind(sign, 0, data.rfind(b"\n") + 1)
        if found >= 0:
            return _parsed(path, data[data.rfind(b"\n", 0, found) + 1 : data.index(b"\n", found)])
    return None


def rows_since(folder: Path, since: float) -> int:
    """Rows that were answered after `since`, in seconds since 1970. Raises Refused for what is no entry."""
    rows = 0
    for _, path in reversed(_files(folder)) if folder.is_dir() else ():
        entries = (_parsed(path, line) for line, whole in _lines(path) if whole)
        own = [each for each in entries if "at" in each]
        newer = [each for each in own if datetime.fromisoformat(each["at"]).timestamp() > since]
        rows += sum(len(each["bands"]) for each in newer if each["answered"])
        if len(newer) < len(own):
            break
    return rows


def _files(folder: Path) -> list[tuple[int, Path]]:
    found = ((_FILE.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n"), line.endswith(b"\n")


def _parsed(path: Path, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise Refused(f"{path} has a line that is no JSON: it was changed") from error
    if not isinstance(entry, dict) or _line(entry) != line:
        raise Refused(f"{path} has a line that no scoring service wrote: it was changed")
    return entry


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
