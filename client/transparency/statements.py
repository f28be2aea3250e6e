"""What sites have signed as witnesses: of the same log, and no site is behind its own signature. Rule 4 of a `witness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from client.refusal import TaskRefused, refusing
from client.transparency.memory import REENROL, SET_BACK, WitnessMemory
from protos.frames import RefusalCode
from protos.log_proofs import ProofMissing, Shown
from protos.membership import MemberList
from protos.witness import Evidence, Position, SignedWitness, View, Witnessed, difference_of, key_part
from strategies.ids import Digest
from strategies.transparency.merkle import ProofRefused


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of sites, as this one's memory and journal bear them out."""

    memory: WitnessMemory

    def verified(self, statement: SignedWitness, shown: Shown, members: MemberList) -> Witnessed:
        """A statement that its site has signed, over a head that the one `shown` extends. Raises `TaskRefused`."""
        with refusing(RefusalCode.SIGNATURE):
            witness = statement.verify(members)
        try:
            if witness.head not in self.memory.lost:
                shown.require_extends(witness.head)
        except ProofMissing as refused:
            raise TaskRefused(RefusalCode.PROTOCOL, str(refused)) from refused
        except ProofRefused as refused:
            site = statement.statement.site
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                f"the log does not extend what {site} has witnessed: {refused}",
                evidence=Evidence(
                    shows="not extended", site=site, notes=(shown.note.encoded,), statements=(statement,)
                ).encoded,
            ) from refused
        return witness

    def require_none_behind(
        self, witnesses: Iterable[Witnessed], views: Mapping[Digest, View]
    ) -> list[SignedWitness]:
        """Hold statements against what is known of their sites; those that are news. Raises `TaskRefused`."""
        news = []
        for each in witnesses:
            view = views.get(each.said.view, {})
            self.require_mine(view.get(self.memory.site), each.signed, view)
            if each.said.site == self.memory.site:
                self.require_mine(each.said.position, each.signed, None)
                continue
            known = self.memory.known.get(each.said.site)
            if known is not None and known.statement.identity == each.said.identity:
                self._require_fits(known, each)
                if known.statement.position.sequence >= each.said.position.sequence:
                    continue
            news.append(each.signed)
        return news

    def require_mine(self, claimed: Position | None, signed: SignedWitness, view: View | None) -> None:
        """Check that this site's journal holds what somebody has signed that it did. Raises `TaskRefused`."""
        if claimed is None or not claimed.epoch.startswith(key_part(self.memory.identity.public)):
            return  # of a key that this site had before
        journal = self.memory.journal
        if claimed.epoch == self.memory.epoch and journal.holds((claimed.sequence, claimed.head)):
            return
        whose = "it" if signed.statement.site == self.memory.site else f"site {signed.statement.site}"
        evidence = Evidence(
            shows="set back",
            site=self.memory.site,
            statements=(signed,),
            view=None if view is None else dict(view),
        )
        raise TaskRefused(
            RefusalCode.SIGNATURE,
            f"{SET_BACK}: {whose} has signed that the journal had an entry"
            f" {claimed.sequence} which it does not have, and it has {journal.head[0]} entries. {REENROL}",
            evidence=evidence.encoded,
        )

    def _require_fits(self, known: SignedWitness, witness: Witnessed) -> None:
        site = witness.said.site
        wrong = difference_of(
            known.statement, witness.said, lost=self.memory.lost, one_log=site not in self.memory.past
        )
        if wrong is not None:
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                f"site {site} was set back to an older copy of its journal, or runs twice: {wrong}",
                evidence=Evidence(shows="set back", site=site, statements=(known, witness.signed)).encoded,
            )
