"""From two runs to a verdict: a champion that was trained here, a challenger beside it, the gate, the log that tells all of it, and its auditor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pytest

from coordinator.cli.log_words import words_of
from coordinator.db.engine import writing
from coordinator.deploy.gate import validate
from coordinator.deploy.verdicts import verdicts_on
from coordinator.office import gate as office
from coordinator.office.actors import Actor, Forbidden
from coordinator.office.requests import Asked
from coordinator.registry.champions import as_champion, champion_of
from coordinator.registry.publish import publish
from coordinator.registry.stages import move
from coordinator.registry.versions import ModelVersion, get_version
from protos.documents import DocumentError
from protos.gates import Verdict
from protos.log_audit import Audit, AuditRefused, audit
from protos.log_entries import LogEntry
from protos.log_gate import GateJudged
from protos.log_registry_events import ModelMoved
from protos.membership import Officer, Role
from protos.model_stages import Stage
from protos.plan import Plan
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused
from strategies.ids import RunId, run_id
from tests.coordinator.champion_for_tests import register_champion, with_champion
from tests.coordinator.gate_for_tests import gated, held_back, passed
from tests.coordinator.private_for_tests import Private, Templates, private_plan, templates
from tests.coordinator.secure_for_tests import _loans
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.coordinator.test_replay import require_same
from tests.trust_for_tests import key_of

__all__ = ["templates"]
SECOND = run_id("run-0123456789abcdff")
QUIET = {
    "preparation: 2.0, training: 1.5, evaluation: 1.0}": "preparation: 9.0, training: 9.0, evaluation: 4.0}"
}
EXEMPT = {
    "preparation: 2.0, training: 1.5, evaluation: 1.0}": "preparation: 9.0, training: 9.0}\n  exempt: [evaluation]"
}
TABLES = [pa.concat_tables([_loans(4 * part + place) for part in range(20)]) for place in range(4)]
"""Enough rows to be seen through the noise."""
EASY = "[{metric: auc, at_least: 0.05}, {metric: epsilon, at_most: 20}]"


def finished(federation: Private) -> ModelVersion:
    made = publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    return made


def entries(federation: Private, kind: str) -> list[Any]:
    return [LogEntry.from_canonical(each.body).what for each in log_of(federation).entries(kind=kind)]


def audited(federation: Private) -> Audit:
    return audit((each.body for each in log_of(federation).entries()), pinned_by(federation))


@pytest.fixture
def candidate(templates: Templates) -> Iterator[Private]:
    made = templates.copy(private_plan(gated("[{metric: auc, at_least: 0.05}]", EXEMPT)))
    finished(made)
    yield made
    made.close()


def version(federation: Private) -> ModelVersion:
    return get_version(federation.engine, federation.plan.name, 1)


# --- one model ------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_passes_is_validated_and_the_log_says_why(
    candidate: Private, tmp_path: object
) -> None:
    verdict = validate(candidate.centre, version(candidate), why="the quarter is over", by="risk-1")
    assert verdict.passed
    assert version(candidate).stage is Stage.VALIDATED
    (told,) = entries(candidate, "gate")
    assert isinstance(told, GateJudged)
    assert told.verdict == verdict
    assert (told.why, told.by) == ("the quarter is over", "risk-1")
    (moved,) = entries(candidate, "model-moved")
    assert isinstance(moved, ModelMoved)
    assert (moved.on, moved.by, moved.why) == (
        verdict.digest,
        "risk-1",
        "the gate passed it: the quarter is over",
    )
    assert verdicts_on(candidate.engine, "private", 1) == [verdict]
    audited(candidate)
    require_same(candidate, str(tmp_path))


def test_one_that_fails_stays_a_candidate_and_the_verdict_is_kept(templates: Templates) -> None:
    made = templates.copy(private_plan(gated("[{metric: auc, at_least: 1.0}]", EXEMPT)))
    finished(made)
    verdict = validate(made.centre, version(made), why="a try", by="risk-1")
    assert not verdict.passed
    assert verdict.failures[0].startswith("auc at least 1: it is 0.")
    assert version(made).stage is Stage.CANDIDATE
    assert entries(made, "model-moved") == []
    assert [each.passed for each in verdicts_on(made.engine, "private", 1)] == [False]
    audited(made)
    made.close()


def test_a_blocking_rule_keeps_a_candidate_back(candidate: Private) -> None:
    verdict = held_back(candidate.centre, "private", 1)
    assert verdict.failures == ("rule owner does not hold: nobody owns it",)
    assert version(candidate).stage is Stage.CANDIDATE
    audited(candidate)


def test_a_validated_version_is_judged_again_and_not_moved_again(candidate: Private) -> None:
    for _ in range(2):
        validate(candidate.centre, version(candidate), why="a try", by="risk-1")
    assert len(verdicts_on(candidate.engine, "private", 1)) == 2
    assert len(entries(candidate, "model-moved")) == 1


def test_what_is_taken_back_is_not_judged(candidate: Private) -> None:
    with writing(candidate.engine, "moving") as session:
        move(session, "private", 1, Stage.QUARANTINED, why="a test", by="risk-1", at=candidate.clock.wall())
    with pytest.raises(Refused, match="private@1 is quarantined; the gate judges candidates"):
        validate(candidate.centre, version(candidate), why="a try", by="risk-1")
    assert entries(candidate, "gate") == []


@pytest.mark.parametrize("why", ["", "x" * 501])
def test_a_verdict_is_justified_in_a_sentence(candidate: Private, why: str) -> None:
    with pytest.raises(DocumentError, match="why"):
        validate(candidate.centre, version(candidate), why=why, by="risk-1")
    assert verdicts_on(candidate.engine, "private", 1) == []


def test_a_long_reason_is_cut_for_the_move_only(candidate: Private) -> None:
    validate(candidate.centre, version(candidate), why="x" * 500, by="risk-1")
    assert len(entries(candidate, "gate")[0].why) == 500
    assert len(entries(candidate, "model-moved")[0].why) == 500


def test_a_crash_before_the_move_leaves_no_verdict(
    candidate: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise CovenantError("the disk")

    monkeypatch.setattr("coordinator.deploy.gate.move", dies)
    with pytest.raises(CovenantError, match="the disk"):
        validate(candidate.centre, version(candidate), why="a try", by="risk-1")
    assert (verdicts_on(candidate.engine, "private", 1), entries(candidate, "gate")) == ([], [])


# --- who asks -----------------------------------------------------------------------------------------------------------


def actor(role: Role) -> Actor:
    return Actor(
        Officer(
            name=f"{role.replace('_', '-')}-1",
            roles=(role,),
            key=key_of("author-1").public,
            expires=datetime(2030, 1, 1, tzinfo=UTC),
        )
    )


@pytest.mark.parametrize("role", [Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN, Role.SITE_OPERATOR])
def test_only_engineers_and_model_risk_have_a_model_judged(candidate: Private, role: Role) -> None:
    with pytest.raises(Forbidden, match="to have a model judged takes"):
        office.validate(candidate.centre, actor(role), "private", 1, "a try")


def test_a_request_that_comes_again_is_answered_by_the_verdict_that_it_got(candidate: Private) -> None:
    asked = Asked(
        id="6f1c0f2e-8f3b-4d1a-9a51-2f6f5a3f3f10",
        officer="risk-1",
        method="validate",
        digest=candidate.plan.digest,
    )
    said = [
        office.validate(candidate.centre, actor(Role.MODEL_RISK), "private", 1, "a try", asked)
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert said[0][1] is Stage.VALIDATED
    assert len(entries(candidate, "gate")) == 1


# --- what an auditor finds ------------------------------------------------------------------------------------------------


def changed(federation: Private, change: Any) -> list[bytes]:
    """The log with its verdict changed, as a coordinator that lies would write it."""
    bodies = []
    for each in log_of(federation).entries():
        facts = json.loads(each.body)
        if facts["what"]["kind"] == "gate":
            change(facts["what"])
        bodies.append(canonical_json(facts))
    return bodies


@pytest.mark.parametrize(
    "change",
    [
        lambda what: what["verdict"]["gates"][0].update(value=0.99),
        lambda what: what["verdict"].update(passed=False),
        lambda what: what["verdict"]["evidence"]["metrics"].update(auc=0.99),
        lambda what: what["verdict"]["gates"][0]["gate"].update(at_least=0.01),
        lambda what: what["verdict"].update(artifacts="ab" * 32),
        lambda what: what["verdict"].update(plan="ab" * 32),
        lambda what: what.update(version=2),
    ],
)
def test_a_verdict_that_is_made_up_is_found(candidate: Private, change: Any) -> None:
    validate(candidate.centre, version(candidate), why="a try", by="risk-1")
    with pytest.raises(Refused, match=r"the gate(?:'s verdict on| judged) private@"):
        audit(changed(candidate, change), pinned_by(candidate))


def logged(federation: Private) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in log_of(federation).entries()]


def retold(*entries: dict[str, Any]) -> list[bytes]:
    """Entries in a new order, none of a moment before those that it follows."""
    moments = accumulate((each["at"] for each in entries), max)
    return [canonical_json(each | {"at": at}) for each, at in zip(entries, moments, strict=True)]


def split(federation: Private) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """A log's entries before the gate said anything, its verdicts, and its move to validated."""
    found = logged(federation)
    verdicts = [each for each in found if each["what"]["kind"] == "gate"]
    (moved,) = (each for each in found if each["what"].get("to") == "validated")
    return found[: found.index(verdicts[0])], verdicts, moved


