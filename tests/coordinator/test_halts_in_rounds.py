"""A halt bites in the middle of a round: nothing is opened under it, a halted site is left off, and the log's auditor sees that it was so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any

import pytest

from coordinator.db import reading
from coordinator.db.schema import Run, RunState
from coordinator.flower.grid import PromptGrid
from coordinator.governance.halted import Halted, HaltWatch
from coordinator.governance.halts import halt, say_lift, take_order, view, views
from coordinator.governance.log import open_log
from coordinator.governance.members import Listed
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.exchange import Answered, Unanswered
from coordinator.runs import resume
from protos.documents import load_document
from protos.frames import Stage
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from protos.log_audit import Audit, AuditRefused, audit
from protos.log_entries import Halted as HaltedEntry
from protos.log_entries import HaltLifted, LogEntry, LoggedDocument, What
from protos.membership import Membership, Officer, Role, SignedMembers
from protos.root import SignedRoot
from simulation.world.layout import _signing_key
from strategies.errors import Refused
from strategies.secagg.messages import ConfirmRequest, MaskRequest, UnmaskRequest
from tests.coordinator.secure_for_tests import FOUR, RUN, SOUTH, WEST, Ask, Secured, secure_plan
from tests.coordinator.sums_for_tests import Make
from tests.coordinator.test_grid import KEYS, FakeSuperLink, _identity, ask, grid
from tests.coordinator.test_grid import SOUTH as FAR_SOUTH
from tests.coordinator.test_grid import WEST as FAR_WEST
from tests.halts_for_tests import ordered, would_lift
from tests.trust_for_tests import FAR, key_of

__all__ = ["_identity"]
PEOPLE = {"privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK}


def with_officers(federation: Secured) -> Listed:
    """The next member list: it has officers, and the root's quorum has signed it."""
    settings = federation.centre.settings
    pinned = load_document(settings.root_file, SignedRoot)
    listed = Membership.from_canonical(settings.members_file.read_bytes().strip()).signed.list
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in PEOPLE.items()
    )
    signed = SignedMembers(list=listed.next(officers=people))
    for key in [_signing_key(source) for source in [Random("keys 0")] for _ in range(2)]:
        signed = signed.signed_with(key, pinned.root)
    return Listed.of(Membership(signed=signed), pinned)


def given(federation: Secured, *what: Any, **how: Any) -> HaltOrder:
    """An order for this federation."""
    pinned = load_document(federation.centre.settings.root_file, SignedRoot)
    return ordered(*what, **how, federation=pinned.root.identity)


def drive(federation: Secured) -> Finished:
    """As `drive_run` does, over the federation's own wire."""
    federation.store = federation._started()
    centre = federation.centre
    return Driver(
        federation.documents,
        federation.wire,
        federation.store,
        federation.log,
        centre.monotonic,
        centre.sleep,
        centre.entropy,
        halted=HaltWatch(centre.engine, RUN, centre.monotonic),
        ordered=partial(take_order, centre, RUN),
    ).drive()


def once(kind: type, number: int, act: Callable[[], object]) -> Callable[[Ask], None]:
    """Acts at the first exchange of round `number` that asks for `kind`."""
    done: list[object] = []

    def look(asked: Ask) -> None:
        if (asked.asks, asked.number) == (kind, number) and not done:
            done.append(act())

    return look


def lift(federation: Secured, order: HaltOrder, listed: Listed) -> None:
    for name in PEOPLE:
        said = would_lift(order.digest, name, at=federation.centre.clock())
        say_lift(federation.centre, order.id, said, listed)


def bodies(federation: Secured) -> list[bytes]:
    log = open_log(federation.engine, federation.centre.settings, federation.clock.wall)
    return [each.body for each in log.entries()]


def audited(federation: Secured, story: list[bytes] | None = None) -> Audit:
    pinned = load_document(federation.centre.settings.root_file, SignedRoot)
    return audit(bodies(federation) if story is None else story, pinned)


def the_run(federation: Secured) -> Run:
    with reading(federation.engine, "looking") as session:
        return session.get_one(Run, RUN)


def kinds(federation: Secured) -> list[str]:
    return [LogEntry.from_canonical(each).what.kind for each in bodies(federation)]


def test_what_a_site_orders_stops_the_run_for_everybody(make: Make) -> None:
    federation = make(secure_plan(rounds=2))
    west = federation.wire.participants[WEST]
    order = given(federation, "run", RUN, by="site west", key=west.identity)  # type: ignore[arg-type]
    federation.wire.before = once(MaskRequest, 1, lambda: west.halts.halt(order))
    with pytest.raises(Halted, match="site west halted run"):
        drive(federation)
    assert (the_run(federation).state, the_run(federation).reason) == (RunState.STOPPED, order.words)
    assert kinds(federation)[-3:] == ["halted", "voided", "ended"]
    assert federation.wire.opening_asks()[-1].stage.name == "PREPARE"  # and none after
    assert [each.order.by.words for each in audited(federation).halts.given] == ["site west"]
    with pytest.raises(Halted):
        resume(federation.centre, RUN)


