"""Policy packs at the coordinator: published by two roles, in effect by the clock, judged by once, and in the way of launches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from structlog.testing import capture_logs

from coordinator.bootstrap import Centre, lease_of
from coordinator.db import reading, writing
from coordinator.db.engine import open_database
from coordinator.db.office_schema import StoredPlan
from coordinator.db.policy_schema import PolicyJudgementRow
from coordinator.db.schema import Run
from coordinator.documents import read_listed
from coordinator.governance.log import append, open_log
from coordinator.governance.policies.facts import facts_of_plan
from coordinator.governance.policies.judge import compiled
from coordinator.governance.policies.packs import find_pack, kept_packs, publish, recorded
from coordinator.governance.policies.recheck import recheck
from coordinator.governance.policies.rejudge import simulate, take_effect
from coordinator.leadership import Deposed, seat_in
from coordinator.office.actors import here
from coordinator.office.plans import propose
from coordinator.runs import launch_read
from coordinator.service import Service
from protos.approvals import PlanEvidence
from protos.log_audit import AuditRefused, audit
from protos.log_policies import PolicyInForce, PolicyJudged, PolicyPublished
from protos.membership import Role
from protos.policy_pack import PolicyPack, SignedPack
from strategies.encoding import canonical_json, digest_of
from strategies.errors import CovenantError, Refused, UsageError
from tests.coordinator.api_for_tests import Bank, approved, authored, plan_of, serving
from tests.coordinator.recovery_for_tests import everything
from tests.policies_for_tests import pack, rule, signed
from tests.trust_for_tests import officers

TIGHT = rule(expression="plan.rounds <= 10")
LATER = timedelta(days=2)


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    yield from serving(tmp_path, database_url=url)


def put(bank: Bank, what: PolicyPack, centre: Centre | None = None) -> SignedPack:
    chosen = centre or bank.centre
    made = signed(what, chosen.clock())
    publish(chosen, made, read_listed(chosen.settings))
    return made


def launches(bank: Bank, seed: int = 1, centre: Centre | None = None) -> str:
    what = approved(plan_of(seed))
    return launch_read(centre or bank.centre, what.plan, what.contract, what.evidence)


def proposes(bank: Bank, seed: int = 1) -> None:
    what = plan_of(seed)
    propose(bank.centre, here(), what.plan, what.contract, authored(what))


def at(bank: Bank, later: timedelta) -> Centre:
    return replace(bank.centre, clock=lambda: datetime.now(UTC) + later)


def kinds(bank: Bank) -> list[str]:
    return [each.kind for each in bank.told()]


def test_without_a_pack_nothing_blocks(bank: Bank) -> None:
    launches(bank)
    assert take_effect(bank.centre) == ()
    assert not {"policy", "judged", "policy-in-force"} & set(kinds(bank))


def test_a_plan_that_a_blocking_rule_stops_is_not_launched_and_who_must_act_is_told(either: Bank) -> None:
    put(either, pack(TIGHT))
    with pytest.raises(Refused) as refused:
        launches(either)
    assert str(refused.value).endswith(
        "is blocked by policy pack house@1: few-rounds (fails; ml_engineer: Plan fewer rounds.)"
    )
    with reading(either.centre.engine, "looking") as session:
        assert session.scalars(select(Run)).all() == []
    assert kinds(either)[-1] == "policy"
    put(either, pack(rule(), version=2))
    run = launches(either)
    assert kinds(either)[-3:] == ["plan", "judged", "launch"]
    assert run in either.audited().runs


def test_a_warning_stops_nothing(bank: Bank) -> None:
    put(bank, pack(rule(expression="plan.rounds <= 10", severity="warning")))
    launches(bank)
    (told,) = bank.told("judged")
    assert isinstance(told, PolicyJudged)
    assert told.judgement.verdicts[0].outcome == "fails"
    bank.audited()


def test_a_rule_that_errors_stops_a_launch(bank: Bank) -> None:
    put(bank, pack(rule(expression="contract.newest_within_s < 10.0")))
    with pytest.raises(Refused, match="is not decided: "):
        launches(bank)


def test_a_pack_holds_from_its_moment_on_whether_anybody_judged_by_it_or_not(bank: Bank) -> None:
    put(bank, pack(TIGHT, effective_from=datetime.now(UTC) + timedelta(days=1)))
    launches(bank)
    assert take_effect(bank.centre) == ()
    with pytest.raises(Refused, match="blocked by policy pack house@1"):
        launches(bank, seed=2, centre=at(bank, LATER))
    assert [each.state for each in kept_packs(bank.centre)] == ["to come"]
    assert [each.state for each in kept_packs(at(bank, LATER))] == ["in effect"]
    bank.audited()


def test_what_waits_is_judged_once_when_a_pack_takes_effect_and_what_differs_is_told(either: Bank) -> None:
    proposes(either)
    launches(either, seed=2)
    put(either, pack(rule(), rule(id="old", expression="plan.sites >= 2")))
    assert take_effect(either.centre) == ("house@1",)
    assert take_effect(either.centre) == ()
    first = either.told("judged")
    assert [each.judgement.outcomes() for each in first] == [{"few-rounds": "passes", "old": "passes"}]
    assert first[0].differs == ()
    put(either, pack(TIGHT, rule(id="new", expression="plan.sites >= 2"), version=2))
    assert take_effect(either.centre) == ("house@2",)
    (told,) = either.told("judged")[1:]
    assert [each.words for each in told.differs] == [
        "few-rounds: passes, now fails",
        "new: not judged, now passes",
        "old: passes, now no rule",
    ]
    assert (told.judgement.verdicts[0].acts, told.judgement.verdicts[0].remedy) == (
        Role.ML_ENGINEER,
        "Plan fewer rounds.",
    )
    assert [(each.plans, each.models, each.blocked) for each in either.told("policy-in-force")] == [
        (1, 0, 0),
        (1, 0, 1),
    ]
    story = either.audited()
    assert len(story.policies.in_force) == 2
    with pytest.raises(Refused, match="blocked by policy pack house@2"):
        launches(either)


def test_a_version_that_was_replaced_before_it_took_effect_never_does(bank: Bank) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    put(bank, pack(TIGHT, effective_from=soon))
    put(bank, pack(rule(), version=2, effective_from=soon))
    assert take_effect(at(bank, LATER)) == ("house@2",)
    assert [(each.pack.version, each.state) for each in kept_packs(at(bank, LATER))] == [
        (1, "replaced"),
        (2, "in effect"),
    ]


def test_two_coordinators_that_judge_at_once_do_it_once(either: Bank) -> None:
    proposes(either)
    put(either, pack())
    url = either.centre.settings.database_url
    done: list[tuple[str, ...]] = []
    failed: list[BaseException] = []

    def judge() -> None:
        engine = open_database(url)
        try:
            done.append(take_effect(replace(either.centre, engine=engine)))
        except CovenantError as error:
            failed.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=judge) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failed
    assert sorted(done) == [(), (), (), ("house@1",)]
    assert len(either.told("policy-in-force")) == 1
    assert len(either.told("judged")) == 1


def test_a_pack_that_is_replaced_while_it_is_about_to_take_effect_never_does(bank: Bank) -> None:
    """A log with judgements by it would verify nowhere."""
    put(bank, pack(TIGHT))
    proposes(bank)
    asked = 0

    def clock() -> datetime:
        nonlocal asked
        asked += 1
        if asked == 2:  # it was found due, and nothing is locked yet
            put(bank, pack(version=2))
        return datetime.now(UTC)

    assert take_effect(replace(bank.centre, clock=clock)) == ()
    assert take_effect(bank.centre) == ("house@2",)
    assert len(bank.told("policy-in-force")) == 1
    bank.audited()


@pytest.fixture
def shared(postgres_url: str, tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path, database_url=postgres_url)


@pytest.mark.postgres
def test_a_launch_under_way_and_a_pack_that_takes_effect_do_not_lock_each_other_out(shared: Bank) -> None:
    put(shared, pack())
    done: list[tuple[str, ...]] = []
    other = open_database(shared.centre.settings.database_url)
    judging = threading.Thread(target=lambda: done.append(take_effect(replace(shared.centre, engine=other))))
    what, at = plan_of(1), shared.centre.clock()
    found = compiled(pack()).judge(*facts_of_plan(what.plan, what.contract, PlanEvidence()))
    with writing(shared.centre.engine, "judging") as session:
        append(session, at, ())
        judging.start()
        _wait_for_a_lock(shared.centre)
        append(session, at, recorded(session, pack(), found, at))
    judging.join()
    other.dispose()
    assert done == [("house@1",)]


def _wait_for_a_lock(centre: Centre) -> None:
    """Until another transaction waits for one."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(500):
        with reading(centre.engine, "looking") as session:
            if session.scalar(waits):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")


