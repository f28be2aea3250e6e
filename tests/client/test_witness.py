"""A site as a witness: what it signs, and a coordinator that lies about the log in every way, each of which is refused with words and evidence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from client.admission.documents import Accepted
from client.bootstrap import open_participant
from client.participant import Participant
from client.transparency.report import report
from protos.frames import Refusal, RefusalCode, SecureRequest, Task, WitnessAnswer, WitnessRequest
from protos.keys import SigningKey
from protos.log_entries import LogEntry, What
from protos.log_proofs import Grown
from protos.membership import MemberList
from protos.release import package_version
from protos.site import load_site
from protos.witness import Evidence, SignedWitness, WitnessBundle
from strategies.encoding import sha256_hex
from strategies.ids import RunId, SiteName
from strategies.secagg import server as central
from strategies.secagg.messages import AdvertiseRequest, Frame
from tests.client.secure_for_tests import RUN, SITES, VICTIM, SecureBank, Sum, secure_bank
from tests.trust_for_tests import officers
from tests.witness_for_tests import KeptLog, asked, vouched

EAST = SITES[0]
OTHER = RunId("run-00000000000000aa")


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def sites(bank: SecureBank) -> dict[SiteName, Callable[[], Participant]]:
    return {site: lambda site=site: bank.participant(site) for site in SITES}  # type: ignore[misc]


def signed(bank: SecureBank) -> dict[SiteName, WitnessAnswer]:
    """One honest exchange."""
    found, refused = bank.log.witness(RUN, bank.bare_task, sites(bank))
    assert not refused
    return found


def refused(bank: SecureBank, request: WitnessRequest, words: str, site: SiteName = VICTIM) -> Refusal:
    """A site signs nothing, and says why for good."""
    before = bank.participant(site).witness.memory.newest
    body = asked(bank.participant(site), request)
    assert isinstance(body, Refusal), body
    assert body.code is RefusalCode.SIGNATURE
    assert words in body.reason
    assert bank.participant(site).witness.memory.newest == before
    return body


def refuses_to_act(bank: SecureBank, task: Task, words: str, site: SiteName = VICTIM) -> Refusal:
    """Nothing of the run leaves: no keys are made, and no row is read."""
    request = SecureRequest(frames=(Frame(Sum(bank).attempt, AdvertiseRequest()),), task=task)
    body = bank.refusal(site, request)
    assert body.code is RefusalCode.SIGNATURE
    assert words in body.reason
    assert bank.recorded(site) == 0
    assert not bank.participant(site)._sessions
    return body


def shown(refusal: Refusal) -> Evidence:
    return Evidence.from_canonical(refusal.evidence)


def with_witnesses(bank: SecureBank, answers: dict[SiteName, WitnessAnswer], **changes: object) -> Task:
    return replace(bank.bare_task, witness=bank.log.bundle(answers, **changes).canonical)


# --- what a site signs


def test_what_a_site_signs_is_in_its_journal_and_says_where_that_stood(bank: SecureBank) -> None:
    answer = signed(bank)[VICTIM]
    assert answer.statement is not None
    said, journal = (
        answer.statement.verify(bank.members.signed.list).said,
        bank.participant(VICTIM).answers.journal,
    )
    assert (said.run, said.plan, said.head.size) == (RUN, bank.plan.digest, bank.log.tree.size)
    assert (said.position.sequence, said.position.head) == journal.head
    bank.crash(VICTIM)
    assert bank.participant(VICTIM).witness.memory.newest == answer.statement


def test_a_site_that_was_asked_from_another_size_says_which_it_is_at(bank: SecureBank) -> None:
    signed(bank)
    bank.log.launch(OTHER, bank.bare_task)
    request = replace(bank.log.request(OTHER, bank.bare_task), grown=(), statements=())
    assert asked(bank.participant(VICTIM), request) == WitnessAnswer(3, version=package_version())
    more = replace(request, grown=bank.log.grown([3]), again=True)
    body = asked(bank.participant(VICTIM), more)
    assert isinstance(body, WitnessAnswer)
    assert body.statement is not None


def test_a_head_that_was_overtaken_on_its_way_is_no_fork(bank: SecureBank) -> None:
    early = bank.log.request(RUN, bank.bare_task)
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    assert asked(bank.participant(VICTIM), early) == WitnessAnswer(
        bank.log.tree.size, version=package_version()
    )


def test_witnesses_see_each_other_move_on(bank: SecureBank) -> None:
    signed(bank)
    again = signed(bank)
    assert {len(each.view) for each in again.values()} == {len(SITES)}
    assert len({each.statement.statement.view for each in again.values() if each.statement}) == 1
    Sum(bank).opened()  # every site has seen the statements of the others


def test_a_bundle_of_128_sites_is_small(bank: SecureBank) -> None:
    signed(bank)
    answer = signed(bank)[VICTIM]
    view = {SiteName(f"site-{n:03}"): next(iter(answer.view.values())) for n in range(128)}
    answers = {site: replace(answer, view=view) for site in view}
    assert len(bank.log.bundle(answers).canonical) < 200 * 1024


# --- a coordinator that lies about the log


LIES: dict[str, tuple[Callable[[SecureBank, WitnessRequest], WitnessRequest], str]] = {
    "the launch of another run": (
        lambda bank, r: replace(r, launch=bank.log.leaf(bank.log.launch(OTHER, bank.bare_task)[0]), note=bank.log.note(), plan=bank.log.leaf(r.plan.seq)),
        "is not the launch of run-0123456789abcdef",
    ),
    "a launch that is not in the log": (
        lambda bank, r: replace(r, launch=replace(r.launch, body=r.launch.body.replace(b"2026", b"2027"))),
        "does not lead from entry 2",
    ),
    "a wrong proof of inclusion": (
        lambda bank, r: replace(r, plan=replace(r.plan, hashes=r.plan.hashes[::-1])),
        "does not lead from entry 1",
    ),
    "the plan beyond the end": (
        lambda bank, r: replace(r, plan=replace(r.plan, seq=99)),
        "has no entry 99",
    ),
    "another entry for the plan": (
        lambda bank, r: replace(r, plan=bank.log.leaf(0)),
        "entry 0 of the log is not that of a plan",
    ),
    "a checkpoint of another key": (
        lambda bank, r: replace(r, note=bank.log.note(signer=SigningKey.generate())),
        "is not signed by demo/log",
    ),
    "a checkpoint that is none": (lambda bank, r: replace(r, note="demo/log\n3\n"), "not a signed note"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_coordinator_that_lies_about_the_launch_gets_no_signature(bank: SecureBank, lie: str) -> None:
    change, words = LIES[lie]
    refused(bank, change(bank, bank.log.request(RUN, bank.bare_task)), words)
    refuses_to_act(bank, bank.bare_task, "has not witnessed")


def test_another_plan_than_in_the_log_is_not_witnessed(bank: SecureBank) -> None:
    other = bank.plan.model_copy(update={"training": bank.plan.training.model_copy(update={"rounds": 3})})
    request = bank.log.request(RUN, bank.bare_task)
    sent = replace(request, task=replace(request.task, plan=other.canonical))
    refused(bank, sent, "the log has another plan for run-0123456789abcdef")


def test_approvals_that_are_missing_from_the_log_are_not_witnessed(bank: SecureBank) -> None:
    request = bank.log.request(RUN, bank.bare_task)
    evidence = b'{"covenant":"plan-evidence/v1","statements":[]}'
    logged = bank.log.request(OTHER, replace(bank.bare_task, evidence=evidence))
    swapped = replace(bank.log.request(RUN, bank.bare_task), plan=logged.plan, launch=request.launch)
    swapped = replace(swapped, launch=bank.log.leaf(request.launch.seq))
    assert logged.plan.seq > request.launch.seq
    refused(bank, swapped, "not that of a plan from before the launch")


def test_an_older_member_list_is_not_witnessed_under(bank: SecureBank) -> None:
    request = bank.log.request(RUN, bank.bare_task)
    newer = officers().sign(bank.members.signed.list.next())
    bank.participant(VICTIM).trust.accept(newer.canonical, begun=False)
    refused(bank, request, "an older one such as demo@1 counts no more")


def test_a_list_without_a_key_for_the_log_is_not_witnessed_under(bank: SecureBank) -> None:
    without = MemberList(**{**dict(bank.members.signed.list), "services": ()})
    bank.members = officers().sign(without)
    refused(bank, bank.log.request(RUN, bank.bare_task), "has no service for purpose log")


# --- histories that do not fit


def test_a_split_is_kept_with_both_notes_and_stops_the_site_until_a_person_has_dealt_with_it(
    bank: SecureBank,
) -> None:
    task = bank.task
    other = KeptLog()
    other.launch(RUN, bank.bare_task)
    other.entries[0] = other.entries[0].replace(b"12:00:00", b"12:00:01")
    lying = KeptLog(launches=dict(other.launches))
    for entry in other.entries:
        lying.entries.append(entry)
        lying.tree.append(entry)
    evidence = shown(
        refused(bank, lying.request(RUN, bank.bare_task), "has two different heads: it was split")
    )
    assert evidence.shows == "split"
    assert evidence.notes == (bank.log.note(), lying.note())
    assert evidence.statements[0].statement.site == VICTIM
    refuses_to_act(bank, task, "takes part in nothing until its people have dealt with it")
    bank.crash(VICTIM)
    refuses_to_act(bank, task, "takes part in nothing until its people have dealt with it")
    facts = report(load_site(bank.folder / VICTIM / "site.yaml"))
    assert [fork["notes"] for fork in facts["forks"]] == [[bank.log.note(), lying.note()]]
    assert (facts["entries"], facts["run"]) == (3, RUN)
    bank.participant(VICTIM).witness.begin_anew("the officers begin the log anew")
    bank.log.known.clear()
    _, refusals = bank.log.witness(RUN, bank.bare_task, sites(bank))
    assert not refusals


def test_two_sites_that_were_shown_different_logs_find_out(bank: SecureBank) -> None:
    """Both heads are signed by the log's key. Whoever is shown the other's statement refuses, with that as evidence."""
    honest = bank.log.request(RUN, bank.bare_task)
    lying = KeptLog()
    lying.append(_first(bank))
    lying.launch(RUN, bank.bare_task)
    theirs = asked(bank.participant(EAST), lying.request(RUN, bank.bare_task))
    assert isinstance(theirs, WitnessAnswer)
    assert theirs.statement is not None
    body = refused(
        bank, replace(honest, statements=(theirs.statement,)), "does not extend what east has witnessed"
    )
    evidence = shown(body)
    assert evidence.statements == (theirs.statement,)
    assert evidence.notes == (honest.note,)


def test_a_log_that_was_set_back_is_refused_when_the_site_is_asked_once_more(bank: SecureBank) -> None:
    early = bank.log.request(RUN, bank.bare_task)
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    newest = bank.log.note()
    body = refused(bank, replace(early, again=True), "entries were taken away")
    assert shown(body).shows == "shorter"
    assert shown(body).notes == (newest, early.note)


def test_a_wrong_proof_that_the_log_grew_is_refused(bank: SecureBank) -> None:
    signed(bank)
    request = bank.log.request(OTHER, bank.bare_task)
    wrong = Grown.of(3, [bytes(32)] * len(request.grown[0].hashes))
    body = refused(
        bank, replace(request, grown=(wrong,), statements=()), "does not extend what this site has witnessed"
    )
    assert shown(body).shows == "not extended"


# --- who else has witnessed


def test_too_few_witnesses_are_not_enough(bank: SecureBank) -> None:
    answers = signed(bank)
    few = {site: answers[site] for site in (EAST, VICTIM)}
    refuses_to_act(
        bank,
        with_witnesses(bank, few),
        "2 sites have witnessed run-0123456789abcdef in a log that this site has seen; the plan asks for 3",
    )


def test_a_site_may_ask_for_more_than_the_plan(bank: SecureBank) -> None:
    bank.edit(VICTIM, "policy:\n", "policy:\n  witnesses_at_least: 4\n")
    answers = signed(bank)
    three = {site: answers[site] for site in (*SITES[:2], VICTIM)}
    refuses_to_act(bank, with_witnesses(bank, three), "`policy.witnesses_at_least` at this site asks for 4")
    assert Sum(bank).opened() is not None


def test_a_run_that_this_site_has_not_witnessed_is_none_of_its_own(bank: SecureBank) -> None:
    others = {site: each for site, each in sites(bank).items() if site != VICTIM}
    answers, _ = bank.log.witness(RUN, bank.bare_task, others)
    refuses_to_act(bank, with_witnesses(bank, answers), "this site has not witnessed run-0123456789abcdef")


def test_a_request_without_witnesses_is_refused(bank: SecureBank) -> None:
    signed(bank)
    refuses_to_act(bank, bank.bare_task, "does not say who has witnessed")


def _changed(
    bank: SecureBank, answers: dict[SiteName, WitnessAnswer], site: SiteName, statement: SignedWitness
) -> Task:
    return with_witnesses(bank, answers | {site: replace(answers[site], statement=statement)})


def test_a_forged_statement_is_refused(bank: SecureBank) -> None:
    answers = signed(bank)
    theirs = answers[EAST].statement
    assert theirs is not None
    forged = SignedWitness.sign(theirs.statement, SigningKey.generate())
    refuses_to_act(
        bank, _changed(bank, answers, EAST, forged), "in the name of east is not signed with its key"
    )


def test_a_statement_twice_is_refused(bank: SecureBank) -> None:
    answers = signed(bank)
    bundle = bank.log.bundle(answers)
    twice = bundle.model_copy(update={"statements": (*bundle.statements, bundle.statements[0])})
    refuses_to_act(bank, replace(bank.bare_task, witness=twice.canonical), "among the witnesses twice")


def test_a_statement_of_another_run_is_refused(bank: SecureBank) -> None:
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    of_other = bank.log.known[EAST].statement
    answers = signed(bank)
    assert of_other is not None
    refuses_to_act(bank, _changed(bank, answers, EAST, of_other), "has witnessed another launch")


def test_a_view_that_is_another_is_refused(bank: SecureBank) -> None:
    answers = signed(bank)
    refuses_to_act(bank, with_witnesses(bank, answers, views={sha256_hex(b"x"): {}}), "a view is not the one")


# --- sites that are not where they were


def copied(bank: SecureBank, site: SiteName, to: Path) -> Path:
    """A copy of a site's folder while it does not run."""
    bank._end(site)
    shutil.copytree(bank.folder / site, to / site)
    (to / "root.json").write_bytes((bank.folder / "root.json").read_bytes())
    return to / site


