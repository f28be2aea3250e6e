"""Files that are written piece by piece: whole, or not there, and never over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from protos.files import new_file
from strategies.errors import Refused, UsageError


def test_a_file_is_there_when_all_of_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "export"
    with new_file(path) as file:
        file.write(b"one ")
        file.write(b"two")
    assert path.read_bytes() == b"one two"


def test_a_part_of_a_file_is_none(tmp_path: Path) -> None:
    path = tmp_path / "export"

    def break_off() -> None:
        with new_file(path) as file:
            file.write(b"one ")
            raise Refused("the rest does not come")

    with pytest.raises(Refused):
        break_off()
    assert not path.exists()


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_bytes(b"of yesterday")
    with pytest.raises(UsageError, match="exists and is never overwritten"), new_file(path):
        raise AssertionError("nothing is written")
    assert path.read_bytes() == b"of yesterday"


def test_a_file_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be created"), new_file(tmp_path / "nowhere" / "export"):
        raise AssertionError("nothing is written")
