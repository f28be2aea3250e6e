"""One sum of a round is opened: two over the same rows would show their difference. Every attack is named, and is shown to work with its
guard off.
"""

from __future__ import annotations

import numpy as np
import pytest

from client.journal.answers import Answers
from client.secure import rounds as secure_rounds
from protos import plan_coherence
from protos.frames import RefusalCode, Stage
from protos.plan import Plan
from strategies.ids import SiteName, site_name
from strategies.secagg import server as central
from strategies.secagg.payloads import Integers
from tests.client.rounds_for_tests import Guard, off
from tests.client.secure_for_tests import OTHERS, VICTIM, SecureBank, Sum, begun, secure_bank, secure_plan


@pytest.mark.parametrize("next_step", ["mask", "confirm", "unmask"])
def test_a_second_sum_without_one_site_after_the_first_was_opened(bank: SecureBank, next_step: str) -> None:
    everybody, fewer = Sum(bank), Sum(bank, attempt_number=2, roster=OTHERS)
    first, second = everybody.confirmed(), fewer.set_up()
    requests = {site: fewer.mask_request(second, site) for site in OTHERS}
    if next_step != "mask":
        confirming = fewer.mask(second)
        requests = dict.fromkeys(OTHERS, fewer.request(confirming.request))
    if next_step == "unmask":
        requests = dict.fromkeys(OTHERS, fewer.request(fewer.confirm(confirming).request))
    everybody.unmask(first)
    for site in OTHERS:
        words = "has given its shares for attempt 1 at the prepare stage of round 0; a second sum"
        bank.refuses(site, requests[site], words)
        bank.crash(site)
        bank.refuses(site, requests[site], words)


def test_a_second_sum_without_one_site_shows_its_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, Answers, "_require_unopened")
    everybody, fewer = Sum(bank), Sum(bank, attempt_number=2, roster=OTHERS)
    shown = everybody.opened() - fewer.opened()
    assert np.array_equal(shown, everybody.plain(VICTIM))


@pytest.mark.parametrize(
    ("stage", "number"),
    [(Stage.PREPARE, 1), (Stage.TRAIN, 0), (Stage.TRAIN, 5), (Stage.EVALUATE, 0), (Stage.EVALUATE, 5)],
)
def test_a_second_sum_in_a_round_that_the_plan_does_not_have(
    standing: SecureBank, stage: Stage, number: int
) -> None:
    asked = Sum(standing, stage, number, told=begun(standing))
    standing.refuses(
        VICTIM,
        asked.mask_request(asked.set_up(), VICTIM),
        f"the plan has no {stage.name.lower()} stage in round {number}",
    )


def test_a_second_sum_in_a_round_that_the_plan_does_not_have_shows_an_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, secure_rounds, "check_statement", lambda *_, **__: None)
    everybody, fewer = Sum(bank), Sum(bank, number=1, roster=OTHERS)
    assert np.array_equal(everybody.opened() - fewer.opened(), everybody.plain(VICTIM))


# Two sums over sites of which only the victim is in both: none of them has given its shares for the other.

ONE = tuple(map(site_name, ("ann", "ben", "cal", "west")))
OTHER = tuple(map(site_name, ("dee", "eve", "fay", "west")))


def plan_of_seven(minimum: int) -> Plan:
    plan = secure_plan()
    invite = tuple(sorted({*ONE, *OTHER}))
    return plan.model_copy(
        update={"sites": plan.sites.model_copy(update={"invite": invite, "minimum": minimum})}
    )


def opened_without_the_victim(asked: Sum, step: central.Unmasking) -> Integers:
    """The three other survivors give their shares, which are enough."""
    for site in asked.roster:
        if site != VICTIM:
            step.receive(asked.bank.step(site, asked.request(step.request)))  # type: ignore[arg-type]
    return step.open().total


def test_two_sums_of_one_round_that_share_the_victim_alone() -> None:
    """A plan that lets so few of seven sites make a sum is refused by the sites that read it."""
    with secure_bank(plan_of_seven(3)) as bank:
        refusal = bank.refusal(VICTIM, Sum(bank, roster=ONE).advertise_request())
        assert refusal.code is RefusalCode.PROTOCOL
        assert "could open two sums of one round over different sites" in refusal.reason
    with secure_bank(plan_of_seven(5)) as bank:
        five: tuple[SiteName, ...] = bank.plan.sites.invite[:5]
        assert np.array_equal(Sum(bank, roster=five).opened(), sum(map(Sum(bank, roster=five).plain, five)))


def test_two_sums_of_one_round_that_share_the_victim_alone_are_opened_without_the_guard(
    monkeypatch: Guard,
) -> None:
    """The victim has given its shares for neither, and is in both."""
    monkeypatch.setattr(plan_coherence, "sharing_an_honest_site", lambda *_: 0)
    monkeypatch.setattr("client.admission.policy.sharing_an_honest_site", lambda *_: 0)
    with secure_bank(plan_of_seven(3)) as bank:
        sums = [Sum(bank, attempt_number=n, roster=roster) for n, roster in ((1, ONE), (2, OTHER))]
        for asked, step in [(asked, asked.confirmed()) for asked in sums]:
            total = opened_without_the_victim(asked, step)
            assert np.array_equal(total, sum(asked.plain(site) for site in asked.roster))
