"""How commands end: the exit code says what kind of end it was, stderr says it in one sentence, stdout stays empty."""

from __future__ import annotations

import click
import pytest

from protos.shell import INTERRUPTED, emit, run_command, tell
from strategies.errors import CovenantError, Refused, Unreachable, UsageError


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CovenantError("it broke"), 1),
        (UsageError("bad file"), 2),
        (Refused("no"), 3),
        (Unreachable("away"), 4),
    ],
)
def test_an_error_is_one_sentence_on_stderr(
    error: CovenantError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run_command(fail)
    assert end.value.code == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {error}\n")


def test_brackets_in_a_sentence_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise UsageError("features[2] is [bold]")

    with pytest.raises(SystemExit):
        run_command(fail)
    assert capsys.readouterr().err == "error: features[2] is [bold]\n"


def test_other_ends() -> None:
    def usage() -> None:
        raise click.UsageError("no such option")

    ends = {interrupted: INTERRUPTED, usage: 2, (lambda: None): 0, (lambda: INTERRUPTED): INTERRUPTED}
    for command, code in ends.items():
        with pytest.raises(SystemExit) as end:
            run_command(command)
        assert end.value.code == code


def test_emit_prints_exactly_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"b": 1, "a": [2]})
    assert capsys.readouterr().out == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


def test_what_others_wrote_is_neither_markup_nor_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a reason \x1b[2J\x1b]0;title\x07 in [bold]two[/bold]\nlines\r")
    assert capsys.readouterr().err == "a reason �[2J�]0;title� in [bold]two[/bold]\nlines�\n"
