"""The command `covenant`, assembled from entry points: each room brings its own commands, so no floor imports upwards."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from protos.egress import keep_quiet
from protos.logs import configure
from protos.shell import run_command

COMMANDS = "covenant.commands"


def build() -> typer.Typer:
    """The command line with the commands of every installed room."""
    app = typer.Typer(
        name="covenant",
        help="Federated learning that a bank can sign off.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for entry in sorted(entry_points(group=COMMANDS), key=lambda each: each.name):
        entry.load()(app)
    return app


def main() -> None:
    """Run `covenant`."""
    keep_quiet()
    configure(words=True)
    run_command(lambda: build()(standalone_mode=False))


if __name__ == "__main__":
    main()
