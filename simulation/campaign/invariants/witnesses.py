"""What the transparency log promises: it fits together, and nothing of a run was settled before its sites had witnessed it."""

from __future__ import annotations

from coordinator.runs import RunView
from protos.documents import load_document
from protos.log_audit import audit
from protos.root import SignedRoot
from simulation.campaign.invariants.base import Invariant, register
from strategies.errors import Refused


@register
class TheLogVerifies(Invariant):
    """Audits the whole log when all is over, as a reader with nothing but the root would."""

    name = "the-log-verifies"
    part = "witnesses"
    says = "The log's entries fit together, and no sum is settled over a site before it and as many as the plan asks for have witnessed the run."

    def ended(self, run: RunView) -> None:
        """See `Invariant.ended`."""
        entries = [bytes(row["body"]) for row in self.scene.rows("SELECT body FROM log_entries ORDER BY seq")]
        pinned = load_document(self.scene.federation.layout.home / "root.json", SignedRoot)
        try:
            story = audit(entries, pinned)
        except Refused as refused:
            self.require(holds=False, sentence=str(refused))
            return
        heads = story.witnesses.sizes
        self.require(run.run in story.runs, f"{run.run} is not in the log")
        if story.runs[run.run].settled:
            self.require(
                len(heads) >= self.scene.stage.plan.witnesses, f"only {sorted(heads)} have witnessed the log"
            )
