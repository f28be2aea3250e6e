"""Files beside a command's answer: asked for before the work, without harm to what is there, and told in one sentence where they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.cli.report_files import new_file, require_writable, write_report
from strategies.errors import UsageError


def test_asking_changes_nothing(tmp_path: Path) -> None:
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_text("kept")
    require_writable(there, "report", "--html")
    require_writable(new, "report", "--html")
    require_writable(None, "report", "--html")
    assert there.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [there]


@pytest.mark.parametrize(
    ("place", "why"), [("nowhere/a", "No such file or directory"), (".", "Is a directory")]
)
def test_a_place_that_takes_no_file_is_one_sentence(place: str, why: str, tmp_path: Path) -> None:
    sentence = rf"the report cannot be written to .* \({why}\); name another file with --html"
    with pytest.raises(UsageError, match=sentence):
        require_writable(tmp_path / place, "report", "--html")
    with pytest.raises(UsageError, match=sentence):
        write_report(tmp_path / place, "text", "report", "--html")


def test_a_new_file_is_there_before_its_text_and_goes_with_the_work_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "new"
    with new_file(file, "fit", "--out") as write:
        assert file.read_text() == ""
        write("text")
    assert file.read_text() == "text"
    with (
        pytest.raises(UsageError, match="new exists; name a new file with --out"),
        new_file(file, "fit", "--out"),
    ):
        pytest.fail("a file that is there was taken for a new one")
    assert file.read_text() == "text"
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "other", "fit", "--out"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [file]
    with new_file(None, "fit", "--out") as write:
        write("nowhere")
