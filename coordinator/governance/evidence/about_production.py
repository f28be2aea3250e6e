"""Fairness by protected group where the version runs: from windows of outcomes that places have told, which are not in the log and say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from coordinator.governance.evidence.about_fairness import Origin, attribute_blocks
from coordinator.governance.evidence.about_performance import last_panels
from coordinator.governance.evidence.content import Block, Cell, Words, table
from coordinator.governance.evidence.facts import fact
from coordinator.governance.evidence.story import Story
from coordinator.registry.fairness import in_production
from protos.drift import require_released
from protos.keys import grouped
from protos.log_deploy_events import TargetAdded
from protos.log_monitor import MonitorAdded
from protos.windows import Monitor, Window, Windows
from strategies.errors import Refused

_DERIVED: Final = "not in the log: from windows of outcomes; this entry has the monitor that they are of"
_NOT_IN_THE_LOG: Final = Words(
    "What follows on decisions where it runs is not in the log. It is from windows of outcomes that whoever wrote this document had; a place tells each once, with"
    " noise of its own. A window is named by the SHA-256 of its canonical JSON (monitor-window/v1): whoever has the file of the place, from"
    " `covenant score windows --export`, comes to the same digests, and with `covenant model evidence --windows` to the same figures. Nobody but the place can say"
    " whether its counts are right, and of a window that nobody vouches for not even that the place told it."
)


def production(story: Story) -> Iterator[Block]:
    """What the newest windows of outcomes say by group, and which windows these are; nothing where nobody told any."""
    told = [each for each in story.outcomes if each.outcomes is not None and each.outcomes.groups]
    monitor = _monitor(story)
    if not told or monitor is None:
        return
    seq, watched = monitor
    yield _NOT_IN_THE_LOG
    columns = ("place", "from", "to", "SHA-256 of the window", "vouched for by")
    yield table("Windows of outcomes", columns, [_row(story, each, seq) for each in told])
    stage = in_production(told, watched, _declines_at(story))
    if not stage.attributes:
        yield Words(
            "The evaluation counted no protected group, so there is no threshold at which decisions could be read."
        )
    origin = Origin(
        prefix="production", places=(seq,), derived=_DERIVED, rows="outcomes where it runs, not in the log"
    )
    for each in stage.attributes:
        yield from attribute_blocks(each, stage, origin)


def carried(story: Story, files: Sequence[Windows]) -> Iterator[Window]:
    """The windows of outcomes in `files` that are of the version and the monitor of `story`, each once, held to what the coordinator asks of those that it takes in.

    Raises Refused for a file of a place that the version was not sent to, or without the signature of a place whose key the log has, and for two windows of a
    place under one number.
    """
    monitor = _monitor(story)
    known: dict[tuple[str, int], str] = {}
    for file in files:
        _require_place(story, file)
        for each in file.windows:
            before = known.setdefault((each.place, each.sequence), each.digest)
            if before != each.digest:
                raise Refused(
                    f"{each.place} tells two windows under sequence {each.sequence}, {before[:12]} and {each.digest[:12]}; one window is told once."
                    " Ask the place which file is its own"
                )
            if monitor is not None and each.monitor == monitor[1].digest:
                require_released(each, monitor[1])
    told = {each.digest: each for file in files for each in file.windows}
    yield from told.values()


def _require_place(story: Story, file: Windows) -> None:
    if file.place not in {what.name for _, what in story.of(TargetAdded)}:
        raise Refused(
            f"the log tells of no order that brought {story.ref} to {file.place}, and these windows are said to be from there; leave them out"
        )
    if (key := key_of_place(story, file.place)) is not None:
        file.require(key)


def key_of_place(story: Story, place: str) -> str | None:
    """The key that signs what a place without a connection tells, as the log has it; None for one that is asked over its connection."""
    found = (what.settings for _, what in story.of(TargetAdded) if what.name == place)
    key = next((each.get("key") for each in found if each.get("kind") == "edge"), None)
    return None if key is None else str(key)


def _monitor(story: Story) -> tuple[int, Monitor] | None:
    known = [(each.seq, what.monitor) for each, what in story.of(MonitorAdded)]
    return known[-1] if known else None


def _declines_at(story: Story) -> float | None:
    found = last_panels(story)
    groups = () if found is None else found[0].groups
    return next((each.edges[each.declines] for each in groups), None)


def _row(story: Story, window: Window, seq: int) -> list[Cell]:
    name, key = f"production.windows.{window.place}.{window.sequence}", key_of_place(story, window.place)
    vouched = (
        f"its file, signed by {window.place} with key {grouped(key[:16])}"
        if key is not None
        else f"nobody: the log has no key of {window.place}"
    )

    def told(what: str, value: str) -> Cell:
        return fact(f"{name}.{what}", what, value, (seq,), derived=_DERIVED)

    return [
        window.place,
        told("from", f"{window.begins:%Y-%m-%d %H:%M:%S} UTC"),
        told("to", f"{window.ends:%Y-%m-%d %H:%M:%S} UTC"),
        told("digest", window.digest),
        vouched,
    ]
