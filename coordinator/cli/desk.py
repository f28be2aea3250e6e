"""`covenant desk`: where an officer looks at what waits for them, checks it, and signs it, on a machine of their own."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import ACCESS_VARIABLE, KnownMembers, TrustedRoot
from coordinator.cli.signing import OfficerKey, PassphraseFile, now, open_key
from coordinator.documents import read_membership
from protos.documents import load_document
from protos.root import SignedRoot
from protos.shell import people, tell


def desk(
    access: Annotated[
        Path, typer.Option(help="Your access folder; else $COVENANT_ACCESS.", envvar=ACCESS_VARIABLE)
    ],
    root: TrustedRoot,
    key: OfficerKey,
    members: KnownMembers = None,
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Where it listens, on 127.0.0.1 only.")
    ] = 9096,
    passphrase_file: PassphraseFile = None,
    *,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Do not open a browser; print the address only.")
    ] = False,
) -> None:
    """Open your desk in a browser: plans, models and halts that wait for you, checked on this machine, and signed with your key.

    Ctrl-C closes it. What it has seen of the log it remembers in a file beside the access folder.
    """
    from coordinator.api.client import ControlClient
    from coordinator.console.desk.looking import Trust
    from coordinator.console.desk.memory import Memory
    from coordinator.console.desk.server import listening, opened, server_of
    from coordinator.console.desk.session import Session

    pinned = load_document(root, SignedRoot)
    pinned.require_own_quorum()
    known = None if members is None else read_membership(members)
    signer = open_key(key, passphrase_file)
    file = access.absolute().parent / f"{access.absolute().name}.desk"
    with (
        ControlClient(access) as client,
        closing(Memory(file, pinned.root.identity)) as memory,
        listening(port) as listener,
    ):
        trust = Trust(pinned=pinned, known=known, signer=signer, memory=memory)
        session = Session(trust=trust, client=client, port=port, clock=now)
        found = session.look(tell)
        for each in found.checks.made:
            tell(f"{each.state:>4}  {each.name}: {each.words}")
        people.print("your desk is open until Ctrl-C; this address opens it once, and is for nobody else:")
        people.print(f"  {session.address}", highlight=False, soft_wrap=True)
        with nullcontext() if no_open else opened(session.address):
            server_of(session).run(sockets=[listener])