@pytest.mark.parametrize("scope", ["all", pytest.param("run", marks=pytest.mark.slow)])
def test_a_round_that_is_halted_before_it_settles_opens_nothing(make: Make, scope: str) -> None:
    federation = make(secure_plan(rounds=1))
    listed = with_officers(federation)
    order = given(federation, scope, RUN if scope == "run" else None)  # type: ignore[arg-type]
    federation.wire.after = once(ConfirmRequest, 1, lambda: halt(federation.centre, order, listed))
    with pytest.raises(Halted, match="officer privacy-1 halted"):
        drive(federation)
    assert kinds(federation)[-4:] == ["members", "halted", "voided", "ended"]
    assert {each.stage.name for each in federation.wire.opening_asks()} == {"PREPARE"}
    lift(federation, order, listed)
    resume(federation.centre, RUN)
    federation.wire.after = lambda _: None
    assert drive(federation).metrics is not None
    story = audited(federation)
    assert (story.runs[RUN].committed, len(story.halts.standing), len(story.halts.given)) == (1, 0, 1)


def test_a_sum_that_was_settled_before_the_halt_is_opened_once_it_is_lifted(make: Make) -> None:
    federation = make(secure_plan(rounds=1))
    listed, order = with_officers(federation), given(federation)
    federation.wire.before = once(UnmaskRequest, 1, lambda: halt(federation.centre, order, listed))
    with pytest.raises(Halted):
        drive(federation)
    assert [each.state for each in federation.rounds()] == ["open"]
    first = federation.wire.opening_asks()[-1]
    lift(federation, order, listed)
    resume(federation.centre, RUN)
    federation.wire.before = lambda _: None
    asked = len(federation.wire.opening_asks())
    drive(federation)
    again = federation.wire.opening_asks()[asked]
    assert [frame.body for frame in again.requests[WEST].frames][:1] == [first.requests[WEST].frames[0].body]
    assert [(each.attempt, each.state) for each in federation.rounds()] == [(1, "committed")]
    assert audited(federation).runs[RUN].committed == 1


def test_a_site_that_is_halted_in_mid_round_has_no_part_in_its_sum(make: Make) -> None:
    federation = make(secure_plan(rounds=1, minimum=3))
    listed, order = with_officers(federation), given(federation, "site", SOUTH)
    federation.wire.after = once(ConfirmRequest, 1, lambda: halt(federation.centre, order, listed))
    drive(federation)
    assert [(each.state, each.survivors) for each in federation.rounds()] == [
        ("voided", None),
        ("committed", [each for each in FOUR if each != SOUTH]),
    ]
    later = federation.wire.asks[federation.wire.asks.index(federation.wire.of(Stage.TRAIN, 1, 1)[-1]) + 1 :]
    assert all(SOUTH not in each.frames for each in later)
    assert audited(federation).runs[RUN].committed == 1


def test_a_site_that_is_halted_just_before_its_round_begins_has_no_part_in_it(make: Make) -> None:
    """The driver has not looked for halts again since; the store has."""
    federation = make(secure_plan(rounds=1, minimum=3))
    listed, order = with_officers(federation), given(federation, "site", SOUTH)
    federation.wire.after = once(UnmaskRequest, 0, lambda: halt(federation.centre, order, listed))
    drive(federation)
    assert [(each.state, each.roster) for each in federation.rounds()] == [
        ("committed", [each for each in FOUR if each != SOUTH])
    ]
    assert audited(federation).runs[RUN].committed == 1


@pytest.mark.slow
def test_below_its_minimum_a_run_ends_by_its_own_rules(make: Make) -> None:
    federation = make(secure_plan(rounds=1, minimum=4))
    halt(federation.centre, given(federation, "site", SOUTH), with_officers(federation))
    with pytest.raises(
        Refused, match=r"3 of at least 4 sites may be asked: south is halted\. `covenant halt list`"
    ):
        drive(federation)
    assert federation.wire.asks == []


# --- what the auditor does not believe


def entry(federation: Secured, what: What) -> bytes:
    return LogEntry(at=federation.clock.wall(), what=what).canonical


@pytest.fixture
def halted(make: Make) -> tuple[Secured, HaltOrder, Membership]:
    """A run that was halted, lifted, resumed and driven to its end."""
    federation = make(secure_plan(rounds=1))
    listed, order = with_officers(federation), given(federation)
    halt(federation.centre, order, listed)
    lift(federation, order, listed)
    resume(federation.centre, RUN)
    drive(federation)
    return federation, order, listed


