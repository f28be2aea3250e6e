"""What the sites of a run are shown of the log, so that they witness the run and count the witnesses for themselves.

1. The run's own entries, its launch and its plan, each with the proof that it is in the head that they are to sign.
2. Proofs that this head extends each one that a site may have signed before, and all gaps of the log.
3. What other sites have signed, with the views that they name.
4. Entries for a site's copy of the log, from where that ends, and the proof that they are those of the head.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from coordinator.governance.gaps import gap_leaves
from coordinator.governance.log import TransparencyLog
from coordinator.governance.witnesses import Seen
from coordinator.rounds.question import RunDocuments
from protos.frames import WitnessRequest
from protos.log_entries import LogEntry, PlanRecorded, RunLaunched
from protos.log_proofs import MOST_COPIED, MOST_COPIED_BYTES, Grown, LogLeaf, Shown
from protos.witness import WitnessBundle, view_digest
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.transparency.notes import Checkpoint


@dataclass(frozen=True, slots=True)
class _Launch:
    """Where a run stands in the log."""

    launch: int
    launch_body: bytes
    plan: int
    plan_body: bytes


@dataclass
class LogShown:
    """The log as the sites of one run are shown it."""

    documents: RunDocuments
    log: TransparencyLog

    def head_of(self, note: str) -> Checkpoint:
        """The head in a note that the log's key signed."""
        return Shown.of(note, (), self.log.key).head

    def request(self, known: Mapping[SiteName, Seen], sizes: Collection[int]) -> WitnessRequest:
        """The request to witness the newest head, with proofs from the heads of the statements `known`, and from those of `sizes` too.

        Raises CovenantError where the log does not have the run.
        """
        note, run = self.log.checkpoint(), self._launch
        head = self.head_of(note.encoded)
        invited = [known[site] for site in self.documents.plan.sites.invite if site in known]
        told = [each for each in invited if each.signed.statement.head.size <= head.size]
        gaps = gap_leaves(self.log, head.size)
        starts = {each.signed.statement.head.size for each in told} | {size for size in sizes if size}
        starts |= {each.seq for each in gaps}
        return WitnessRequest(
            run=self.documents.run,
            note=note.encoded,
            task=self.documents.task,
            launch=LogLeaf(run.launch, run.launch_body, self.log.inclusion(run.launch, head.size)),
            plan=LogLeaf(run.plan, run.plan_body, self.log.inclusion(run.plan, head.size)),
            grown=self._grown(starts, head.size),
            statements=tuple(each.signed for each in told),
            views=tuple({view_digest(each.view): each.view for each in told if each.view}.values()),
            again=bool(sizes),
            gaps=gaps,
        )

    def with_entries(self, request: WitnessRequest, first: int) -> WitnessRequest:
        """The request with entries from `first` on, as many as one takes."""
        size = self.head_of(request.note).size
        entries, left = [], MOST_COPIED_BYTES
        for each in self.log.entries(first, min(size, first + MOST_COPIED)):
            left -= len(each.body)
            if left < 0:
                break
            entries.append(each.body)
        if not entries:
            return request
        there = {each.size for each in request.grown}
        grown = self._grown({first, first + len(entries)} - there, size)
        return replace(request, first=first, entries=tuple(entries), grown=(*request.grown, *grown))

    def bundle(self, note: str, seen: Mapping[SiteName, Seen]) -> WitnessBundle:
        """The statements `seen`, and what it takes to judge them by the head of `note`, the newest that one of them is over."""
        sizes = {each.signed.statement.head.size for each in seen.values()}
        return WitnessBundle(
            note=note,
            statements=tuple(seen[site].signed for site in sorted(seen)),
            views={view_digest(each.view): dict(each.view) for each in seen.values()},
            grown=self._grown(sizes, self.head_of(note).size),
        )

    @cached_property
    def _launch(self) -> _Launch:
        """The run's own entries. Raises CovenantError where the log does not have them."""
        run, plan = self.documents.run, self.documents.plan.digest
        for launched in self.log.newest_first("launch"):
            launch = LogEntry.from_canonical(launched.body).what
            if isinstance(launch, RunLaunched) and launch.run == run:
                break
        else:
            raise CovenantError(f"the log has no launch of {run}; no site would take part in it")
        wanted = (plan, launch.contract, launch.evidence)
        for recorded in self.log.newest_first("plan", before=launched.seq):
            what = LogEntry.from_canonical(recorded.body).what
            if isinstance(what, PlanRecorded):
                evidence = None if what.evidence is None else what.evidence.digest
                if (what.plan.digest, what.contract.digest, evidence) == wanted:
                    return _Launch(launched.seq, launched.body, recorded.seq, recorded.body)
        raise CovenantError(f"the log does not have the plan of {run} before its launch")

    def _grown(self, sizes: Iterable[int], size: int) -> tuple[Grown, ...]:
        """Proofs that the log of `size` entries extends each of the smaller ones."""
        return tuple(
            Grown.of(each, self.log.consistency(each, size)) for each in sorted(set(sizes)) if 0 < each < size
        )
