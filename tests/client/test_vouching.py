"""A site that was started acts once others have vouched for that very start: an old copy, a lost journal and a second agent under one key do not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from client.bootstrap import open_participant
from client.participant import Participant
from protos.frames import Body, Refusal, RefusalCode, SecureAnswer, SecureRequest, WitnessAnswer
from protos.secure_codec import decode_answer, encode_secure_request
from protos.vouching import SignedStart, SignedVoucher
from strategies.ids import SiteName
from strategies.secagg.messages import AdvertiseRequest, Frame
from tests.client.secure_for_tests import RUN, SITES, SecureBank, Sum, secure_bank
from tests.trust_for_tests import key_of
from tests.witness_for_tests import asked

SITE, *OTHERS = SITES


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def started(bank: SecureBank, folder: Path | None = None) -> Participant:
    """A fresh process of `SITE`, for which nobody has vouched."""
    bank._end(SITE)
    return open_participant((folder or bank.folder / SITE) / "site.yaml")


def signed(bank: SecureBank, site: Participant) -> SignedStart:
    """What `site` says of its start when it is asked to witness the run."""
    size = site.witness.memory.last_head.size
    answer = asked(site, bank.log.request(RUN, bank.bare_task, grown=bank.log.grown([size]), again=True))
    assert isinstance(answer, WitnessAnswer), answer
    assert answer.start is not None
    if answer.statement is not None:
        bank.log.known[site.site] = answer
    return answer.start


def vouchers(bank: SecureBank, start: SignedStart, by: Sequence[SiteName] = OTHERS) -> list[SignedVoucher]:
    """What other sites sign for a start."""
    request = replace(bank.log.request(RUN, bank.bare_task), starts=(start,))
    found = []
    for each in by:
        answer = asked(bank.participant(each), request)
        assert isinstance(answer, WitnessAnswer)
        found += answer.vouchers
    return found


def told(bank: SecureBank, site: Participant, said: Sequence[SignedVoucher]) -> Body:
    """What `site` says to vouchers."""
    return asked(site, replace(bank.log.request(RUN, bank.bare_task), vouchers=tuple(said)))


def act(bank: SecureBank, site: Participant) -> Body:
    """What `site` says when it is asked for keys under the run's documents, with everybody's statements."""
    bundle = bank.log.bundle(bank.log.known).canonical
    request = SecureRequest(
        frames=(Frame(Sum(bank).attempt, AdvertiseRequest()),), task=replace(bank.bare_task, witness=bundle)
    )
    return decode_answer(site.answer(encode_secure_request(request))).body


def away(body: Body) -> Refusal:
    assert isinstance(body, Refusal), body
    assert body.code is RefusalCode.AWAY
    return body


def set_back(body: Body) -> str:
    assert isinstance(body, Refusal), body
    assert body.code is RefusalCode.SIGNATURE
    assert "was set back to an older copy, or this site runs twice" in body.reason
    assert "covenant-agent reenrol" in body.reason
    return body.reason


def witnessed(bank: SecureBank) -> None:
    """All sites witness the run, and know of each other."""
    for _ in range(2):
        bank.log.witness(RUN, bank.bare_task, {s: (lambda s=s: bank.participant(s)) for s in SITES})  # type: ignore[misc]


def kept_back(bank: SecureBank, folder: Path) -> Path:
    """A copy of the site's folder as it is now, as a backup or a snapshot has it."""
    bank._end(SITE)
    copy = folder / "copy"
    shutil.copytree(bank.folder / SITE, copy)
    shutil.copy(bank.folder / "root.json", folder / "root.json")
    return copy


def test_nothing_is_done_before_others_have_vouched_and_everything_after(bank: SecureBank) -> None:
    witnessed(bank)
    with closing(started(bank)) as site:
        start = signed(bank, site)
        refused = away(act(bank, site))
        assert SignedStart.from_canonical(refused.evidence) == start
        assert isinstance(told(bank, site, vouchers(bank, start)), WitnessAnswer)
        assert isinstance(act(bank, site), SecureAnswer)


def test_one_voucher_too_few_is_too_few(bank: SecureBank) -> None:
    witnessed(bank)
    with closing(started(bank)) as site:
        start = signed(bank, site)
        needed = bank.plan.witnesses - 1
        answer = told(bank, site, vouchers(bank, start, OTHERS[: needed - 1]))
        assert isinstance(answer, WitnessAnswer)
        assert answer.start == start
        away(act(bank, site))


def test_a_coordinator_that_shows_old_vouchers_again_has_shown_nothing(bank: SecureBank) -> None:
    """They are for the nonce of another start."""
    witnessed(bank)
    with closing(started(bank)) as site:
        old = vouchers(bank, signed(bank, site))
        told(bank, site, old)
        assert isinstance(act(bank, site), SecureAnswer)
    with closing(started(bank)) as again:
        signed(bank, again)
        told(bank, again, old)
        away(act(bank, again))


def test_a_coordinator_that_suppresses_vouchers_or_makes_them_gets_nothing(bank: SecureBank) -> None:
    witnessed(bank)
    with closing(started(bank)) as site:
        start = signed(bank, site)
        good = vouchers(bank, start)
        forged = [SignedVoucher.sign(each.voucher, key_of("coordinator")) for each in good]
        told(bank, site, forged)
        told(bank, site, [good[0]] * 5)  # one site's word counts once
        away(act(bank, site))


