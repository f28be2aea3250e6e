"""Deployments in the console: what runs where, its figures, and decisions that name the order that was seen."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from coordinator.console.reads import deployments as reads
from coordinator.deploy.driving import Driving
from coordinator.deploy.inventory import inventory, orders, rollouts
from coordinator.deploy.targets.settings import LocalSettings
from coordinator.office import deployments as office
from coordinator.office.actors import here
from protos.rollouts import Canary, RolloutRules
from simulation.deployment import free_port
from strategies.errors import Refused
from tests.coordinator.console_deployed_for_tests import HOSTILE, Desk, at
from tests.coordinator.console_for_tests import Browser
from tests.coordinator.deploy_for_tests import NAME, Serving
from tests.coordinator.test_console_models import rows_of

__all__ = ["at"]

PAGE = "/deployments/branch"
_SHOWN = re.compile(r'name="shown" value="(\d+)"')


@pytest.fixture
def service(at: Desk) -> Iterator[Serving]:
    """A target with a version that serves, and another that is approved."""
    with at.works.serving() as service:
        for seed in (1, 2):
            at.approved(seed)
        at.works.start(1, "branch")
        at.works.drive("branch")
        yield service


def act(browser: Browser, what: str, fields: dict[str, str], *, seen: str | None = None) -> httpx.Response:
    """Send a form of the target's page as it is shown now, or as it was `seen`."""
    if seen is None:
        found = _SHOWN.search(browser.get(PAGE).text)
        seen = found[1] if found else "0"
    return browser.post(f"{PAGE}/{what}", {"why": "a test", "shown": seen, **fields}, on=PAGE)


def states(at: Desk) -> list[tuple[int, str]]:
    return [(each.version, each.state) for each in reversed(rollouts(at.works.centre.engine))]


def test_without_targets_the_page_says_what_to_do(at: Desk) -> None:
    page = at.pages.browser("author-1").get("/deployments").text
    assert "There is no target yet" in page
    assert "Nothing was brought anywhere yet" in page


def test_a_target_shows_what_runs_there(at: Desk, service: Serving) -> None:
    browser = at.pages.browser("auditor-1")
    (row,) = rows_of(browser.get("/deployments?format=csv&table=targets"))
    page = browser.get(PAGE).text

    assert (row["Target"], row["Serves"], row["State"]) == ("branch", f"{NAME}@1", "in force")
    assert row["Release ends"]
    assert "Roll back" not in page
    assert "Start a rollout" not in page
    assert [each["Order"] for each in rows_of(browser.get(f"{PAGE}?format=csv&table=orders"))] == ["1"]
    assert browser.get("/deployments/nowhere").status_code == 400


def test_an_admin_sees_targets_and_orders_and_no_rollouts(at: Desk, service: Serving) -> None:
    admin = at.pages.browser("admin-1")

    assert f"{NAME}@1" not in admin.get("/deployments").text
    page = admin.get(PAGE).text
    assert "Orders" in page
    assert f"{NAME}@1" not in page
    assert admin.get(f"{PAGE}/live").status_code == 403
    assert at.pages.browser("operator-1").get("/deployments").status_code == 403


def test_from_shadow_to_full_and_back(at: Desk, service: Serving) -> None:
    browser = at.pages.browser("author-1")
    begun = act(browser, "start", {"model": f"{NAME}@2", "step": "canary", "share": "10", "steps": "10 50"})
    assert f"{NAME}@2 is ordered to branch" in begun.text
    at.works.drive("branch")
    assert states(at) == [(1, "full"), (2, "canary")]
    assert rollouts(at.works.centre.engine)[0].rules["automatic"] is False
    act(browser, "promote", {"step": "full"})
    at.works.drive("branch")
    assert states(at) == [(1, "superseded"), (2, "full")]
    assert f"{NAME}@1 serves again" in browser.get(PAGE).text
    assert act(browser, "rollback", {}).status_code == 400
    act(at.pages.browser("privacy-1"), "rollback", {"confirmed": "roll back"})
    at.works.drive("branch")

    assert states(at) == [(1, "full"), (2, "rolled_back")]
    before = service.opened["stable"].expires
    at.works.agree(1, days=60)  # a release lasts no longer than its approvals
    act(browser, "renew", {})
    at.works.drive("branch")
    after = service.opened["stable"].expires
    assert before is not None
    assert after is not None
    assert after > before