def test_a_launch_and_a_publication_at_once_are_one_after_the_other(either: Bank) -> None:
    outcome: list[str] = []

    def go(what: Callable[[], object]) -> None:
        try:
            what()
            outcome.append("done")
        except CovenantError as error:
            outcome.append(str(error))

    threads = [
        threading.Thread(target=go, args=[each])
        for each in (lambda: launches(either), lambda: put(either, pack(TIGHT)))
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    order = [each for each in kinds(either) if each in {"policy", "launch"}]
    assert order == ["launch", "policy"] or (order == ["policy"] and any("blocked by" in e for e in outcome))
    either.audited()


def test_a_pack_without_rules_ends_what_was_before(bank: Bank) -> None:
    put(bank, pack(TIGHT))
    put(bank, pack(version=2).model_copy(update={"rules": ()}))
    launches(bank)
    bank.audited()


def test_packs_of_two_names_hold_beside_each_other(bank: Bank) -> None:
    put(bank, pack(TIGHT))
    put(bank, pack(name="bank"))
    with pytest.raises(Refused, match="house@1"):
        launches(bank)
    assert find_pack(kept_packs(bank.centre), "bank").pack.ref == "bank@1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 1, "reason": "another"}, "house@1 does not follow house@1"),
        (
            {"version": 2, "effective_from": datetime(2025, 1, 1, tzinfo=UTC)},
            "would take effect on 2025-01-01",
        ),
    ],
    ids=["a number again", "an earlier moment"],
)
def test_a_version_follows_the_one_before(change: dict[str, object], words: str, bank: Bank) -> None:
    put(bank, pack())
    with pytest.raises(Refused, match=words):
        put(bank, pack(**change))
    assert len(kept_packs(bank.centre)) == 1


