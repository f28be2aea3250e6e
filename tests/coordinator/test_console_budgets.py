"""The console's budgets: accounts, one account over time, what-if, and audits beside the claims."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.console.reads import accounts
from coordinator.db import writing
from coordinator.db.schema import Run
from coordinator.documents import read_listed
from coordinator.ledger import Ledger
from coordinator.ledger.audits import AuditedClaim, AuditPower, KeptAudit, keep_audit, kept_audits
from coordinator.ledger.ceilings import Proposal
from coordinator.office import plans as office
from coordinator.office.actors import here
from coordinator.rounds.question import RunDocuments
from coordinator.runs import needs_of
from protos.membership import Role
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName
from tests.ceilings_for_tests import ONE, TWO, Decision, set_ceiling
from tests.coordinator.api_for_tests import Bank, approval, authored, plan_of, template
from tests.coordinator.cli_for_tests import SITES, membership
from tests.coordinator.console_for_tests import Browser, Pages, copied, pages
from tests.private_plan_for_tests import CONTRACT, PLAN

HOSTILE = '<script>alert(1)</script> "><img src=x onerror=alert(2)>'
RUN = RunId("run-00000000000abc01")
PLAN_1 = plan_of(1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Accounts at four sites; one run that has opened some of what it reserved; a plan that is approved and one that is not."""
    for bank in copied(tmp_path_factory.mktemp("budgets")):
        with pages(bank) as found:
            _fill(bank)
            yield found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """No account at all."""
    bank = Bank.copied(template(accounts=False), tmp_path_factory.mktemp("bare"))
    with pages(bank) as found:
        yield found
    bank.close()


def _fill(bank: Bank) -> None:
    ledger, listed = Ledger(bank.centre.engine, bank.centre.clock), read_listed(bank.centre.settings)
    record = PrivacyUnit(kind=UnitKind.RECORD)
    higher = Proposal(
        epsilon=70.0, delta=1e-5, unit=record, reason=HOSTILE, alert_at=[0.01, 0.9], overlaps=["south"]
    )
    set_ceiling(ledger, SiteName("west"), "lending-club", Decision(proposal=higher, officers=TWO), listed)
    unit = PrivacyUnit(kind=UnitKind.CUSTOMER, column='id/"<b>', max_rows=4)
    odd = Proposal(epsilon=6.0, delta=1e-6, unit=unit, reason="r")
    set_ceiling(ledger, SiteName("west"), "lending-club", Decision(proposal=odd, officers=ONE), listed)
    _launched(bank, ledger)
    for number in (5, 6):
        what = plan_of(number)
        office.propose(bank.centre, here(), what.plan, what.contract, authored(what))
        office.approve(bank.centre, here(), approval(what, "risk-1", Role.MODEL_RISK))
        if number == 5:
            office.approve(bank.centre, here(), approval(what, "privacy-1", Role.PRIVACY_OFFICER))


def _launched(bank: Bank, ledger: Ledger) -> None:
    what, engine = PLAN_1, bank.centre.engine
    documents = RunDocuments(run=RUN, plan=what.plan, contract=what.contract, members=membership().canonical)
    with writing(engine, "submitting") as session:
        session.add(
            Run(
                id=RUN,
                plan_name=what.plan.name,
                plan_digest=what.plan.digest,
                plan=what.plan.canonical.decode(),
                contract=what.contract.canonical.decode(),
                members="{}",
                state="running",
                submitted_at=datetime(2026, 11, 23, 11, 0, tzinfo=UTC),
            )
        )
    ledger.reserve_now(RUN, needs_of(documents))
    for number in (1, 2, 3):
        with writing(engine, "settling") as session:
            ledger.settle(session, RUN, "train", number, 1, [SiteName(each) for each in SITES])


_signed_in: dict[tuple[str, str], Browser] = {}