def put_back(bank: SecureBank, site: SiteName, copy: Path) -> None:
    bank._end(site)
    for path in (bank.folder / site).glob("journal.db*"):
        path.unlink()
    for path in copy.glob("journal.db*"):
        shutil.copyfile(path, bank.folder / site / path.name)


def test_a_site_that_was_set_back_is_told_so_by_its_own_signature(bank: SecureBank, tmp_path: Path) -> None:
    signed(bank)
    copy = copied(bank, VICTIM, tmp_path)
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    task = bank.task
    put_back(bank, VICTIM, copy)
    body = refused(
        bank, bank.log.request(OTHER, bank.bare_task), "this site's journal was set back to an older copy"
    )
    assert shown(body).shows == "set back"
    assert shown(body).statements[0].statement.site == VICTIM
    refuses_to_act(bank, task, "")


def test_a_site_that_was_set_back_is_told_so_by_its_peers(bank: SecureBank, tmp_path: Path) -> None:
    """A coordinator that is in league with whoever set the site back does not show it its own statement."""
    signed(bank)
    copy = copied(bank, VICTIM, tmp_path)
    signed(bank)
    signed(bank)
    put_back(bank, VICTIM, copy)
    request = bank.log.request(RUN, bank.bare_task)
    others = tuple(each for each in request.statements if each.statement.site != VICTIM)
    body = refused(
        bank, replace(request, statements=others), "site east has signed that the journal had an entry"
    )
    assert shown(body).view is not None


