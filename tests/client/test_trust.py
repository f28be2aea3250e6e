"""What a site believes about its federation: never less than it has seen, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client.admission.trust import Trust
from client.journal.entries import JournalBroken, Owner
from client.journal.file import Journal
from protos.codec import decode_reply, encode_request
from protos.frames import Moments, Refusal, RefusalCode, Stage, Update
from protos.keys import create_node_key
from protos.membership import Member, MemberList, Membership, Officer, Role
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.root import SignedRoot
from strategies.errors import Refused
from strategies.features import Scaling
from strategies.ids import RunId, SiteName
from strategies.secagg.messages import UnmaskRequest
from tests.bank_for_tests import RUN, Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, plan
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, Sum, secure_bank, secure_plan
from tests.trust_for_tests import FAR, Officers, key_of, officers, root_of, signed_by

OTHER_RUN = RunId("run-00000000000000aa")
NOW = datetime(2026, 11, 23, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OWNER = Owner(federation="demo", root="root", site="west", identity="key")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MemberList:
    """Version 1: one site, and an officer who may decide."""
    node_key = create_node_key(tmp_path_factory.mktemp("keys") / "node.key")
    site = Member(site=SiteName("west"), identity_key=key_of("west").public, node_key=node_key)
    privacy = Officer(
        name="privacy", roles=(Role.PRIVACY_OFFICER,), key=key_of("privacy").public, expires=FAR
    )
    return MemberList(name="demo", version=1, members=(site,), officers=(privacy,))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    found = Opened(tmp_path / "journal.db")
    yield found
    found.journal.close()


class Opened:
    """A site's trust over its journal, which can be closed and opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW
        self.journal = Journal.open(path, OWNER)
        self.trust = Trust(officers().pinned, self.journal, lambda: self.now)

    def restart(self, pinned: SignedRoot | None = None) -> Trust:
        self.journal.close()
        self.journal = Journal.open(self.path, OWNER)
        self.trust = Trust(pinned or officers().pinned, self.journal, lambda: self.now)
        return self.trust

    def accept(self, membership: Membership, *, begun: bool = False) -> MemberList:
        return self.trust.accept(membership.canonical, begun=begun).members

    def refuses(self, membership: Membership, words: str, *, begun: bool = False) -> None:
        """Refused now, and after a restart."""
        for _ in range(2):
            with pytest.raises(Refused, match=words):
                self.accept(membership, begun=begun)
            self.restart()

    @property
    def recorded(self) -> list[tuple[int, int]]:
        return [(each.body["root"], each.body["members"]) for each in self.journal.entries("trusted")]


def test_what_is_accepted_is_recorded_once(opened: Opened, first: MemberList) -> None:
    signed = officers().sign(first)
    assert [opened.accept(signed) for _ in range(3)] == [first] * 3
    opened.restart()
    assert opened.accept(signed) == first
    assert opened.recorded == [(1, 1)]