def test_who_may_not_decide_is_refused(at: Desk, service: Serving) -> None:
    for what in ("start", "promote", "renew"):
        assert (
            act(at.pages.browser("risk-1"), what, {"model": f"{NAME}@2", "step": "full"}).status_code == 403
        )
    assert act(at.pages.browser("auditor-1"), "rollback", {"confirmed": "roll back"}).status_code == 403
    assert len(orders(at.works.centre.engine, "branch")) == 1


def test_what_was_decided_meanwhile_is_shown_and_nothing_is_ordered(at: Desk, service: Serving) -> None:
    browser = at.pages.browser("author-1")
    at.works.start(2, "branch", Canary(0.1))
    at.works.drive("branch")
    answered = act(browser, "rollback", {"confirmed": "roll back", "why": "slow <b>"}, seen="1")

    assert answered.status_code == 409
    assert "Ordered since you looked (you saw order 1)" in answered.text
    assert "slow &lt;b&gt;</textarea>" in answered.text
    assert states(at) == [(1, "full"), (2, "canary")]
    for seen in ("", "-1", "1e3", "9" * 30):
        assert act(browser, "rollback", {"confirmed": "roll back"}, seen=seen).status_code == 400


def test_two_who_roll_back_in_sight_of_one_order_go_back_once(at: Desk, service: Serving) -> None:
    at.approved(3)
    for version in (2, 3):
        at.works.start(version, "branch")
        at.works.drive("branch")
    seen = reads.place(at.works.centre.engine, "branch").view.revision
    office.roll_back(at.works.centre, here(), "branch", "the first", seen=seen)
    with pytest.raises(Refused, match=f"come to order {seen + 1}.*order {seen} in sight"):
        office.roll_back(at.works.centre, here(), "branch", "the second", seen=seen)
    at.works.drive("branch")

    assert states(at) == [(1, "superseded"), (2, "full"), (3, "rolled_back")]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": f"{NAME}@2", "step": "canary", "share": "ten"},
        {"model": f"{NAME}@2", "step": "canary", "share": "nan"},
        {"model": f"{NAME}@2", "step": "half"},
        {"model": f"{NAME}@x", "step": "full"},
        {"model": f"{NAME}@2", "step": "full", "steps": "50 10"},
        {"model": f"{NAME}@2", "step": "full", "steps": " ".join(["1"] * 50)},
        {"model": f"{NAME}@2", "step": "full", "why": ""},
        {"model": f"{NAME}@2", "step": "full", "why": "w" * 501},
    ],
)
def test_a_rollout_that_is_none_is_refused(at: Desk, service: Serving, fields: dict[str, str]) -> None:
    assert act(at.pages.browser("author-1"), "start", fields).status_code == 400
    assert len(orders(at.works.centre.engine, "branch")) == 1


def test_words_of_others_are_no_markup(at: Desk, service: Serving) -> None:
    browser = at.pages.browser("author-1")
    act(browser, "start", {"model": f"{NAME}@2", "step": "full", "why": HOSTILE})

    for path in (
        "/deployments",
        PAGE,
        f"/deployments?model={HOSTILE}",
        f"{PAGE}?model={HOSTILE}",
        f"/deployments/{HOSTILE}",
    ):
        page = browser.get(path).text
        assert "<script>alert" not in page
        assert "<img" not in page
    assert "&lt;script&gt;alert" in browser.get(PAGE).text


