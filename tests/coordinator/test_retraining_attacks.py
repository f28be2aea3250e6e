"""Drafts and launches without a person, against coordinators that send something else, halts, approvals that ended and witnesses that are fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from coordinator.cli import loop as loop_commands
from coordinator.db.engine import writing
from coordinator.db.halt_schema import HaltRow
from coordinator.deploy.monitoring.retraining.drafting import draft as draft_of
from coordinator.deploy.monitoring.retraining.views import draft_facts
from coordinator.governance.halts import row_of as halt_row
from coordinator.office import retraining as office
from coordinator.office.actors import here
from protos.documents import read_document
from protos.halts import HaltOrder
from protos.plan import Plan
from tests.coordinator.api_for_tests import FakeTransport
from tests.coordinator.cli_for_tests import Command
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.loop_for_tests import raise_alarm, ready, row_of
from tests.coordinator.monitor_for_tests import Watch, made, watched
from tests.coordinator.test_drafts import with_plan
from tests.coordinator.test_loop_status import covenant, works
from tests.coordinator.test_retraining_launches import (
    ALLOWS,
    all_approve,
    drafted,
    published,
    started,
)
from tests.halts_for_tests import ordered

__all__ = ["covenant", "made", "watched", "works"]


class _Swapping:
    """The real desk, but for what a coordinator that lies would send in place of some facts."""

    def __init__(self, desk: Any, lies: Mapping[str, Any], *, once_adopted: bool) -> None:
        self._desk, self._lies, self._later = desk, lies, once_adopted

    def draft_facts(self, draft: str) -> dict[str, Any]:
        return self._desk.draft_facts(draft) | ({} if self._later else self._lies)

    def adopt(self, draft: str, why: str) -> dict[str, Any]:
        return self._desk.adopt(draft, why) | self._lies


@pytest.mark.parametrize(
    ("lie", "once_adopted"),
    [
        ("a path", False),
        ("another contract", False),
        ("another contract", True),
        ("another text", False),
        ("another text", True),
    ],
)
def test_what_a_coordinator_sends_is_read_before_a_file_is_written(
    works: Works,
    covenant: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lie: str,
    once_adopted: bool,
) -> None:
    draft = draft_of(works.centre, NAME, by="author-1")
    facts = draft_facts(works.centre.engine, draft)
    document = facts["contract_document"]
    lies = {
        "a path": {"contract_document": {**document, "name": "../escaped"}},
        "another contract": {"contract_document": {**document, "version": 7}, "contract": "ab" * 32},
        "another text": {"text": facts["text"].replace("rounds: ", "rounds: 1", 1)},
    }[lie]
    known = loop_commands.loop_desk_at
    monkeypatch.setattr(
        loop_commands,
        "loop_desk_at",
        lambda *given: _Swapping(known(*given), lies, once_adopted=once_adopted),
    )
    folder = tmp_path / "inner"
    folder.mkdir()
    code, _, _ = covenant("loop", "adopt", draft, "--out", str(folder / "plan.yaml"))
    assert code != 0
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "escaped.yaml").exists()


def test_an_approval_that_ends_before_the_launch_is_written_counts_no_more(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that the plan itself does not ask for: an auditor would refuse the log from there on."""
    centre = replace(ready(watched).works.centre, transport=FakeTransport())
    raise_alarm(watched)
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    looks: list[object] = []
    known = office.standing

    def expired(*given: Any) -> Any:
        looks.append(given)
        found = known(*given)
        return found if len(looks) == 1 else replace(found, approvals=found.approvals[:1])

    monkeypatch.setattr(office, "standing", expired)
    assert office.launch_adopted(centre) == ()
    assert len(looks) == 2
    assert started(centre) == []
    assert row_of(centre, draft).state == "adopted"


@pytest.mark.parametrize("order", [ordered("site", "west"), ordered()])
def test_what_is_halted_is_not_launched_without_a_person_either(watched: Watch, order: HaltOrder) -> None:
    centre = replace(ready(watched).works.centre, transport=FakeTransport())
    raise_alarm(watched)
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    with writing(centre.engine, "halting") as session:
        session.add(halt_row(order, centre.clock()))
    assert office.launch_adopted(centre) == ()
    assert started(centre) == []
    with writing(centre.engine, "lifting") as session:
        session.execute(delete(HaltRow))
    assert len(office.launch_adopted(centre)) == 1


def test_approvals_that_have_expired_launch_nothing(watched: Watch) -> None:
    centre = replace(ready(watched).works.centre, transport=FakeTransport())
    raise_alarm(watched)
    published(centre, ALLOWS)
    draft, what = drafted(centre)
    office.adopt(centre, here(), draft, "why")
    all_approve(centre, what)
    now = centre.clock()
    late = replace(centre, clock=lambda: now + timedelta(days=6))
    assert office.launch_adopted(late) == ()
    assert started(centre) == []


def test_fewer_witnesses_than_before_have_their_reason(watched: Watch) -> None:
    """Each change that a draft makes is told beside the value, so that none passes unseen."""
    centre = ready(watched).works.centre
    with_plan(centre, ("  minimum: 3\n", "  minimum: 3\n  witnesses: 4\n"))
    with writing(centre.engine, "halting") as session:
        session.add(halt_row(ordered("site", "west"), centre.clock()))
    raise_alarm(watched)
    row = row_of(centre, draft_of(centre, NAME, by="author-1"))
    plan = read_document(row.text or "", Plan, "the draft")
    assert (len(plan.sites.invite), plan.sites.witnesses) == (3, 3)
    assert "# was 4; of 3 sites no more can be asked" in (row.text or "")