def test_a_site_that_runs_twice_is_found_by_its_peers(bank: SecureBank, tmp_path: Path) -> None:
    """Each copy of the journal goes on by itself: two statements from one place of it are of two journals."""
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    copy = copied(bank, EAST, tmp_path)
    answers = signed(bank)
    first = answers[EAST].statement
    request = replace(bank.log.request(RUN, bank.bare_task), statements=(), views=())
    assert first is not None
    with closing(vouched(open_participant(copy / "site.yaml"), SITES)) as twin:
        twin.witness.memory._epoch_now()
        second = asked(twin, replace(request, grown=bank.log.grown([3])))
    assert isinstance(second, WitnessAnswer)
    assert second.statement is not None
    bank.participant(VICTIM).witness.require(with_witnesses(bank, answers).witness, _accepted(bank), RUN)
    task = with_witnesses(bank, answers | {EAST: second})
    body = refuses_to_act(bank, task, "site east was set back to an older copy of its journal, or runs twice")
    assert shown(body).statements == (first, second.statement)


def test_a_journal_begun_anew_under_the_same_key_is_found(bank: SecureBank) -> None:
    signed(bank)
    bank._end(VICTIM)
    for path in (bank.folder / VICTIM).glob("journal.db*"):
        path.unlink()
    refused(bank, bank.log.request(RUN, bank.bare_task), "this site's journal was set back to an older copy")


