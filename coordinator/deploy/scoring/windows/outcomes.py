"""Outcomes that arrive late: joined at the place with the decisions that they are of, and released as counts by window, outcome, score bin and group.

1. An outcome is joined by the keyed digest of its request's id, which stands in the decision log. What cannot be joined beyond doubt is told apart by its
   reason, and is never guessed.
2. A decision's outcome counts once, ever: its use is on disk with the charge that it is part of.
3. Which windows are told is said by whoever brings the file, and each of them is told, also of versions and of windows without an outcome: that one is
   told must not depend on whose outcomes have arrived. What arrives for one window is one release.
4. Where the period has nothing left, outcomes stay unused: bring the file again in the next.
5. Groups that may have fewer decisions than the monitor's minimum, as far as the noise tells, are not told.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from coordinator.deploy.scoring.decisions import SiteKey, entries_with
from coordinator.deploy.scoring.windows.bins import Bins
from coordinator.deploy.scoring.windows.outcome_files import OutcomeFile, Reported
from coordinator.deploy.scoring.windows.restored import require_newest
from coordinator.deploy.scoring.windows.store import Integers, Version
from coordinator.deploy.scoring.windows.telling import Place
from protos.plan_panels import groups_of
from protos.windows import Outcomes, Window
from strategies.analytics.groups import hidden_groups
from strategies.analytics.panels import NOT_GIVEN
from strategies.errors import Refused
from strategies.ids import Digest

_REQUEST: Final = re.compile(rb'"request":"([0-9a-f]{32})"')
_LABELS: Final = 2


@dataclass(frozen=True, slots=True)
class Decided:
    """One request's answer: the window and version, and each row's score bin and digest."""

    number: int
    version: Digest
    bins: Sequence[int]
    inputs: Sequence[str]

    def is_apart_from(self, other: Decided) -> bool:
        """Whether it cannot be said of which of two answers under one id an outcome is: of other inputs, or in one window by two versions.

        Without the one answer the outcome would move to the other version: twice as many cells of one release as are charged for.
        """
        return self.inputs != other.inputs or (self.number == other.number and self.version != other.version)


@dataclass(frozen=True, slots=True)
class Joined:
    """An outcome and its decision, which `decision` names."""

    decision: str
    score: int
    positive: bool
    groups: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a file: how many of its rows were `counted`, or were not by reason, and what was released."""

    rows: int
    counted: int
    apart: Mapping[str, int]
    windows: Sequence[Window]


REASONS: Final[Mapping[str, str]] = {
    "unknown": "are of no decision in the log",
    "unwatched": "are of decisions that were made without this monitor",
    "ambiguous": "name a request with several applications and not which of them",
    "used": "are of decisions whose outcome has counted already",
    "elsewhere": "are of decisions in other windows than were named",
    "no outcome": "have no outcome in the contract's words",
    "no budget": "wait for the next period, which has a budget again; bring the file then",
}


