"""`covenant site suspend`, `return`, `remove` and `models`: what becomes of a member, and what it leaves behind.

Suspending is a halt of the site, by any officer; returning from it is the word of two. Removing is the next member list, by the root's quorum: from then on
nothing is reserved at the site or charged to its accounts, which stay as they are, and go on if it is certified again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.halts import Reason, RootFile, give_order, lift_all
from coordinator.cli.invitations import SiteArgument
from coordinator.cli.members import Out, read_base, write_next
from coordinator.cli.options import Access, Home, Json, centre_at
from coordinator.cli.signing import (
    OfficerKey,
    OfficerName,
    PassphraseFile,
    PassphraseFiles,
    RootFiles,
    SigningKeys,
    open_keys,
    read_roots,
)
from coordinator.documents import read_root
from protos.log_models import shaped_by
from protos.shell import emit, people
from strategies.ids import SiteName, site_name


def register(app: typer.Typer) -> None:
    """Add these commands to `covenant site`."""
    app.command("suspend")(suspend)
    app.command("return")(come_back)
    app.command("remove")(remove)
    app.command("models")(models)


def suspend(  # noqa: PLR0917 (each is an option of the command)
    site: SiteArgument,
    reason: Reason,
    officer: OfficerName,
    key: OfficerKey,
    passphrase_file: PassphraseFile = None,
    root: RootFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Ask a site no more, at once and in the middle of a run, until two officers let it return. The others go on while their plans allow."""
    give_order(
        root=root,
        home=home,
        access=access,
        reason=reason,
        officer=officer,
        key=key,
        passphrase_file=passphrase_file,
        site=site,
        json=json,
    )


def come_back(
    site: SiteArgument,
    reason: Reason,
    officer: OfficerName,
    key: OfficerKey,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Say that a suspended site may return; with the word of a second officer it does. A removed one is certified again with `covenant site certify`."""
    lift_all(site, reason, officer, key, passphrase_file, home, access, json=json)


def remove(
    site: SiteArgument,
    members: Annotated[Path, typer.Option(help="The member list whose next version is drafted.")],
    root: RootFiles,
    key: SigningKeys = None,
    passphrase_file: PassphraseFiles = None,
    out: Out = None,
    home: Home = None,
) -> None:
    """Draft the next member list without a site that leaves. Its accounts are frozen and kept; the models that it shaped are listed."""
    base, roots = read_base(members, read_roots(root))
    write_next(base.without([site], "site"), roots, open_keys(key, passphrase_file), members, out)
    people.print(
        f"once that list counts, nothing is charged to the accounts of {site}; they are kept, and go on where they are if it returns",
        highlight=False,
    )
    _show(site, shaped(home, site_name(site)))


def models(site: SiteArgument, home: Home = None, json: Json = False) -> None:
    """The models that a site had a part in, whether it is a member still or has left."""
    found = shaped(home, site_name(site))
    if json:
        emit({"site": site, "models": found})
    else:
        _show(site, found)


def shaped(home: Path | None, site: SiteName) -> list[dict[str, Any]]:
    """The models that `site` shaped, by the coordinator's own log, which is audited for it. Raises CovenantError."""
    from coordinator.governance.log import open_log
    from protos.log_audit import audit

    centre = centre_at(home)
    log = open_log(centre.engine, centre.settings, centre.clock)
    story = audit((each.body for each in log.entries(0, log.size())), read_root(centre.settings))
    return [
        {"model": f"{each.name}@{each.version}", "digest": each.digest, "run": each.run}
        for each in shaped_by(story, site)
    ]


def _show(site: str, found: list[dict[str, Any]]) -> None:
    if not found:
        people.print(f"{site} has shaped no registered model", highlight=False)
        return
    table = Table("model", "run", "digest", title=f"models that {site} shaped")
    for each in found:
        table.add_row(each["model"], each["run"], each["digest"][:16])
    people.print(table)
