"""Comments on plans: bounded, answered once, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.office import comments
from protos import governance_pb2 as governance
from strategies.errors import Refused, UsageError
from tests.coordinator.api_for_tests import Bank, authored, new_id, plan_of, serving
from tests.coordinator.cli_for_tests import commands_in, facts_of

_METHOD = "covenant.governance.v1.Plans/CommentPlan"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    yield from serving(tmp_path / "bank", database_url=url)


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Bank]:
    """On SQLite only."""
    yield from serving(tmp_path / "bank")


def proposed(bank: Bank) -> str:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    return what.plan.digest


def test_officers_say_something_and_all_readers_see_it_in_order(bank: Bank) -> None:
    plan = proposed(bank)
    bank.desk("privacy-1").comment(plan[:12], "", "Why 5 rounds?\r\nAnd why now?")
    bank.desk("author-1").comment(plan, plan_of().contract.digest, "<b>Because</b>")
    bank.desk("auditor-1").comment(plan, "", "noted")

    said = list(bank.desk("risk-1").comments(plan, ""))

    assert [(each.officer, each.text) for each in said] == [
        ("privacy-1", "Why 5 rounds?\nAnd why now?"),
        ("author-1", "<b>Because</b>"),
        ("auditor-1", "noted"),
    ]
    assert {each.kind for each in bank.told()} == {"access", "ceiling", "members", "proposed"}


def test_a_request_that_comes_twice_says_it_once(bank: Bank) -> None:
    plan = proposed(bank)
    request = governance.CommentPlanRequest(request_id=new_id(), plan=plan, text="once")
    client = bank.client("privacy-1")
    answers = [client.ask(_METHOD, request, governance.PlanComment) for _ in range(2)]

    assert answers[0] == answers[1]
    assert len(list(bank.desk("risk-1").comments(plan, ""))) == 1


def test_what_a_comment_may_not_be(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = proposed(bank)
    desk = bank.desk("privacy-1")
    for text in ("", "  \n ", "x" * 2001, "\x1b[2J", "turned \u202e around", "null \0"):
        with pytest.raises(UsageError, match="a comment has"):
            desk.comment(plan, "", text)
    with pytest.raises(UsageError, match="was proposed here"):
        desk.comment("0" * 64, "", "about nothing")
    with pytest.raises(Refused, match="takes"):
        bank.desk("operator-1").comment(plan, "", "not mine to read")
    assert list(desk.comments(plan, "")) == []

    monkeypatch.setattr(comments, "MOST", 1)
    desk.comment(plan, "", "x" * 2000)
    with pytest.raises(Refused, match="has 1 comments, the most"):
        desk.comment(plan, "", "one more")


def test_the_command_says_and_shows(
    quick: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, covenant = proposed(quick), commands_in(tmp_path, monkeypatch, capsys)
    at = ("--access", str(quick.access("privacy-1")))

    said = facts_of(covenant, "plan", "comment", plan[:12], "looks fine", *at)
    code, _, shown = covenant("plan", "comment", plan[:12], *at)

    assert [(each["officer"], each["text"]) for each in said["comments"]] == [("privacy-1", "looks fine")]
    assert code == 0
    assert "looks fine" in shown
