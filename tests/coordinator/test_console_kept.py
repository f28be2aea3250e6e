"""Whatever is done in the console: a session that ends in the middle keeps what was typed, in the form itself, and what has changed since is told before it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from coordinator.console.routes import ANYBODY, all_routes
from coordinator.deploy.inventory import rollouts
from coordinator.office import comments, plans
from coordinator.office.actors import here
from coordinator.registry.versions import get_version
from protos.membership import Role
from protos.model_stages import Stage
from protos.rollouts import Canary
from tests.coordinator.api_for_tests import approval, authored, plan_of
from tests.coordinator.console_deployed_for_tests import HOSTILE, Desk, at
from tests.coordinator.console_for_tests import Pages, copied, pages
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.runs_console_for_tests import FAILED, GOING, Ran, ran

__all__ = ["at"]

pytestmark = pytest.mark.slow

MODEL, TARGET = f"/models/{NAME}@1", "/deployments/branch"
ACTS = {
    "validate": {"why": HOSTILE},
    "name": {"alias": "stable", "off": ""},
    "recall": {"why": HOSTILE, "target": "branch", "confirmed": "recall"},
    "evidence": {"kind": "validation-dossier", "form": "pdf"},
}
MOVES = {"quarantined": "quarantine", "retired": "retire"}
DECISIONS = {
    "start": {
        "model": f"{NAME}@2",
        "step": "canary",
        "share": "12.5",
        "steps": "20 40",
        "min_rows": "77",
        "most_error_rate": "2.5",
        "most_latency_ratio": "4",
        "most_psi": "0.5",
        "why": HOSTILE,
    },
    "promote": {"step": "full", "share": "33", "why": HOSTILE},
    "rollback": {"why": HOSTILE, "confirmed": "roll back"},
    "renew": {"why": HOSTILE},
}
SECRETS = {"/account/setup", "/account/password"}
NOTHING_TYPED = {"/signout", "/signout/everywhere", "/drafts/{draft}"}


def test_every_form_with_something_typed_names_its_page() -> None:
    """And each of them is in one of the tests below."""
    forms = {each.path for each in all_routes() if each.method == "POST" and each.needs != ANYBODY}
    named = {each.path for each in all_routes() if each.form is not None}
    tried = {
        "/halt",  # in test_console_drafts
        *(f"/loop/{{draft}}/{each}" for each in ("adopt", "dismiss")),  # in test_console_loop
        "/models/{model}/windows/acknowledge",
        "/models/{model}/value",  # in test_value
        "/budgets/what-if",
        *(f"/plans/{{digest}}/{each}" for each in ("comments", "launch")),
        *(f"/runs/{{run}}/{each}" for each in ("stop", "resume")),
        *(f"/models/{{model}}/{each}" for each in (*ACTS, "move")),
        *(f"/deployments/{{target}}/{each}" for each in DECISIONS),
    }
    assert named == tried == forms - SECRETS - NOTHING_TYPED


def shown_on(served: Pages, page: str) -> str:
    """What the forms of a page say that it showed."""
    text = served.browser("author-1").get(page).text
    return unescape(text.partition('name="shown" value="')[2].partition('"')[0])


# --- plans ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pages]:
    for bank in copied(tmp_path / "bank"):
        with pages(bank) as found:
            yield found


def proposed(served: Pages) -> str:
    """The page of a plan that is approved."""
    what = plan_of()
    plans.propose(served.centre, here(), what.plan, what.contract, authored(what))
    for name, role in (("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK)):
        plans.approve(served.centre, here(), approval(what, name, role))
    return f"/plans/{what.plan.digest}"


def contract() -> dict[str, str]:
    return {"contract": plan_of().contract.digest}


def test_a_comment_is_in_its_form_again(served: Pages) -> None:
    page = proposed(served)
    digest = page.rpartition("/")[2]
    late = served.sent_too_late("auditor-1", page, f"{page}/comments", {"text": HOSTILE, **contract()})
    assert HOSTILE not in late.page.text
    assert late.form(f"{page}/comments")["text"] == HOSTILE
    assert not comments.list_comments(served.centre, digest, contract()["contract"], 0, 9)

    assert "Your comment is kept" in late.send(f"{page}/comments", {}).text
    assert [
        each.text for each in comments.list_comments(served.centre, digest, contract()["contract"], 0, 9)
    ] == [HOSTILE]
    assert HOSTILE not in served.browser("auditor-1").get("/account").text


def test_a_comment_that_is_refused_is_in_its_form_again(served: Pages) -> None:
    page, browser = proposed(served), served.browser("auditor-1")
    refused = browser.post(f"{page}/comments", {"text": "so long " * 4000}, on=page)
    assert refused.status_code == 400
    back = refused.text.partition('href="/drafts/')[2].partition('"')[0]
    assert "so long so long" in browser.get(f"/drafts/{back}").text.partition('id="typed"')[2]


def test_a_launch_that_was_sent_too_late_shows_what_has_changed_and_launches_nothing(served: Pages) -> None:
    page = proposed(served)
    fields = {**contract(), "shown": shown_on(served, page)}
    late = served.sent_too_late("author-1", page, f"{page}/launch", fields)
    plans.approve(served.centre, here(), approval(plan_of(), "privacy-2", Role.PRIVACY_OFFICER))
    answered = late.send(f"{page}/launch", {})

    assert answered.status_code == 409
    assert "This approval is new: privacy-2 as privacy_officer" in answered.text
    assert served.bank.transport.started == []
    again = replace(late, page=answered)  # what it shows now is what is so
    again.send(f"{page}/launch", {})
    assert len(served.bank.transport.started) == 1


def test_a_draft_of_a_plan_is_in_its_form_again(served: Pages) -> None:
    path, typed = "/budgets/what-if", {"draft": f"name: {HOSTILE}\n", "contract": "rows: many\n"}
    late = served.sent_too_late("privacy-1", path, path, typed)
    assert HOSTILE not in late.page.text
    found = late.form(path)
    assert {name: found[name] for name in typed} == typed
    assert late.send(path, {}).status_code == 400  # no plan, which the page says with the text in its place
    assert "What you typed and was not done" not in late.browser.get("/account").text


# --- runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("runs")) as found:
        yield found


def test_a_run_is_resumed_and_stopped_as_it_was_seen(console: Ran) -> None:
    served, page = console.pages, f"/runs/{FAILED}"
    late = served.sent_too_late("author-1", page, f"{page}/resume", {"shown": "failed 3"})
    assert late.form(f"{page}/resume")["shown"] == "failed 3"
    assert "nothing was resumed: since this page was shown" in late.send(f"{page}/resume", {}).text

    page = f"/runs/{GOING}"
    late = served.sent_too_late("author-1", page, f"{page}/stop", {"confirmed": "stop"})
    assert '<details class="ask" open>' in late.page.text
    assert "confirmed" not in late.form(f"{page}/stop")
    assert "is stopped; what it committed stays" in late.send(f"{page}/stop", {"confirmed": "stop"}).text


# --- models and deployments ----------------------------------------------------------------------------------------------


@pytest.fixture
def working(at: Desk) -> Iterator[Desk]:
    """A target with a version that serves, and another that is approved."""
    with at.works.serving():
        for seed in (1, 2):
            at.approved(seed)
        at.works.start(1, "branch")
        at.works.drive("branch")
        yield at


def expected(fields: dict[str, str]) -> dict[str, str]:
    """A confirmation is typed anew; which button was pressed is no field."""
    return {name: value for name, value in fields.items() if name not in {"confirmed", "form"}}


@pytest.mark.parametrize("act", ACTS)
def test_what_was_typed_about_a_version_is_in_its_form_again(working: Desk, act: str) -> None:
    if act == "validate":
        working.registered(3)
    page = f"/models/{NAME}@3" if act == "validate" else MODEL
    who = "auditor-1" if act == "evidence" else "author-1"
    fields = ACTS[act] if act == "evidence" else {**ACTS[act], "shown": shown_on(working.pages, page)}
    late = working.pages.sent_too_late(who, page, f"{page}/{act}", fields)
    found = late.form(f"{page}/{act}")

    assert expected(fields).items() <= found.items()
    assert found.get("confirmed", "") in {"", "on"}
    assert HOSTILE not in late.page.text
    assert late.page.text.count('id="typed"') == 1
    if act != "evidence":  # for which this bank's log has too little
        assert late.send(f"{page}/{act}", {"confirmed": "recall"}).status_code == 200


@pytest.mark.parametrize("to", MOVES)
def test_what_was_typed_about_a_move_is_in_that_moves_form(working: Desk, to: str) -> None:
    path, fields = f"{MODEL}/move", {"to": to, "why": HOSTILE, "shown": shown_on(working.pages, MODEL)}
    late = working.pages.sent_too_late("risk-1", MODEL, path, {**fields, "confirmed": MOVES[to]})
    assert fields.items() <= late.form(path).items()
    assert late.page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;</textarea>") == 1

    working.works.start(2, "branch")
    working.works.drive("branch")  # by now it serves nowhere
    answered = late.send(path, {"confirmed": MOVES[to]})
    assert answered.status_code == 409
    assert "It runs at nothing; before it was branch." in answered.text
    assert get_version(working.works.centre.engine, NAME, 1).stage is Stage.APPROVED
    again = replace(late, page=answered)
    assert again.form(path)["why"] == HOSTILE
    assert again.send(path, {"confirmed": MOVES[to]}).status_code == 200
    assert str(get_version(working.works.centre.engine, NAME, 1).stage) == to


@pytest.mark.parametrize("decision", DECISIONS)
def test_what_was_typed_about_a_target_is_in_its_form_again(working: Desk, decision: str) -> None:
    if decision in {"promote", "rollback"}:
        working.works.start(2, "branch", Canary(0.1))
        working.works.drive("branch")
    before = len(rollouts(working.works.centre.engine))
    path, fields = (
        f"{TARGET}/{decision}",
        {**DECISIONS[decision], "shown": shown_on(working.pages, TARGET)},
    )
    late = working.pages.sent_too_late("author-1", TARGET, path, fields)
    found = late.form(path)

    assert expected(fields).items() <= found.items()
    assert "automatic" not in found  # it was not ticked
    assert HOSTILE not in late.page.text
    assert len(rollouts(working.works.centre.engine)) == before
    done = late.send(path, {"confirmed": fields.get("confirmed", "")})
    assert (done.status_code, done.url.path) == (200, TARGET)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in done.text.partition('id="history"')[2]


@pytest.mark.parametrize("decision", ["rollback", "renew"])
def test_a_decision_that_came_too_late_shows_what_came_meanwhile(working: Desk, decision: str) -> None:
    path, fields = f"{TARGET}/{decision}", {**DECISIONS[decision], "shown": shown_on(working.pages, TARGET)}
    working.works.start(2, "branch")
    working.works.drive("branch")
    late = working.pages.sent_too_late("author-1", TARGET, path, fields)
    answered = late.send(path, {"confirmed": "roll back"})

    assert answered.status_code == 409
    assert "Ordered since you looked" in answered.text
    assert replace(late, page=answered).form(path)["why"] == HOSTILE
    assert [each.state for each in rollouts(working.works.centre.engine)] == ["full", "superseded"]
