"""The coordinator launches retraining by itself only where officers published a pack that allows it for the model, and then only what is adopted and approved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.schema import Run
from coordinator.deploy.monitoring.retraining.drafting import draft as draft_of
from coordinator.deploy.monitoring.retraining.status import loop_status
from coordinator.documents import read_listed, read_members
from coordinator.governance.policies.packs import publish as publish_pack
from coordinator.office import plans as office_plans
from coordinator.office import retraining as office
from coordinator.office import runs as office_runs
from coordinator.office.actors import here
from coordinator.office.plans import ProposedPlan
from coordinator.registry.publish import publish
from protos.approvals import PlanEvidence, approve, author
from protos.contract import Contract
from protos.documents import read_document
from protos.log_audit import audit
from protos.log_loop import ADOPTED_FOR, LoopStory, RetrainingDrafted, RetrainingLaunched
from protos.membership import Officer, Role
from protos.plan import Plan
from protos.policy_pack import PolicyPack
from strategies.errors import Refused
from strategies.ids import RunId
from tests.coordinator.api_for_tests import FakeTransport
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.loop_for_tests import loop_events, raise_alarm, ready, row_of
from tests.coordinator.monitor_for_tests import Watch, made, watched
from tests.coordinator.private_for_tests import Make, Private, make, templates
from tests.coordinator.test_log_export import listed_in, log_of, pinned_by, put, root_keys, signed_by
from tests.coordinator.test_replay import require_same
from tests.policies_for_tests import pack, rule, signed
from tests.private_plan_for_tests import CONTRACT
from tests.trust_for_tests import FAR, key_of

pytestmark = pytest.mark.slow

__all__ = ["made", "make", "templates", "watched"]

ALLOWS = pack(launches_retraining_of=(NAME,))


@pytest.fixture
def centre(watched: Watch) -> Iterator[Centre]:
    found = ready(watched).works.centre
    raise_alarm(watched)
    return replace(found, transport=FakeTransport())


def started(centre: Centre) -> list[RunId]:
    transport = centre.transport
    assert isinstance(transport, FakeTransport)
    return transport.started


def published(centre: Centre, what: PolicyPack) -> None:
    listed = read_listed(centre.settings)
    publish_pack(centre, signed(what, centre.clock(), federation=listed.trusted.federation), listed)


def drafted(centre: Centre) -> tuple[str, ProposedPlan]:
    draft = draft_of(centre, NAME, by="author-1")
    plan = read_document(row_of(centre, draft).text or "", Plan, "the draft")
    contract = read_document(CONTRACT, Contract, "contract")
    return draft, ProposedPlan(plan=plan, contract=contract, evidence=PlanEvidence())


def proposed(centre: Centre, what: ProposedPlan) -> None:
    trusted, until = read_members(centre.settings)[1], centre.clock() + timedelta(days=5)
    said = author(
        what.plan, what.contract, "author-1", key_of("author-1"), federation=trusted.federation, expires=until
    )
    office_plans.propose(centre, here(), what.plan, what.contract, said)


def approves(centre: Centre, what: ProposedPlan, name: str, role: Role) -> None:
    trusted, until = read_members(centre.settings)[1], centre.clock() + timedelta(days=5)
    said = approve(
        what.plan, what.contract, name, role, key_of(name), federation=trusted.federation, expires=until
    )
    office_plans.approve(centre, here(), said)


def all_approve(centre: Centre, what: ProposedPlan) -> None:
    proposed(centre, what)
    approves(centre, what, "privacy-1", Role.PRIVACY_OFFICER)
    approves(centre, what, "risk-1", Role.MODEL_RISK)


def test_by_default_nothing_is_launched_however_approved_it_is(centre: Centre) -> None:
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    assert office.launch_adopted(centre) == ()
    published(centre, pack())  # a pack that says nothing of it
    assert office.launch_adopted(centre) == ()
    published(centre, pack(version=2, launches_retraining_of=("cards",)))  # nor of this model
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []


def test_with_a_pack_what_is_adopted_and_approved_is_launched_once(centre: Centre) -> None:
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    published(centre, ALLOWS)
    (run,) = office.launch_adopted(centre)
    assert office.launch_adopted(centre) == ()
    assert started(centre) == [run]
    row = row_of(centre, draft)
    assert (row.state, row.run) == ("launched", run)
    last = loop_events(centre)[-1]
    assert isinstance(last, RetrainingLaunched)
    assert (last.run, last.plan, last.pack) == (run, what.plan.digest, ALLOWS.digest)
    (model,) = loop_status(centre.engine, NAME)
    assert {each["step"]: each["state"] for each in model["steps"]}["retraining"] == "going"


def test_without_each_approval_nothing_is_launched(centre: Centre) -> None:
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    assert office.launch_adopted(centre) == ()  # a draft that nobody adopted
    office.adopt(centre, here(), draft, "why")
    assert office.launch_adopted(centre) == ()  # that nobody proposed
    proposed(centre, what)
    assert office.launch_adopted(centre) == ()
    approves(centre, what, "privacy-1", Role.PRIVACY_OFFICER)
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []
    approves(centre, what, "risk-1", Role.MODEL_RISK)
    assert len(office.launch_adopted(centre)) == 1


def test_an_approved_plan_whose_draft_nobody_adopted_or_that_was_dismissed_is_not_launched(
    centre: Centre,
) -> None:
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    all_approve(centre, what)
    assert office.launch_adopted(centre) == ()
    office.dismiss(centre, here(), draft, "no")
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []


def test_a_plan_that_its_author_changed_is_left_to_people(centre: Centre) -> None:
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    training = what.plan.training.model_copy(update={"rounds": 30})
    plan = Plan.from_canonical(what.plan.model_copy(update={"training": training}).canonical)
    all_approve(centre, replace(what, plan=plan))
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []


def test_what_somebody_has_launched_already_is_not_launched_again(centre: Centre) -> None:
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    found = office_plans.find_plan(centre, what.plan.digest)
    run = office_runs.launch(centre, here(), found)
    published(centre, ALLOWS)
    assert office.launch_adopted(centre) == ()
    assert started(centre) == [run]


def test_a_pack_that_ends_ends_the_permission(centre: Centre) -> None:
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    published(centre, pack(version=2))
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []


def test_a_rule_of_any_pack_still_blocks(centre: Centre) -> None:
    published(centre, ALLOWS)
    few = rule(id="few-rounds", expression="plan.rounds <= 5")
    published(centre, pack(few, name="strict"))
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []
    assert row_of(centre, draft).state == "adopted"
    with reading(centre.engine, "looking") as session:
        assert session.scalar(select(Run.id).where(Run.plan_digest == what.plan.digest)) is None


def test_nothing_is_launched_for_a_draft_that_was_adopted_too_long_ago(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody came round to having it expire."""
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    monkeypatch.setattr(office, "_is_approved", lambda *_: True)  # approvals end before
    at = centre.clock()
    later = replace(centre, clock=lambda: at + ADOPTED_FOR)
    assert office.launch_adopted(later) == ()
    assert started(centre) == []


