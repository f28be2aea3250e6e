"""What this site has answered, so that it never answers one attempt at a round in two ways.

1. A step of an attempt at a stage of a round is answered for one question. For the same question the same bytes leave again; for
   another one nothing does. In plain aggregation the question is the statement, and there is one step; in secure aggregation it is the
   step that is asked for, and there are three (mask, confirm, unmask).
2. An answer is recorded before it leaves. A site that dies in between finds it again, and sends it when it is asked again.
3. Shares are given for one attempt at a stage of a round. Nothing is masked for another one afterwards, and no shares are given: two
   sums over the same rows, with and without a site, would show that site's input.
4. Of one run a site follows one history: a model, an optimiser's state or a scaling that differs from what it masked an input for before is
   refused, whatever attempt it is asked for and however often the site was started since.
5. What a confirmation promises, shares of both kinds among it, stays on disk until the next step of its run: shares that were
   given, or another attempt, need it no more.
6. A refusal releases nothing. That a run was refused for good, and why, is recorded once a run and code, for this site's own people; so many
   a day at most, since whoever can send to this site can name runs that there are not.
7. Each entry names the last entry of the site's accounts. Accounts that do not hold it were set back, and nothing leaves any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from client.journal.entries import JournalBroken
from client.journal.file import Journal
from client.refusal import TaskRefused
from protos.frames import RefusalCode, SecureRequest, Stage, Statement
from protos.secagg_codec import encode_frame
from protos.vouching import MOST_MET, Met
from strategies.encoding import sha256_hex
from strategies.ids import Digest, SiteName
from strategies.pieces import Bytes, Pieces, pieces_of
from strategies.secagg.messages import ConfirmRequest, MaskRequest, UnmaskRequest

ANSWERED: Final = "answered"
REFUSED: Final = "refused"
_LASTING: Final = frozenset(
    {RefusalCode.POLICY, RefusalCode.SIGNATURE, RefusalCode.CONTRACT, RefusalCode.BUDGET, RefusalCode.HALTED}
)
_LONGEST_REASON: Final = 500
_MOST_REFUSALS: Final = 100
"""Refusals of one day that are recorded; all are in the log."""
_KEPT_FRAMES: Final = 16
"""Answers of a few runs at once that can be said again."""

Slot = tuple[str, str, int, int, str]
"""Run, stage, round, attempt, step: what is answered once."""
PLAIN_STEP: Final = "answer"
_CONFIRM: Final = "confirm"
_UNMASK: Final = "unmask"
_LENGTH_BYTES: Final = 4
_MASK: Final = "mask"
_STEPS: Final[Mapping[type, str]] = {MaskRequest: _MASK, ConfirmRequest: _CONFIRM, UnmaskRequest: _UNMASK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a site is asked: `digest` is of all of it that matters, `slot` is what it takes."""

    slot: Slot
    digest: Digest
    plan: Digest
    history: Mapping[str, Digest] = field(default_factory=dict)
    """What an input is computed from, by name: of one run each name has one digest."""
    together: tuple[SiteName, ...] = ()
    """Where shares are asked for: the survivors, each of whom has sent an input to this attempt."""

    @property
    def words(self) -> str:
        """The slot, for people."""
        _, stage, number, attempt, step = self.slot
        what = "" if step == PLAIN_STEP else f"step {step} of "
        return f"{what}attempt {attempt} at the {stage.lower()} stage of round {number}"


@dataclass(frozen=True, slots=True)
class _Recorded:
    """An entry of the journal: the question that was answered, and digests of the answer and of what it promises."""

    seq: int
    question: Digest
    frame: Digest
    promise: Digest | None


