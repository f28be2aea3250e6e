"""Files that a command writes beside what it shows. One that cannot be written is told before the work, which may take an hour, and not after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protos.shell import people
from strategies.errors import UsageError


def require_writable(path: Path | None, what: str, option: str) -> None:
    """Raise UsageError where `what` cannot be written to `path`; a file that is there stays as it is, and none is left that was not. None is not asked for."""
    if path is None:
        return
    was_there = path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        raise _unwritable(path, what, option, error) from error
    if not was_there:
        path.unlink()


def write_report(path: Path, text: str, what: str, option: str) -> None:
    """Write a report, over what is there, and say so. Raises UsageError where that fails after all."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, what, option, error) from error
    people.print(f"wrote {path}", highlight=False)


@contextmanager
def new_file(path: Path | None, what: str, option: str) -> Iterator[Callable[[str], None]]:
    """What writes a new file, which is there before the work that fills it, and gone again if nothing comes of that; None is not written.

    Raises UsageError for a file that is there or cannot be made, and where it cannot be written after all.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        path.open("x").close()
    except FileExistsError as error:
        raise UsageError(f"{path} exists; name a new file with {option}") from error
    except OSError as error:
        raise _unwritable(path, what, option, error) from error
    try:
        yield lambda text: write_report(path, text, what, option)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _unwritable(path: Path, what: str, option: str, error: OSError) -> UsageError:
    return UsageError(
        f"the {what} cannot be written to {path} ({error.strerror}); name another file with {option}"
    )