def test_figures_of_both_arms_and_what_the_rules_say(at: Desk, service: Serving) -> None:
    at.works.start(2, "branch", Canary(0.1), RolloutRules(automatic=False, min_rows=100))
    at.works.drive("branch")
    service.count("stable", rows=2000, latency_ms=2.0)
    service.count("challenger", rows=1000, errors=40, latency_ms=3.0)
    browser = at.pages.browser("auditor-1")
    part = browser.client.get(f"{PAGE}/live", headers={"HX-Request": "true"}).text

    assert "<html" not in part
    assert "is to be taken back" in part
    assert "4.00% of requests failed" in part
    drawn = [json.loads(each) for each in re.findall(r'<script type="application/json">(.*?)</script>', part)]
    (outcomes,) = [each for each in drawn if each["title"] == "Declined and failed"]
    assert {each["name"]: dict(each["points"])["failed"] for each in outcomes["series"]} == {
        "serves": 0.0,
        "on trial": 0.04,
    }
    assert browser.get(f"{PAGE}/live").url.query == b"live=1"
    assert "Figures now" in browser.get(f"{PAGE}?live=1").text


def test_a_target_that_does_not_answer_says_so(at: Desk) -> None:
    at.works.add(
        "away", LocalSettings(state=str(at.works.home / "away"), url=f"http://127.0.0.1:{free_port()}")
    )
    browser = at.pages.browser("auditor-1")

    assert "nothing ordered yet" in browser.get("/deployments/away").text
    assert "does not answer now" in browser.get("/deployments/away?live=1").text


def test_lists_are_paged_by_key(at: Desk, service: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "MOST", 1)
    at.works.start(2, "branch")
    at.works.drive("branch")
    browser = at.pages.browser("auditor-1")
    first = browser.get(PAGE).text
    (rollout,) = set(re.findall(r"\?rollout=(rollout-[0-9a-f]+)", first))
    (order,) = set(re.findall(r"\?order=(\d+)", first))

    assert [
        each["Model"] for each in rows_of(browser.get(f"{PAGE}?rollout={rollout}&format=csv&table=rollouts"))
    ] == [f"{NAME}@1"]
    assert [
        each["Order"] for each in rows_of(browser.get(f"{PAGE}?order={order}&format=csv&table=orders"))
    ] == ["1"]
    for wrong in ("?rollout=x", "?order=x", "?order=-1"):
        assert browser.get(f"{PAGE}{wrong}").status_code == 400


@contextmanager
def scoring(at: Desk) -> Iterator[httpx.Client]:
    """The scoring service itself, in a process of its own, which serves what its state folder says."""
    port, state = free_port(), at.works.home / "state-real"
    state.mkdir()
    root = at.works.centre.settings.root_file
    command = [
        sys.executable,
        "-m",
        "coordinator.main",
        "score",
        "serve",
        "--state",
        str(state),
        "--root",
        str(root),
    ]
    with (
        subprocess.Popen(
            [*command, "--target", "branch", "--port", str(port), "--no-auth-on-loopback"]
        ) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        try:
            at.works.add("branch", LocalSettings(state=str(state), url=f"http://127.0.0.1:{port}"))
            _until(lambda: _alive(client), 60.0)
            yield client
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0


def _alive(client: httpx.Client) -> bool:
    try:
        return client.get("/v2/health/live").is_success
    except httpx.TransportError:
        return False


def _until(holds: object, within_s: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not holds():  # type: ignore[operator]
        assert time.monotonic() - began < within_s
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.slow
def test_a_rollback_from_the_console_is_in_force_at_once(at: Desk) -> None:
    for seed in (1, 2):
        at.approved(seed)
    with scoring(at) as client, Driving(at.works.centre):
        browser = at.pages.browser("author-1")

        def serves(version: int) -> bool:
            stable = client.get("/covenant/v1/status").json()["stable"]
            return stable is not None and stable["version"] == version

        def runs(version: int) -> bool:
            return [each.version for each in inventory(at.works.centre.engine)] == [version]

        for version in (1, 2):
            act(browser, "start", {"model": f"{NAME}@{version}", "step": "full"})
            _until(lambda version=version: serves(version) and runs(version), 30.0)
        began = time.monotonic()
        act(browser, "rollback", {"confirmed": "roll back", "why": "it declines too much"})
        _until(lambda: serves(1), 10.0)
        assert time.monotonic() - began < 3.0  # a second, and what two busy cores take
        _until(lambda: runs(1), 10.0)
        assert "rolled back" in browser.get(PAGE).text
