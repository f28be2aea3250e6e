"""An export is verified with nothing but the pinned root; and a coordinator that signs another story is caught by what does not fit."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import starmap
from pathlib import Path
from random import Random
from typing import Any

import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Run, RunState
from coordinator.governance import launches
from coordinator.governance.log import TransparencyLog, append, open_log
from coordinator.ledger.ceilings import Decision
from coordinator.registry.publish import publish
from coordinator.rounds.record import RoundConflict
from protos.documents import load_document
from protos.frames import Stage
from protos.log_audit import Audit
from protos.log_entries import LogEntry, MembersSigned
from protos.log_export import Export, ExportHeader, Verified, verify_file, write_export
from protos.log_witnesses import Witnesses
from protos.membership import Membership, SignedMembers
from protos.root import SignedRoot
from simulation.world.layout import _signing_key
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote
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


def test_a_ceiling_that_is_set_is_in_the_log(make: Make) -> None:
    federation = make()
    log, pinned = log_of(federation), pinned_by(federation)
    site = federation.sites[0]
    population = federation.plan.population_of(site)
    before = {each.account.site: each.ceiling for each in verified(log, pinned).story.budgets.standing()}
    decision = Decision(
        epsilon=45.0, delta=1e-5, unit=before[site].unit, officers=["one", "other"], reason="a year's plans"
    )
    federation.ledger.set_ceiling(site, population, decision)
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


def another_ceiling(entries: Story, **changes: object) -> None:
    decision = deepcopy(next(each for each in entries if each["what"]["kind"] == "ceiling"))
    decision["what"]["ceiling"] |= changes
    entries.append(decision)


def raised_by_one(entries: Story) -> None:
    another_ceiling(entries, epsilon=49.0)


def lowered(entries: Story) -> None:
    another_ceiling(entries, epsilon=4.5)


def alert_taken_away(entries: Story) -> None:
    of(entries, "ceiling")[0]["alert_at"] = [0.5]
    another_ceiling(entries)
    of(entries, "ceiling")[-1]["alert_at"] = []


def resumed(entries: Story) -> None:
    place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == "prepared")
    entries.insert(place, {**entries[place], "what": {"kind": "resumed", "run": RUN, "reserved": []}})


LIES: dict[str, tuple[Callable[[Story], None], str]] = {
    "no member list": (without("members"), "not in the log before it"),
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
    "another model's weights": (changed("model", weights="ab" * 32), "has not made such a model"),
    "a version left out": (changed("model", version=2), "has not made such a model"),
    "a model registered twice": (twice("model"), "has not made such a model"),
    "a plan under another contract": (changed("launch", contract="ab" * 32), "plan with this contract"),
    "a ceiling raised by one officer": (raised_by_one, "raising a ceiling of .* is for 2 officers"),
    "an alert taken away by one officer": (alert_taken_away, "taking an alert away"),
    "a ceiling below what is charged": (lowered, "is below what is charged"),
    "resumed without having ended": (resumed, "is resumed, but it is running"),
    "ended twice": (twice("ended"), "is completed"),
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


def test_a_story_that_was_changed_before_sites_have_witnessed_it_is_a_split_view(
    log: TransparencyLog, pinned: SignedRoot
) -> None:
    """A lie that fits everything else: the sites have signed the head that it would change."""
    entries = story(log)
    launched = next(each for each in entries if each["what"]["kind"] == "launch")
    launched["at"] = launched["at"].replace("2027", "2028")
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


def test_the_same_list_with_another_signature_is_no_older_one(make: Make, tmp_path: Path) -> None:
    federation = make()
    settings = federation.centre.settings
    membership = Membership.from_canonical(settings.members_file.read_bytes().strip())
    fewer = membership.signed.signatures[:1]
    later = membership.model_copy(
        update={"signed": membership.signed.model_copy(update={"signatures": fewer})}
    )
    with writing(federation.engine, "logging") as session:
        append(session, federation.clock.wall(), launches.members_signed(session, later.canonical))
    told = [LogEntry.from_canonical(each.body).what for each in log_of(federation).entries(kind="members")]
    assert [each.members.digest for each in told if isinstance(each, MembersSigned)] == [
        membership.digest,
        later.digest,
    ]
    story = Audit(pinned_by(federation))
    # It lacks the quorum, which is another matter: the list itself is taken for the one that it is.
    with pytest.raises(Refused, match="signatures"):
        deque(starmap(story.take, ((each.seq, each.body) for each in log_of(federation).entries())), maxlen=0)


def test_an_older_list_is_not_put_back(make: Make) -> None:
    federation = make()
    before = federation.centre.settings.members_file.read_bytes().strip()
    newer = Membership.from_canonical(before)
    listed = newer.signed.list.model_copy(update={"version": newer.signed.list.version + 1})
    newer = newer.model_copy(update={"signed": newer.signed.model_copy(update={"list": listed})})
    with writing(federation.engine, "logging") as session:
        append(session, federation.clock.wall(), launches.members_signed(session, newer.canonical))

    def put_back() -> None:
        with writing(federation.engine, "logging") as session:
            append(session, federation.clock.wall(), launches.members_signed(session, before))

    with pytest.raises(Refused, match="an older one"):
        put_back()


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