def test_a_moment_so_far_ahead_that_nothing_could_come_before_it_is_refused(bank: Bank) -> None:
    with pytest.raises(Refused, match="more than 366 days ahead, and no later version"):
        put(bank, pack(effective_from=datetime.now(UTC) + timedelta(days=400)))
    assert kept_packs(bank.centre) == []
    put(bank, pack(effective_from=datetime.now(UTC) + timedelta(days=365)))
    bank.audited()


def test_the_very_pack_again_changes_nothing(bank: Bank) -> None:
    made = put(bank, pack())
    publish(bank.centre, made, read_listed(bank.centre.settings))
    assert len(bank.told("policy")) == 1


def test_a_pack_that_does_not_compile_or_is_not_signed_by_both_roles_is_not_kept(bank: Bank) -> None:
    with pytest.raises(UsageError, match="rule few-rounds: `expression` line 1, column 1: undeclared"):
        put(bank, pack(rule(expression="nothing")))
    one = signed(pack(), bank.centre.clock(), ("privacy-1", Role.PRIVACY_OFFICER))
    with pytest.raises(Refused, match="is not signed as model_risk"):
        publish(bank.centre, one, read_listed(bank.centre.settings))
    assert kept_packs(bank.centre) == []
    assert bank.told("policy") == []