def test_a_set_back_site_acts_for_no_coordinator_that_withholds_what_its_peers_know(
    bank: SecureBank, tmp_path: Path
) -> None:
    """Neither its own statement nor a view reaches it before it has signed again; the statements of its peers name views, which must be there."""
    signed(bank)
    copy = copied(bank, VICTIM, tmp_path)
    signed(bank)
    signed(bank)
    put_back(bank, VICTIM, copy)
    request = replace(bank.log.request(RUN, bank.bare_task), statements=(), views=())
    again = asked(bank.participant(VICTIM), request)
    assert isinstance(again, WitnessAnswer)
    answers = bank.log.known | {VICTIM: again}
    task = with_witnesses(bank, answers, views={})
    refuses_to_act(bank, task, "does not have the view that the statement of east names")
    refuses_to_act(bank, with_witnesses(bank, answers), "this site's journal was set back to an older copy")


@pytest.mark.parametrize("set_back", [False, True])
def test_sites_that_all_began_anew_go_on_together_but_for_one_that_was_set_back(
    bank: SecureBank, tmp_path: Path, set_back: bool
) -> None:
    """A log that was lost begins anew, and is shorter than what sites have seen of each other before."""
    bank.log.witness(OTHER, bank.bare_task, sites(bank))
    copy = copied(bank, EAST, tmp_path)
    task = bank.task
    for _ in range(3):
        signed(bank)  # and hear of each other
    if set_back:
        put_back(bank, EAST, copy)
    for site in SITES:
        bank.participant(site).witness.begin_anew("the officers begin the log anew")
        bank.crash(site)
    bank.log, bank._witnessed = KeptLog(), {}
    assert bank.log.launch(RUN, bank.bare_task)[0] < task_size(task)
    answers = signed(bank)
    if set_back:
        words = "site east was set back to an older copy of its journal, or runs twice: it has seen the log that was begun anew from entry"
        refuses_to_act(bank, with_witnesses(bank, answers), words)
    else:
        assert {len(each.view) for each in signed(bank).values()} == {len(SITES)}
        assert Sum(bank).opened() is not None


