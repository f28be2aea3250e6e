"""This site as a witness of the transparency log: what it has signed about it, and what it asks of others before it takes part in a run.

1. A head is signed by the log's key on the newest member list that this site trusts, and extends the last head that this site has signed.
2. The launch of the run is in that log, and names this run, this plan with its contract and approvals, and this member list; and so is the entry
   that has the plan. No launch without that, whatever the coordinator says; and no second one of the same run.
3. What is signed is in the journal first, and says where the journal then stood (`Position`).
4. What others have signed is of the same log, and no site is behind its own signature: not a peer, and not this site, whose journal must hold
   every position that it or its peers have ever signed for it.
5. A run is taken part in, under the very documents that were witnessed, after as many of its sites have witnessed it as the plan and this site's
   policy ask for, this one among them: each over a head that this site's own extends, and each with what it knows of this site's journal. Whoever
   is in a sum with this site is among them.
6. A log that does not extend what this site has signed is followed only over a gap that the officers have signed, which names that very head as
   lost (`gap_check`). The old head stays in the journal.
7. Two heads of one size are a split. It is kept with both signed notes, and this site signs nothing and takes part in nothing until a person
   here has dealt with it.

8. Nothing is taken part in before as many others have vouched for this process's start (`vouching`).

Rules 1, 6 and 7 are kept by a `History`, rule 4 by `Statements`, rule 2 by `launch_check`, rule 3 by a `WitnessMemory`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from client.admission.documents import Accepted
from client.refusal import TaskRefused, refusing
from client.transparency.history import History
from client.transparency.launch_check import require_launched
from client.transparency.log_copy import Contradicted, Fresh, LogCopy
from client.transparency.memory import WitnessMemory
from client.transparency.statements import Statements
from client.transparency.vouching import Vouching
from protos.frames import RefusalCode, WitnessAnswer, WitnessRequest
from protos.log_proofs import Shown, log_key_of
from protos.release import package_version
from protos.root import SignedRoot
from protos.witness import WitnessBundle, Witnessed, view_digest, witnesses_of
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName

_KEPT_BUNDLES: Final = 8
_KEPT_RUNS: Final = 64
_log = structlog.get_logger(__name__)


@dataclass
class Witness:
    """What this site signs and believes, by what it remembers. `policy_asks` is its own rule of how many witnesses a run needs, `copy` its copy
    of the log."""

    memory: WitnessMemory
    pinned: SignedRoot
    vouching: Vouching
    policy_asks: int | None = None
    copy: LogCopy | None = None
    _good: OrderedDict[tuple[RunId, Digest, Digest], frozenset[SiteName]] = field(
        default_factory=OrderedDict, init=False
    )
    """By run, documents and statements, which were all checked: who has signed."""
    _shown: dict[RunId, frozenset[SiteName]] = field(default_factory=dict, init=False)
    """By run: whom the statements are of that this site was shown last."""
    _history: History = field(init=False)
    _statements: Statements = field(init=False)

    def __post_init__(self) -> None:
        self._history = History(self.memory, self.pinned)
        self._statements = Statements(self.memory)

    def require_sound(self) -> None:
        """Check that no split of the log is known here, and that nobody has shown this site to be behind. Raises `TaskRefused`."""
        self._history.require_sound()
        self.vouching.require_not_behind()

    def sign(self, request: WitnessRequest, accepted: Accepted) -> WitnessAnswer:
        """Witness a run whose documents were accepted; without a statement where a proof from this site's last head is needed.

        Raises `TaskRefused`, and `JournalBroken` if it could not be recorded.
        """
        self.require_sound()
        if request.starts or request.vouchers:
            return self._vouched(request, accepted)
        start = self.vouching.asked_for(accepted)
        with refusing(RefusalCode.SIGNATURE, UsageError):
            shown = Shown.of(request.note, request.grown, log_key_of(accepted.members))
            # First, because a site that was set back does not know how much it has seen.
            for each in request.statements:
                if each.statement.site == self.memory.site:
                    said = each.verify(accepted.members).said
                    self._statements.require_mine(said.position, each, None)
            self._history.follow_over_gaps(request.gaps, shown, accepted.trusted, self.copy)
        if not self._history.extends_the_last(shown, again=request.again):
            return WitnessAnswer(
                self.memory.last_head.size, copied=self._copied, start=start, version=package_version()
            )
        fresh = self._weighed(request, shown)
        with refusing(RefusalCode.SIGNATURE):
            require_launched(request, accepted, shown.head)
            self._require_one_launch(request, accepted)
        witnesses = [self._statements.verified(each, shown, accepted.members) for each in request.statements]
        news = self._statements.require_none_behind(
            witnesses, {view_digest(each): each for each in request.views}
        )
        view = self.memory.view(accepted.members, news)
        signed = self.memory.record(request, accepted, view, news)
        if self.copy is not None:
            self.copy.keep(fresh)
        _log.info("witnessed", run=request.run, entries=shown.head.size, copied=self._copied)
        return WitnessAnswer(
            shown.head.size, signed, view, copied=self._copied, start=start, version=package_version()
        )

    def _vouched(self, request: WitnessRequest, accepted: Accepted) -> WitnessAnswer:
        """Vouch for others that were started, and take what they say of this site."""
        with refusing(RefusalCode.SIGNATURE):
            said = self.vouching.vouch(request.starts, accepted)
        self.vouching.take(request.vouchers, accepted)
        return WitnessAnswer(
            self.memory.last_head.size,
            copied=self._copied,
            start=self.vouching.asked_for(accepted),
            vouchers=said,
            version=package_version(),
        )

    def require(self, bundle: bytes, accepted: Accepted, run: RunId) -> None:
        """Check that enough sites have witnessed `run`, this one among them. Raises `TaskRefused`, and `JournalBroken`."""
        self.require_sound()
        key = (run, accepted.documents, sha256_hex(bundle))
        if key not in self._good:
            with refusing(RefusalCode.SIGNATURE):
                self._good[key] = self._require_witnessed(bundle, accepted, run)
            while len(self._good) > _KEPT_BUNDLES:
                self._good.popitem(last=False)
        self.vouching.require(accepted)
        self._shown.pop(run, None)
        self._shown[run] = self._good[key]
        while len(self._shown) > _KEPT_RUNS:
            self._shown.pop(next(iter(self._shown)))

    def require_all(self, roster: Collection[SiteName], run: RunId) -> None:
        """Check that all who are to be in a sum have witnessed `run` in one log with this site. Raises `TaskRefused`."""
        unaware = sorted(set(roster) - self._shown.get(run, frozenset()))
        if unaware:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"{unaware[0]} is on the roster, and not among the witnesses of {run} that this site was shown: it may have been shown another log",
            )

    def begin_anew(self, reason: str) -> None:
        """A person decides that what this site has seen of the log counts no more. Raises `JournalBroken`."""
        self.memory.begin_anew(reason)
        self._good.clear()
        self._shown.clear()

    @property
    def _copied(self) -> int:
        return 0 if self.copy is None else self.copy.size

    def _weighed(self, request: WitnessRequest, shown: Shown) -> Fresh | None:
        """What of the request goes into the copy; the statement does not depend on it. Raises `TaskRefused` for entries that are none of the log."""
        if self.copy is None:
            return None
        try:
            return self.copy.weigh(request.first, request.entries, shown)
        except Contradicted as refused:
            evidence = self._history.evidence("not extended", (shown.note.encoded,))
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused), evidence=evidence) from refused

    def _require_one_launch(self, request: WitnessRequest, accepted: Accepted) -> None:
        """What this site has signed of the run before is of this launch, and of these documents. Raises Refused."""
        for own in self.memory.signed.get(request.run, ()):
            if own.said.launch != request.launch.seq or own.documents not in {"", accepted.documents}:
                raise Refused(
                    f"this site has witnessed the launch of {request.run} as entry {own.said.launch} of the log already; a run is launched once, and"
                    " under one plan, contract, member list and list of approvals"
                )

    def _require_witnessed(self, data: bytes, accepted: Accepted, run: RunId) -> frozenset[SiteName]:
        own = [each.said for each in self.memory.signed.get(run, ()) if each.documents == accepted.documents]
        if not own:
            raise Refused(
                f"this site has not witnessed {run} in the transparency log with these documents, and takes part in no run before"
            )
        if not data:
            raise Refused(f"the request does not say who has witnessed {run} in the transparency log")
        bundle = WitnessBundle.from_canonical(data)
        members, plan = accepted.members, accepted.plan
        shown = Shown.of(bundle.note, bundle.grown, log_key_of(members))
        found = witnesses_of(bundle, shown, members)
        mine = found.get(self.memory.site)
        if mine is None or mine.said not in own:
            raise Refused(f"what this site has signed of {run} is not among the statements of its witnesses")
        for site, each in found.items():
            if site not in plan.sites.invite:
                raise Refused(f"{site} is among the witnesses of {run}, and the plan does not invite it")
            if (each.said.run, each.said.launch, each.said.plan) != (run, mine.said.launch, plan.digest):
                raise Refused(f"{site} has witnessed another launch than that of {run} under this plan")
            if each.said.view not in bundle.views:
                # Else a site that was set back would not hear of it from whoever knows.
                raise Refused(f"the request does not have the view that the statement of {site} names")
        self._require_enough(found, accepted, run)
        news = self._statements.require_none_behind(found.values(), bundle.views)
        if news:
            self.memory.meet(news)
        return frozenset(found)

    def _require_enough(self, found: Mapping[SiteName, Witnessed], accepted: Accepted, run: RunId) -> None:
        """As many as are asked for, over heads that this site has seen. Raises Refused."""
        seen = found[self.memory.site].head.size
        counted = [each for each in found.values() if each.head.size <= seen]
        for who, needed in (
            ("the plan", accepted.plan.witnesses),
            ("`policy.witnesses_at_least` at this site", self.policy_asks or 1),
        ):
            if len(counted) < needed:
                raise Refused(
                    f"{len(counted)} sites have witnessed {run} in a log that this site has seen; {who} asks for {needed}"
                )
