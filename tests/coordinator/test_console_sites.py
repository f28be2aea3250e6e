"""Sites in the console: their health, what is wrong, and what to do."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from coordinator.console.fleet import Fleet, Seen
from coordinator.console.reads.sites import site_views
from coordinator.db.engine import writing
from coordinator.db.progress_schema import SiteHeard
from coordinator.flower.control import NodeSeen
from coordinator.rounds.progress import KeptProgress
from protos.frames import Stage
from protos.membership import Role
from protos.release import package_version
from strategies.errors import Unreachable
from tests.coordinator.api_for_tests import BY_ROLE
from tests.coordinator.runs_console_for_tests import DONE, Ran, ran
from tests.coordinator.secure_for_tests import CONTRACT, EAST, FOUR, NORTH, SOUTH, WEST


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("sites")) as found:
        yield found


def listed(console: Ran, query: str = "") -> dict[str, dict[str, str]]:
    answered = console.browser("auditor-1").get(f"/sites?format=csv{query}")
    return {row["Site"]: row for row in csv.DictReader(io.StringIO(answered.text))}


def progress(console: Ran) -> KeptProgress:
    clock = console.pages.centre.clock
    return KeptProgress(
        console.federation.engine, DONE, CONTRACT.ref, clock, console.federation.clock.monotonic
    )


def say(console: Ran, site: str, trouble: str | None) -> None:
    """A site answers, or says why not."""
    from coordinator.rounds.exchange import Unanswered

    told = progress(console)
    told.asking(Stage.TRAIN, 9, "input", {site: b"?"})
    told.heard(site, Unanswered("nothing"), trouble)
    told.flush()


def test_the_list_says_how_each_site_is(console: Ran) -> None:
    found = listed(console)

    assert set(found) == set(FOUR)
    assert found["east"]["Health"] == "well"
    assert found["south"]["Health"] == "refuses"
    assert found["east"]["Contract"] == f"fits {CONTRACT.ref}"
    assert found["east"]["Agent"] == package_version()
    assert found["east"]["Connected"] == "not known"
    assert list(found)[-1] in {"east", "north"}  # who is well comes last
    assert set(listed(console, "&health=trouble")) == {"south", "west"}
    assert set(listed(console, "&name=OUT")) == {"south"}
    assert "No site is like that." in console.browser("auditor-1").get("/sites?name=nobody").text
    assert console.browser("auditor-1").get("/sites?health=odd").status_code == 400


def test_a_site_shows_its_runs_refusals_and_keys(console: Ran) -> None:
    browser = console.browser("auditor-1")
    page = browser.get("/sites/east").text

    assert f'href="/runs/{DONE}"' in page
    assert "policy.accept.components" in page
    assert "fingerprint" in page
    assert "fits loans@1" in page
    refusals = list(csv.DictReader(io.StringIO(browser.get("/sites/east?format=csv&table=refusals").text)))
    assert refusals
    assert all(row["What that means"] for row in refusals)
    assert browser.get("/sites/east?format=csv&table=odd").status_code == 400
    assert browser.get("/sites/nobody").status_code == 409
    assert browser.get("/sites/..%2f..").status_code in {400, 404}


def test_what_is_wrong_comes_with_what_to_do(console: Ran) -> None:
    browser = console.browser("author-1")
    south = browser.get("/sites/south").text
    assert "does not take part at present" in south
    assert "covenant-agent plan pending" in south

    say(console, NORTH, "refused (contract)")
    assert listed(console)["north"]["Health"] == "unfit"
    assert listed(console)["north"]["Contract"] == f"does not fit {CONTRACT.ref}"
    assert f"covenant-agent history --run {DONE}" in browser.get("/sites/north").text
    say(console, NORTH, None)
    assert listed(console)["north"]["Health"] == "well"
    assert "Nothing is wrong that is known here." in browser.get("/sites/north").text


def test_a_suspended_site_says_who_lets_it_return(console: Ran) -> None:
    browser = console.browser("privacy-1")
    halted = {"scope": "site east", "reason": "<b>odd</b> answers", "confirmed": "halt"}
    assert "site east is halted" in browser.post("/halt", halted).text

    page = browser.get("/sites/east").text
    assert "two officers let it return: covenant site return east" in page
    assert "&lt;b&gt;odd" in page
    assert "<b>odd" not in page
    assert listed(console)["east"]["Health"] == "suspended"
    halts = list(csv.DictReader(io.StringIO(browser.get("/sites/east?format=csv&table=halts").text)))
    assert [row["State"] for row in halts] == ["stands"]


@pytest.mark.parametrize("role", list(Role))
def test_every_role_sees_sites_and_admins_who_is_on_the_way_in(console: Ran, role: Role) -> None:
    page = console.browser(BY_ROLE[role]).get("/sites")

    assert page.status_code == 200
    assert ("On the way in" in page.text) == (role == Role.ADMIN)
    one = console.browser(BY_ROLE[role]).get("/sites/west").text
    reads_accounts = role not in {Role.ADMIN, Role.SITE_OPERATOR}
    assert ("/budgets?site=west" in one) == reads_accounts


def test_who_is_connected_is_what_the_superlink_says(console: Ran) -> None:
    members = console.pages.bank.listed
    until = datetime.now(UTC) + timedelta(seconds=20)
    nodes = {
        members.member(WEST).node_key.encode(): NodeSeen(online=False, heard_until=until),
        members.member(SOUTH).node_key.encode(): NodeSeen(online=True, heard_until=until),
    }
    engine, now = console.federation.engine, datetime.now(UTC)
    found = {each.site: each for each in site_views(engine, members, Seen(nodes), now)}

    assert (found[SOUTH].online, found[WEST].online, found[EAST].online) == (True, False, False)
    assert found[NORTH].health == "away"
    unknown = site_views(engine, members, Seen(None, "no answer"), now)
    assert [each.online for each in unknown] == [None] * 4


def test_a_superlink_is_asked_beside_the_page_and_not_too_often() -> None:
    asked: list[float] = []
    now = [0.0]

    def look() -> dict[bytes, NodeSeen]:
        asked.append(now[0])
        if now[0] > 5:
            raise Unreachable("a path of this machine")
        return {b"key": NodeSeen(online=True, heard_until=None)}

    fleet = Fleet(look, lambda: now[0])
    assert fleet.now().nodes == {b"key": NodeSeen(online=True, heard_until=None)}
    fleet.now()
    assert asked == [0.0]
    now[0] = 6.0
    seen = fleet.now()
    assert seen.nodes is None
    assert "a path of this machine" not in str(seen.trouble)


def test_two_hundred_sites_are_one_page_of_few_queries(console: Ran) -> None:
    """The queries do not grow with the sites: what is heard of them is one row each."""
    from sqlalchemy import event

    engine = console.federation.engine
    statements: list[str] = []
    members = console.pages.bank.listed
    template = members.member(WEST)
    many = members.model_copy(
        update={"members": tuple(template.model_copy(update={"site": f"site-{n}"}) for n in range(200))}
    )
    with writing(engine, "filling") as session:
        session.add_all(SiteHeard(site=f"site-{n}", answered_at=datetime.now(UTC)) for n in range(200))

    def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        found = site_views(engine, many, Seen(None), datetime.now(UTC))
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert len(found) == 200
    assert len(statements) <= 6