def test_the_permission_is_looked_at_in_the_transaction_of_the_launch(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack that ends between the look and the launch counts."""
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    known = office.standing

    def meanwhile(*given: object) -> object:
        published(centre, pack(version=2))
        return known(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(office, "standing", meanwhile)
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []
    assert row_of(centre, draft).state == "adopted"


def test_a_pack_without_the_permission_has_the_digest_that_it_had() -> None:
    assert "launches_retraining_of" not in pack().canonical.decode()
    with pytest.raises(Refused, match="nobody has adopted"):
        LoopStory().take(
            RetrainingLaunched(
                draft="draft-" + "ab" * 8,
                model=NAME,
                run=RunId("run-" + "ab" * 8),
                plan="ab" * 32,
                contract="ab" * 32,
                pack=ALLOWS.digest,
            ),
            (),
            {},
            [ALLOWS],
            datetime(2026, 11, 24, tzinfo=UTC),
        )


# --- a whole log --------------------------------------------------------------------------------------------------------


def certified(federation: Private) -> None:
    """Officers who sign packs and plans."""
    roles = {"privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK, "author-1": Role.ML_ENGINEER}
    people = [
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in roles.items()
    ]
    newer = signed_by(
        listed_in(federation).next(officers=people), root_keys(), (), pinned_by(federation).root
    )
    put(federation, newer)
    federation.centre.settings.members_file.write_bytes(newer)


def test_whoever_reads_the_log_believes_a_launch_and_the_log_replays(make: Make, tmp_path: object) -> None:
    federation = make()
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    certified(federation)
    centre = replace(
        federation.centre,
        transport=FakeTransport(),
        clock=federation.clock.wall,
        new_run_id=lambda: RunId("run-" + "cd" * 8),
    )
    name = federation.plan.name
    draft = draft_of(centre, name, by="author-1")
    row = row_of(centre, draft)
    assert row.text is not None, row.says
    plan = read_document(row.text, Plan, "the draft")
    assert plan.evaluation.champion is not None
    what = ProposedPlan(plan=plan, contract=federation.documents.contract, evidence=PlanEvidence())
    proposed(centre, what)
    office.adopt(centre, here(), draft, "why")
    published(centre, pack(launches_retraining_of=(name,)))
    # The plan asks for nobody's approval; without a person it is not launched so.
    assert office_plans.standing(centre, office_plans.find_plan(centre, plan.digest)).approved
    assert office.launch_adopted(centre) == ()
    approves(centre, what, "privacy-1", Role.PRIVACY_OFFICER)
    assert office.launch_adopted(centre) == ()
    approves(centre, what, "risk-1", Role.MODEL_RISK)
    (run,) = office.launch_adopted(centre)
    bodies = [each.body for each in log_of(federation).entries()]
    story = audit(bodies, pinned_by(federation))
    assert story.loop.states == {draft: "launched"}
    assert run in story.runs
    require_same(federation, str(tmp_path))
    # Without the launch itself, what was announced is missing.
    announced = next(place for place, each in enumerate(bodies) if b'"retraining-launched"' in each)
    with pytest.raises(Refused, match="was not launched"):
        audit(bodies[: announced + 1], pinned_by(federation))
    said = loop_events(centre)
    assert isinstance(said[0], RetrainingDrafted)


def test_a_launch_that_no_pack_allows_is_not_believed(make: Make) -> None:
    federation = make()
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    certified(federation)
    centre = replace(federation.centre, transport=FakeTransport(), clock=federation.clock.wall)
    draft = draft_of(centre, federation.plan.name, by="author-1")
    office.adopt(centre, here(), draft, "why")
    row = row_of(centre, draft)
    from coordinator.governance.log import append

    with writing(centre.engine, "lying") as session:
        lie = RetrainingLaunched(
            draft=draft,
            model=row.name,
            run=RunId("run-" + "ab" * 8),
            plan=row.plan,
            contract=row.contract,
            pack="ab" * 32,
        )
        append(session, centre.clock(), [lie])
    with pytest.raises(Refused, match="no pack in effect allows that"):
        audit([each.body for each in log_of(federation).entries()], pinned_by(federation))
