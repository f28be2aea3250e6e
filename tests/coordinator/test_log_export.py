"""An export is verified with nothing but the pinned root; and a coordinator that signs another story is caught by what does not fit."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import starmap
from random import Random
from typing import Any

import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Run, RunState
from coordinator.documents import read_listed
from coordinator.governance import launches
from coordinator.governance.log import TransparencyLog, append, open_log
from coordinator.governance.members import Listed, members_signed
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from coordinator.registry.publish import publish
from coordinator.rounds.record import RoundConflict
from protos.ceilings import CeilingDecision, SignedCeiling
from protos.documents import load_document
from protos.frames import Stage
from protos.keys import SigningKey
from protos.log_audit import Audit
from protos.log_entries import CeilingSet, LogEntry, LoggedDocument
from protos.log_export import Export, ExportHeader, Verified, verify_file, write_export
from protos.log_witnesses import Witnesses
from protos.membership import MemberList, Membership, SignedMembers
from protos.root import Root, RootKey, SignedRoot
from simulation.world.layout import _signing_key
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote
from tests.ceilings_for_tests import Decision, set_ceiling
from tests.coordinator.private_for_tests import Make, Private, Templates, make, private_plan, templates
from tests.coordinator.secure_for_tests import RUN

__all__ = ["make", "templates"]
Story = list[dict[str, Any]]


@pytest.fixture(scope="module")
def federation(templates: Templates) -> Iterator[Private]:
    """One whole run, with a model. Nobody changes it."""
    made = templates.copy(private_plan())
    finished = made.drive()
    publish(made.centre, made.documents, finished)
    made.store.finish("completed")
    yield made
    made.close()


@pytest.fixture
def log(federation: Private) -> TransparencyLog:
    return log_of(federation)


def log_of(federation: Private) -> TransparencyLog:
    return open_log(federation.engine, federation.centre.settings, federation.clock.wall)


@pytest.fixture
def pinned(federation: Private) -> SignedRoot:
    return pinned_by(federation)


def pinned_by(federation: Private) -> SignedRoot:
    return load_document(federation.centre.settings.root_file, SignedRoot)


def exported(log: TransparencyLog, bodies: list[bytes] | None = None, note: str | None = None) -> io.BytesIO:
    file = io.BytesIO()
    header = ExportHeader(federation="demo", checkpoint=note or log.checkpoint().encoded)
    write_export(file, header, [each.body for each in log.entries()] if bodies is None else bodies)
    file.seek(0)
    return file


def resigned(log: TransparencyLog, bodies: list[bytes]) -> io.BytesIO:
    """Another story, with its own head, signed by the log's real key: what a lying coordinator can make."""
    tree = Frontier()
    for each in bodies:
        tree, _ = tree.append(leaf_hash(each))
    head = Checkpoint(origin=log.key.name, size=tree.size, root=tree.root)
    note = SignedNote(head.text, (log.key.line(log.sign(head.text)),))
    return exported(log, bodies, note.encoded)


def verified(log: TransparencyLog, pinned: SignedRoot) -> Verified:
    return Export.read(exported(log)).verify(pinned)


def test_an_export_tells_which_plan_made_the_model_whose_input_was_opened_and_what_it_cost(
    federation: Private, log: TransparencyLog, pinned: SignedRoot
) -> None:
    found = verified(log, pinned)
    (run,), (model,) = found.story.runs.values(), found.story.models
    assert (run.run, run.plan, run.state, run.committed) == (RUN, federation.plan, "completed", 2)
    assert run.survivors == set(federation.sites)
    assert (model.name, model.version, model.run) == ("private", 1, RUN)
    assert found.head.size == log.size()
    budgets = list(found.story.budgets.standing())
    assert [each.account.site for each in budgets] == list(federation.sites)
    for each in budgets:
        view = federation.ledger.show(each.account.site, each.account.population, each.ceiling.unit)
        assert (each.opened, each.charged, each.sums) == (view.settled, view.spent, view.settled_releases)
        assert each.opened == each.charged  # what the run did not use was given back


def ledger_keys(federation: Private) -> dict[str, SigningKey]:
    """The privacy officers of the simulation."""
    folder = federation.centre.settings.home.parent / "officers"
    return {name: SigningKey.load(folder / f"{name}.key", None) for name in ("ledger-1", "ledger-2")}


