"""What a site is told is what it accepted, among peers that it recognises, and nothing leaves in the clear.

Every attack is named, and is shown to work with its guard off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client import plain
from client.admission import policy
from client.secure import rounds as secure_rounds
from protos.codec import decode_reply, encode_request
from protos.frames import (
    Body,
    Moments,
    Refusal,
    RefusalCode,
    Request,
    ScoreCounts,
    SecureRequest,
    Stage,
    Update,
)
from protos.plan_aggregation import PlainAggregation, SecureAggregation
from strategies.encoding import digest_of
from strategies.ids import RunId, SiteName, site_name
from strategies.secagg import client as site_side
from strategies.secagg.messages import AdvertiseRequest, Frame, MaskedInput, UnmaskRequest
from tests.client.rounds_for_tests import Guard, fresh, off
from tests.client.secure_for_tests import (
    OTHERS,
    SITES,
    VICTIM,
    SecureBank,
    Sum,
    begun,
    secure_bank,
    secure_plan,
)

# Nothing leaves in the clear.


def plain_request(bank: SecureBank, stage: Stage) -> Request:
    asked = Sum(bank) if stage is Stage.PREPARE else Sum(bank, stage, 1, told=begun(bank))
    told = asked.told
    return Request(statement=asked.statement, task=bank.task, model=told.model, scaling=told.scaling)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_plain_request_under_a_secure_plan(standing: SecureBank, stage: Stage) -> None:
    west = standing.participant(VICTIM)
    body = decode_reply(west.answer(encode_request(plain_request(standing, stage)))).body
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.PROTOCOL
    assert "would show the centre what this site computes" in body.reason


@pytest.mark.parametrize(
    ("stage", "shown"), [(Stage.PREPARE, Moments), (Stage.TRAIN, Update), (Stage.EVALUATE, ScoreCounts)]
)
def test_a_plain_request_under_a_secure_plan_shows_everything_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, stage: Stage, shown: type
) -> None:
    off(monkeypatch, plain, "_require_plain")
    reply = bank.participant(VICTIM).answer(encode_request(plain_request(bank, stage)))
    assert isinstance(decode_reply(reply).body, shown)


def test_a_secure_request_under_a_plain_plan_is_refused(bank: SecureBank) -> None:
    request = SecureRequest(frames=(Frame(Sum(bank).attempt, AdvertiseRequest()),), task=bank.bare_task)
    plain = bank.plan.model_copy(update={"aggregation": PlainAggregation(mode="plain")})
    other = replace(request, task=bank.witnessed(replace(bank.bare_task, plan=plain.canonical)))
    bank.refuses(VICTIM, other, "the plan is not one for secure aggregation")


# Who is not recognised colludes.

_PEERS = "peers: {recognise: [east, north, south], at_least: 2}\n"


def test_a_site_that_recognises_nobody_takes_no_part(bank: SecureBank) -> None:
    bank.edit(VICTIM, _PEERS, "")
    refusal = bank.refusal(VICTIM, Sum(bank).advertise_request())
    assert refusal.code is RefusalCode.POLICY
    assert "`peers` is not configured at this site" in refusal.reason


def test_a_site_that_wants_more_peers_than_are_there_takes_no_part(bank: SecureBank) -> None:
    bank.edit(VICTIM, "at_least: 2", "at_least: 3")
    asked = Sum(bank, roster=SITES[1:])
    words = "recognises 2 peers; its configuration asks for 3"
    bank.refuses(VICTIM, asked.mask_request(asked.set_up(), VICTIM), words)


@pytest.mark.parametrize("recognised", ["[left, right]", "[east, north]"])
def test_ghost_sites_that_fill_the_cohort(bank: SecureBank, recognised: str) -> None:
    bank.edit(VICTIM, "recognise: [east, north, south]", f"recognise: {recognised}")
    refusal = bank.refusal(VICTIM, Sum(bank).advertise_request())
    assert refusal.code is RefusalCode.POLICY
    assert "are not among the `peers` that this site recognises, and count as colluding" in refusal.reason


@pytest.mark.parametrize("recognised", ["[left, right]", "[east, north]"])
def test_ghost_sites_that_fill_the_cohort_are_seen_in_its_keys_too(
    bank: SecureBank, monkeypatch: Guard, recognised: str
) -> None:
    """The second line of defence: a plan may invite many, and a cohort be of few."""
    bank.edit(VICTIM, "recognise: [east, north, south]", f"recognise: {recognised}")
    off(monkeypatch, policy, "sharing_an_honest_site", lambda *_: 0)
    asked = Sum(bank)
    words = "of 4 sites are not among the peers that this site recognises"
    bank.refuses(VICTIM, asked.request(asked.keys().request), words)


def test_ghost_sites_that_fill_the_cohort_learn_an_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """All other sites are the coordinator's own: they give it their shares, and it knows what they have added."""
    bank.edit(VICTIM, "recognise: [east, north, south]", "recognise: [left, right]")
    off(monkeypatch, policy, "sharing_an_honest_site", lambda *_: 0)
    off(monkeypatch, site_side, "_check_strangers")
    off(monkeypatch, site_side, "_check_survivors")
    asked = Sum(bank)
    step = asked.confirmed()
    for site in OTHERS:
        step.receive(bank.step(site, asked.request(step.request)))
    theirs = sum(asked.plain(site) for site in OTHERS)
    assert np.array_equal(step.open().total - theirs, asked.plain(VICTIM))