@dataclass
class Answers:
    """The answers in a journal, looked up by slot. `accounts` is the journal of the site's accounts; raises `JournalBroken` if that was set back."""

    journal: Journal
    accounts: Journal
    clock: Callable[[], datetime]
    _by_slot: dict[Slot, _Recorded] = field(default_factory=dict)
    _opened: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """By run, stage and round: the attempt for which this site has given its shares."""
    _history: dict[tuple[str, str], Digest] = field(default_factory=dict)
    """By run and name."""
    _began: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """By run and plan: when this site gave its first answer."""
    _met: dict[SiteName, dict[str, Met]] = field(default_factory=dict)
    """By site and run, in the order in which they came: the last sum that this site was in with it."""
    _promised: dict[str, int] = field(default_factory=dict)
    """By run: the entry beside which the shares of its last confirmation are kept."""
    _refused: set[tuple[str, str]] = field(default_factory=set)
    """By run and code."""
    _refusals: Counter[str] = field(default_factory=Counter)
    """By day in ISO 8601: how many were recorded."""

    def __post_init__(self) -> None:
        head = None
        for entry in self.journal.entries(REFUSED):
            self._remember_refusal(entry.body)
        for entry in self.journal.entries(ANSWERED):
            self._remember(entry.seq, entry.body)
            head = entry.body.get("accounts", head)
        if head is not None and not self.accounts.holds((head[0], head[1])):
            raise JournalBroken(
                f"the accounts of this site are not those that it last answered with: entry {head[0]} is not there. An older copy was put in their"
                " place, or another file; put the right one back. If it is lost, what was released since is forgotten: tell the privacy officer"
            )

    def began(self, run: str, plan: Digest) -> datetime | None:
        """When this site gave its first answer of `run` under `plan`; None if it has given none."""
        return self._began.get((run, plan))

    def met(self, site: SiteName) -> tuple[Met, ...]:
        """The last sum of each of the newest runs that this site was in with `site`."""
        return tuple(self._met.get(site, {}).values())[-MOST_MET:]

    def has_masked(self, met: Met) -> bool:
        """Whether this site has sent an input to that attempt."""
        return (met.run, met.stage, met.round, met.attempt, _MASK) in self._by_slot

    def kept(self, question: Question) -> bytes | None:
        """The frame that answered `question`, or None if its slot is free. Raises `TaskRefused` if another question has it."""
        found = self._by_slot.get(question.slot)
        if found is None:
            self._require_unopened(question)
            self._require_history(question)
            return None
        if found.question != question.digest:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"this site has answered {question.words} for another statement, {found.question[:16]}",
            )
        divided = self._beside(found, question.words)
        if divided is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"this site has answered {question.words}, too long ago to say it again"
            )
        return divided[0]

    def _beside(self, found: _Recorded, words: str) -> tuple[bytes, bytes] | None:
        """The answer of an entry and what it promises, if they are kept. Raises `JournalBroken` if they are not what was recorded."""
        kept = self.journal.attachment(found.seq)
        if kept is None:
            return None
        frame, promise = _divided(kept)
        if (sha256_hex(frame), _digest_of(promise)) != (found.frame, found.promise):
            raise JournalBroken(
                f"the journal's copy of the answer to {words} is not what was recorded: the disk lost it. Keep the file"
            )
        return frame, promise

    def _require_unopened(self, question: Question) -> None:
        run, stage, number, attempt, step = question.slot
        opened = self._opened.get((run, stage, number), attempt)
        if step != PLAIN_STEP and opened != attempt:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"this site has given its shares for attempt {opened} at the {stage.lower()} stage of round {number}; a second sum"
                " over the same rows would show their difference",
            )

    def _require_history(self, question: Question) -> None:
        run = question.slot[0]
        for name, digest in question.history.items():
            known = self._history.get((run, name), digest)
            if known != digest:
                raise TaskRefused(
                    RefusalCode.PROTOCOL,
                    f"this site has computed an input to this run from another {name}, {known[:16]}; a run has one history",
                )

    def promise(self, run: str, stage: str, number: int, attempt: int) -> bytes | None:
        """What this site keeps beside its confirmation of an attempt, or None if it has confirmed nothing or has gone on since."""
        found = self._by_slot.get((run, stage, number, attempt, _CONFIRM))
        divided = None if found is None else self._beside(found, f"step {_CONFIRM} of attempt {attempt}")
        return None if divided is None else divided[1]

    def record(self, question: Question, frame: Bytes, promise: bytes = b"") -> None:
        """Put the answer on disk, and what it promises; only after this may it leave. Raises `JournalBroken`."""
        run, stage, number, attempt, step = question.slot
        body = {
            "run": run, "stage": stage, "round": number, "attempt": attempt, "step": step,
            "statement": question.digest, "plan": question.plan, "history": dict(question.history),
            "frame": sha256_hex(frame), "promise": _digest_of(promise), "accounts": list(self.accounts.head),
            "at": self.clock().isoformat(),
        }  # fmt: skip
        if question.together:
            body["together"] = list(question.together)
        entry = self.journal.append(
            ANSWERED,
            body,
            _beside_each_other(frame, promise),
            keep=_KEPT_FRAMES,
            forget=self._promised.get(run),
        )
        self._remember(entry.seq, body)

    def note_refusal(self, run: str, code: RefusalCode, reason: str) -> None:
        """Put on disk that `run` was refused for good, unless that stands there already or the day has had enough. Raises `JournalBroken`."""
        at = self.clock().isoformat()
        if (
            code not in _LASTING
            or (run, code.name) in self._refused
            or self._refusals[_day(at)] >= _MOST_REFUSALS
        ):
            return
        body = {"run": run, "code": code.name, "reason": reason[:_LONGEST_REASON], "at": at}
        self.journal.append(REFUSED, body)
        self._remember_refusal(body)

    def _remember_refusal(self, body: Mapping[str, Any]) -> None:
        self._refused.add((body["run"], body["code"]))
        self._refusals[_day(body["at"])] += 1

    def _remember(self, seq: int, body: Mapping[str, Any]) -> None:
        slot = (body["run"], body["stage"], body["round"], body["attempt"], body["step"])
        promise = body["promise"]
        self._began.setdefault((body["run"], body["plan"]), datetime.fromisoformat(body["at"]))
        for name, digest in body["history"].items():
            self._history[body["run"], name] = Digest(digest)
        self._by_slot[slot] = _Recorded(seq, Digest(body["statement"]), Digest(body["frame"]), promise)
        self._promised.pop(body["run"], None)
        if promise is not None:
            self._promised[body["run"]] = seq
        if slot[-1] == _UNMASK:
            self._opened[slot[:3]] = slot[3]
        for site in body.get("together", ()):
            last = self._met.setdefault(SiteName(site), {})
            last.pop(slot[0], None)
            last[slot[0]] = Met(run=slot[0], stage=slot[1], round=slot[2], attempt=slot[3])


