"""One site that makes the others fail: envelopes that nobody can open, keys that give no secret, accusations that are not true.

Each attack fails, and its control works.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace

import pytest

from client.secure.rounds import SecureRounds
from coordinator.rounds.asking import StaysClosed, TooFewSurvivors
from coordinator.rounds.exchange import Answered, Outcome
from coordinator.rounds.roster import Roster
from protos.codec import encode_reply
from protos.frames import REFUSAL, Refusal, RefusalCode, Reply, SecureAnswer, Stage
from protos.secure_codec import decode_answer, encode_secure_reply
from strategies.ids import SiteName
from strategies.secagg import cohort as cohorts
from strategies.secagg.messages import ADVERTISEMENT, Advertisement, Body, Envelopes, Frame, MaskedInput
from tests.client.rounds_for_tests import every_step
from tests.coordinator.secure_for_tests import (
    EAST,
    FOUR,
    NORTH,
    SOUTH,
    WEST,
    Ask,
    Secured,
    changed,
    secure_plan,
)
from tests.coordinator.sums_for_tests import (
    ACTIVE,
    SEMI_HONEST,
    SET_UP,
    Make,
    at,
    close_to_the_mean,
    keys_of,
    offends,
    sign,
)

Guard = pytest.MonkeyPatch
OTHERS = [EAST, NORTH, SOUTH]


# A site that seals noise for all others, at every step and in every attempt.


def noise(body: Body) -> Body:
    assert isinstance(body, Envelopes)
    return replace(body, sealed={site: os.urandom(len(each)) for site, each in body.sealed.items()})


def seals_noise(federation: Secured) -> None:
    def meddle(site: SiteName, _: Ask, reply: bytes) -> Outcome:
        said = isinstance(decode_answer(reply).body, SecureAnswer)
        return Answered(changed(reply, noise, kind=Envelopes) if said and site == WEST else reply)

    federation.wire.meddle = meddle


@pytest.mark.parametrize("adversary", ["active", "semi-honest"])
def test_a_site_whose_envelopes_cannot_be_opened_is_left_out_of_the_next_attempt(
    make: Make, heard: list[dict[str, object]], adversary: str
) -> None:
    federation = make(secure_plan(adversary=adversary), begun=True)
    seals_noise(federation)
    federation.drive()
    void, good = federation.rounds()
    assert (void.state, good.state, good.survivors) == ("voided", "committed", OTHERS)
    for site in OTHERS:
        assert f"{site} refused (protocol) the envelope from west to {site} was not sealed" in str(
            void.reason
        )
    assert close_to_the_mean(federation, 1, OTHERS, roster=OTHERS)
    (line,) = [each for each in heard if each["event"] == "site left out"]
    assert (line["site"], line["accused_by"]) == (WEST, OTHERS)


def test_a_site_whose_envelopes_cannot_be_opened_is_left_out_where_they_were_made_ahead(make: Make) -> None:
    federation = make(secure_plan(rounds=2), begun=True)

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Outcome:
        ahead = site == WEST and (ask.stage, ask.number) == (Stage.TRAIN, 1) and ask.asks in ACTIVE
        return Answered(changed(reply, noise, kind=Envelopes) if ahead else reply)

    federation.wire.meddle = meddle
    federation.drive()
    assert [(row.number, row.attempt, row.survivors) for row in federation.rounds()] == [
        (1, 1, list(FOUR)),
        (2, 1, None),
        (2, 2, OTHERS),
    ]


def test_a_site_whose_envelopes_cannot_be_opened_ends_the_run_without_the_guard(
    make: Make, monkeypatch: Guard
) -> None:
    monkeypatch.setattr(Roster, "leave_out_accused", lambda *_, **__: None)
    federation = make(secure_plan(), begun=True)
    seals_noise(federation)
    with pytest.raises(TooFewSurvivors, match="the envelope from west to south was not sealed by its sender"):
        federation.drive()
    assert [row.state for row in federation.rounds()] == ["voided"] * 3


# Accusations by sites that lie: as many as may collude make nobody be left out.


def accuses(
    federation: Secured, liars: Collection[SiteName], accused: str, attempts: Collection[int] = (1,)
) -> None:
    """In some attempts some sites say, instead of sending an input, that they cannot open what `accused` has sealed."""

    def change(_: Secured, site: SiteName, __: Ask, reply: bytes) -> bytes:
        refusal = Refusal(RefusalCode.PROTOCOL, "cannot be opened", SiteName(accused))
        echo = decode_answer(reply).statement_digest
        signed = federation.wire.participants[site].identity.sign_raw(REFUSAL, refusal.message(echo, site))
        refusal = replace(refusal, signature=signed)
        return encode_reply(Reply(statement_digest=echo, site=site, body=refusal))

    offends(federation, MaskedInput, change, dict.fromkeys(attempts, liars))


def test_one_site_that_lies_about_another_does_not_have_it_left_out(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    accuses(federation, [WEST], EAST)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH])
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [None, list(FOUR)]


def test_one_site_that_lies_has_another_left_out_if_one_accuser_is_enough(
    make: Make, monkeypatch: Guard
) -> None:
    leave_out = Roster.leave_out_accused
    monkeypatch.setattr(Roster, "leave_out_accused", lambda roster, **_: leave_out(roster, more_than=0))
    federation = make(secure_plan(), begun=True)
    accuses(federation, [WEST], EAST)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH])
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [None, [NORTH, SOUTH, WEST]]


def test_one_site_that_lies_in_every_attempt_is_one_accuser(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    accuses(federation, [WEST], EAST, attempts=(1, 2))
    lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH], attempt=None)
    federation.wire.request_lost = lambda site, ask: lost(site, ask) and ask.attempt.attempt < 3
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [None, None, list(FOUR)]


@pytest.mark.parametrize("accused", ["zenith", "west"])
def test_an_accusation_of_nobody_or_of_itself_leaves_nobody_out(make: Make, accused: str) -> None:
    federation = make(secure_plan(), begun=True)
    accuses(federation, [WEST], accused)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH])
    federation.drive()
    assert [row.survivors for row in federation.rounds()] == [None, list(FOUR)]


# A site whose keys for the next round give no secret to anybody: they ride on this one's input.


def advertises_low_order(federation: Secured) -> None:
    def low(frame: Frame) -> Frame:
        if not isinstance(frame.body, Advertisement):
            return frame
        chosen = replace(frame.body, envelope_key=bytes(32))
        message = Advertisement.signed_bytes(frame.attempt, WEST, *keys_of(chosen))
        return Frame(frame.attempt, replace(chosen, signature=sign(federation, WEST, ADVERTISEMENT, message)))

    def meddle(site: SiteName, ask: Ask, reply: bytes) -> Outcome:
        said = decode_answer(reply)
        if site != WEST or ask.number != 1 or not isinstance(said.body, SecureAnswer):
            return Answered(reply)
        first, *riders = said.body.frames
        body = replace(said.body, frames=(first, *map(low, riders)))
        return Answered(encode_secure_reply(said.statement_digest, site, body))

    federation.wire.meddle = meddle


@pytest.mark.parametrize(("adversary", "steps"), [("active", ACTIVE), ("semi-honest", SEMI_HONEST)])
def test_keys_ahead_of_low_order_cost_nothing_but_the_keys_ahead(
    make: Make, adversary: str, steps: list[type[Body]]
) -> None:
    federation = make(secure_plan(rounds=2, adversary=adversary), begun=True)
    advertises_low_order(federation)
    federation.drive()
    assert [(row.attempt, row.survivors) for row in federation.rounds()] == [(1, list(FOUR))] * 2
    assert federation.wire.kinds(Stage.TRAIN, 1) == SET_UP + steps
    assert federation.wire.kinds(Stage.TRAIN, 2) == SET_UP + steps


def test_keys_ahead_of_low_order_keep_this_sum_closed_without_the_guards(
    make: Make, monkeypatch: Guard
) -> None:
    """The coordinator shows them to everybody with the request for shares; every site refuses both, and has no shares any more."""
    monkeypatch.setattr(cohorts, "check_public_key", lambda _, key: key)
    monkeypatch.setattr(SecureRounds, "answer", every_step)
    federation = make(secure_plan(rounds=2, adversary="semi-honest"), begun=True)
    advertises_low_order(federation)
    with pytest.raises(StaysClosed, match=r"east refused .* this site has no keys for this attempt"):
        federation.drive()


# Envelopes that are noise for so few that no attempt is void.


def excluded(make: Make) -> Secured:
    """West seals noise for south alone, so every attempt opens, without south."""
    federation = make(secure_plan(rounds=2), begun=True)

    def for_south(body: Body) -> Body:
        assert isinstance(body, Envelopes)
        spoilt = {SOUTH: os.urandom(len(body.sealed[SOUTH]))} if SOUTH in body.sealed else {}
        return replace(body, sealed={**body.sealed, **spoilt})

    def meddle(site: SiteName, _: Ask, reply: bytes) -> Outcome:
        said = isinstance(decode_answer(reply).body, SecureAnswer)
        return Answered(changed(reply, for_south, kind=Envelopes) if said and site == WEST else reply)

    federation.wire.meddle = meddle
    federation.drive()
    return federation


@pytest.mark.parametrize("colluding", [0, 1])
def test_accusations_count_after_an_attempt_that_was_opened(
    make: Make, monkeypatch: Guard, colluding: int
) -> None:
    """One accuser is believed where nobody is said to collude, and not where one site may."""
    called: list[int] = []
    leave_out = Roster.leave_out_accused

    def counted(self: Roster, *, more_than: int) -> None:
        called.append(more_than)
        leave_out(self, more_than=colluding)

    monkeypatch.setattr(Roster, "leave_out_accused", counted)
    rounds = excluded(make).rounds()
    assert len(called) >= len(rounds)
    assert [row.state for row in rounds] == ["committed"] * len(rounds)
    first, last = rounds[0], rounds[-1]
    assert first.survivors == [EAST, NORTH, WEST]
    assert last.survivors == ([EAST, NORTH, SOUTH] if colluding == 0 else [EAST, NORTH, WEST])