@dataclass(slots=True)
class Bringing:
    """One file of outcomes, being brought to the place whose log of `decisions` that is."""

    place: Place
    key: SiteKey
    decisions: Path
    _apart: Counter[str] = field(default_factory=Counter)

    def bring(self, path: Path, numbers: Sequence[int], now: float) -> Told:
        """Join a file, and release what it says of the windows with those `numbers`.

        Raises UsageError, Refused, DiskError: then what was released before that stays counted.
        """
        require_newest(self.place.store, self.decisions)
        deciding = {number: self._deciding(number) for number in sorted(set(numbers))}
        file = OutcomeFile.read(path, self.place.monitor.protected)
        versions = self.place.store.versions()
        groups = {
            digest: {attribute: groups_of(each.contract, attribute) for attribute in file.attributes}
            for digest, each in versions.items()
        }
        by_window = self._joined(file, versions, deciding)
        windows: list[Window] = []
        counted = 0
        for number, deciders in deciding.items():
            by_version = {version: by_window[number, version] for version in deciders}
            told = self._told(number, by_version, groups, now)
            several = sum(map(len, by_version.values()))
            windows += told
            counted += several if told else 0
            if several and not told:
                self._apart["no budget"] += several
        return Told(rows=file.table.num_rows, counted=counted, apart=dict(self._apart), windows=windows)

    def _deciding(self, number: int) -> Sequence[Digest]:
        """The versions that a window tells of. Raises Refused for one that has not been told."""
        found = self.place.store.told_of(self.place.monitor.digest, number)
        if not found:
            raise Refused(
                f"window {number} has not been told here, so no outcomes of it are; name windows that `covenant score windows` lists"
            )
        return found

    def _told(
        self,
        number: int,
        by_version: Mapping[Digest, Sequence[Joined]],
        groups: Mapping[Digest, Mapping[str, Sequence[str]]],
        now: float,
    ) -> Sequence[Window]:
        bins = self.place.monitor.score_bins
        cells = {version: Cells(bins, groups[version]) for version in sorted(by_version)}
        return self.place.tell(
            number,
            "outcomes",
            {version: each.counts(by_version[version]) for version, each in cells.items()},
            1 + max(len(each.groups) for each in cells.values()),
            lambda version, counts, std: {
                "outcomes": cells[version].told(counts, std, self.place.monitor.minimum_group)
            },
            now=now,
            used=[each.decision for found in by_version.values() for each in found],
        )

    def _joined(
        self,
        file: OutcomeFile,
        versions: Mapping[Digest, Version],
        deciding: Mapping[int, Sequence[Digest]],
    ) -> Mapping[tuple[int, Digest], list[Joined]]:
        """Outcomes by the window and version of their decisions, each decision once."""
        digests = {each.request: self.key.of_text(each.request) for each in file}
        decided = self._decided(set(digests.values()))
        used = self._used()
        found: dict[tuple[int, Digest], list[Joined]] = defaultdict(list)
        for each in file:
            request = digests[each.request]
            match _one(decided.get(request), each):
                case str(reason):
                    self._apart[reason] += 1
                case decision, row:
                    name, target = f"{request}:{row}", versions[decision.version].contract.target
                    if name in used:
                        self._apart["used"] += 1
                    elif decision.version not in deciding.get(decision.number, ()):
                        self._apart["elsewhere"] += 1
                    elif each.outcome not in {target.positive, target.negative}:
                        self._apart["no outcome"] += 1
                    else:
                        used.add(name)
                        joined = Joined(
                            name, decision.bins[row], each.outcome == target.positive, each.groups
                        )
                        found[decision.number, decision.version].append(joined)
        return found

    def _decided(self, requests: Collection[str]) -> Mapping[str, Decided | str]:
        """What was answered to each of `requests`, or why that cannot be said."""
        found: dict[str, Decided | str] = {}
        for entry in entries_with(self.decisions, lambda line: _request_in(line) in requests):
            if not entry["answered"]:
                continue
            request, before = entry["request"], found.get(entry["request"])
            now = self._decision(entry)
            if isinstance(before, Decided) and isinstance(now, Decided) and before.is_apart_from(now):
                found[request] = "ambiguous"
            elif before != "ambiguous":
                found[request] = now  # one application asked about again: the answer that came last
        return found

    def _decision(self, entry: Mapping[str, Any]) -> Decided | str:
        if entry.get("monitor") != self.place.monitor.digest:
            return "unwatched"
        at = datetime.fromisoformat(entry["at"]).timestamp()
        return Decided(
            self.place.number_at(at),
            Digest(entry["digest"]),
            Bins.read(entry["bins"]),
            tuple(entry["inputs"]),
        )

    def _used(self) -> set[str]:
        with self.place.store.turn() as turn:
            return {str(decision) for (decision,) in turn.rows("SELECT decision FROM used")}


def _request_in(line: bytes) -> str | None:
    found = _REQUEST.search(line)
    return None if found is None else found[1].decode()


def _one(decided: Decided | str | None, each: Reported) -> tuple[Decided, int] | str:
    """The decision that an outcome is of, and its row there; or why there is none."""
    if decided is None or not each.request:
        return "unknown"
    if isinstance(decided, str):
        return decided
    rows = len(decided.bins)
    if each.row is None:
        return (decided, 0) if rows == 1 else "ambiguous"
    return (decided, each.row) if 0 <= each.row < rows else "unknown"


@dataclass(frozen=True, slots=True)
class Cells:
    """Counts of outcomes: (2, bins) of all, then (2, bins) of each group of each attribute in `groups`. A decision is in one cell of all and of each attribute."""

    bins: int
    groups: Mapping[str, Sequence[str]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tables, 2, bins)."""
        return 1 + sum(map(len, self.groups.values())), _LABELS, self.bins

    def counts(self, joined: Iterable[Joined]) -> Integers:
        """(tables x 2 x bins,) int64."""
        found = np.zeros(self.shape, dtype=np.int64)
        for each in joined:
            for table in self._tables(each):
                found[table, int(each.positive), each.score] += 1
        return found.ravel()

    def told(self, counts: Integers, std: float, minimum: int) -> Outcomes:
        """Noisy counts without those of small groups."""
        tables = counts.reshape(self.shape)
        found: dict[str, dict[str, Any]] = {}
        hidden: dict[str, tuple[str, ...]] = {}
        place = 1
        for attribute, groups in self.groups.items():
            own = dict(zip(groups, tables[place : place + len(groups)], strict=True))
            place += len(groups)
            sizes = {group: float(each.sum()) for group, each in own.items()}
            small = hidden_groups(sizes, minimum, std, _LABELS * self.bins)
            found[attribute] = {group: _pair(each) for group, each in own.items() if group not in small}
            if small:
                hidden[attribute] = small
        return Outcomes(
            noise_std=std, counts=_pair(tables[0]), groups=found or None, suppressed=hidden or None
        )

    def _tables(self, each: Joined) -> Iterator[int]:
        yield 0
        place = 1
        for attribute, groups in self.groups.items():
            given = each.groups[attribute]
            yield place + groups.index(given if given in groups else NOT_GIVEN)
            place += len(groups)


def _pair(table: Integers) -> tuple[tuple[int, ...], tuple[int, ...]]:
    negative, positive = table.tolist()
    return tuple(negative), tuple(positive)