# A plan that protects against less than the site's policy asks for. Approvals do not help: a site's policy is its own.

WEAKER = {
    "semi-honest": (
        SecureAggregation(adversary="semi-honest"),
        "`policy.accept.aggregation.adversaries` at this site admits active; the plan's secure aggregation is semi-honest",
    ),
    "nobody colludes": (
        SecureAggregation(colluding=0),
        "`policy.accept.aggregation.colluding_at_least` at this site is 1; the plan bears 0 colluding sites",
    ),
}
_SAYS = ", adversaries: [active, semi-honest]"


@pytest.mark.parametrize("weaker", list(WEAKER))
def test_a_plan_that_protects_less_than_the_policy_asks_for(weaker: str) -> None:
    aggregation, words = WEAKER[weaker]
    with secure_bank(secure_plan().model_copy(update={"aggregation": aggregation})) as bank:
        bank.edit(VICTIM, _SAYS, "")  # what a site says that admits `secure` and nothing of how
        refusal = bank.refusal(VICTIM, Sum(bank).advertise_request())
        assert (refusal.code, refusal.reason) == (RefusalCode.POLICY, words)


def partitions(bank: SecureBank) -> dict[SiteName, Body]:
    """Each site is asked for shares for survivors of its own: all but its neighbour in the alphabet. Nobody has confirmed anything."""
    asked = Sum(bank)
    asked.mask(asked.set_up())
    given = {}
    for site, lost in zip(SITES, (*SITES[1:], SITES[0]), strict=True):
        survivors = tuple(each for each in SITES if each != lost)
        said = asked.statement.digest
        ask = UnmaskRequest(statement=said, survivors=survivors, dropped=(lost,), confirmations={})
        given[site] = bank.said(site, asked.request(ask)).body
    return given


def test_partitions_that_contradict_each_other() -> None:
    with secure_bank() as bank:
        given = partitions(bank).values()
        assert [type(each) for each in given] == [Refusal] * 4


