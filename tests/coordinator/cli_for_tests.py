"""The centre's command line within the test's own process: exit codes, stdout and stderr as a shell would see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from coordinator.cli import register
from protos.shell import run_command

Command = Callable[..., tuple[int, str, str]]


def commands_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in `folder`, whose coordinator is in `home`; exit code, stdout, stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("COVENANT_HOME", str(folder / "home"))
    app = typer.Typer()
    register(app)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(lambda: app(list(arguments), standalone_mode=False))
        return (left.value.code, *capsys.readouterr())

    return run


def facts_of(covenant: Command, *arguments: str, code: int = 0) -> dict:
    """What a command prints with --json, if it leaves with `code`."""
    left, out, err = covenant(*arguments, "--json")
    assert left == code, err
    return json.loads(out)