def test_a_bare_move_to_validated_is_found(candidate: Private) -> None:
    passed(candidate.centre, "private", 1)
    before, verdicts, moved = split(candidate)
    pinned = pinned_by(candidate)
    audit(retold(*before, *verdicts, moved), pinned)
    with pytest.raises(AuditRefused, match=r"private@1 cannot become validated: the gate has not judged it"):
        audit(retold(*before, moved), pinned)
    with pytest.raises(AuditRefused, match=r"the gate has not judged it"):
        audit(retold(*before, moved, *verdicts), pinned)
    del moved["what"]["on"]
    with pytest.raises(AuditRefused, match=r"private@1 cannot become validated on no verdict"):
        audit(retold(*before, *verdicts, moved), pinned)


def test_a_move_on_the_verdict_of_another_version_is_found(candidate: Private) -> None:
    passed(candidate.centre, "private", 1)
    before, verdicts, moved = split(candidate)
    (model,) = (each for each in before if each["what"]["kind"] == "model")
    second = model | {"what": model["what"] | {"version": 2}}
    other = moved | {"what": moved["what"] | {"version": 2}}
    with pytest.raises(AuditRefused, match=r"private@2 cannot become validated: the gate has not judged it"):
        audit(retold(*before, second, *verdicts, moved, other), pinned_by(candidate))


