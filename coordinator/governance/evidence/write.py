"""Evidence on a version written to a folder: from the log of a coordinator, or from an export of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coordinator.bootstrap import Centre
from coordinator.documents import read_root
from coordinator.governance.evidence.about_production import carried
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form, written
from coordinator.governance.evidence.story import Story, read_entries, read_export
from coordinator.governance.log import open_log
from coordinator.registry.production import outcome_windows
from coordinator.registry.versions import SCORING_FILE, find_version
from protos.files import new_file
from protos.membership import Membership
from protos.root import SignedRoot
from protos.windows import Windows
from strategies.errors import UsageError

_MOST_BYTES: Final = 2**30


def story_here(centre: Centre, model: str) -> Story:
    """The version that `model` names, as this coordinator's log tells it, with its own file where the artifacts have it, and windows of outcomes. Raises `CovenantError`."""
    version = find_version(centre.engine, model)
    log = open_log(centre.engine, centre.settings, centre.clock)
    entries = (each.body for each in log.entries(0, log.size()))
    story = read_entries(entries, read_root(centre.settings)).story(version.name, version.version)
    story = story.with_windows(outcome_windows(centre.engine, version.name, version.version)[1])
    digest = story.model.artifacts.get(SCORING_FILE)
    if digest is None or not centre.artifacts.path(digest).is_file():
        return story
    return story.with_file(centre.artifacts.get(digest))


def story_in(
    export: Path,
    pinned: SignedRoot,
    known: Membership | None,
    model: str,
    onnx: Path | None = None,
    windows: Sequence[Windows] = (),
) -> Story:
    """The version that `model` names (NAME@VERSION, NAME@ALIAS, or NAME for the latest), as an export tells it, with its file `onnx`, and with places' `windows`.

    Raises `CovenantError`, Refused for windows that do not count (`about_production.carried`).
    """
    story = _named(export, pinned, known, model)
    if onnx is not None:
        story = story.with_file(_read(onnx))
    return story.with_windows(carried(story, windows))


def _named(export: Path, pinned: SignedRoot, known: Membership | None, model: str) -> Story:
    reading = read_export(export, pinned, known)
    name, _, word = model.partition("@")
    if not word:
        return reading.story(name)
    aliases = reading.audit.registry.aliases(name)
    number = aliases.get(word, int(word) if word.isdecimal() and word.isascii() else None)
    if number is None:
        raise UsageError(
            f"{model} names no version in {export}; write NAME@NUMBER, such as {name}@1, or one of its aliases: {', '.join(sorted(aliases)) or 'none'}"
        )
    return reading.story(name, number)


def _read(onnx: Path) -> bytes:
    try:
        with onnx.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{onnx} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{onnx} has more than {_MOST_BYTES} bytes, and no scoring model has")
    return data


def write_evidence(
    story: Story, folder: Path, kinds: Sequence[EvidenceKind] = (), forms: Sequence[Form] = ()
) -> tuple[Path, ...]:
    """Write documents to `folder`, which is made where it is missing: all kinds and forms, unless some are named. Raises UsageError for a file that exists."""
    made = [
        (folder / f"{kind}.{form}", written(document(story, kind), form))
        for kind in dict.fromkeys(kinds or EvidenceKind)
        for form in dict.fromkeys(forms or Form)
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}") from error
    for path, data in made:
        with new_file(path) as file:
            file.write(data)
    return tuple(path for path, _ in made)