def test_a_simulation_says_what_would_be_and_changes_nothing(bank: Bank) -> None:
    proposes(bank)
    put(bank, pack())
    take_effect(bank.centre)
    before = everything(bank.centre.engine)
    (effect,) = simulate(bank.centre, pack(TIGHT, version=2))
    assert effect.blocked
    assert not effect.quarantined
    assert [each.words for each in effect.differs] == ["few-rounds: passes, now fails"]
    assert everything(bank.centre.engine) == before
    with pytest.raises(UsageError, match="undeclared"):
        simulate(bank.centre, pack(rule(expression="nothing")))


def test_a_plan_launched_again_tells_its_judgement_once(bank: Bank) -> None:
    put(bank, pack())
    launches(bank)
    launches(bank)
    assert len(bank.told("judged")) == 1
    assert len(bank.told("launch")) == 2
    with reading(bank.centre.engine, "looking") as session:
        assert len(session.scalars(select(PolicyJudgementRow)).all()) == 1
    bank.audited()


def test_entries_say_what_they_are(bank: Bank) -> None:
    put(bank, pack())
    take_effect(bank.centre)
    (published,), (force,) = bank.told("policy"), bank.told("policy-in-force")
    assert isinstance(published, PolicyPublished)
    assert isinstance(force, PolicyInForce)
    assert force.pack == published.signed.pack.digest


def test_a_leader_judges_by_what_took_effect_while_nobody_led_and_a_deposed_one_judges_nothing(
    bank: Bank,
) -> None:
    proposes(bank)
    put(bank, pack())
    with seat_in(bank.centre.settings.home) as seat:
        lease = lease_of(bank.centre, seat)
        gone, term = lease.take(), lease.take()
        assert gone is not None
        assert term is not None
        with pytest.raises(Deposed):
            Service(bank.centre)._take_policies(gone)
        assert bank.told("policy-in-force") == []
        for _ in range(2):
            Service(bank.centre)._take_policies(term)
    assert len(bank.told("policy-in-force")) == 1


def test_a_pack_that_cannot_be_judged_by_now_is_tried_again(bank: Bank) -> None:
    put(bank, pack())
    with seat_in(bank.centre.settings.home) as seat, capture_logs() as logs:
        term = lease_of(bank.centre, seat).take()
        assert term is not None
        back = replace(bank.centre, clock=lambda: datetime.now(UTC) - timedelta(hours=1))
        Service(back)._take_policies(term)
        assert [each["event"] for each in logs] == ["policy packs did not take effect"]
        Service(bank.centre)._take_policies(term)
    assert len(bank.told("policy-in-force")) == 1


def test_a_pack_that_cannot_be_judged_by_keeps_none_after_it_from_taking_effect(bank: Bank) -> None:
    for name in ("first", "second", "third"):
        put(bank, pack(name=name))
    asked = 0

    def clock() -> datetime:
        nonlocal asked
        asked += 1
        now = datetime.now(UTC)
        return now - timedelta(hours=1) if asked == 2 else now  # when the first pack is judged by

    with pytest.raises(Refused, match=r"not everything could be judged by first@1: .*set back"):
        take_effect(replace(bank.centre, clock=clock))
    in_force = [each.pack.name for each in kept_packs(bank.centre) if each.in_force_at is not None]
    assert in_force == ["second", "third"]
    assert take_effect(bank.centre) == ("first@1",)
    bank.audited()