def test_the_auditor_refuses_what_happens_under_a_halt(halted: tuple[Secured, HaltOrder, Membership]) -> None:
    federation, _, _ = halted
    story, told = bodies(federation), kinds(federation)
    assert audited(federation)
    at = told.index("halt-lifted")
    unlifted = story[:at] + story[at + 1 :]
    with pytest.raises(AuditRefused, match="is resumed under a halt: officer privacy-1 halted everything"):
        audited(federation, unlifted)
    settled = told.index("settled")
    again = entry(federation, HaltedEntry(order=LoggedDocument.of(given(federation, "site", WEST))))
    with pytest.raises(AuditRefused, match=r"is settled under a halt: .* halted site west"):
        audited(federation, [*story[:settled], again, *story[settled:]])
    launch, west = told.index("launch"), federation.wire.participants[WEST].identity
    for by in (
        given(federation, by="site west", key=west),
        given(federation, "site", WEST, by="site west", key=west),
    ):  # type: ignore[arg-type]
        early = entry(federation, HaltedEntry(order=LoggedDocument.of(by)))
        with pytest.raises(AuditRefused, match="is launched under a halt: site west halted"):
            audited(federation, [*story[:launch], early, *story[launch:]])


@pytest.mark.slow
def test_the_auditor_refuses_orders_and_lifts_that_do_not_count(
    halted: tuple[Secured, HaltOrder, Membership],
) -> None:
    federation, order, _ = halted
    story, told = bodies(federation), kinds(federation)
    at = told.index("halt-lifted")

    def after(what: What, *, place: int) -> list[bytes]:
        return [*story[:place], entry(federation, what), *story[place + 1 :]]

    forged = HaltedEntry(order=LoggedDocument.of(given(federation, key=key_of("stranger"))))
    with pytest.raises(AuditRefused, match="not signed with their key"):
        audited(federation, after(forged, place=told.index("halted")))
    moment = federation.clock.wall()
    both = [would_lift(order.digest, name, at=moment) for name in PEOPLE]
    for said, words in (
        (both[:1], "1 of 2 statements"),
        ([both[0], would_lift(order.digest, "risk-1", key=key_of("stranger"), at=moment)], "not signed"),
        ([both[0], would_lift(order.digest, "risk-1", at=moment - timedelta(days=9))], "good for 7 days"),
    ):
        lifted = HaltLifted(lift=LoggedDocument.of(HaltLift(order=order.digest, statements=tuple(said))))
        with pytest.raises(AuditRefused, match=words):
            audited(federation, after(lifted, place=at))
    with pytest.raises(AuditRefused, match="does not stand"):
        audited(federation, [*story, story[at]])
    with pytest.raises(AuditRefused, match="is given twice"):
        audited(federation, [*story, story[told.index("halted")]])


# --- while it waits


def test_a_driver_that_waits_for_sites_stops_within_a_second() -> None:
    superlink = FakeSuperLink()
    order, begins = ordered(reason="now"), superlink.now + 3.0

    def halted() -> frozenset[str]:
        if superlink.now >= begins:
            raise Halted("stops", order)
        return frozenset()

    prompt = grid(superlink)
    prompt.halted = halted  # type: ignore[assignment]
    with pytest.raises(Halted, match="now"):
        ask(superlink, prompt, deadline_s=600.0)
    assert superlink.now < begins + 1.0
    with pytest.raises(Halted):
        prompt.online()


def test_a_halted_site_is_not_asked_and_what_it_says_meanwhile_is_not_taken() -> None:
    superlink = FakeSuperLink()
    names: set[str] = set()
    prompt = PromptGrid(
        grid(superlink).wire,
        KEYS,
        monotonic=lambda: superlink.now,
        sleep=superlink.sleep,
        halted=lambda: names,  # type: ignore[arg-type,return-value]
    )
    superlink.happening.append((100.2, lambda: names.add(FAR_SOUTH)))
    superlink.answer(100.1, 0, b"from west")
    superlink.answer(100.3, 1, b"from south")
    assert ask(superlink, prompt) == {FAR_WEST: Answered(b"from west"), FAR_SOUTH: Unanswered("is halted")}
    sent = len(superlink.sent)
    superlink.answer(superlink.now, sent, b"from west")
    assert ask(superlink, prompt)[FAR_SOUTH] == Unanswered("is halted")
    assert len(superlink.sent) == sent + 1
    assert set(prompt.online()) == {FAR_WEST}


@pytest.mark.slow
def test_an_order_that_was_lifted_at_the_centre_is_not_taken_again_from_the_site(make: Make) -> None:
    """The site refuses on; the others go on without it."""
    federation = make(secure_plan(rounds=1, minimum=3))
    west, listed = federation.wire.participants[WEST], with_officers(federation)
    order = given(federation, "run", RUN, by="site west", key=west.identity)  # type: ignore[arg-type]
    west.halts.halt(order)
    halt(federation.centre, order, listed)
    lift(federation, order, listed)
    resume(federation.centre, RUN)
    drive(federation)
    assert view(federation.engine, order.id).state == "lifted"
    assert len(views(federation.engine)) == 1
    assert [each.survivors for each in federation.rounds()] == [[each for each in FOUR if each != WEST]]