def test_a_move_on_a_verdict_that_fails_is_found(candidate: Private) -> None:
    held_back(candidate.centre, "private", 1)
    passed(candidate.centre, "private", 1)
    before, (fails, passes), moved = split(candidate)
    pinned, words = pinned_by(candidate), "private@1 cannot become validated"
    on_that = moved | {
        "what": moved["what"] | {"on": Verdict.model_validate(fails["what"]["verdict"]).digest}
    }
    audit(retold(*before, fails, passes, moved), pinned)
    with pytest.raises(AuditRefused, match=f"{words}.* does not pass it"):
        audit(retold(*before, fails, on_that), pinned)
    with pytest.raises(AuditRefused, match=f"{words} on verdict .*: the gate's newest verdict on it is"):
        audit(retold(*before, passes, fails, moved), pinned)


def test_a_move_on_a_verdict_of_before_its_quarantine_is_found(candidate: Private) -> None:
    passed(candidate.centre, "private", 1)
    for to in (Stage.QUARANTINED, Stage.CANDIDATE):
        with writing(candidate.engine, "moving") as session:
            move(session, "private", 1, to, why="a test", by="risk-1", at=candidate.clock.wall())
    *_, moved = split(candidate)
    with pytest.raises(AuditRefused, match="has not judged it since it became a candidate"):
        audit(retold(*logged(candidate), moved), pinned_by(candidate))
    passed(candidate.centre, "private", 1)
    audited(candidate)


# --- champion and challenger ------------------------------------------------------------------------------------------


def challenger(first: Private, gates: str, changes: dict[str, str]) -> Private:
    """Another run in the same federation, whose champion is what the first has made."""
    found = as_champion(first.engine, version(first))
    plan = with_champion(
        private_plan(gated("[{metric: auc, at_least: 0.05}]", changes) | {"name: private": "name: later"}),
        found,
    )
    facts = json.loads(plan.canonical)
    first.close()
    return Private(
        first.layout,
        Plan.model_validate_json(json.dumps(facts | {"gates": json.loads(gates)}), strict=True),
        first.tables,
        clock=first.clock,
        drivers=first.drivers,
        run=RunId(SECOND),
    )