def test_partitions_that_contradict_each_other_are_answered_under_a_policy_that_admits_weaker_plans() -> None:
    """The control: so the coordinator has shares of both kinds of every site's secrets."""
    weaker = SecureAggregation(adversary="semi-honest", colluding=0)
    with secure_bank(secure_plan().model_copy(update={"aggregation": weaker})) as bank:
        for site in SITES:
            bank.edit(site, _SAYS, f"{_SAYS}, colluding_at_least: 0")
        given = [answer.frames[0].body for answer in partitions(bank).values()]  # type: ignore[union-attr]
    assert {site for shares in given for site in shares.own_seeds} == set(SITES)  # type: ignore[union-attr]
    assert {site for shares in given for site in shares.mask_keys} == set(SITES)  # type: ignore[union-attr]


# What a site is told is what it accepted.


TOLD_OTHERWISE = [
    pytest.param(change, words, id=next(iter(change)))
    for change, words in (
        ({"plan_digest": digest_of("another")}, "of another attempt than the keys"),
        ({"run": RunId("run-00000000000000ff")}, "of another attempt than the keys"),
        ({"stage": Stage.EVALUATE}, "of another attempt than the keys"),
        ({"round": 1}, "of another attempt than the keys"),
        ({"attempt": 10_000}, "of another attempt than the keys"),
        ({"roster": SITES[1:]}, "names another roster than the request"),
        ({"contract_digest": digest_of("another")}, "names other documents than this site accepted"),
        ({"members_digest": digest_of("another")}, "names other documents than this site accepted"),
        ({"component": "tabular/2"}, "names component tabular/2, the plan another"),
    )
]


def told_otherwise(asked: Sum, change: dict[str, object]) -> SecureRequest:
    """A request to mask whose masks are bound to the very statement that it carries."""
    return asked.mask_request(asked.set_up(), VICTIM, replace(asked.statement, **change))


@pytest.mark.parametrize(("change", "words"), TOLD_OTHERWISE)
def test_a_statement_of_something_that_the_site_has_not_accepted(
    standing: SecureBank, change: dict[str, object], words: str
) -> None:
    standing.refuses(VICTIM, told_otherwise(fresh(standing), change), words)


@pytest.mark.parametrize(
    "change",
    [
        {"contract_digest": digest_of("another")},
        {"members_digest": digest_of("another")},
        {"attempt": 10_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_statement_of_something_that_the_site_has_not_accepted_gets_its_input_without_the_guard(
    standing: SecureBank, monkeypatch: Guard, change: dict[str, object]
) -> None:
    off(
        monkeypatch,
        secure_rounds.SecureRounds,
        "_statement",
        lambda _self, _attempt, _ask, asked, _run: asked.statement,
    )
    sent = standing.step(VICTIM, told_otherwise(fresh(standing), change))
    assert isinstance(sent, MaskedInput)


@pytest.mark.parametrize(
    ("roster", "words"),
    [
        ((*SITES, site_name("zenith")), "the roster names zenith, which the plan does not invite"),
        (OTHERS, "the roster does not name this site"),
    ],
)
def test_a_roster_that_the_site_has_not_accepted(
    standing: SecureBank, roster: tuple[str, ...], words: str
) -> None:
    asked = fresh(standing)
    other = replace(asked, roster=roster)
    ask = replace(asked.set_up().request_for(VICTIM), statement=other.statement.digest, roster=roster)
    standing.refuses(VICTIM, replace(asked.request(ask), statement=other.statement), words)


def test_a_statement_that_the_masks_are_not_bound_to(standing: SecureBank) -> None:
    words = "the statement is not the one that the inputs are to be masked for"
    for said in (None, replace(fresh(standing).statement, roster=SITES[1:])):
        asked = fresh(standing)
        request = asked.mask_request(asked.set_up(), VICTIM)
        standing.refuses(VICTIM, replace(request, statement=said), words)


def test_keys_of_an_attempt_under_another_plan_than_the_documents(standing: SecureBank) -> None:
    asked = fresh(standing)
    elsewhere = Frame(replace(asked.attempt, plan=digest_of("another")), AdvertiseRequest())
    request = replace(asked.advertise_request(), frames=(elsewhere,))
    standing.refuses(VICTIM, request, "the attempt names another plan than this site accepted")
