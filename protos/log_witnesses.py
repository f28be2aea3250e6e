"""Who has seen the log: statements of sites, held against the heads that the log really had, and refusals that sites have signed.

1. A statement is signed by the site's key on the member list under which the run was launched, and names that launch.
2. Its head is the one that the log had at that size, or one that a gap names as lost. Another one is a split view: the site was shown another log
   than the reader.
3. A refusal is signed by the site, which the plan invites.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protos.frames import REFUSAL
from protos.keys import verify
from protos.log_run_events import RunWitnessed, SiteRefused
from protos.log_runs import RunStory
from protos.membership import MemberList
from protos.witness import SignedWitness, Witnessed
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.transparency.tree import GrowingTree


class SplitView(Refused):
    """A site has signed a head that this log never had."""


@dataclass
class Witnesses:
    """What is known of who has seen `tree`, the log as its reader has it."""

    tree: GrowingTree = field(default_factory=GrowingTree)
    lost: set[tuple[int, bytes]] = field(default_factory=set)
    """Heads, by size and root, of entries that gaps have lost."""
    newest: dict[SiteName, Witnessed] = field(default_factory=dict)
    """By site: the statement over the largest head."""

    @property
    def sizes(self) -> dict[SiteName, int]:
        """How many entries each site has witnessed."""
        return {site: each.head.size for site, each in sorted(self.newest.items())}

    @property
    def unseen(self) -> int:
        """How many entries at the end nobody has witnessed."""
        return self.tree.size - max(self.sizes.values(), default=0)

    def take(self, run: RunStory, what: RunWitnessed) -> None:
        """Judge the statements of a run. Raises Refused."""
        for each in what.statements:
            witness = each.verify(run.members)
            said = witness.said
            if said.site not in run.plan.sites.invite:
                raise Refused(f"{said.site} is a witness of {what.run}, whose plan does not invite it")
            if (said.run, said.launch, said.plan) != (run.run, run.launch, run.plan.digest):
                raise Refused(
                    f"{said.site} has witnessed another launch than that of {what.run} in entry {run.launch}"
                )
            self.note(witness)
            run.witnesses.add(said.site)

    def note_all(self, statements: Iterable[SignedWitness], members: MemberList) -> None:
        """Judge statements that came beside the log. Raises Refused."""
        for each in statements:
            self.note(each.verify(members))

    def note(self, witness: Witnessed) -> None:
        """Hold a statement against the log. Raises SplitView."""
        head, site = witness.head, witness.said.site
        ours = self.tree.root_at(head.size)
        if (head.size, head.root) in self.lost:
            return
        if ours != head.root:
            seen = "this log does not have so many" if ours is None else f"this log had {ours.hex()}"
            raise SplitView(
                f"{site} has signed that the log had the head {head.root.hex()} at {head.size} entries; {seen}. The site was shown another history:"
                " keep this file and the site's statement, and ask the officers"
            )
        known = self.newest.get(site)
        if known is None or known.head.size <= head.size:
            self.newest[site] = witness


def require_refused(run: RunStory, what: SiteRefused) -> None:
    """Check that a site which the plan invites has signed its refusal. Raises Refused."""
    if what.site not in run.plan.sites.invite:
        raise Refused(f"{what.site} refuses {what.run}, whose plan does not invite it")
    key = run.members.member(what.site).identity_key
    if not verify(key, what.signature, REFUSAL, what.message):
        raise Refused(f"{what.site} has not signed this refusal of {what.run}")
