"""Drivers that die and survivors that stay away while a sum is opened: it is that sum which is opened later, or none."""

from __future__ import annotations

from itertools import count

import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Round
from coordinator.rounds.asking import StaysClosed, TooFewSurvivors
from coordinator.runs import resume
from protos import secagg_pb2
from protos.codec_fields import CodecError
from protos.frames import Stage
from protos.secagg_codec import encode_frame
from strategies.encoding import vector_digest
from strategies.ids import Digest, SiteName
from strategies.secagg.messages import MaskedInput, Shares, UnmaskRequest
from tests.coordinator.secure_for_tests import EAST, FOUR, NORTH, SOUTH, WEST, Ask, secure_plan
from tests.coordinator.sums_for_tests import UNANSWERED, Make, at, close_to_the_mean, die_while_opening

# --- a driver that dies -----------------------------------------------------------------------------------------------


def first_frames(ask: Ask) -> dict[SiteName, bytes]:
    return {site: encode_frame(request.frames[0]) for site, request in ask.requests.items()}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize(
    ("adversary", "sites", "when"),
    [
        ("active", "go on", "before it is sent"),
        ("active", "go on", "when all have answered"),
        ("active", "start again", "before it is sent"),
        ("semi-honest", "go on", "when all have answered"),
    ],
)
def test_a_driver_after_a_crash_sends_the_very_request_for_shares_and_ends_with_the_same_model(
    make: Make, undisturbed: Digest, stage: Stage, adversary: str, sites: str, when: str
) -> None:
    federation = make(secure_plan(rounds=2, every=1, adversary=adversary))
    sent = die_while_opening(federation, stage, when)
    asked = len(federation.wire.asks)
    if sites == "start again":
        for site in FOUR:
            federation.restart(site)
    finished = federation.drive()
    again = federation.wire.asks[asked]
    assert first_frames(again) == first_frames(sent)
    assert adversary != "active" or again.frames == sent.frames
    later = [
        ask.asks for ask in federation.wire.asks[asked:] if (ask.stage, ask.number) == (stage, sent.number)
    ]
    assert later == [UnmaskRequest]
    assert vector_digest(finished.model) == undisturbed
    assert federation.store.unopened(stage, sent.number) is None
    assert [row.attempt for row in federation.rounds()] == [1, 1]
    assert [row.attempt for row in federation.attempts()] == [1, 1, 1]


@pytest.mark.parametrize("spoil", ["cut", "nothing", "noise", "another ring"])
def test_an_opening_that_cannot_be_read_ends_the_run_and_nobody_is_asked(make: Make, spoil: str) -> None:
    """The database lost it, or somebody changed it. The sites keep their promises for as long as the file can be put back."""
    federation = make(secure_plan(), begun=True)
    die_while_opening(federation, Stage.TRAIN, "before it is sent")
    with writing(federation.engine, "spoiling") as session:
        row = session.get_one(Round, (federation.documents.run, 1, 1))
        kept = row.opening
        assert kept is not None
        other = secagg_pb2.Opening.FromString(kept[1:])  # after the length of a seed, which is 0 here
        other.bits = 32
        row.opening = {
            "cut": kept[:-9],
            "nothing": b"",
            "noise": b"\xff" * 99,
            "another ring": kept[:1] + other.SerializeToString(),
        }[spoil]
    asked = len(federation.wire.asks)
    with pytest.raises(CodecError):
        federation.drive()
    assert len(federation.wire.asks) == asked
    with writing(federation.engine, "putting it back") as session:
        session.get_one(Round, (federation.documents.run, 1, 1)).opening = kept
    federation.drive()
    assert close_to_the_mean(federation, 1, FOUR)


def test_no_share_is_ever_in_what_the_coordinator_keeps(make: Make) -> None:
    federation = make(secure_plan(rounds=2, every=1))
    kept: list[bytes] = []

    def look(ask: Ask) -> None:
        if ask.asks is UnmaskRequest:
            left = federation.store.unopened(ask.stage, ask.number)
            assert left is not None
            kept.append(left.opening)
            kept.extend(path.read_bytes() for path in federation.layout.home.rglob("*") if path.is_file())

    federation.wire.after = look
    federation.drive()
    kept.extend(path.read_bytes() for path in federation.layout.home.rglob("*") if path.is_file())
    given = [body for ask in federation.wire.asks for _, _, body in ask.said(Shares)]
    shares = {share for body in given for share in (*body.own_seeds.values(), *body.mask_keys.values())}
    assert len(shares) == 5 * len(FOUR) ** 2
    everything = b"\0".join(kept)
    assert not [share for share in shares if share in everything]
    assert all(row.opening is None for row in federation.rounds())
    assert all(row.opening is None for row in federation.attempts())


