"""`covenant-agent halt`, `resume` and `halts`: people at the site stop a run, or everything, and let it go on."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from client.keystore import load_identity, load_root
from protos.files import write_new
from protos.halts import HaltOrder, HaltScope, OrderedBy, order_halt
from protos.shell import emit, people
from protos.site import load_site
from strategies.errors import Refused, UsageError

_ID_BYTES: Final = 16
_PUBLIC_MODE: Final = 0o644

RunOption = Annotated[str | None, typer.Option("--run", help="A run's id, such as run-0123456789abcdef.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every run of the federation.")]
Reason = Annotated[str, typer.Option(help="Why, in at most 500 characters; the centre is told.")]


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.command("halt")(halt)
    agent.command("resume")(resume)
    agent.command("halts")(halts)


def halt(
    reason: Reason,
    run: RunOption = None,
    everything: AllOption = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the order to this new file, for `covenant halt apply` at the centre."),
    ] = None,
    config: ConfigFile = HERE,
) -> None:
    """Refuse a run, or everything, from now on, also in the agent that runs. The centre takes the order from the refusals, and halts it for all."""
    from client.bootstrap import open_halts, utc_now

    scope = _scope(run, everything=everything)
    site = load_site(config)
    identity = load_identity(site)
    order = order_halt(
        load_root(site).root.identity,
        scope,
        run,
        reason,
        OrderedBy(kind="site", name=site.site),
        identity,
        at=utc_now(),
        entropy=secrets.token_bytes(_ID_BYTES),
    )
    with closing(open_halts(site)) as book:
        book.halt(order)
    people.print(
        f"halt {order.id} stands at {site.site}: {order.what} is refused from now on", highlight=False
    )
    if out is not None:
        write_new(out, order.canonical + b"\n", mode=_PUBLIC_MODE)
        people.print(
            f"send {out} to the centre, where `covenant halt apply` records it; it also takes the order from this site's refusals",
            highlight=False,
        )


def resume(
    reason: Annotated[str, typer.Option(help="Why; it stays in this site's own record.")],
    run: RunOption = None,
    everything: AllOption = False,
    config: ConfigFile = HERE,
) -> None:
    """Lift this site's own halts of a run, or of everything. Where the centre has recorded them, two officers must lift them there."""
    from client.bootstrap import open_halts

    scope, site = _scope(run, everything=everything), load_site(config)
    with closing(open_halts(site)) as book:
        found = [each for each in book.standing() if (each.scope, each.target) == (scope, run)]
        if not found:
            raise Refused(
                f"no halt of {run or 'everything'} stands at {site.site}; `covenant-agent halts` shows those that do"
            )
        for order in found:
            book.lift(order, reason)
    for order in found:
        people.print(f"halt {order.id} is lifted at {site.site}", highlight=False)
    people.print("the centre's record of it stands until two officers lift it", highlight=False)


def halts(
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """The halts that stand at this site."""
    from client.bootstrap import open_halts

    site = load_site(config)
    with closing(open_halts(site)) as book:
        found = book.standing()
    if json:
        emit({"site": site.site, "halts": [_facts(each) for each in found]})
        return
    table = Table("halt", "what", "at", "reason")
    for each in found:
        table.add_row(each.id, each.what, f"{each.at:%Y-%m-%d %H:%M:%S}", each.reason)
    people.print(table, markup=False)


def _scope(run: str | None, *, everything: bool) -> HaltScope:
    if (run is not None) == everything:
        raise UsageError("name either a run with --run, or everything with --all")
    return "all" if everything else "run"


def _facts(order: HaltOrder) -> dict[str, Any]:
    return {
        "id": order.id,
        "scope": order.scope,
        "target": order.target,
        "reason": order.reason,
        "at": order.at.isoformat(),
    }