def _as(served: Pages, officer: str) -> Browser:
    """A browser of an officer, signed in once: sign-ins are limited."""
    key = (served.address, officer)
    if key not in _signed_in:
        _signed_in[key] = served.browser(officer)
    return _signed_in[key]


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _drawn(page: str, name: str) -> dict:
    found = re.search(rf'id="{name}".*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found, name
    return json.loads(found[1])


def _audit(shown: float, digest: str = PLAN_1.plan.digest) -> KeptAudit:
    return KeptAudit(
        plan="lending-default",
        plan_digest=Digest(digest),
        at=datetime(2026, 11, 20, 9, 0, tzinfo=UTC),
        rounds=12,
        planned_rounds=40,
        canaries=640,
        runs=3,
        guesses_made=120,
        guesses_right=71,
        crowd="given rows",
        confidence=0.95,
        claimed=AuditedClaim(words="epsilon 2.134", epsilon=2.134, delta=1e-5),
        claimed_for_all=AuditedClaim(words="epsilon 7.6", epsilon=7.6, delta=1e-5),
        epsilon_at_least=shown,
        power=AuditPower(noise_as_planned=0.6, a_quarter_of_the_noise=2.6, no_noise=3.4, no_clipping=1.9),
    )


def test_accounts_show_what_the_ledger_says(served: Pages) -> None:
    browser = _as(served, "auditor-1")
    page, rows = browser.get("/budgets"), _rows(browser.get("/budgets?format=csv").text)
    ledger = Ledger(served.centre.engine, served.centre.clock)
    west = ledger.show(SiteName("west"), "lending-club", PrivacyUnit(kind=UnitKind.RECORD))

    assert [row["Account"] for row in rows] == [
        *(f"{site}/lending-club" for site in ("midwest", "northeast", "south", "west", "west")),
    ]
    mine = rows[-1]
    assert mine["Unit"] == "record"
    assert float(mine["Spent, with reservations"]) == west.spent.epsilon
    assert float(mine["Opened"]) == west.settled.epsilon
    assert float(mine["Left"]) == pytest.approx(1.0 - west.fraction, abs=1e-5)
    assert mine["Alerts reached"] == "1%"
    assert f"{west.spent.epsilon:.3f}" in page.text
    bars = _drawn(page.text, "shares")
    assert bars["bounds"] == [{"name": "ceiling", "at": 100.0}]
    assert [each["stack"] for each in bars["series"]] == ["spent", "spent"]


def test_accounts_are_found_by_text_and_by_alert(served: Pages) -> None:
    browser = _as(served, "privacy-1")

    def found(query: str) -> list[str]:
        return [row["Account"] for row in _rows(browser.get(f"/budgets?{query}&format=csv").text)]

    assert found("q=midw") == ["midwest/lending-club"]
    assert found("alerts=1") == ["west/lending-club"]
    assert found("q=%25") == []  # no pattern of the database's own
    assert "take the filter away" in browser.get("/budgets?q=nowhere").text
    assert HOSTILE not in browser.get(f"/budgets?q={HOSTILE}").text


def test_accounts_are_paged_both_ways(served: Pages) -> None:
    engine = served.centre.engine
    first = accounts.page(engine, limit=2)
    second = accounts.page(engine, after=first.older, limit=2)
    last = accounts.page(engine, after=second.older, limit=2)
    back = accounts.page(engine, before=last.newer, limit=2)

    every = [each.key for part in (first, second, last) for each in part.rows]
    assert every == sorted(every, key=lambda each: each.stored)
    assert len(set(every)) == len(every) == 5
    assert (first.newer, last.older) == (None, None)
    assert [each.key for each in back.rows] == [each.key for each in second.rows]
    assert _as(served, "privacy-1").get("/budgets?after=west").status_code == 400


def test_an_account_shows_its_curve_and_who_spent_it(served: Pages) -> None:
    page = _as(served, "privacy-1").get("/budgets/west/lending-club?unit=record").text
    view = Ledger(served.centre.engine, served.centre.clock).show(
        SiteName("west"), "lending-club", PrivacyUnit(kind=UnitKind.RECORD)
    )
    drawn = _drawn(page, "epsilon")
    by_name = {each["name"]: each for each in drawn["series"]}

    assert drawn["bounds"] == [{"name": "ceiling 70", "at": 70.0}]
    assert by_name["opened"]["points"][-1][1] == pytest.approx(view.settled.epsilon, abs=1e-5)
    assert by_name["with reservations"]["points"][-1][1] == pytest.approx(view.spent.epsilon, abs=1e-5)
    assert by_name["with reservations"]["dashed"]
    assert [y for _, y in by_name["ceiling as decided"]["points"]] == [60.0, 70.0, 70.0]
    forecast = by_name["approved plans, if launched by their last day"]
    assert forecast["dashed"]
    assert len(forecast["points"]) == 2  # plan 5 is approved, and plan 6 is not
    assert forecast["points"][1][1] > forecast["points"][0][1]
    assert view.spent.words in page
    assert f'href="/runs/{RUN}"' in page
    assert "privacy-1, privacy-2" in page


def test_tables_of_an_account_are_files(served: Pages) -> None:
    browser = _as(served, "auditor-1")

    def table(name: str) -> list[dict[str, str]]:
        return _rows(browser.get(f"/budgets/west/lending-club?unit=record&format=csv&table={name}").text)

    (run,) = table("runs")
    assert (run["Run"], run["Opened"], run["State"]) == (RUN, "3", "running")
    assert [row["Signed by"] for row in table("ceilings")] == ["privacy-1, privacy-2", "privacy-1"]
    assert [row["State"] for row in table("alerts")] == ["reached", "not reached"]
    assert {row["Site"] for row in table("overlaps")} == {"south", "west"}
    assert {row["What"] for row in table("releases")} == {
        "gradient sum",
        "scaling moments",
        "evaluation counts",
    }
    (waiting,) = table("forecast")
    assert waiting["Fits"] == "fits"
    assert browser.get("/budgets/west/lending-club?format=csv&table=none").status_code == 400


def test_a_unit_is_named_whatever_its_column_is_called(served: Pages) -> None:
    browser = _as(served, "privacy-1")
    page = browser.get("/budgets?q=west").text
    link = next(each for each in re.findall(r'href="(/budgets/west/[^"]+)"', page) if "customer" in each)

    found = browser.get(link)
    assert found.status_code == 200
    assert "No run has charged this account" in found.text
    assert "<b>" not in found.text
    assert browser.get("/budgets/west/lending-club?unit=site").status_code == 400
    assert browser.get("/budgets/nowhere/lending-club").status_code == 400


def test_what_others_wrote_stays_text(served: Pages) -> None:
    page = _as(served, "privacy-1").get("/budgets/west/lending-club?unit=record").text

    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_proposed_plan_is_tried(served: Pages) -> None:
    browser, what = _as(served, "risk-1"), plan_of(6)
    page = browser.get(f"/budgets/what-if?plan={what.plan.digest}").text
    rows = _rows(browser.get(f"/budgets/what-if?plan={what.plan.digest}&format=csv").text)

    assert "A launch fits every account" in page
    assert {row["Fits"] for row in rows} == {"fits"}
    assert all(float(row["Spent then"]) > float(row["Spent now"]) for row in rows)
    assert "with all of lending-default" in {each["name"] for each in _drawn(page, "epsilon")["series"]}
    assert browser.get("/budgets/what-if?plan=zzz").status_code == 400


def test_a_pasted_draft_is_tried_and_nothing_is_kept(served: Pages) -> None:
    browser = _as(served, "author-1")
    draft = PLAN.replace("seed: 1", "seed: 77")
    before = len(served.bank.told())
    dear = browser.post(
        "/budgets/what-if",
        {"draft": draft.replace("training: 1.0", "training: 0.4")},
    )
    fits = browser.post("/budgets/what-if", {"draft": draft, "account": "south/lending-club?unit=record"})
    own = browser.post("/budgets/what-if", {"draft": draft, "contract": CONTRACT})

    assert "A launch would be refused: 4 of 4 accounts" in dear.text
    assert "A launch fits every account" in fits.text
    assert "A launch fits every account" in own.text
    assert "south/lending-club, with this plan" in fits.text
    assert "seed: 77" in fits.text  # what was typed stays
    assert len(served.bank.told()) == before
    assert "seed: 77" not in _as(served, "author-1").get("/budgets/what-if").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"draft": "covenant: plan/v1\nname: " + HOSTILE}, "draft"),
        ({"draft": PLAN.replace("lending-club@1", "other@3")}, "paste the contract too"),
        ({"draft": ""}, "choose a proposed plan"),
        ({"draft": PLAN, "contract": "x: y"}, "the contract"),
        ({"draft": PLAN + "# " + "x" * 300_000}, "KiB"),
    ],
)
def test_a_draft_that_cannot_be_read_is_answered_with_its_defect(
    served: Pages, fields: dict[str, str], said: str
) -> None:
    answered = _as(served, "author-1").post("/budgets/what-if", fields)

    assert answered.status_code == 400
    assert said in answered.text
    assert "<script>alert" not in answered.text


