"""`covenant model approve`, `status`, and the moves that people make by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.cli.options import Access, Home, Json, model_desk_at
from coordinator.cli.signing import (
    OfficerKey,
    OfficerName,
    PassphraseFile,
    Yes,
    confirm,
    now,
    open_key,
    read_signed_root,
)
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos.keys import grouped
from protos.membership import Role
from protos.model_approvals import approve_model, until
from protos.model_stages import Stage
from protos.moments import end_of_day
from protos.shell import emit, tell
from strategies.errors import Refused

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME@VERSION or NAME@ALIAS; NAME alone is the latest.")
]
Why = Annotated[str, typer.Option("--why", help="A sentence for whoever reads the log.")]


def approve(
    model: ModelArgument,
    role: Annotated[Role, typer.Option("--as", help="The role that is exercised.")],
    officer: OfficerName,
    key: OfficerKey,
    root: Annotated[
        Path,
        typer.Option(
            "--root",
            help="The federation's root, in any version that you trust: what is signed counts there only.",
        ),
    ],
    passphrase_file: PassphraseFile = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="Last day of this approval, YYYY-MM-DD, to its end in UTC; a year from now if left out."
        ),
    ] = None,
    *,
    home: Home = None,
    access: Access = None,
    json: Json = False,
    yes: Yes = False,
) -> None:
    """Approve a validated version in one role, after reading what it is. With the last approval that it takes it may be deployed.

    The key stays on this machine; with --access the approval goes to the coordinator over its control API.
    """
    desk, at = model_desk_at(home, access), now()
    found = desk.standing(model)
    if found.subject is None:
        raise Refused(f"{found.version.ref} is {found.version.stage}: it is approved once it is validated")
    federation = read_signed_root(root).identity
    _show(found)
    tell(f"   in the federation with root {grouped(federation)}")
    confirm(f"Approve it as {role}?", yes=yes)
    last = until(at, None if expires is None else end_of_day(expires))
    said = approve_model(
        found.subject,
        officer,
        role,
        open_key(key, passphrase_file),
        federation=federation,
        at=at,
        expires=last,
    )
    _told(desk.approve(said), json=json)


def status(model: ModelArgument, home: Home = None, access: Access = None, json: Json = False) -> None:
    """How far a version is approved: by whom, until when, and who is missing."""
    found = model_desk_at(home, access).standing(model)
    if not json:
        _show(found)
    _told(found, json=json)


def quarantine(
    model: ModelArgument, why: Why, home: Home = None, access: Access = None, json: Json = False
) -> None:
    """Take a version out of use at once, from whatever stage; it loses its aliases."""
    _moved(model_desk_at(home, access).move(model, Stage.QUARANTINED, why), json=json)


def retire(
    model: ModelArgument, why: Why, home: Home = None, access: Access = None, json: Json = False
) -> None:
    """End a version for good; it loses its aliases."""
    _moved(model_desk_at(home, access).move(model, Stage.RETIRED, why), json=json)


def release(
    model: ModelArgument, why: Why, home: Home = None, access: Access = None, json: Json = False
) -> None:
    """Make a quarantined version a candidate again: it is validated and approved anew."""
    _moved(model_desk_at(home, access).move(model, Stage.CANDIDATE, why), json=json)


def alias(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    called: Annotated[
        str,
        typer.Argument(metavar="ALIAS", help="What a version of it is called, such as next; not champion."),
    ],
    version: Annotated[
        int | None,
        typer.Option(min=1, help="The version that it names; without one the alias is taken away."),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Let an alias name a version, or nothing any more. `champion` follows deployment by itself."""
    model_desk_at(home, access).name(name, called, version)
    if json:
        emit({"name": name, "alias": called, "version": version})
    elif version is None:
        tell(f"{name} has no {called} any more")
    else:
        tell(f"{name}@{called} is {name}@{version}")


def _show(found: ModelStanding) -> None:
    """What an officer looks at before signing."""
    version, subject = found.version, found.subject
    tell(f"{version.ref}, {found.words}, from {version.run_id}")
    tell(f"   registry digest {version.digest}, files {'signed' if version.signature else 'NOT signed'}")
    for name, digest in version.artifacts.items():
        tell(f"      {digest}  {name}")
    if version.metrics:
        tell(f"   AUC {version.metrics.get('auc', float('nan')):.4f} on the rows that were held out")
    if subject is not None:
        tell(f"   validated on {subject.on}; the plan's author is {subject.author or 'nobody'}")


def _told(found: ModelStanding, *, json: bool) -> None:
    if json:
        emit(standing_facts(found))
        return
    for each in found.statements:
        tell(f"approved by {each.officer} as {each.role} until {each.expires:%Y-%m-%d}")
    for lack in found.missing:
        tell(f"missing: {found.version.ref} {lack.words}")
    tell(f"{found.version.ref} is {found.version.stage}")


def _moved(version: ModelVersion, *, json: bool) -> None:
    if json:
        emit({"model": version.ref, "stage": str(version.stage), "aliases": list(version.aliases)})
    else:
        tell(f"{version.ref} is {version.stage}")


def standing_facts(found: ModelStanding) -> dict[str, Any]:
    """As JSON."""
    return {
        "model": found.version.ref,
        "stage": str(found.version.stage),
        "digest": found.version.digest,
        "signed": found.version.signature is not None,
        "on": None if found.subject is None else found.subject.on,
        "author": None if found.subject is None else found.subject.author,
        "approvals": [
            {"officer": each.officer, "role": str(each.role), "expires": each.expires.isoformat()}
            for each in found.statements
        ],
        "missing": [
            {"role": str(each.role), "given": each.given, "asked": each.asked, "could": list(each.could)}
            for each in found.missing
        ],
    }