def _day(at: str) -> str:
    return at[: len("2026-01-01")]


def _digest_of(promise: bytes) -> Digest | None:
    return sha256_hex(promise) if promise else None


def _beside_each_other(frame: Bytes, promise: bytes) -> bytes:
    """What `_divided` divides: the answer after its length, then the promise."""
    length = len(frame).to_bytes(_LENGTH_BYTES, "big")
    return Pieces((length, *pieces_of(frame).parts, promise)).joined()


def _divided(kept: bytes) -> tuple[bytes, bytes]:
    """An answer, and the promise beside it."""
    end = _LENGTH_BYTES + int.from_bytes(kept[:_LENGTH_BYTES], "big")
    return kept[_LENGTH_BYTES:end], kept[end:]


def question_of(statement: Statement) -> Question:
    """What `statement` asks in plain aggregation: no other statement may be answered for its slot."""
    slot = (statement.run, statement.stage.name, statement.round, statement.attempt, PLAIN_STEP)
    return Question(slot=slot, digest=statement.digest, plan=statement.plan_digest)


def secure_question(request: SecureRequest) -> Question | None:
    """What a request of secure aggregation asks: its first step, and not what rides on it. None if nothing that is masked leaves for it."""
    first = request.frames[0]
    step = _STEPS.get(type(first.body))
    if step is None:
        return None
    if isinstance(first.body, UnmaskRequest):
        # The partition is what is answered once. Who has confirmed it may differ, and makes no other answer.
        first = replace(first, body=replace(first.body, confirmations={}))
    said = first.attempt
    slot = (said.run, said.stage, said.round, said.attempt, step)
    said_of = request.statement if isinstance(first.body, MaskRequest) else None  # the other steps check none
    history = {} if said_of is None else _history_of(said_of)
    together = tuple(sorted(first.body.survivors)) if isinstance(first.body, UnmaskRequest) else ()
    return Question(
        slot=slot, digest=sha256_hex(encode_frame(first)), plan=said.plan, history=history, together=together
    )


def _history_of(statement: Statement) -> dict[str, Digest]:
    """What an input under `statement` is computed from: the scaling of the run, and the model and state after a round."""
    number = statement.round - 1 if statement.stage is Stage.TRAIN else statement.round
    named = {
        "scaling": statement.scaling_digest,
        f"model of round {number}": statement.model_digest,
        f"optimiser state of round {number}": statement.optimizer_digest,
    }
    return {name: digest for name, digest in named.items() if digest is not None}