def test_an_audit_stands_beside_its_claim(served: Pages) -> None:
    home = served.centre.settings.home
    unaudited = _as(served, "auditor-1").get("/budgets/midwest/lending-club").text
    keep_audit(home, _audit(0.4))
    page = _as(served, "auditor-1").get("/budgets/midwest/lending-club").text

    assert "covenant privacy audit plan.yaml --keep" in unaudited
    assert f"lending-default {PLAN_1.plan.digest[:12]}" in unaudited.partition("Not audited:")[2]
    assert "not contradicted" in page
    assert "a quarter of the noise, no noise" in page
    assert f"lending-default {PLAN_1.plan.digest[:12]}" not in page.partition("Not audited:")[2]


def test_an_audit_that_refutes_is_not_painted_over(tmp_path: Path) -> None:
    keep_audit(tmp_path, _audit(3.0))
    with pytest.raises(Refused, match="refutes the claim"):
        keep_audit(tmp_path, _audit(0.1))
    keep_audit(tmp_path, _audit(4.0))

    (kept,) = kept_audits(tmp_path, [PLAN_1.plan.digest]).values()
    assert (kept.refuted, kept.epsilon_at_least) == (True, 4.0)


def test_what_is_no_audit_of_its_plan_is_as_good_as_none(tmp_path: Path) -> None:
    path, other = keep_audit(tmp_path, _audit(0.4)), Digest("cd" * 32)
    path.with_name(f"{other}.json").write_bytes(path.read_bytes())
    path.write_text("{}")

    assert kept_audits(tmp_path, [PLAN_1.plan.digest, other]) == {}