def test_an_older_copy_is_behind_what_its_peers_have_seen(bank: SecureBank, tmp_path: Path) -> None:
    witnessed(bank)
    copy = kept_back(bank, tmp_path)
    witnessed(bank)  # the site goes on, and others see it
    request = bank.log.request(RUN, bank.bare_task)
    del bank.log.known[SITE]  # the coordinator shows the site nothing of what it has signed
    with closing(started(bank, copy)) as site:
        start = site.witness.vouching.start()
        reason = set_back(told(bank, site, vouchers(bank, start)))
        assert "has seen this site's journal at entry" in reason
    assert request.statements


def test_who_was_found_behind_stays_so_however_many_vouch(bank: SecureBank, tmp_path: Path) -> None:
    """A coordinator shows the words of those who know nothing first, or again."""
    witnessed(bank)
    copy = kept_back(bank, tmp_path)
    witnessed(bank)
    del bank.log.known[SITE]
    with closing(started(bank, copy)) as site:
        start = site.witness.vouching.start()
        knowing = vouchers(bank, start)
        nothing = [
            SignedVoucher.sign(
                each.voucher.model_copy(update={"statement": None, "start": None, "met": ()}),
                bank.participant(each.voucher.by).identity,
            )
            for each in knowing[1:]
        ]
        set_back(told(bank, site, [*nothing, knowing[0]]))
        set_back(told(bank, site, nothing))
        request = bank.log.request(
            RUN, bank.bare_task, grown=bank.log.grown([site.witness.memory.last_head.size])
        )
        set_back(asked(site, request))
        set_back(act(bank, site))


def test_what_a_site_did_in_the_middle_of_a_run_is_known_to_who_was_in_the_sum(
    bank: SecureBank, tmp_path: Path
) -> None:
    """Its statements are from the beginning of the run, so they say nothing of a copy from after that."""
    for each in SITES:
        bank.start(each)
    asked_for = Sum(bank)
    ready = asked_for.set_up()
    bank._end(SITE)
    copy = kept_back(bank, tmp_path)
    bank.start(SITE)
    again = Sum(bank, attempt_number=2)
    again.unmask(again.confirm(again.mask(again.set_up())))
    assert ready
    with closing(started(bank, copy)) as site:
        reason = set_back(told(bank, site, vouchers(bank, site.witness.vouching.start())))
        assert "was in a sum with this site in round 0" in reason


def test_of_two_agents_under_one_key_the_second_does_not_act(bank: SecureBank, tmp_path: Path) -> None:
    witnessed(bank)
    copy = kept_back(bank, tmp_path)
    with closing(started(bank)) as first, closing(started(bank, copy)) as second:
        told(bank, first, vouchers(bank, first.witness.vouching.start()))
        set_back(told(bank, second, vouchers(bank, second.witness.vouching.start())))


def test_nobody_can_make_up_a_place_of_another_sites_journal(bank: SecureBank) -> None:
    """A voucher has what the site itself has signed, or says nothing of its journal."""
    witnessed(bank)
    with closing(started(bank)) as site:
        start = signed(bank, site)
        good = vouchers(bank, start)
        liar = good[0].voucher
        elsewhere = bank.log.known[OTHERS[1]].statement
        made_up = liar.model_copy(update={"statement": elsewhere})
        identity = bank.participant(OTHERS[0]).identity
        lie = SignedVoucher.sign(made_up, identity)
        assert isinstance(told(bank, site, [lie, *good[1:]]), WitnessAnswer)
        assert isinstance(act(bank, site), SecureAnswer)


def starts_of(bank: SecureBank, sites: Sequence[SiteName]) -> list[SignedStart]:
    """The starts of fresh processes of several sites."""
    found = []
    for site in sites:
        bank._end(site)
        with closing(open_participant(bank.folder / site / "site.yaml")) as fresh:
            found.append(signed(bank, fresh))
    return found


def test_a_site_that_vouches_for_many_flushes_its_journal_once(
    bank: SecureBank,
) -> None:
    """A hundred sites that start at once are vouched for a hundred times each: a flush for each of those would take minutes."""
    first, *starts = starts_of(bank, OTHERS)
    site = bank.participant(SITE)
    journal, commits = site.witness.memory.journal, []
    vouched(bank, site, first)  # this site's own start is in its journal now
    before = journal.head[0]
    journal._connection.set_trace_callback(lambda said: commits.append(said) if said == "COMMIT" else None)
    assert vouched(bank, site, *starts) == OTHERS[1:]
    assert (journal.head[0] - before, len(commits)) == (len(starts), 1)
    assert vouched(bank, site, first, *starts) == OTHERS
    assert (journal.head[0] - before, len(commits)) == (len(starts), 1)  # each is kept once
    journal._connection.set_trace_callback(None)


def vouched(bank: SecureBank, site: Participant, *starts: SignedStart) -> list[SiteName]:
    """For whom `site` vouches when it is asked about `starts`."""
    answer = asked(site, replace(bank.log.request(RUN, bank.bare_task), starts=starts))
    assert isinstance(answer, WitnessAnswer)
    return [each.voucher.site for each in answer.vouchers]


def test_of_two_starts_of_one_site_in_one_question_the_second_is_shown_the_first(bank: SecureBank) -> None:
    first, second = (starts_of(bank, OTHERS[:1])[0] for _ in range(2))
    assert first != second
    answer = asked(
        bank.participant(SITE), replace(bank.log.request(RUN, bank.bare_task), starts=(first, second))
    )
    assert isinstance(answer, WitnessAnswer)
    assert [each.voucher.start for each in answer.vouchers] == [None, first]
