"""Whatever command line a page shows is one that the programs take: its command is there, its options are, and none that it needs is left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from client.cli import app as agent
from coordinator.main import build

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs" / "reference"
PAGES = [
    ROOT / "README.md",
    *(each for each in sorted((ROOT / "docs").rglob("*.md")) if each.parent != GENERATED),
]
PROGRAMS: dict[str, Any] = {
    "covenant": typer.main.get_command(build()),
    "covenant-agent": typer.main.get_command(agent),
}
_FENCED = re.compile(r"^```(?:\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def lines_of(page: Path) -> Iterator[str]:
    """The command lines in a page's blocks, without comments and what a shell does around them."""
    for block in _FENCED.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.split(r"\s#\s|\s#$|\s\|\|?\s|\s&&\s|\s>{1,2}\s", line.strip())[0]
            if command.split(" ")[0].removeprefix(".venv/bin/") in PROGRAMS:
                yield command


def typed() -> list[tuple[str, str]]:
    return [(str(page.relative_to(ROOT)), line) for page in PAGES for line in lines_of(page)]


def defect_of(line: str) -> str | None:
    """Why a program does not take a line; None for values that only a real folder could have."""
    program, *arguments = [each for each in shlex.split(line) if each not in {"...", "…"}]
    command, path = PROGRAMS[program.removeprefix(".venv/bin/")], program
    try:
        while hasattr(command, "commands"):
            context = command.make_context(path, list(arguments))
            if command.invoke_without_command and arguments[0] not in command.commands:
                return None
            name, command, arguments = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            path = f"{path} {name}"
        command.make_context(path, arguments)
    except Exception as error:  # noqa: BLE001  (click's own, whichever typer brings)
        if type(error).__name__ != "BadParameter":
            return f"{type(error).__name__}: {error}"
    return None


def test_there_are_pages_with_commands() -> None:
    assert len(typed()) > 200
    assert {"README.md", "docs/runbooks/deployments.md"} <= {page for page, _ in typed()} | {"README.md"}


@pytest.mark.parametrize("where", sorted({page for page, _ in typed()}))
def test_the_commands_of_a_page_are_taken(where: str) -> None:
    found = {line: defect_of(line) for line in lines_of(ROOT / where)}
    assert {line: why for line, why in found.items() if why is not None} == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("covenant deploi list", "No such command 'deploi'"),
        ("covenant deploy rollback branch --whi x", "NoSuchOption"),
        ("covenant deploy rollback branch", "MissingParameter"),
        ("covenant deploy list one", "unexpected extra argument"),
        ("covenant deploy", "NoArgsIsHelp"),
    ],
)
def test_what_nobody_could_type_would_be_found(line: str, why: str) -> None:
    assert why in (defect_of(line) or "")
