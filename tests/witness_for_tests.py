"""A transparency log in memory, whose keeper can have a run witnessed by real participants, and lie to them in every way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from client.participant import Participant
from protos.frames import Body, Refusal, Task, WitnessAnswer, WitnessRequest
from protos.keys import SigningKey, public_bytes
from protos.log_entries import LogEntry, LoggedDocument, MembersSigned, PlanRecorded, RunLaunched, What
from protos.log_names import origin_of
from protos.log_proofs import Grown, LogLeaf
from protos.membership import Service
from protos.secure_codec import decode_answer, encode_witness_request
from protos.witness import WitnessBundle, view_digest
from strategies.encoding import digest_of, sha256_hex
from strategies.ids import RunId, SiteName
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote
from strategies.transparency.tree import GrowingTree
from tests.trust_for_tests import key_of

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
LOG_SERVICE = Service(name="log", purpose="log", key=key_of("log").public)


@dataclass
class KeptLog:
    """The log of a federation, and what its keeper knows of its witnesses."""

    federation: str = "demo"
    signer: SigningKey = field(default_factory=lambda: key_of("log"))
    entries: list[bytes] = field(default_factory=list)
    tree: GrowingTree = field(default_factory=GrowingTree)
    launches: dict[tuple[RunId, str], tuple[int, int]] = field(default_factory=dict)
    """By run and digest of the documents: the entries of launch and plan."""
    known: dict[SiteName, WitnessAnswer] = field(default_factory=dict)

    @property
    def key(self) -> NoteKey:
        return NoteKey(origin_of(self.federation), public_bytes(self.signer.public))

    def append(self, what: What) -> int:
        """Add an entry; its number."""
        self.entries.append(LogEntry(at=AT, what=what).canonical)
        self.tree.append(self.entries[-1])
        return len(self.entries) - 1

    def copy(self) -> KeptLog:
        """As it is now, to go on in another way."""
        other = KeptLog(self.federation, self.signer, launches=dict(self.launches), known=dict(self.known))
        for entry in self.entries:
            other.entries.append(entry)
            other.tree.append(entry)
        return other

    def note(self, size: int | None = None, signer: SigningKey | None = None) -> str:
        """The signed head, now or at an earlier size, by the log's key or by another."""
        size = self.tree.size if size is None else size
        root = self.tree.root_at(size)
        assert root is not None
        head = Checkpoint(origin=self.key.name, size=size, root=root)
        by = signer or self.signer
        key = NoteKey(self.key.name, public_bytes(by.public))
        return SignedNote(head.text, (key.line(by.sign_note(head.text)),)).encoded

    def launch(self, run: RunId, task: Task) -> tuple[int, int]:
        """The entries of a launch and of its plan; they are added where the log does not have them."""
        key = (run, sha256_hex(task.plan + task.contract + task.members + task.evidence))
        if key not in self.launches:
            evidence = _logged(task.evidence) if task.evidence else None
            plan, contract = _logged(task.plan), _logged(task.contract)
            self.append(MembersSigned(members=_logged(task.members)))
            recorded = self.append(PlanRecorded(plan=plan, contract=contract, evidence=evidence))
            launched = RunLaunched(
                run=run,
                plan=plan.digest,
                contract=contract.digest,
                members=sha256_hex(task.members),
                evidence=None if evidence is None else evidence.digest,
                releases={},
                reserved=(),
            )
            self.launches[key] = (self.append(launched), recorded)
        return self.launches[key]

    def leaf(self, seq: int, size: int | None = None) -> LogLeaf:
        """An entry with its proof."""
        return LogLeaf(
            seq, self.entries[seq], self.tree.inclusion(seq, self.tree.size if size is None else size)
        )

    def grown(self, sizes: Iterable[int], size: int | None = None) -> tuple[Grown, ...]:
        """Proofs from each of `sizes` on."""
        size = self.tree.size if size is None else size
        return tuple(Grown.of(e, self.tree.consistency(e, size)) for e in sorted(set(sizes)) if 0 < e < size)

    def request(self, run: RunId, task: Task, **changes: object) -> WitnessRequest:
        """What an honest keeper asks, with some of it changed."""
        launch, plan = self.launch(run, task)
        statements = [each.statement for each in self.known.values() if each.statement is not None]
        sizes = [each.statement.head.size for each in statements]
        honest = WitnessRequest(
            run=run,
            note=self.note(),
            task=replace(task, witness=b""),
            launch=self.leaf(launch),
            plan=self.leaf(plan),
            grown=self.grown(sizes),
            statements=tuple(statements),
            views=tuple({view_digest(each.view): each.view for each in self.known.values()}.values()),
        )
        return replace(honest, **changes)  # type: ignore[arg-type]

    def witness(
        self, run: RunId, task: Task, sites: Mapping[SiteName, Callable[[], Participant]]
    ) -> tuple[dict[SiteName, WitnessAnswer], dict[SiteName, Refusal]]:
        """One exchange: who signs, and who refuses. Sites that need another proof are asked once more."""
        request, signed, refused = self.request(run, task), {}, {}
        for site, participant in sites.items():
            body = asked(participant(), request)
            if isinstance(body, WitnessAnswer) and body.statement is None:
                more = replace(request, grown=(*request.grown, *self.grown([body.size])), again=True)
                body = asked(participant(), more)
            if isinstance(body, WitnessAnswer):
                signed[site] = body
            else:
                assert isinstance(body, Refusal)
                refused[site] = body
        self.known |= signed
        return signed, refused

    def bundle(self, answers: Mapping[SiteName, WitnessAnswer], **changes: object) -> WitnessBundle:
        """The statements of some sites, as requests carry them; some of it changed."""
        statements = [answers[site].statement for site in sorted(answers)]
        size = max(
            (each.statement.head.size for each in statements if each is not None), default=self.tree.size
        )
        made = WitnessBundle(
            note=self.note(size),
            statements=tuple(each for each in statements if each is not None),
            views={view_digest(each.view): dict(each.view) for each in answers.values()},
            grown=self.grown([e.statement.head.size for e in statements if e is not None], size),
        )
        return made.model_copy(update=changes)


def vouched(site: Participant, others: Iterable[str]) -> Participant:
    """A site for which `others` have vouched since it was started, in tests that are about something else."""
    site.witness.vouching._by |= {SiteName(each) for each in others}
    return site


def _logged(document: bytes) -> LoggedDocument:
    """As it came, be it one that nobody could read."""
    parsed = json.loads(document)
    return LoggedDocument(digest=digest_of(parsed), document=parsed)


def asked(site: Participant, request: WitnessRequest) -> Body:
    """What a site says to a request, as bytes in between."""
    return decode_answer(site.answer(encode_witness_request(request))).body