def task_size(task: Task) -> int:
    """How many entries the newest head has that the witnesses of a run have signed."""
    return max(each.statement.head.size for each in WitnessBundle.from_canonical(task.witness).statements)


# --- one run, one launch, one log


def _keys(bank: SecureBank, task: Task, number: int = 9) -> SecureRequest:
    frame = Frame(Sum(bank, attempt_number=number).attempt, AdvertiseRequest())
    return SecureRequest(frames=(frame,), task=task)


def test_a_run_that_was_witnessed_is_carried_out_under_its_own_documents_alone(bank: SecureBank) -> None:
    """Both plans are approved, and the statements of the witnesses are good; but the launch in the log is that of the other plan."""
    task = bank.task
    assert bank.steps(VICTIM, _keys(bank, task))
    rounds = bank.plan.training.model_copy(update={"rounds": 3})
    bank.plan = bank.plan.model_copy(update={"training": rounds})
    other = replace(task, plan=bank.plan.canonical)
    body = bank.refusal(VICTIM, _keys(bank, other, 10))
    assert body.code is RefusalCode.SIGNATURE
    assert (
        "has not witnessed run-0123456789abcdef in the transparency log with these documents" in body.reason
    )


def test_a_run_that_is_launched_a_second_time_is_not_witnessed(bank: SecureBank) -> None:
    signed(bank)
    bank.log.launches.clear()
    refused(
        bank,
        bank.log.request(RUN, bank.bare_task),
        "has witnessed the launch of run-0123456789abcdef as entry 2",
    )