def test_without_accounts_the_pages_say_what_to_do(bare: Pages) -> None:
    browser = _as(bare, "privacy-1")

    assert "covenant ledger ceiling draft SITE" in browser.get("/budgets").text
    assert browser.get("/budgets?format=csv").text.count("\n") == 1
    assert "No plan waits to be launched" in browser.get("/budgets/what-if").text
    answered = browser.post("/budgets/what-if", {"draft": PLAN, "contract": CONTRACT})
    assert "A launch would be refused: 4 of 4 accounts" in answered.text


@pytest.mark.parametrize("path", ["/budgets", "/budgets/west/lending-club", "/budgets/what-if"])
@pytest.mark.parametrize("officer", ["operator-1", "admin-1"])
def test_who_may_not_read_accounts_sees_none(served: Pages, path: str, officer: str) -> None:
    assert _as(served, officer).get(path).status_code == 403


def test_what_if_needs_its_form(served: Pages) -> None:
    browser = _as(served, "author-1")
    answered = browser.client.post(
        "/budgets/what-if", data={"draft": PLAN}, headers={"Origin": served.address}
    )

    assert answered.status_code == 403


def test_a_curve_has_few_points_however_many_charges(served: Pages) -> None:
    from coordinator.ledger.curves import MOST_POINTS, Change, spent_after
    from protos.plan_releases import releases_of

    planned = releases_of(PLAN_1.plan, PLAN_1.contract)
    assert planned is not None
    at, ceiling = (
        datetime(2026, 1, 1, tzinfo=UTC),
        accounts.page(served.centre.engine).rows[0].book.in_force.ceiling,
    )
    changes = [Change(at + timedelta(hours=number), planned.train, 1) for number in range(1000)]
    found = spent_after(ceiling, changes)

    assert len(found) <= MOST_POINTS
    assert found[-1] == spent_after(ceiling, [Change(at + timedelta(hours=999), planned.train, 1000)])[0]
    assert [each.fraction for each in found] == sorted(each.fraction for each in found)