def test_nothing_is_accepted_that_could_not_be_recorded(
    opened: Opened, first: MemberList, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise JournalBroken("no")

    monkeypatch.setattr(opened.journal, "append", fail)
    for _ in range(2):
        with pytest.raises(JournalBroken):
            opened.accept(officers().sign(first))


def test_an_older_list_is_refused_also_for_a_run_that_has_begun(opened: Opened, first: MemberList) -> None:
    newer = officers().sign(first.next())
    opened.accept(officers().sign(first))
    opened.accept(newer)
    for begun in (False, True):
        opened.refuses(
            officers().sign(first),
            "member list demo@2 has been accepted, so an older one such as demo@1 counts no more",
            begun=begun,
        )
    assert opened.accept(newer).version == 2


def test_an_officer_who_was_taken_off_does_not_come_back(opened: Opened, first: MemberList) -> None:
    opened.accept(officers().sign(first))
    without = opened.accept(officers().sign(first.without(["privacy"], None)))
    with pytest.raises(Refused, match="privacy is no officer on member list demo@2"):
        without.officer("privacy")
    opened.refuses(officers().sign(first), "whoever was taken off would be back")


def test_a_draft_of_a_newer_list_revokes_nobody(opened: Opened, first: MemberList) -> None:
    opened.accept(officers().sign(first))
    opened.refuses(officers().sign(first.next(), by=["ash"]), "has 1 of the 2 signatures")
    assert opened.accept(officers().sign(first)) == first


def test_another_list_of_the_same_version_is_refused(opened: Opened, first: MemberList) -> None:
    opened.accept(officers().sign(first))
    fork = MemberList(name="demo", version=1, members=first.members)
    opened.refuses(officers().sign(fork), "another member list demo@1.*signed two of one version")


def test_other_signatures_under_the_same_list_change_nothing(opened: Opened, first: MemberList) -> None:
    for names in (("ash", "birch"), ("birch", "cedar"), ("ash", "birch", "cedar")):
        assert opened.accept(officers().sign(first, by=names)) == first
    assert len(opened.recorded) == 1


def test_a_newer_list_under_an_older_root_is_refused(opened: Opened, first: MemberList) -> None:
    """The officers of version 1, one of whose keys may be stolen, decide nothing any more."""
    later = officers().rotated("birch", "cedar", "elm")
    opened.accept(later.sign(first))
    opened.refuses(
        officers().sign(first.next()), "is signed under root version 1, and version 2 has been accepted"
    )
    assert opened.accept(later.sign(first.next())).version == 2


def test_the_newest_list_is_accepted_under_an_older_root_too(opened: Opened, first: MemberList) -> None:
    """A run carries the roots that there were when it was launched."""
    opened.accept(officers().rotated("birch", "cedar", "elm").sign(first))
    assert opened.accept(officers().sign(first)) == first
    assert opened.recorded == [(2, 1)]


def test_a_newer_root_over_the_same_list_is_remembered(opened: Opened, first: MemberList) -> None:
    opened.accept(officers().sign(first))
    opened.accept(officers().rotated("birch", "cedar", "elm").sign(first))
    assert opened.recorded == [(1, 1), (2, 1)]


def test_another_root_of_the_same_version_is_refused(opened: Opened, first: MemberList) -> None:
    opened.accept(officers().rotated("birch", "cedar", "elm").sign(first))
    fork = officers().rotated("ash", "birch", "fir")
    opened.refuses(fork.sign(first.next()), "another root version 2 of demo")


@pytest.mark.parametrize("links", [1, 2, 5])
def test_who_was_taken_out_of_the_root_cannot_sign_versions_around_it(
    opened: Opened, first: MemberList, links: int
) -> None:
    """Ash and birch's keys were stolen, and root 2 has replaced them; the thief signs roots 2 and later, and a list under the last."""
    later = officers().rotated("dogwood", "elm", "fir")
    opened.accept(officers().sign(first))
    opened.accept(later.sign(first.next()))
    stolen = officers()
    for version in range(2, links + 2):
        root = root_of("ash", "birch", "thief", version=version)
        stolen = Officers((*stolen.roots, signed_by(root, "ash", "birch", before=stolen.newest)))
    theirs = stolen.sign(first.next().next(), by=["ash", "birch"])
    opened.refuses(theirs, "another root version 2 of demo.*signed a second one")
    same = stolen.sign(first.next(), by=["ash", "birch"])
    opened.refuses(same, "another root version 2 of demo", begun=True)
    assert opened.accept(later.sign(first.next().next())).version == 3
    assert opened.recorded == [(1, 1), (2, 2), (2, 3)]


def test_under_an_expired_root_no_run_begins_and_one_that_has_goes_on(
    opened: Opened, first: MemberList
) -> None:
    people = Officers.of("ash", "birch", expires=datetime(2026, 12, 31, tzinfo=UTC))
    opened.restart(people.pinned)
    signed = people.sign(first)
    opened.accept(signed)
    opened.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert opened.accept(signed, begun=True) == first
    with pytest.raises(Refused, match="good until 2026-12-31: nothing new is accepted"):
        opened.accept(signed)
    with pytest.raises(Refused, match="good until 2026-12-31"):
        opened.accept(people.sign(first.next()), begun=True)  # whoever has an old key now
    renewed = people.rotated("ash", "birch")
    assert opened.accept(renewed.sign(first)) == first


def test_a_root_of_others_leads_nowhere(opened: Opened, first: MemberList) -> None:
    usurped = signed_by(root_of("impostor-1", "impostor-2", version=2), "impostor-1", "impostor-2")
    opened.refuses(Officers((officers().pinned, usurped)).sign(first), "has 0 of the 2 signatures")
    assert opened.recorded == []


# --- in rounds


def named(version: int, **training: object) -> Plan:
    base = plan(**training)
    return base.model_copy(update={"sites": base.sites.model_copy(update={"members": f"demo@{version}"})})


def body_of(
    bank: Bank,
    chosen: Plan,
    members: Membership,
    stage: Stage = Stage.PREPARE,
    number: int = 0,
    run: RunId = RUN,
):
    model = np.zeros(chosen.dense_model(CONTRACT.feature_spec(chosen.features).width).size)
    request = bank.request(
        chosen,
        stage,
        members=members,
        number=number,
        run=run,
        model=None if stage is Stage.PREPARE else model,
        scaling=None if stage is Stage.PREPARE else Scaling(mean=(0.5, 0.5), std=(0.3, 0.3)),
    )
    return decode_reply(bank._running["west"].answer(encode_request(request))).body


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_run_under_an_older_list_is_over_once_a_newer_one_was_seen(bank: Bank, restarted: bool) -> None:
    old, new = bank.members, bank.officers.sign(bank.members.signed.list.next())
    bank.participant("west")
    assert isinstance(body_of(bank, named(1), old, Stage.TRAIN, 1), Update)
    assert isinstance(body_of(bank, named(2, rounds=4), new, run=OTHER_RUN), Moments)
    if restarted:
        bank.participant("west")
    refusal = body_of(bank, named(1), old, Stage.TRAIN, 2)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.SIGNATURE
    assert "an older one such as demo@1 counts no more" in refusal.reason


def test_what_was_answered_under_an_older_list_is_said_again(bank: Bank) -> None:
    bank.participant("west")
    first = body_of(bank, named(1), bank.members)
    newer = bank.officers.sign(bank.members.signed.list.next())
    body_of(bank, named(2, rounds=4), newer, Stage.TRAIN, 1, run=OTHER_RUN)
    again = body_of(bank, named(1), bank.members)
    assert isinstance(again, Moments)
    assert np.array_equal(again.vector, first.vector)


def test_a_list_is_remembered_also_if_its_plan_is_refused(bank: Bank) -> None:
    bank.edit("west", "purpose: credit-risk", "purpose: another")
    bank.participant("west")
    refusal = body_of(bank, named(2), bank.officers.sign(bank.members.signed.list.next()))
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.POLICY
    bank.edit("west", "purpose: another", "purpose: credit-risk")
    bank.participant("west")
    refusal = body_of(bank, named(1), bank.members)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.SIGNATURE


def test_a_site_that_was_taken_off_takes_part_no_more(bank: Bank) -> None:
    bank.participant("west")
    without = bank.members.signed.list.without(["west"], None)
    for chosen, members in ((named(2), bank.officers.sign(without)), (named(1), bank.members)):
        refusal = body_of(bank, chosen, members)
        assert isinstance(refusal, Refusal)
        assert refusal.code is RefusalCode.SIGNATURE


@pytest.mark.parametrize("expires", [LONG_AGO, FAR])
def test_a_run_begins_only_under_a_root_that_is_current(bank: Bank, expires: datetime) -> None:
    """By the agent's own clock."""
    people = officers().rotated("ash", "birch", expires=expires)
    bank.participant("west")
    body = body_of(bank, named(1), people.sign(bank.members.signed.list))
    assert isinstance(body, Moments if expires is FAR else Refusal)


# --- under secure aggregation


@pytest.fixture
def secured() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def show_newer(secured: SecureBank) -> None:
    """The victim sees the next list, with another run."""
    newer = officers().sign(secured.members.signed.list.next())
    sites = secured.plan.sites.model_copy(update={"members": "demo@2"})
    plan = secured.plan.model_copy(update={"sites": sites})
    other = SecureBank(secured.folder, newer, plan, secured._running, log=secured.log)
    asked = Sum(other, run=RunId("run-eeeeeeeeeeeeeeee"))
    other.step(VICTIM, asked.advertise_request())


def test_no_keys_are_made_and_nothing_is_masked_under_an_older_list(secured: SecureBank) -> None:
    asked = Sum(secured)
    step = asked.set_up()
    show_newer(secured)
    for request in (asked.mask_request(step, VICTIM), Sum(secured, attempt_number=2).advertise_request()):
        refusal = secured.refusal(VICTIM, request)
        assert refusal.code is RefusalCode.SIGNATURE
        assert "an older one such as demo@1 counts no more" in refusal.reason
    assert secured.recorded(VICTIM) == 0


def test_nothing_is_confirmed_under_an_older_list(secured: SecureBank) -> None:
    """What was masked stays masked: whoever was taken off the list meanwhile is in no sum any more."""
    asked = Sum(secured)
    step = asked.mask(asked.set_up())
    show_newer(secured)
    refusal = secured.refusal(VICTIM, asked.request(step.request))
    assert refusal.code is RefusalCode.SIGNATURE
    assert "an older one such as demo@1 counts no more" in refusal.reason
    ask = UnmaskRequest(statement=asked.statement.digest, survivors=SITES, dropped=(), confirmations={})
    secured.refuses(VICTIM, asked.request(ask), "no keys for this attempt")


def test_nothing_is_opened_under_an_older_list_where_there_is_no_confirming() -> None:
    """A semi-honest site promises nothing before it is asked for its shares."""
    aggregation = SecureAggregation(adversary="semi-honest")
    with secure_bank(secure_plan().model_copy(update={"aggregation": aggregation})) as bank:
        asked = Sum(bank)
        step = asked.confirmed()
        show_newer(bank)
        refusal = bank.refusal(VICTIM, asked.request(step.request))
    assert refusal.code is RefusalCode.SIGNATURE
    assert "an older one such as demo@1 counts no more" in refusal.reason


@pytest.mark.parametrize("crashed", [False, True])
def test_what_was_promised_under_an_older_list_is_still_opened(secured: SecureBank, crashed: bool) -> None:
    """The input has left already, masked; without these shares the sum of all others is lost too."""
    asked = Sum(secured)
    step = asked.confirmed()
    show_newer(secured)
    if crashed:
        secured.crash(VICTIM)
    assert np.array_equal(asked.unmask(step), sum(asked.plain(site) for site in SITES))