def test_two_histories_do_not_meet_in_one_sum(bank: SecureBank) -> None:
    """Half of the sites are shown one log, and half another one; each has enough witnesses, and no statement of the other half reaches it."""
    bank.plan = bank.plan.model_copy(update={"sites": bank.plan.sites.model_copy(update={"witnesses": 2})})
    half = {site: each for site, each in sites(bank).items() if site in {SITES[2], VICTIM}}
    answers, refusals = bank.log.witness(RUN, bank.bare_task, half)
    assert not refusals
    lying = KeptLog()
    lying.append(LogEntry.from_canonical(bank.log.entries[0]).what)
    theirs, refusals = lying.witness(
        RUN, bank.bare_task, {s: e for s, e in sites(bank).items() if s not in half}
    )
    assert not refusals
    ours = replace(bank.bare_task, witness=bank.log.bundle(answers).canonical)
    other = replace(bank.bare_task, witness=lying.bundle(theirs).canonical)
    bank._witnessed[RUN, bank.bare_task] = b""
    made = Sum(bank)
    step = central.Advertising(made.server)
    for site in SITES:
        task = ours if site in half else other
        step.receive(bank.step(site, replace(made.advertise_request(), task=task)))
    collecting = made.share(step.close())
    bank.refuses(
        VICTIM,
        made.mask_request(collecting, VICTIM),
        "is on the roster, and not among the witnesses of run-0123",
    )


def test_nothing_that_was_promised_is_opened_while_a_split_is_known(bank: SecureBank) -> None:
    made = Sum(bank)
    unmasking = made.confirmed()
    memory = bank.participant(VICTIM).witness.memory
    memory.keep_fork((bank.log.note(), bank.log.note()))
    body = bank.refusal(VICTIM, made.request(unmasking.request))
    assert "takes part in nothing until its people have dealt with it" in body.reason
    bank.participant(VICTIM).witness.begin_anew("looked into")
    assert made.unmask(unmasking) is not None


def _accepted(bank: SecureBank, site: SiteName = VICTIM) -> Accepted:
    return bank.participant(site)._judged.documents(bank.bare_task, RUN)


def _first(bank: SecureBank) -> What:
    return LogEntry.from_canonical(bank.log.entries[0]).what
