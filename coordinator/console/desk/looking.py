"""The first checks, of every page: from the root that the officer holds to a log that was read whole.

1. The root leads to the member list; the list names the log's key, and the officer by the key that this desk has.
2. The log's key signed the head. The head extends the one that this desk saw last, by the log's own proof.
3. Every entry since was read here, and all entries together hash to the signed head. So what is not found is not there: a coordinator that leaves
   an entry out cannot have it signed for.
4. No member list, in the log or beside it, is older than one that was accepted. Lists that the log has count too.
5. A head that is not shown to extend the one before is kept. Until it is shown to be of the same log, which it never can be where the log was forked,
   nothing can be signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from coordinator.api.log_reader import LogReader
from coordinator.console.desk.checks import Checks, stopping
from coordinator.console.desk.memory import Memory, Seen
from coordinator.governance.log import RawEntry
from coordinator.ledger.needs import AccountKey
from protos.keys import Signer
from protos.log_entries import LogEntry, MembersSigned
from protos.log_proofs import Shown, log_key_of
from protos.membership import Membership, Officer, Trusted
from protos.root import SignedRoot
from protos.succession import Newest, newest_after, require_follows
from strategies.dp.filters import Ceiling
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.transparency.merkle import Frontier, ProofRefused, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote

ROOT: Final = "Your root"
MEMBERS: Final = "The member list"
YOU: Final = "You"
FORK: Final = "One log"
HEAD: Final = "The log's head"
GROWN: Final = "It only grew"
ENTRIES: Final = "Every entry"
FIRST: Final = (ROOT, MEMBERS, YOU, HEAD, FORK, GROWN, ENTRIES)
"""The names of these checks."""
Say = Callable[[str], None]
_SAID_EVERY: Final = 50_000
_TELL: Final = "If it stays so, the log was forked: sign nothing, tell the other officers and the sites, and give them {file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What an officer brings: the root, perhaps a member list that they know of, their key, and what this desk remembers."""

    pinned: SignedRoot
    known: Membership | None
    signer: Signer
    memory: Memory


@dataclass
class Looked:
    """What was found. Where a check failed, what rests on it is None."""

    checks: Checks = field(default_factory=Checks)
    trusted: Trusted | None = None
    officer: Officer | None = None
    head: Checkpoint | None = None

    @property
    def sound(self) -> tuple[Trusted, Officer]:
        """Who trusts whom. Raises Refused where a check failed."""
        if self.trusted is None or self.officer is None or self.head is None:
            raise Refused("a check of the log failed, so nothing is looked at that rests on it")
        return self.trusted, self.officer


def look(trust: Trust, reader: LogReader, now: datetime, say: Say = lambda _: None) -> Looked:
    """Make the first checks. Raises Unreachable where the coordinator does not answer."""
    found = Looked()
    with stopping():
        _check(found, trust, reader, now, say)
    found.checks.open(FIRST)
    return found


def _check(found: Looked, trust: Trust, reader: LogReader, now: datetime, say: Say) -> None:
    checks, memory = found.checks, trust.memory
    checks.hold(
        ROOT,
        trust.pinned.require_own_quorum,
        lambda _: f"{trust.pinned.root.federation}, {trust.pinned.root.fingerprint}, as you gave it",
    )
    seen = memory.seen()
    found.trusted = trusted = checks.hold(
        MEMBERS,
        lambda: _members(trust, reader, seen, now),
        lambda it: f"{it.members.ref}, signed by root version {it.root.version}",
    )
    found.officer = checks.hold(
        YOU,
        lambda: _officer(trusted, trust.signer, now),
        lambda it: f"{it.name}, {', '.join(it.roles)}: the list has the key of this desk",
    )
    shown = checks.hold(
        HEAD,
        lambda: Shown.of(reader.head(), (), log_key_of(trusted.members)),
        lambda it: f"{it.head.size} entries, signed by the log's key on the member list",
    )
    checks.hold(FORK, lambda: _require_one_log(memory, shown, reader), lambda words: words)
    checks.hold(GROWN, lambda: _grown(memory, seen, shown, reader, now), lambda words: words)
    checks.hold(
        ENTRIES,
        lambda: _read_on(trust, seen, shown, trusted, reader, say),
        lambda it: f"all {shown.head.size} hash to the signed head; {it} are new to this desk",
    )
    found.head = shown.head


def _members(trust: Trust, reader: LogReader, seen: Seen, now: datetime) -> Trusted:
    trusted = reader.members().verify(trust.pinned)
    trusted.root.require_current(now)
    if seen.newest is not None:
        require_follows(trusted, seen.newest)
    if trust.known is not None:
        require_follows(trusted, Newest.of(trust.known.verify(trust.pinned)))
    return trusted


def _officer(trusted: Trusted, signer: Signer, now: datetime) -> Officer:
    for each in trusted.members.officers:
        if each.key == signer.public:
            each.require_current(now)
            return each
    raise Refused(
        f"nobody on member list {trusted.members.ref} has the key of this desk; use the key that the officers certified, or have it certified"
    )


