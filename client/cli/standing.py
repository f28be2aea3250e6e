"""`covenant-agent suspend`, `withdraw`, `leave` and `return`: how this site stands to its federation, which its running agent heeds at once."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from protos.shell import emit, people, tell
from protos.site import SiteConfig, load_site
from strategies.errors import CovenantError
from strategies.ids import run_id

Reason = Annotated[str, typer.Option(help="Why; it is in the refusals that follow, which the centre reads.")]


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.command("suspend")(suspend)
    agent.command("withdraw")(withdraw)
    agent.command("leave")(leave)
    agent.command("return")(come_back)
    agent.command("standing")(standing)


def suspend(reason: Reason, config: ConfigFile = HERE) -> None:
    """Take part in nothing until `return`, at once and in the middle of a run. The others go on while their plans allow."""
    from client.bootstrap import open_standing

    site = load_site(config)
    with closing(open_standing(site)) as book:
        book.say("suspend", reason)
    people.print(
        f"{site.site} is suspended; `covenant-agent return` lets it take part again", highlight=False
    )


def withdraw(
    run: Annotated[str, typer.Argument(help="The run's id, such as run-0123456789abcdef.")],
    reason: Reason,
    config: ConfigFile = HERE,
) -> None:
    """Answer a run no more, for good. What was released stays charged; the run goes on with the others if its plan allows."""
    from client.bootstrap import open_standing

    site = load_site(config)
    with closing(open_standing(site)) as book:
        book.say("withdraw", reason, run_id(run))
    people.print(f"{site.site} has withdrawn from {run}; other runs are answered as before", highlight=False)


def leave(reason: Reason, config: ConfigFile = HERE, json: Json = False) -> None:
    """Leave the federation: every run is refused, the accounts are frozen and kept, and the models that this site shaped are listed."""
    from client.bootstrap import open_accounts, open_standing

    site = load_site(config)
    with closing(open_standing(site)) as book, closing(open_accounts(site)) as accounts:
        book.require_change("leave")
        accounts.freeze(site.federation.name, reason)  # first: a command that was cut off is given again
        book.say("leave", reason)
    found = _shaped(site)
    if json:
        emit({"site": site.site, "left": reason, "models": found})
        return
    people.print(
        f"{site.site} has left {site.federation.name}. Its accounts are frozen: nothing more is charged, and nothing is forgotten. Keep the whole folder. Ask the officers to"
        f" take the site off the list (`covenant site remove {site.site}`).",
        highlight=False,
    )
    if found is None:
        people.print(
            "this site's copy of the log cannot say which models it shaped; `covenant site models` at the centre does"
        )
    else:
        _show(site, found)


def come_back(reason: Reason, config: ConfigFile = HERE) -> None:
    """Take part again after `suspend` or `leave`. The accounts go on where they were; a site that was taken off the list is certified again."""
    from client.bootstrap import open_accounts, open_standing

    site = load_site(config)
    with closing(open_standing(site)) as book, closing(open_accounts(site)) as accounts:
        book.require_change("return")
        if book.left is not None:
            accounts.thaw(site.federation.name, reason)
        book.say("return", reason)
    people.print(f"{site.site} takes part again, as its policy says", highlight=False)


def standing(config: ConfigFile = HERE, json: Json = False) -> None:
    """How this site stands: taking part, suspended or left, and the runs that it has withdrawn from."""
    from client.bootstrap import open_standing

    site = load_site(config)
    with closing(open_standing(site)) as book:
        facts: dict[str, Any] = {
            "site": site.site,
            "standing": book.state,
            "reason": book.reason,
            "withdrawn": dict(book.withdrawn),
        }
    if json:
        emit(facts)
        return
    tell(f"{site.site}: {facts['standing']}{'' if facts['reason'] is None else ', ' + facts['reason']}")
    for run, why in facts["withdrawn"].items():
        tell(f"withdrawn from {run}: {why}")


def _shaped(site: SiteConfig) -> list[dict[str, Any]] | None:
    """The models that this site shaped, by its own copy of the log; None where that is not whole."""
    from client.bootstrap import open_log_copy
    from client.journal.snapshot import snapshot
    from client.keystore import load_root
    from protos.log_audit import audit
    from protos.log_models import shaped_by

    if not site.log_copy.exists():
        return []
    try:
        with snapshot(site.log_copy) as file, closing(open_log_copy(site, file)) as copy:
            story = audit(copy.entries(copy.size), load_root(site))
    except CovenantError:
        return None
    return [
        {"model": f"{each.name}@{each.version}", "digest": each.digest, "run": each.run}
        for each in shaped_by(story, site.site)
    ]


def _show(site: SiteConfig, found: list[dict[str, Any]]) -> None:
    if not found:
        people.print(
            f"{site.site} has shaped no registered model, as far as its copy of the log goes", highlight=False
        )
        return
    table = Table("model", "run", "digest", title=f"models that {site.site} shaped")
    for each in found:
        table.add_row(each["model"], each["run"], each["digest"][:16])
    people.print(table)
