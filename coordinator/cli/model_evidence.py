"""`covenant model state` and `evidence`: what people say of a version, and the documents on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.monitor_windows import carried_windows
from coordinator.cli.options import Access, Home, Json, KnownMembers, centre_at, model_desk_at
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
from coordinator.documents import read_membership
from coordinator.governance.evidence.documents import EvidenceKind, missing
from coordinator.governance.evidence.forms import Form
from coordinator.governance.evidence.write import story_here, story_in, write_evidence
from protos.documents import load_document
from protos.keys import grouped
from protos.membership import Role
from protos.model_notes import LONGEST_TEXT, NoteKind, state_note
from protos.root import SignedRoot
from protos.shell import emit, tell
from strategies.errors import UsageError

_MOST_BYTES = 4 * LONGEST_TEXT


def state(
    model: ModelArgument,
    kind: Annotated[NoteKind, typer.Option("--kind", help="What the note is about.")],
    text_file: Annotated[
        Path, typer.Option("--text-file", help=f"The note, UTF-8, at most {LONGEST_TEXT} characters.")
    ],
    role: Annotated[Role, typer.Option("--as", help="The role in which it is said.")],
    officer: OfficerName,
    key: OfficerKey,
    root: Annotated[
        Path, typer.Option("--root", help="The federation's root, in any version that you trust.")
    ],
    passphrase_file: PassphraseFile = None,
    *,
    home: Home = None,
    access: Access = None,
    json: Json = False,
    yes: Yes = False,
) -> None:
    """Say something of a version, signed: its purpose, limitations, oversight, or what validation found. The last note of a kind counts.

    The key stays on this machine; with --access the note goes to the coordinator over its control API.
    """
    desk, text = model_desk_at(home, access), _read(text_file)
    version = desk.standing(model).version
    federation = read_signed_root(root).identity
    note = state_note(
        kind,
        text,
        officer,
        role,
        open_key(key, passphrase_file),
        model=(version.name, version.version, version.digest),
        federation=federation,
        at=now(),
    )
    tell(f"{version.ref}, {version.stage}, registry digest {version.digest}")
    tell(f"   in the federation with root {grouped(federation)}; {kind}:")
    for line in note.text.split("\n"):
        tell(f"   | {line}")
    confirm(f"State it as {role}?", yes=yes)
    digest = desk.state(note)
    if json:
        emit({"model": version.ref, "kind": str(kind), "officer": officer, "note": digest})
    else:
        tell(f"recorded: {note.words}")


def evidence(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="Where to write; files that exist are never overwritten.")],
    kind: Annotated[
        list[EvidenceKind] | None, typer.Option("--kind", help="Only this document; repeatable.")
    ] = None,
    form: Annotated[list[Form] | None, typer.Option("--format", help="Only this form; repeatable.")] = None,
    *,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", help="Read this export of the log instead of a coordinator's; takes --root."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="With --export: the federation's root.json, from where you trust it."),
    ] = None,
    members: KnownMembers = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            help="With --export: the version's model.onnx, whose digest the log has, to tell which way each feature moves scores.",
        ),
    ] = None,
    windows: Annotated[
        list[Path] | None,
        typer.Option(
            "--windows",
            help="With --export: what `covenant score windows --export` wrote at a place, to tell of outcomes by group where it runs; repeatable.",
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Write model card, validation dossier and privacy statement of a version. Every figure is from the log, which is judged first, and names its entries; what is not says so.

    With --export nothing but the file and the root is needed: anybody who has both comes to the same documents, and with --onnx to what the coordinator's say of directions.
    """
    if export is None and ((root, members, onnx) != (None, None, None) or windows):
        raise UsageError(
            "--root, --members, --onnx and --windows go with --export; a coordinator has its own"
        )
    if export is None:
        story = story_here(centre_at(home), model)
    elif root is None:
        raise UsageError("an export is judged from a root that you trust; name it with --root")
    else:
        known = None if members is None else read_membership(members)
        carried = [carried_windows(each) for each in windows or ()]
        story = story_in(export, load_document(root, SignedRoot), known, model, onnx, carried)
    files = write_evidence(story, folder, kind or (), form or ())
    lacks = {each.what for one in dict.fromkeys(kind or EvidenceKind) for each in missing(story, one)}
    if json:
        emit({"model": story.ref, "files": [str(each) for each in files], "missing": sorted(lacks)})
        return
    for each in files:
        tell(f"wrote {each}")
    for what in sorted(lacks):
        tell(f"missing: {what}")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(
            f"{path} is larger than {_MOST_BYTES} bytes; a note has at most {LONGEST_TEXT} characters"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from error