OVER = '[{"metric": "auc", "at_least": 0.05}, {"metric": "auc", "over": "champion", "at_least": %s}]'


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_a_challenger_is_judged_against_a_champion_that_was_trained_here(
    templates: Templates, mode: str, tmp_path: object
) -> None:
    changes = QUIET | ({} if mode == "distributed" else {"mode: distributed": "mode: central"})
    first = templates.copy(private_plan(gated(EASY, changes)), tables=TABLES)
    finished(first)
    second = challenger(first, OVER % -1, changes)
    made = finished(second)
    assert made.metrics is not None
    champion = made.metrics["champion"]
    verdict = validate(second.centre, made, why="the quarter is over", by="risk-1")
    over = verdict.gates[1]
    assert over.value == pytest.approx(made.metrics["auc"] - champion["auc"])
    assert over.noise_std == pytest.approx(
        (made.metrics["noise_std"]["auc"] ** 2 + champion["noise_std"]["auc"] ** 2) ** 0.5
    )
    assert over.judged < over.value
    assert verdict.passed
    assert get_version(second.engine, "later", 1).stage is Stage.VALIDATED
    story = audited(second)
    assert story.runs[SECOND].metrics[2]["champion"]["auc"] == champion["auc"]
    require_same(second, str(tmp_path))
    second.close()


def test_a_log_whose_plan_names_a_champion_that_it_does_not_have_is_refused(templates: Templates) -> None:
    first = templates.copy(private_plan(gated(EASY, QUIET)))
    finished(first)
    second = challenger(first, OVER % -1, QUIET)
    bodies = [each.body for each in log_of(second).entries()]
    without = [each for each in bodies if LogEntry.from_canonical(each).what.kind != "model"]
    assert len(without) == len(bodies) - 1
    with pytest.raises(
        Refused, match="plan later names champion private@1, which is not registered before it"
    ):
        audit(without, pinned_by(second))
    second.close()


def test_a_champion_that_was_taken_back_is_not_named_by_a_new_plan(templates: Templates) -> None:
    first = templates.copy(private_plan(gated(EASY, QUIET)))
    finished(first)
    with writing(first.engine, "moving") as session:
        move(session, "private", 1, Stage.QUARANTINED, why="a test", by="risk-1", at=first.clock.wall())
    with pytest.raises(Refused, match="champion private@1 of plan later is quarantined"):
        challenger(first, OVER % -1, QUIET)


def test_a_champion_that_is_taken_back_while_a_run_is_launched_is_not_compared_with(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the registry and the transaction of the launch."""
    first = templates.copy(private_plan(gated(EASY, QUIET)))
    finished(first)

    def look_and_lose(*of: Any) -> object:
        found = champion_of(*of)
        with writing(first.engine, "moving") as session:
            move(session, "private", 1, Stage.QUARANTINED, why="a test", by="risk-1", at=first.clock.wall())
        return found

    monkeypatch.setattr("coordinator.runs.champion_of", look_and_lose)
    with pytest.raises(Refused, match="champion private@1 of plan later is quarantined"):
        challenger(first, OVER % -1, QUIET)
    audited(first)


def test_a_log_whose_plan_compares_with_a_champion_that_was_taken_back_is_refused(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = templates.copy(private_plan(gated(EASY, QUIET)))
    finished(first)
    with writing(first.engine, "moving") as session:
        move(session, "private", 1, Stage.QUARANTINED, why="a test", by="risk-1", at=first.clock.wall())
    monkeypatch.setattr(
        "coordinator.runs.unless_taken_back", lambda _session, _plan, entries: iter(tuple(entries))
    )
    second = challenger(first, OVER % -1, QUIET)
    with pytest.raises(Refused, match="champion private@1 of plan later is quarantined"):
        audited(second)
    second.close()


def test_the_log_is_told_of_the_champions_figure_in_a_line(templates: Templates) -> None:
    made = templates.copy(with_champion(private_plan(EXEMPT)), prepare=register_champion)
    made.drive()
    (told,) = entries(made, "evaluated")
    ours, theirs = told.metrics["auc"], told.metrics["champion"]["auc"]
    assert words_of(told) == f"{made.run}: round 2 evaluated: AUC {ours:.4f}, the champion's {theirs:.4f}"
    made.close()