# --- a sum that stays closed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", list(Stage))
def test_a_sum_with_too_few_shares_stays_closed_until_a_resumed_run_sends_the_same_request(
    make: Make, undisturbed: Digest, stage: Stage
) -> None:
    federation = make(secure_plan(rounds=2, every=1))
    number = 0 if stage is Stage.PREPARE else 1
    federation.wire.request_lost = at(stage, number, Shares, [SOUTH, WEST])
    with pytest.raises(StaysClosed) as closed:
        federation.drive()
    sentence = str(closed.value)
    assert f"round {number} cannot be opened: 2 survivors have given their shares" in sentence
    assert f"south {UNANSWERED}; west {UNANSWERED}" in sentence
    assert "Bring those sites up, then `covenant run resume` sends the same request again" in sentence
    first, *again = [ask for ask in federation.wire.opening_asks() if ask.stage is stage]
    assert [tuple(ask.frames) for ask in (first, *again)] == [FOUR, (SOUTH, WEST), (SOUTH, WEST)]
    assert all(ask.frames[site] == first.frames[site] for ask in again for site in ask.frames)

    federation.store.finish("failed", sentence)
    assert federation.store.unopened(stage, number) is not None
    resume(federation.centre, federation.documents.run)
    federation.wire.request_lost = lambda _, __: False
    asked = len(federation.wire.asks)
    finished = federation.drive()
    resumed = federation.wire.asks[asked]
    assert resumed.frames == first.frames
    assert {site: resumed.answers[site].frames[0] for site in (EAST, NORTH)} == {
        site: first.answers[site].frames[0] for site in (EAST, NORTH)
    }
    assert vector_digest(finished.model) == undisturbed
    assert [row.attempt for row in federation.rounds()] == [1, 1]
    assert [row.attempt for row in federation.attempts()] == [1, 1, 1]


def test_asking_in_vain_takes_nothing_of_the_time_in_which_sites_may_come_back(make: Make) -> None:
    """Three askings take three deadlines, which may be longer than `join_within`."""
    federation = make(secure_plan(), begun=True)
    within, shares = federation.documents.plan.sites.join_within, at(Stage.TRAIN, 1, Shares, [SOUTH, WEST])
    back: list[float] = []

    def lost(site: SiteName, ask: Ask) -> bool:
        if not shares(site, ask) or (back and federation.clock.monotonic() >= back[-1]):
            return False
        federation.clock.sleep(within)
        back[:] = [federation.clock.monotonic() + within / 2]
        return True

    federation.wire.request_lost = lost
    federation.wire.absent = lambda: (
        {SOUTH, WEST} if back and federation.clock.monotonic() < back[-1] else set()
    )
    federation.drive()
    first, *again = [ask for ask in federation.wire.opening_asks() if ask.stage is Stage.TRAIN]
    assert {ask.attempt for ask in again} == {first.attempt}
    assert all(ask.frames[site] == first.frames[site] for ask in again for site in ask.frames)


def test_a_sum_that_stays_closed_is_not_had_by_another_attempt(make: Make) -> None:
    """Whoever deletes the opening to try anew gets nothing from the sites that have given their shares."""
    federation = make(secure_plan(), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, Shares, [SOUTH, WEST])
    with pytest.raises(StaysClosed):
        federation.drive()
    federation.store.void(1, 1, "an operator without patience")
    federation.wire.request_lost = lambda _, __: False
    with pytest.raises(
        TooFewSurvivors, match=r"east refused \(protocol\) this site has given its shares for attempt 1"
    ):
        federation.drive()
    assert {ask.attempt.attempt for ask in federation.wire.opening_asks()} == {1}


def test_a_sum_that_stays_closed_names_the_sites_that_can_open_it_and_no_others(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    askings = count(1)
    inputs = at(Stage.TRAIN, 1, MaskedInput, [WEST])
    never = at(Stage.TRAIN, 1, Shares, [EAST])
    late = at(Stage.TRAIN, 1, Shares, [NORTH])
    federation.wire.request_lost = lambda site, ask: (
        inputs(site, ask) or never(site, ask) or (late(site, ask) and next(askings) == 1)
    )
    with pytest.raises(StaysClosed) as closed:
        federation.drive()
    assert f"east {UNANSWERED}" in str(closed.value)
    assert f"north {UNANSWERED}" not in str(closed.value)
    assert f"west {UNANSWERED}" not in str(closed.value)