def decide(
    federation: Private,
    site: SiteName,
    population: str,
    proposal: Proposal,
    *by: str,
    ledger: Ledger | None = None,
) -> None:
    listed = read_listed(federation.centre.settings)
    decision = Decision(proposal=proposal, officers=by)
    set_ceiling(ledger or federation.ledger, site, population, decision, listed, ledger_keys(federation))


def test_a_ceiling_that_is_set_is_in_the_log(make: Make) -> None:
    federation = make()
    log, pinned = log_of(federation), pinned_by(federation)
    site = federation.sites[0]
    population = federation.plan.population_of(site)
    before = {each.account.site: each.ceiling for each in verified(log, pinned).story.budgets.standing()}
    proposal = Proposal(epsilon=45.0, delta=1e-5, unit=before[site].unit, reason="a year's plans")
    decide(federation, site, population, proposal, "ledger-1", "ledger-2")
    after = {each.account.site: each.ceiling for each in verified(log, pinned).story.budgets.standing()}
    assert after[site].epsilon == 45.0
    assert {name: each for name, each in after.items() if name != site} == {
        name: each for name, each in before.items() if name != site
    }


def test_a_file_is_verified_as_it_lies(
    log: TransparencyLog, pinned: SignedRoot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("export") / "log.jsonl"
    path.write_bytes(exported(log).getvalue())
    assert verify_file(path, pinned).head.size == log.size()
    with pytest.raises(UsageError, match="cannot be read"):
        verify_file(path.parent / "none", pinned)


def test_a_file_that_was_changed_is_refused(log: TransparencyLog, pinned: SignedRoot) -> None:
    """By whoever does not have the log's key: every byte counts."""
    whole = exported(log).getvalue()
    lines = whole.split(b"\n")[:-1]
    changes = (
        lines[:-1],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
        [*lines, lines[-1]],
        [*lines[:-1], lines[-1].replace(b"completed", b"stopped")],
    )
    for rest in changes:
        with pytest.raises(Refused):
            Export.read(io.BytesIO(b"".join(each + b"\n" for each in rest))).verify(pinned)
    with pytest.raises(Refused, match="cut short"):
        Export.read(io.BytesIO(whole[:-1])).verify(pinned)
    with pytest.raises(Refused, match="no export"):
        Export.read(io.BytesIO(whole[:20]))


def story(log: TransparencyLog) -> Story:
    return [
        LogEntry.from_canonical(each.body).model_dump(mode="json", exclude_none=True)
        for each in log.entries()
    ]


def of(entries: Story, kind: str) -> list[dict[str, Any]]:
    return [each["what"] for each in entries if each["what"]["kind"] == kind]


def without(kind: str) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        del entries[next(n for n, each in enumerate(entries) if each["what"]["kind"] == kind)]

    return lie


def changed(kind: str, **values: object) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        of(entries, kind)[-1].update(values)

    return lie


def twice(kind: str) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == kind)
        entries.insert(place, entries[place])

    return lie


def another_plan(entries: Story) -> None:
    of(entries, "plan")[0]["plan"]["document"]["training"]["rounds"] = 1


def more_noise_on_paper(entries: Story) -> None:
    launch = of(entries, "launch")[0]
    launch["reserved"][0]["times"] += 1


def another_release(entries: Story) -> None:
    settled = of(entries, "settled")
    settled[1]["releases"] = settled[0]["releases"]


def second_sum(entries: Story) -> None:
    place = max(n for n, each in enumerate(entries) if each["what"]["kind"] == "round")
    again = deepcopy(
        next(each for each in entries if each["what"].get("stage") == "train" and each["what"]["round"] == 2)
    )
    again["what"]["attempt"] = 2
    entries.insert(place + 1, again)


def stranger_asked(entries: Story) -> None:
    of(entries, "round")[-1]["roster"].append("ghost")


def prepared_again(entries: Story) -> None:
    place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == "round")
    entries.insert(place + 1, next(each for each in entries if each["what"]["kind"] == "prepared"))


def evaluated_again(entries: Story) -> None:
    """Another release of the same counts, with other noise, and the figures that it gives."""
    place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == "evaluated")
    round_number = entries[place]["what"]["round"]
    settled = next(
        each
        for each in entries
        if each["what"].get("stage") == "evaluate" and each["what"]["round"] == round_number
    )
    again = deepcopy([settled, entries[place]])
    for each in again:
        each["what"]["attempt"] = 2
    entries[place + 1 : place + 1] = again