def _require_one_log(memory: Memory, shown: Shown, reader: LogReader) -> str:
    """Check that each head that was once not shown to be of this log is shown to be now. Raises Refused."""
    for each in memory.doubtful():
        other = Checkpoint.parse(SignedNote.parse(each.note).text)
        try:
            _require_extends(shown, other, reader)
        except ProofRefused as refused:
            raise Refused(
                f"on {each.seen_at:%Y-%m-%d %H:%M} UTC this desk was shown another head, of {other.size} entries, and nothing shows that both are of one"
                f" log ({refused}). {_TELL.format(file=memory.path)}"
            ) from refused
        memory.settle(each.note)
    return "this desk was shown no head that contradicts this one"


def _grown(memory: Memory, seen: Seen, shown: Shown, reader: LogReader, now: datetime) -> str:
    before, head = seen.head, shown.head
    if before is None:
        return "this desk sees this log for the first time: there is nothing yet to compare with"
    if head.size < before.size:
        raise Refused(
            f"the log has {head.size} entries, and had {before.size} when this desk saw it last: an older head was sent, or entries were taken away."
            " Ask again; if it stays so, tell the other officers"
        )
    try:
        _require_extends(shown, before, reader)
    except ProofRefused as refused:
        memory.doubt(shown.note.encoded, now)
        raise Refused(
            f"the log's key signed this head, and it does not extend the one that this desk saw last ({refused}). {_TELL.format(file=memory.path)}"
        ) from refused
    return f"it begins with the {before.size} entries that this desk saw last"


def _require_extends(shown: Shown, before: Checkpoint, reader: LogReader) -> None:
    """Check it by the proof that the log has of it. Raises ProofRefused."""
    between = 0 < before.size < shown.head.size  # else no proof is needed, or none is possible
    grown = {before.size: reader.grown(before.size, shown.head.size)} if between else {}
    Shown(shown.note, shown.head, grown).require_extends(before)


def _read_on(trust: Trust, seen: Seen, shown: Shown, trusted: Trusted, reader: LogReader, say: Say) -> int:
    """Read what is new, and remember it if it hashes to the signed head. Returns how many entries that are."""
    memory, tree, newest = trust.memory, seen.tree, seen.newest
    with memory.reading_on():
        for each in reader.entries(tree.size, shown.head.size):
            tree, _ = tree.append(leaf_hash(each.body))
            newest = _keep(memory, each, trust.pinned, newest)
            if tree.size % _SAID_EVERY == 0:
                say(f"read {tree.size} of {shown.head.size} entries of the log")
        _require_same(tree, shown.head)
        memory.reach(shown.note.encoded, tree, newest_after(trusted, newest))
    return tree.size - seen.tree.size


def _require_same(tree: Frontier, head: Checkpoint) -> None:
    if tree.root != head.root:
        raise Refused(
            f"the {tree.size} entries that were sent do not hash to the head that is signed for them: entries were changed, or left out. Sign nothing,"
            " and tell the other officers"
        )


def _keep(memory: Memory, entry: RawEntry, pinned: SignedRoot, newest: Newest | None) -> Newest | None:
    """Keep an entry that an approval may rest on; returns what is newest of lists and roots then."""
    kind, name, subject = _about(entry.body)
    if kind is None:
        return newest
    memory.keep(entry, kind, name, subject)
    if kind != "members":
        return newest
    what = LogEntry.from_canonical(entry.body).what
    if not isinstance(what, MembersSigned):
        raise Refused(f"entry {entry.seq} is no member list")
    return newest_after(what.members.read_as(Membership).verify(pinned), newest)


def _about(body: bytes) -> tuple[str | None, str, str]:
    """Kind, name and subject of an entry that is kept; no kind for one that is not. Raises Refused for what is no entry."""
    try:
        what: Mapping[str, Any] = json.loads(body)["what"]
        kind = what["kind"]
        if kind not in _ABOUT:
            return None, "", ""
        name, subject = _ABOUT[kind](what)
    except (UsageError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"what was sent is no entry of a log: {str(error)[:80]}") from error
    return kind, str(name), str(subject)


def _ceiling(what: Mapping[str, Any]) -> tuple[object, object]:
    """The account, and it with its unit: customers of different columns have different ones."""
    decision = what["decision"]["document"]["decision"]
    unit = Ceiling.from_facts(decision["ceiling"]).unit
    key = AccountKey.of(SiteName(decision["site"]), decision["population"], unit)
    return key.name, key.words


_ABOUT: Final[Mapping[str, Callable[[Mapping[str, Any]], tuple[object, object]]]] = {
    "members": lambda it: ("", it["members"]["digest"]),
    "proposed": lambda it: (it["plan"], it["statement"]["plan"]),
    "approved": lambda it: (it["plan"], it["statement"]["plan"]),
    "plan": lambda it: (it["plan"]["document"]["name"], it["plan"]["digest"]),
    "launch": lambda it: (it["run"], it["plan"]),
    "model": lambda it: (it["name"], f"{it['name']}@{it['version']}"),
    "gate": lambda it: (it["name"], f"{it['name']}@{it['version']}"),
    "model-moved": lambda it: (it["name"], f"{it['name']}@{it['version']}"),
    "model-approved": lambda it: (
        it["statement"]["model"],
        f"{it['statement']['model']}@{it['statement']['version']}",
    ),
    "ceiling": _ceiling,
    "halted": lambda it: ("", it["order"]["digest"]),
    "halt-lifted": lambda it: ("", it["lift"]["document"]["order"]),
}
"""What is kept: the name and the subject by which it is found."""