def test_a_plan_that_cannot_be_read_any_more_keeps_no_pack_from_taking_effect(bank: Bank) -> None:
    proposes(bank)
    proposes(bank, seed=2)
    with writing(bank.centre.engine, "as an older version wrote it") as session:
        row = session.scalars(select(StoredPlan).order_by(StoredPlan.proposed_at)).first()
        assert row is not None
        row.plan = row.plan.replace('"covenant":"plan/v1"', '"covenant":"plan/v0"')
    put(bank, pack())
    with capture_logs() as logs:
        assert take_effect(bank.centre) == ("house@1",)
    assert "a waiting plan cannot be judged" in {each["event"] for each in logs}
    assert [(each.plans, each.blocked) for each in bank.told("policy-in-force")] == [(1, 0)]
    assert len(simulate(bank.centre, pack(version=2))) == 1
    bank.audited()


def _without_judgements(entries: list[dict[str, Any]]) -> None:
    entries[:] = [each for each in entries if each["what"]["kind"] != "judged"]


def _blocked(entries: list[dict[str, Any]]) -> None:
    (judged,) = [each["what"]["judgement"] for each in entries if each["what"]["kind"] == "judged"]
    judged["verdicts"][0] = {
        "rule": "few-rounds",
        "outcome": "error",
        "why": "no",
        "acts": "ml_engineer",
        "remedy": "Plan fewer rounds.",
    }


def _approved_by_fewer(entries: list[dict[str, Any]]) -> None:
    (judged,) = [each["what"]["judgement"] for each in entries if each["what"]["kind"] == "judged"]
    judged["facts"]["approvals.roles"] = ["model_risk"]
    judged["inputs"] = digest_of(judged["facts"])


def test_an_auditor_compares_what_was_judged_of_a_plan_before_it_was_recorded(bank: Bank) -> None:
    put(bank, pack())
    proposes(bank)
    take_effect(bank.centre)
    launches(bank)
    bank.audited()
    log = open_log(bank.centre.engine, bank.centre.settings, bank.centre.clock)
    for change, words in (
        ({"facts": {"plan.rounds": 1}}, "judged by plan.rounds 1, and it is"),
        ({"name": "something-else"}, "is judged by that name, and is called"),
    ):
        entries = [json.loads(each.body) for each in log.entries()]
        first = next(each["what"]["judgement"] for each in entries if each["what"]["kind"] == "judged")
        first["facts"].update(change.get("facts", {}))
        first["subject"]["name"] = change.get("name", first["subject"]["name"])
        first["inputs"] = digest_of(first["facts"])
        with pytest.raises(AuditRefused, match=words):
            audit([canonical_json(each) for each in entries], officers().pinned)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_without_judgements, "is launched, and was not judged by house@1, which is in effect"),
        (_blocked, "is launched, and house@1 blocks it by few-rounds"),
        (_approved_by_fewer, "approvals.roles"),
    ],
)
def test_an_auditor_believes_no_launch_that_a_pack_in_effect_did_not_pass(
    lie: Callable[[list[dict[str, Any]]], None], words: str, bank: Bank
) -> None:
    put(bank, pack())
    launches(bank)
    log = open_log(bank.centre.engine, bank.centre.settings, bank.centre.clock)
    entries = [json.loads(each.body) for each in log.entries()]
    lie(entries)
    with pytest.raises(AuditRefused, match=words):
        audit([canonical_json(each) for each in entries], officers().pinned)


def test_what_was_recorded_is_judged_again_and_a_turned_verdict_is_found(bank: Bank) -> None:
    put(bank, pack(rule(expression="plan.rounds <= 10", severity="warning")))
    launches(bank)
    assert recheck(bank.audited().policies) == 1
    log = open_log(bank.centre.engine, bank.centre.settings, bank.centre.clock)
    entries = [json.loads(each.body) for each in log.entries()]
    (judged,) = [each["what"]["judgement"] for each in entries if each["what"]["kind"] == "judged"]
    judged["verdicts"][0] = {"rule": "few-rounds", "outcome": "passes"}
    story = audit([canonical_json(each) for each in entries], officers().pinned)
    with pytest.raises(
        Refused, match="is said to come to passes by rule few-rounds of pack house@1, and comes to fails"
    ):
        recheck(story.policies)