def resumed(entries: Story) -> None:
    place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == "prepared")
    entries.insert(place, {**entries[place], "what": {"kind": "resumed", "run": RUN, "reserved": []}})


def backdated(minutes: int) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == "launch")
        newest = max(datetime.fromisoformat(each["at"]) for each in entries[:place])
        entries[place]["at"] = f"{newest - timedelta(minutes=minutes, seconds=1):%Y-%m-%dT%H:%M:%SZ}"

    return lie


LIES: dict[str, tuple[Callable[[Story], None], str]] = {
    "no member list": (without("members"), "before any member list"),
    "no plan": (without("plan"), "not in the log before it"),
    "a plan that is another than its digest": (another_plan, "it is of another document"),
    "no launch": (without("launch"), "was never launched"),
    "launched twice": (twice("launch"), "is launched twice"),
    "no ceiling": (without("ceiling"), "which has no ceiling"),
    "another reservation": (more_noise_on_paper, "does not reserve what its plan releases"),
    "a sum that was never settled": (without("settled"), "was not settled over these sites"),
    "a sum settled twice": (twice("settled"), "is settled twice"),
    "charged as another release": (another_release, "is charged as another release"),
    "a sum over two sites": (changed("settled", sites=["east", "north"]), "a sum over east, north"),
    "a sum over a stranger": (changed("settled", sites=["east", "north", "ghost"]), "ghost"),
    "a round that the plan does not have": (
        changed("settled", stage="train", round=7),
        "to train in round 7 is not due",
    ),
    "a round left out": (without("round"), "to train in round 2 is not due"),
    "another survivor": (
        changed("round", survivors=["east", "north", "south"]),
        "was not settled over these sites",
    ),
    "a survivor that was not asked": (changed("round", roster=["east"]), "is not on the roster"),
    "a model of another plan": (changed("model", name="other"), "has not made such a model"),
    "artifacts of another digest": (changed("model", artifacts={}), "it is not of these artifacts"),
    "a reservation that was never given back": (changed("given-up", releases=1), "gives 1 releases back"),
    "a second sum of a round that is committed": (second_sum, "to train in round 2 is not due"),
    "another statement than was settled": (changed("round", statement="ab" * 32), "of another statement"),
    "a roster with a stranger": (stranger_asked, "asked ghost, which its plan does not invite"),
    "prepared again after a round": (prepared_again, "is prepared again"),
    "evaluated twice": (twice("evaluated"), "is told twice"),
    "evaluated again, with other noise": (evaluated_again, "is evaluated again"),
    "another model's weights": (changed("model", weights="ab" * 32), "has not made such a model"),
    "a version left out": (changed("model", version=2), "has not made such a model"),
    "a model registered twice": (twice("model"), "has not made such a model"),
    "a plan under another contract": (changed("launch", contract="ab" * 32), "plan with this contract"),
    "resumed without having ended": (resumed, "is resumed, but it is running"),
    "ended twice": (twice("ended"), "is completed"),
    "a launch that is backdated": (backdated(5), "the clock was set back, or the entry is backdated"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_coordinator_that_signs_another_story_is_caught(
    lie: str, log: TransparencyLog, pinned: SignedRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what does not fit, also where the sites would have seen this story and no other."""
    monkeypatch.setattr(Witnesses, "note", lambda *_: None)
    change, words = LIES[lie]
    entries = story(log)
    change(entries)
    with pytest.raises(Refused, match=words):
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)


class Decided:
    """Further decisions on the account of the first site, as a coordinator could write them into its log."""

    def __init__(self, entries: Story, keys: dict[str, SigningKey]) -> None:
        self.entries, self.keys = entries, keys
        first = of(entries, "ceiling")[0]["decision"]["document"]["decision"]
        self.last = CeilingDecision.from_canonical(canonical_json(first))

    def next(
        self, *by: str, key: str | None = None, ceiling: dict[str, Any] | None = None, **changes: Any
    ) -> None:
        before = self.last.model_dump()
        changed = {"number": self.last.number + 1, "at": self.entries[-1]["at"], **changes}
        changed["ceiling"] = self.last.ceiling | (ceiling or {})
        self.last = CeilingDecision.model_validate({**before, **changed})
        signed = SignedCeiling(decision=self.last)
        for name in by:
            signed = signed.signed_with(name, self.keys[key or name])
        self.log(signed)

    def log(self, signed: SignedCeiling) -> None:
        what = CeilingSet(decision=LoggedDocument.of(signed))
        entry = {"covenant": "entry/v1", "at": self.entries[-1]["at"], "what": what.model_dump(mode="json")}
        self.entries.append(entry)

    def reasoned_otherwise(self) -> None:
        entry = deepcopy(next(each for each in self.entries if each["what"]["kind"] == "ceiling"))
        signed = SignedCeiling.from_canonical(canonical_json(entry["what"]["decision"]["document"]))
        decision = signed.decision.model_copy(
            update={"number": 2, "reason": "another", "at": datetime.fromisoformat(self.entries[-1]["at"])}
        )
        self.log(signed.model_copy(update={"decision": decision}))

    def again(self) -> None:
        self.next("ledger-1", "ledger-2", ceiling={"epsilon": 49.0})
        self.next("ledger-1", ceiling={"epsilon": 48.0})
        self.entries.append(self.entries[-2])

    def alert_taken_away(self, *by: str) -> None:
        self.next("ledger-1", alert_at=(0.5,))
        self.next(*by, alert_at=())


DECISIONS: dict[str, tuple[Callable[[Decided], None], str]] = {
    "raised by one": (
        lambda it: it.next("ledger-1", ceiling={"epsilon": 49.0}),
        "raising a ceiling of .* is for 2 officers",
    ),
    "an alert taken away by one": (lambda it: it.alert_taken_away("ledger-1"), "taking an alert away"),
    "below what is charged": (
        lambda it: it.next("ledger-1", ceiling={"epsilon": 4.5}),
        "is below what is charged",
    ),
    "signed by nobody": (lambda it: it.next(ceiling={"epsilon": 44.0}), "nobody has signed"),
    "signed by a stranger": (
        lambda it: it.next("stranger", key="ledger-1", ceiling={"epsilon": 44.0}),
        "stranger is no officer on member list",
    ),
    "signed with another key": (
        lambda it: it.next("ledger-1", key="ledger-2", ceiling={"epsilon": 44.0}),
        "is not signed with the key of ledger-1",
    ),
    "another reason than was signed": (Decided.reasoned_otherwise, "is not signed with the key of"),
    "applied twice": (Decided.again, "a decision counts once"),
    "out of turn": (
        lambda it: it.next("ledger-1", number=3, ceiling={"epsilon": 44.0}),
        "is number 2, and this is number 3",
    ),
    "decided in another federation": (
        lambda it: it.next("ledger-1", federation="ab" * 32),
        "what is decided in one federation counts in no other",
    ),
    "decided long before": (
        lambda it: it.next("ledger-1", at=datetime(2025, 1, 1, tzinfo=UTC)),
        "is not within 30 days",
    ),
}


@pytest.mark.parametrize("lie", DECISIONS)
def test_a_decision_that_its_officers_did_not_make_is_caught(
    lie: str, log: TransparencyLog, pinned: SignedRoot, federation: Private
) -> None:
    change, words = DECISIONS[lie]
    entries = story(log)
    change(Decided(entries, ledger_keys(federation)))
    with pytest.raises(Refused, match=words):
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)


def test_decisions_that_enough_officers_made_are_believed(
    log: TransparencyLog, pinned: SignedRoot, federation: Private
) -> None:
    """The control of the test before."""
    entries = story(log)
    decided = Decided(entries, ledger_keys(federation))
    decided.next("ledger-1", "ledger-2", ceiling={"epsilon": 49.0})
    decided.next("ledger-2", ceiling={"epsilon": 48.0})
    decided.alert_taken_away("ledger-1", "ledger-2")
    found = Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)
    (budget,) = (each for each in found.story.budgets.standing() if each.account.site == decided.last.site)
    assert (budget.ceiling.epsilon, len(budget.decisions)) == (48.0, 5)
    assert [each.officers for each in budget.decisions[1:3]] == [("ledger-1", "ledger-2"), ("ledger-2",)]


def test_a_story_that_was_changed_before_sites_have_witnessed_it_is_a_split_view(
    log: TransparencyLog, pinned: SignedRoot
) -> None:
    """A lie that fits everything else: the sites have signed the head that it would change."""
    entries = story(log)
    launched = next(each for each in entries if each["what"]["kind"] == "launch")
    launched["at"] = f"{datetime.fromisoformat(launched['at']) + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    witnessed = next(i for i, each in enumerate(entries) if each["what"]["kind"] == "witnessed")
    ours = log.head(witnessed).root.hex()
    with pytest.raises(
        Refused, match=rf"entry {witnessed} \(witnessed\): east has signed that .* head {ours}"
    ) as refused:
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)
    assert "The site was shown another history" in str(refused.value)


def test_an_export_says_who_has_witnessed_how_much(federation: Private, pinned: SignedRoot) -> None:
    log = log_of(federation)
    found = verified(log, pinned).story
    assert found.runs[RUN].witnesses == set(federation.sites)
    assert found.witnesses.sizes == dict.fromkeys(federation.sites, found.runs[RUN].launch + 1)
    assert found.witnesses.unseen == log.size() - found.runs[RUN].launch - 1


def test_the_same_story_signed_again_is_believed(log: TransparencyLog, pinned: SignedRoot) -> None:
    """The control of the test before: nothing but the lie is refused there."""
    found = Export.read(resigned(log, [canonical_json(each) for each in story(log)])).verify(pinned)
    assert found.head.size == log.size()


def test_the_clocks_of_a_coordinator_may_differ_by_minutes(log: TransparencyLog, pinned: SignedRoot) -> None:
    entries = story(log)
    last = datetime.fromisoformat(entries[-2]["at"])
    entries[-1]["at"] = f"{last - timedelta(minutes=4, seconds=59):%Y-%m-%dT%H:%M:%SZ}"
    Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)


def test_a_head_that_another_key_signed_is_refused(
    log: TransparencyLog, pinned: SignedRoot, federation: Private
) -> None:
    text = log.checkpoint().text
    signer = open_signer()
    forged = SignedNote(text, (log.key.line(signer(text)),))
    with pytest.raises(Refused, match="is not signed by demo/log"):
        Export.read(exported(log, note=forged.encoded)).verify(pinned)


def open_signer() -> Callable[[str], bytes]:
    from protos.keys import SigningKey

    return SigningKey.generate().sign_note


def test_another_federations_root_verifies_nothing(log: TransparencyLog) -> None:
    from tests.trust_for_tests import Officers

    with pytest.raises(Refused, match=r"of the 2 signatures"):
        Export.read(exported(log)).verify(Officers.of("a", "b").pinned)
    with pytest.raises(Refused, match="the root is of other"):
        Export.read(exported(log)).verify(Officers.of("a", "b", federation="other").pinned)


def test_entries_of_an_unknown_kind_are_refused(log: TransparencyLog, pinned: SignedRoot) -> None:
    """What a reader does not understand it does not pass over."""
    entries = story(log)
    entries.append({"covenant": "entry/v1", "at": "2026-11-25T12:00:00Z", "what": {"kind": "later"}})
    with pytest.raises(Refused, match=f"entry {len(entries) - 1}"):
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)


# --- honest behaviour is believed -------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_while_it_evaluated_and_went_on_is_believed(make: Make) -> None:
    federation = make()
    federation.wire.before = lambda ask: (
        federation.store.finish("stopped", "a person") if ask.stage is Stage.EVALUATE else None
    )
    with pytest.raises(RoundConflict):
        federation.drive()
    federation.wire.before = lambda _: None
    open_again(federation)
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    found = verified(log_of(federation), pinned_by(federation))
    assert [each.state for each in found.story.runs.values()] == ["completed"]
    assert [each.version for each in found.story.models] == [1]


def open_again(federation: Private) -> None:
    """What `covenant run resume` does before it starts a driver."""
    with writing(federation.engine, "resuming") as session:
        row = session.get_one(Run, RUN)
        row.state, row.reason, row.finished_at = RunState.SUBMITTED, None, None
        session.flush()
        append(session, federation.clock.wall(), [launches.resumed(RUN, ())])


def test_numbers_that_json_takes_for_integers_are_read_back(make: Make) -> None:
    """A variance of more than 2^53 is written as digits."""
    federation = make({"noise: {preparation: 2.0,": "noise: {preparation: 200.0,"})
    launch = next(iter(log_of(federation).entries(kind="launch")))
    assert re.search(rb'"variance":[0-9]{17}', launch.body)
    verified(log_of(federation), pinned_by(federation))


def root_keys() -> list[SigningKey]:
    """The officers of the simulated federation, whose keys follow from its seed."""
    source = Random("keys 0")
    return [_signing_key(source) for _ in range(3)]


def signed_by(listed: MemberList, keys: list[SigningKey], roots: tuple[SignedRoot, ...], root: Root) -> bytes:
    signed = SignedMembers(list=listed)
    for key in keys:
        signed = signed.signed_with(key, root)
    return Membership(roots=roots, signed=signed).canonical


def put(federation: Private, members: bytes) -> None:
    with writing(federation.engine, "logging") as session:
        pinned = pinned_by(federation)
        append(
            session,
            federation.clock.wall(),
            members_signed(session, Listed.of(Membership.from_canonical(members), pinned)),
        )


def listed_in(federation: Private) -> MemberList:
    path = federation.centre.settings.members_file
    return Membership.from_canonical(path.read_bytes().strip()).signed.list


def next_root(pinned: SignedRoot, newcomer: str) -> SignedRoot:
    """Version 2 with one officer more, by the quorum of version 1, which is a quorum of it as well."""
    key = RootKey(name=newcomer, key=SigningKey.generate().public)
    signed = SignedRoot(root=pinned.root.next(add=[key], remove=(), quorum=None, expires=pinned.root.expires))
    for each in root_keys():
        signed = signed.signed_with(each, pinned.root)
    return signed


def test_the_same_list_with_another_signature_is_no_older_one(make: Make) -> None:
    federation = make()
    pinned, before = pinned_by(federation), listed_in(federation)
    put(federation, signed_by(before, root_keys(), (), pinned.root))
    story = Audit(pinned)
    deque(starmap(story.take, ((each.seq, each.body) for each in log_of(federation).entries())), maxlen=0)
    assert len(list(log_of(federation).entries(kind="members"))) == 2


def test_an_older_list_is_not_put_back(make: Make) -> None:
    federation = make()
    before = federation.centre.settings.members_file.read_bytes().strip()
    put(federation, signed_by(listed_in(federation).next(), root_keys(), (), pinned_by(federation).root))
    with pytest.raises(Refused, match=r"put the newest back.*an older one such as demo@1"):
        put(federation, before)


def test_a_list_without_its_quorum_is_not_logged(make: Make) -> None:
    federation = make()
    draft = signed_by(listed_in(federation).next(), root_keys()[:1], (), pinned_by(federation).root)
    with pytest.raises(Refused, match="has 1 of the 2 signatures"):
        put(federation, draft)


def test_a_list_under_another_root_than_the_logs_is_not_logged(make: Make) -> None:
    """Both versions 2 are signed by the quorum of version 1, whose keys somebody has stolen."""
    federation = make()
    pinned, before = pinned_by(federation), listed_in(federation)
    one, other = next_root(pinned, "one"), next_root(pinned, "other")
    put(federation, signed_by(before.next(), root_keys(), (one,), one.root))
    with pytest.raises(Refused, match="comes with another root version 2"):
        put(federation, signed_by(before.next().next(), root_keys(), (other,), other.root))
    with pytest.raises(Refused, match="signed under root version 1, and version 2 has been accepted"):
        put(federation, signed_by(before.next().next(), root_keys(), (), pinned.root))


def test_a_log_that_ends_before_a_list_that_its_reader_has_is_refused(
    log: TransparencyLog, pinned: SignedRoot, federation: Private
) -> None:
    """Whoever kept a key of the log that was taken off the list can sign no more than what was before."""
    ours = Membership.from_canonical(federation.centre.settings.members_file.read_bytes().strip())
    assert Export.read(exported(log)).verify(pinned, ours).head.size == log.size()
    officers = [_signing_key(source) for source in [Random("keys 0")] for _ in range(2)]
    newer = SignedMembers(list=ours.signed.list.next())
    for officer in officers:
        newer = newer.signed_with(officer, pinned.root)
    with pytest.raises(Refused, match="ends before member list demo@2"):
        Export.read(exported(log)).verify(pinned, Membership(signed=newer))
