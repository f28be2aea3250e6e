"""How every Covenant command ends: 0 done, 1 failed, 2 usage, 3 refused, 4 unreachable, and one sentence on stderr if not 0."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import NoReturn

import click
from rich.console import Console
from rich.text import Text

from strategies.errors import CovenantError, UsageError

INTERRUPTED = 130
people = Console(stderr=True)
"""For people: tables and progress on stderr. Results for machines go to stdout, through `emit`."""


def as_written(text: str) -> Text:
    """What others may have written, as it stands: nothing in it is markup, and nothing moves a terminal's cursor."""
    shown = (each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
    return Text("".join(shown))


def tell(text: str) -> None:
    """A sentence for people `as_written`, whatever the width of their terminal."""
    people.print(as_written(text), soft_wrap=True)


def emit(value: object) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
    sys.stdout.flush()


def run_command(command: Callable[[], object]) -> NoReturn:
    """Run a command line to its end and leave with its exit code, which is what `command` returns if it is a number."""
    code: object = 0
    try:
        code = command()
    except CovenantError as error:
        people.print("[bold red]error:[/]", end=" ")
        tell(str(error))
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError:
        sys.exit(UsageError.exit_code)  # its help has been shown
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        people.print("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    if code == INTERRUPTED:
        people.print("interrupted")
    sys.exit(code if isinstance(code, int) else 0)
