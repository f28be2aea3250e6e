"""The overview: what needs each officer, by role and urgency, from what is so."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from coordinator.db import writing
from coordinator.db.deploy_schema import OrderRow, RecallRow, RolloutRow, TargetRow
from coordinator.documents import read_listed
from coordinator.governance import halts
from coordinator.governance.log import append
from coordinator.governance.policies.rejudge import ACTING
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from coordinator.office import plans as office
from coordinator.office.actors import here
from coordinator.office.denials import record_denial
from coordinator.office.plans import ProposedPlan
from coordinator.registry.stages import move
from coordinator.registry.versions import register
from coordinator.rounds.question import RunDocuments
from coordinator.runs import end, record
from protos.approvals import author
from protos.log_run_events import RoundCommitted, SiteRefused
from protos.membership import Role
from protos.model_stages import Stage
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.ids import Digest, RunId, SiteName
from tests.ceilings_for_tests import TWO, Decision, set_ceiling
from tests.coordinator.api_for_tests import FEDERATION, Bank, approval, authored, plan_of, template
from tests.coordinator.cli_for_tests import SITES
from tests.coordinator.conftest import RUN
from tests.coordinator.console_for_tests import Browser, Pages, copied, pages
from tests.coordinator.gate_for_tests import gated_run, passed
from tests.halts_for_tests import ordered, would_lift
from tests.trust_for_tests import key_of

HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)>'
FAILED = RunId("run-00000000000fa11d")
LAUNCH = "covenant.control.v1.Runs/LaunchRun"
DIGEST = Digest("ab" * 32)
OLD = plan_of(25)
"""Proposed for a member list that is followed by another."""
READERS = ("author-1", "privacy-1", "risk-1", "auditor-1")
EVERYBODY = (*READERS, "operator-1", "admin-1")

_signed_in: dict[tuple[str, str], Browser] = {}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A bank in which a lot has happened."""
    for bank in copied(tmp_path_factory.mktemp("overview")):
        with pages(bank) as found:
            now = bank.centre.clock()
            office.propose(bank.centre, here(), OLD.plan, OLD.contract, authored(OLD))
            bank.expiring("risk-1", now.replace(microsecond=0) + timedelta(days=9))
            _plans(bank, now)
            _accounts(bank)
            _runs(bank, now)
            _models(bank)
            _deployments(bank, now)
            _halts(bank, now)
            yield found


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A bank in which nothing has happened."""
    bank = Bank.copied(template(accounts=False), tmp_path_factory.mktemp("quiet"))
    with pages(bank) as found:
        yield found
    bank.close()


def _plan(number: int) -> ProposedPlan:
    return plan_of(number, "demo@2")


def _plans(bank: Bank, now: datetime) -> None:
    """Number 21 waits for privacy, 22 is approved, 23 is approved and ends tomorrow, 24 was launched."""
    for number in (21, 22, 23, 24):
        what = _plan(number)
        by = authored(what)
        if number == 23:
            tomorrow = now.replace(microsecond=0) + timedelta(days=1)
            key = key_of("author-1")
            by = author(what.plan, what.contract, "author-1", key, federation=FEDERATION, expires=tomorrow)
        office.propose(bank.centre, here(), what.plan, what.contract, by)
        office.approve(bank.centre, here(), approval(what, "risk-1", Role.MODEL_RISK))
        if number != 21:
            office.approve(bank.centre, here(), approval(what, "privacy-1", Role.PRIVACY_OFFICER))


def _accounts(bank: Bank) -> None:
    """A thousandth of the ceiling is an alert, and the run below passes it."""
    ledger, record_unit = Ledger(bank.centre.engine, bank.centre.clock), PrivacyUnit(kind=UnitKind.RECORD)
    proposal = Proposal(epsilon=60.0, delta=1e-5, unit=record_unit, reason="r", alert_at=[0.001])
    decision = Decision(proposal=proposal, officers=TWO)
    set_ceiling(ledger, SiteName("west"), "lending-club", decision, read_listed(bank.centre.settings))


def _runs(bank: Bank, now: datetime) -> None:
    what, centre = _plan(24), bank.centre
    record(
        centre,
        RunDocuments(
            run=FAILED,
            plan=what.plan,
            contract=what.contract,
            members=read_listed(centre.settings).membership.canonical,
        ),
    )
    end(centre, FAILED, "failed", f"3 of 4 sites are needed {HOSTILE}")
    record_denial(centre, now, officer="author-1", method=LAUNCH, reason=f"no room {HOSTILE}", asked=None)
    committed = [
        RoundCommitted(
            run=FAILED,
            round=number,
            attempt=1,
            roster=tuple(sorted(SITES)),
            survivors=tuple(sorted(set(SITES) - {"northeast"})),
            statement=DIGEST,
            aggregate=DIGEST,
            model=DIGEST,
            optimizer=DIGEST,
        )
        for number in (1, 2, 3)
    ]
    refused = SiteRefused(
        run=FAILED,
        site=SiteName("south"),
        code="policy",
        reason=f"two rounds {HOSTILE}",
        request=DIGEST,
        signature=key_of("south").sign("test", b"refusal"),
    )
    with writing(centre.engine, "telling") as session:
        append(session, centre.clock(), [*committed, refused])


def _models(bank: Bank) -> None:
    """Version 1 is validated, 2 a candidate that nobody has judged, 3 was quarantined by a policy."""
    centre = bank.centre
    with writing(centre.engine, "submitting") as session:
        session.add(gated_run())
    for number in (1, 2, 3):
        register(
            centre.engine,
            centre.artifacts,
            name="lending-default",
            run_id=RUN,
            files={"model.bin": bytes([number])},
            weights=DIGEST,
            metrics=None,
            clock=centre.clock,
        )
    passed(centre, "lending-default", 1)
    with writing(centre.engine, "moving") as session:
        why = f"it breaks a rule {HOSTILE}"
        move(session, "lending-default", 3, Stage.QUARANTINED, why=why, by=ACTING, at=centre.clock())


def _deployments(bank: Bank, now: datetime) -> None:
    """Rows as a target leaves them that refuses an order, and does not confirm a recall."""
    long_ago = now - timedelta(hours=2)
    with writing(bank.centre.engine, "deploying") as session:
        session.add(
            TargetRow(name="shelf", kind="local", settings="{}", revision=1, added_by="a", added_at=now)
        )
        session.flush()
        session.add(
            RolloutRow(
                id="rollout-1",
                target="shelf",
                name="lending-default",
                version=1,
                digest=DIGEST,
                state="failed",
                share=0.0,
                rules="{}",
                reason=f"too slow {HOSTILE}",
                started_by="a",
                started_at=long_ago,
                moved_at=long_ago,
            )
        )
        session.flush()
        session.add(
            OrderRow(
                target="shelf",
                revision=1,
                rollout="rollout-1",
                state="canary",
                mode="none",
                share=0.0,
                why="w",
                by="a",
                made_at=long_ago,
                refused=f"wrong digest {HOSTILE}",
            )
        )
        session.add(
            RecallRow(
                target="shelf", name="lending-default", version=3, why=HOSTILE, by="a", ordered_at=long_ago
            )
        )


def _halts(bank: Bank, now: datetime) -> None:
    """West is halted, and one officer would lift it; a halt of midwest was lifted."""
    listed = read_listed(bank.centre.settings)
    west = ordered("site", "west", by="officer auditor-1", reason=f"looks wrong {HOSTILE}", at=now)
    midwest = ordered("site", "midwest", by="officer auditor-1", at=now)
    for order in (west, midwest):
        halts.halt(bank.centre, order, listed)
    halts.say_lift(bank.centre, west.id, would_lift(west.digest, "risk-1"), listed)
    for name in ("risk-1", "admin-1"):
        halts.say_lift(bank.centre, midwest.id, would_lift(midwest.digest, name), listed)


def _as(served: Pages, officer: str) -> Browser:
    """A browser of an officer, signed in once: sign-ins are limited."""
    key = (served.address, officer)
    if key not in _signed_in:
        _signed_in[key] = served.browser(officer)
    return _signed_in[key]


def _needs(served: Pages, officer: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_as(served, officer).get("/?format=csv").text)))


def _said(served: Pages, officer: str, words: str) -> dict[str, str] | None:
    """The one matter of an officer that says `words`."""
    found = [each for each in _needs(served, officer) if words in each["What"]]
    assert len(found) <= 1, found
    return found[0] if found else None


def test_plans_wait_for_who_can_sign_them(served: Pages) -> None:
    digest = _plan(21).plan.digest[:12]
    mine = _said(served, "privacy-2", f"({digest}) by author-1 waits for your signature as privacy officer")

    assert mine is not None
    assert mine["Where"].startswith("your desk, /plans/")
    for other in ("risk-1", "author-1", "auditor-1", "admin-1"):
        assert _said(served, other, "waits for your signature") is None


def test_launches_wait_for_their_author(served: Pages) -> None:
    digest = _plan(22).plan.digest[:12]

    assert _said(served, "author-1", f"Your plan lending-default ({digest}) is approved") is not None
    assert _said(served, "author-1", _plan(24).plan.digest[:12]) is None  # launched
    assert _said(served, "privacy-1", digest) is None


def test_an_author_hears_of_a_plan_for_an_old_list(served: Pages) -> None:
    digest = OLD.plan.digest[:12]

    assert (
        _said(served, "author-1", f"({digest}) is for member list demo@1, and demo@2 is in use") is not None
    )
    assert _said(served, "privacy-2", digest) is None  # nobody can sign it


def test_approvals_that_end_are_told_to_who_made_them(served: Pages) -> None:
    words = f"author-1's authorship of plan lending-default ({_plan(23).plan.digest[:12]}) ends"

    for officer in ("author-1", "privacy-1", "risk-1"):
        assert _said(served, officer, words) is not None
    assert _said(served, "privacy-2", words) is None


def test_a_halt_stands_for_all_and_its_lift_waits_for_who_has_not_said(served: Pages) -> None:
    for officer in EVERYBODY:
        found = _said(served, officer, "site west is halted by officer auditor-1")
        assert found is not None
        assert found["Urgency"] == "now"
        assert "risk-1 would lift it" in found["What"]
    assert "Your signature would lift it" in _needs(served, "privacy-1")[0]["What to do"]
    assert "It stays until" in _said(served, "risk-1", "site west")["What to do"]  # type: ignore[index]
    assert _said(served, "privacy-1", "site midwest is halted") is None


def test_models_wait_for_the_gate_and_for_signatures(served: Pages) -> None:
    candidate = _said(served, "risk-1", "lending-default@2 is a candidate")
    mine = _said(served, "privacy-2", "lending-default@1 is validated and waits for your approval")

    assert candidate is not None
    assert candidate["Where"] == "/models/lending-default@2"
    assert mine is not None
    assert _said(served, "privacy-2", "is a candidate") is None
    assert _said(served, "author-1", "waits for your approval") is None
    for officer in READERS:
        assert _said(served, officer, "lending-default@3 was quarantined") is not None


def test_accounts_past_an_alert_are_for_readers(served: Pages) -> None:
    for officer in READERS:
        found = _said(served, officer, "west/lending-club per record has come to")
        assert found is not None
        assert found["Where"] == "/budgets/west/lending-club?unit=record"
    assert _said(served, "admin-1", "lending-club per record") is None
    assert _said(served, "operator-1", "lending-club per record") is None


def test_failures_refusals_and_silence_are_told(served: Pages) -> None:
    failed = _said(served, "author-1", f"{FAILED} of plan lending-default failed")
    assert failed is not None
    assert failed["Where"] == f"/runs/{FAILED}/diagnosis"
    assert _said(served, "admin-1", "south refused") is not None
    assert _said(served, "auditor-1", "northeast was asked in the last 3 rounds") is not None
    assert _said(served, "author-1", "Your launch was refused") is not None
    assert _said(served, "privacy-1", "A launch by author-1 was refused") is not None
    assert _said(served, "operator-1", "launch") is None


def test_deployments_in_trouble_are_told(served: Pages) -> None:
    assert _said(served, "admin-1", "shelf refused order 1") is not None  # targets are an admin's too
    assert _said(served, "admin-1", "is recalled from shelf") is None
    recalled = _said(served, "author-1", "lending-default@3 is recalled from shelf")
    assert recalled is not None
    assert recalled["Urgency"] == "now"
    assert _said(served, "risk-1", "The rollout of lending-default@1 to shelf failed") is not None


def test_an_officers_own_key_ends(served: Pages) -> None:
    assert _said(served, "risk-1", "Your key is good until") is not None
    assert _said(served, "privacy-1", "Your key is good until") is None


@pytest.mark.parametrize("officer", EVERYBODY)
def test_the_most_urgent_is_first_and_what_others_wrote_stays_text(served: Pages, officer: str) -> None:
    order = [("now", "soon", "to know").index(each["Urgency"]) for each in _needs(served, officer)]
    page = _as(served, officer).get("/").text

    assert order == sorted(order)
    assert order
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert" in page


def test_the_part_that_lives_fetches_itself(served: Pages) -> None:
    page = _as(served, "privacy-1").get("/").text

    assert '<div id="now" hx-get="/" hx-trigger="refresh" hx-select="#now"' in page
    assert 'data-refresh="*"' in page


def test_the_latest_runs_are_a_file(served: Pages) -> None:
    rows = list(
        csv.DictReader(io.StringIO(_as(served, "admin-1").get("/?format=csv&table=latest-runs").text))
    )

    assert {row["Run"]: row["State"] for row in rows}[FAILED] == "failed"


@pytest.mark.parametrize("officer", ["privacy-1", "admin-1"])
def test_where_nothing_happened_the_page_says_so(quiet: Pages, officer: str) -> None:
    page = _as(quiet, officer).get("/").text

    assert "Nothing waits for you" in page
    assert "No run was launched yet" in page
    assert _needs(quiet, officer) == []
