"""A plan is signed, approved, launched and logged with who stands behind it; the coordinator launches nothing less."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre, open_centre
from coordinator.documents import assemble
from coordinator.governance.log import open_log
from coordinator.keys import make_key
from coordinator.rounds.question import RunDocuments
from coordinator.runs import load_documents, record
from coordinator.settings import load_settings
from protos.approvals import PlanEvidence, approve
from protos.documents import load_document
from protos.log_audit import Audit, audit
from protos.log_entries import LogEntry
from protos.membership import MemberList, Officer, Role, Service
from protos.root import SignedRoot
from strategies.encoding import canonical_json
from strategies.errors import Refused
from strategies.ids import RunId
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of, membership, open_accounts
from tests.private_plan_for_tests import write_documents
from tests.trust_for_tests import FAR, impostors, key_of, officers

PEOPLE: dict[str, tuple[Role, ...]] = {
    "author-1": (Role.ML_ENGINEER, Role.MODEL_RISK),
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "privacy-2": (Role.PRIVACY_OFFICER, Role.MODEL_RISK),
    "risk-1": (Role.MODEL_RISK,),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A coordinator whose member list has officers, beside their keys, and a plan with its contract."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "covenant.yaml").write_text("covenant: coordinator/v1\nfederation: demo\n")
    log = make_key(home, "log", None)
    people = tuple(
        Officer(name=name, roles=roles, key=key_of(name).public, expires=FAR)
        for name, roles in PEOPLE.items()
    )
    services = (Service(name="log", purpose="log", key=log.public_key),)
    listed = MemberList(**{**dict(membership().signed.list), "officers": people, "services": services})
    officers().save(home)
    (home / "members.json").write_bytes(officers().sign(listed).canonical)
    for name in (*PEOPLE, "stranger"):
        key_of(name).save(tmp_path / f"{name}.key")
    write_documents(tmp_path)
    return home


@pytest.fixture
def covenant(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


@pytest.fixture
def centre(home: Path) -> Centre:
    made = open_centre(load_settings(home))
    open_accounts(made, 60.0)
    return made


def sign(
    covenant: Command, name: str = "author-1", *more: str, key: str | None = None
) -> tuple[int, str, str]:
    who = ("--officer", name, "--key", f"{key or name}.key", "--root", "home/root.json")
    return covenant("plan", "sign", "plan.yaml", *who, *more)


def approves(covenant: Command, name: str, role: str, *more: str) -> tuple[int, str, str]:
    who = ("--as", role, "--officer", name, "--key", f"{name}.key", "--root", "home/root.json")
    return covenant("plan", "approve", "plan.yaml", *who, *(more or ("--yes",)))


def all_sign(covenant: Command) -> None:
    assert sign(covenant)[0] == 0
    assert approves(covenant, "privacy-1", "privacy_officer")[0] == 0
    assert approves(covenant, "risk-1", "model_risk")[0] == 0


def launched_code(covenant: Command) -> tuple[int, str]:
    """3 is a refusal; 4 says that no coordinator runs, after everything else was in order."""
    code, _, err = covenant("plan", "launch", "plan.yaml")
    return code, err


def change(folder: Path) -> None:
    plan = folder / "plan.yaml"
    plan.write_text(plan.read_text().replace("seed: 1", "seed: 2"))


# --- signing and approving


def test_a_plan_is_launched_once_its_author_and_both_roles_have_signed(covenant: Command) -> None:
    steps: list[Callable[[], tuple[int, str, str]]] = [
        lambda: sign(covenant),
        lambda: approves(covenant, "privacy-1", "privacy_officer"),
        lambda: approves(covenant, "risk-1", "model_risk"),
    ]
    missing = ("nobody has signed", "approvals as privacy_officer", "approvals as model_risk")
    for step, words in zip(steps, missing, strict=True):
        code, err = launched_code(covenant)
        assert (code, words in err) == (3, True), err
        assert step()[0] == 0
    assert launched_code(covenant)[0] == 4


def test_whoever_signs_is_told_what(covenant: Command) -> None:
    code, out, err = sign(covenant)
    assert (code, out) == (0, "")
    for words in (
        "plan lending-default, digest ",
        "on data under contract lending-club@1, digest ",
        "at west, midwest, northeast, south, at least 3 of them; member list demo@1",
        "dp-fedsgd for 40 rounds, secure aggregation",
        "distributed: each site adds a share of the noise",
        "its limit is epsilon 8 at delta 1e-05",
        "signed as its author by author-1, good until ",
    ):
        assert words in err


def test_evidence_is_replaced_as_a_whole_and_holds_one_statement_an_officer(
    covenant: Command, tmp_path: Path
) -> None:
    all_sign(covenant)
    assert approves(covenant, "privacy-2", "privacy_officer")[0] == 0
    assert approves(covenant, "privacy-2", "model_risk")[0] == 0
    evidence = load_document(tmp_path / "plan.evidence.json", PlanEvidence)
    assert [(each.officer, str(each.role)) for each in evidence.statements] == [
        ("author-1", "ml_engineer"), ("privacy-1", "privacy_officer"), ("privacy-2", "model_risk"), ("risk-1", "model_risk"),
    ]  # fmt: skip
    assert [each.name for each in tmp_path.glob("plan.evidence*")] == ["plan.evidence.json"]


def test_the_author_cannot_approve(covenant: Command) -> None:
    assert sign(covenant)[0] == 0
    code, _, err = approves(covenant, "author-1", "model_risk")
    assert code == 2
    assert "author-1 is the plan's author; somebody else must approve it" in err


def test_a_plan_is_not_approved_as_an_auditor(covenant: Command) -> None:
    code, _, err = approves(covenant, "privacy-1", "auditor")
    assert code == 2
    assert "a plan is approved as privacy_officer or model_risk, not as auditor" in err


def test_a_changed_plan_loses_what_was_said_about_it(covenant: Command, tmp_path: Path) -> None:
    all_sign(covenant)
    change(tmp_path)
    code, err = launched_code(covenant)
    assert code == 3
    assert "a plan with one changed value is another plan, and needs new approvals" in err
    code, _, err = sign(covenant)
    assert (code, "give --yes" in err) == (2, True)
    code, _, err = sign(covenant, "author-1", "--yes")
    assert code == 0
    assert (
        "what author-1 and privacy-1 and risk-1 signed was about the plan before it was changed, and will be dropped"
        in err
    )
    assert "0 of the 1 approvals as privacy_officer" in launched_code(covenant)[1]


@pytest.mark.parametrize(
    ("name", "role", "words"),
    [
        ("privacy-1", "model_risk", "privacy-1's approval as model_risk does not count"),
        ("stranger", "model_risk", "stranger is no officer on member list demo@1"),
    ],
)
def test_what_does_not_count_refuses_the_launch(name: str, role: str, words: str, covenant: Command) -> None:
    assert sign(covenant)[0] == 0
    assert approves(covenant, "privacy-2", "privacy_officer")[0] == 0
    assert approves(covenant, name, role)[0] == 0
    code, err = launched_code(covenant)
    assert (code, words in err) == (3, True), err


def test_another_key_than_the_one_on_the_list_refuses_the_launch(covenant: Command) -> None:
    assert sign(covenant, key="stranger")[0] == 0
    code, err = launched_code(covenant)
    assert (code, "is not signed with the key of author-1" in err) == (3, True)


@pytest.mark.parametrize("day", ["2020-01-01", "2999-01-01", "soon"])
def test_a_last_day_is_to_come_and_within_what_the_plan_admits(day: str, covenant: Command) -> None:
    assert sign(covenant, "author-1", "--expires", day)[0] == 2


def test_a_last_day_may_be_sooner(covenant: Command) -> None:
    day = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    assert sign(covenant, "author-1", "--expires", day)[0] == 0
    assert facts_of(covenant, "plan", "status", "plan.yaml")["until"].startswith(day)


def test_what_is_approved_under_the_root_of_a_namesake_refuses_the_launch(
    covenant: Command, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    impostors().save(tmp_path / "theirs")
    assert sign(covenant, "author-1", "--root", "theirs/root.json")[0] == 0
    code, err = launched_code(covenant)
    assert (code, "what is approved in one federation counts in no other" in err) == (3, True), err


def test_nothing_is_signed_for_a_federation_that_the_plan_does_not_name(
    covenant: Command, tmp_path: Path
) -> None:
    (tmp_path / "retail").mkdir()
    officers("retail").save(tmp_path / "retail")
    code, _, err = sign(covenant, "author-1", "--root", "retail/root.json")
    assert (code, "is the root of retail, and the plan is for member list demo@1" in err) == (2, True), err
    assert not (tmp_path / "plan.evidence.json").exists()


def test_nobody_approves_without_having_been_asked(
    covenant: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sign(covenant)[0] == 0
    signed = (tmp_path / "plan.evidence.json").read_bytes()
    until = f"{datetime.now(UTC) + timedelta(days=3):%Y-%m-%d}"
    for terminal, answer, expected in ((False, "y", 2), (True, "", 3), (True, "no", 3), (True, "y", 0)):
        assert (tmp_path / "plan.evidence.json").read_bytes() == signed
        monkeypatch.setattr("sys.stdin.isatty", lambda there=terminal: there, raising=False)
        monkeypatch.setattr("builtins.input", lambda said=answer: said)
        code, _, err = approves(covenant, "privacy-1", "privacy_officer", "--expires", until)
        assert code == expected, err
        assert "plan lending-default, digest " in err
        assert "Approve it as privacy_officer?" in err
    assert (tmp_path / "plan.evidence.json").read_bytes() != signed


def test_two_plans_that_would_share_their_evidence_are_refused(covenant: Command, tmp_path: Path) -> None:
    (tmp_path / "plan.yml").write_text((tmp_path / "plan.yaml").read_text())
    for command in (lambda: sign(covenant), lambda: covenant("plan", "status", "plan.yaml")):
        code, _, err = command()
        assert (code, "would both have plan.evidence.json beside them; rename one" in err) == (2, True)


# --- status


def test_status_says_who_is_missing_and_who_could(covenant: Command) -> None:
    assert sign(covenant)[0] == 0
    assert approves(covenant, "privacy-2", "privacy_officer")[0] == 0
    facts = facts_of(covenant, "plan", "status", "plan.yaml")
    assert (facts["author"], facts["approved"]) == ("author-1", False)
    assert facts["missing"] == [{"role": "model_risk", "given": 0, "asked": 1, "could": ["risk-1"]}]
    assert "approvals as model_risk" in facts["reason"]
    assert approves(covenant, "risk-1", "model_risk")[0] == 0
    facts = facts_of(covenant, "plan", "status", "plan.yaml")
    assert (facts["approved"], facts["reason"], facts["missing"]) == (True, None, [])
    assert [each["officer"] for each in facts["approvals"]] == ["privacy-2", "risk-1"]
    code, out, err = covenant("plan", "status", "plan.yaml")
    assert (code, out) == (0, "")
    assert "approved: it may be launched" in err


def test_status_of_a_plan_that_nobody_signed(covenant: Command) -> None:
    facts = facts_of(covenant, "plan", "status", "plan.yaml")
    assert (facts["author"], facts["approvals"], facts["until"]) == (None, [], None)
    code, _, err = covenant("plan", "status", "plan.yaml")
    assert code == 0
    assert "missing: 1 as privacy_officer, from privacy-1 or privacy-2" in err


# --- the run and the log


_numbers = count(1)


def launched(centre: Centre, folder: Path) -> RunDocuments:
    """Record a run of the plan, as a launch does before it is carried."""
    run = RunId(f"run-{next(_numbers):016x}")
    documents = assemble(centre.settings, run, folder / "plan.yaml", now=centre.clock())
    record(centre, documents)
    return documents


def story(centre: Centre) -> Audit:
    return audit((each.body for each in _log(centre).entries()), _pinned(centre))


def _log(centre: Centre):
    return open_log(centre.engine, centre.settings, centre.clock)


def _pinned(centre: Centre) -> SignedRoot:
    return load_document(centre.settings.root_file, SignedRoot)


def kinds(centre: Centre) -> list[str]:
    found = [LogEntry.from_canonical(each.body).what.kind for each in _log(centre).entries()]
    return [each for each in found if each != "ceiling"]


def test_a_run_keeps_its_evidence_and_sends_it(covenant: Command, centre: Centre, tmp_path: Path) -> None:
    all_sign(covenant)
    documents = launched(centre, tmp_path)
    evidence = load_document(tmp_path / "plan.evidence.json", PlanEvidence)
    (tmp_path / "plan.evidence.json").unlink()
    again = load_documents(centre.engine, documents.run)
    assert again == documents
    assert again.task.evidence == evidence.canonical


def test_the_log_tells_who_approved_and_again_where_that_differs(
    covenant: Command, centre: Centre, tmp_path: Path
) -> None:
    all_sign(covenant)
    runs = [launched(centre, tmp_path).run for _ in range(2)]
    assert kinds(centre) == ["members", "plan", "launch", "launch"]
    assert approves(covenant, "privacy-2", "model_risk")[0] == 0
    runs += [launched(centre, tmp_path).run for _ in range(2)]
    assert kinds(centre) == ["members", "plan", "launch", "launch", "plan", "launch", "launch"]
    told = story(centre)
    two = (("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK))
    three = (two[0], ("privacy-2", Role.MODEL_RISK), two[1])
    assert [told.runs[run].approved.approved_by for run in runs] == [two, two, three, three]
    assert {told.runs[run].approved.author for run in runs} == {"author-1"}


def test_an_auditor_reads_who_approved(covenant: Command, centre: Centre, tmp_path: Path) -> None:
    all_sign(covenant)
    run = launched(centre, tmp_path).run
    facts_of(covenant, "log", "export", "log.jsonl")
    (told,) = facts_of(covenant, "log", "verify", "log.jsonl", "--root", "home/root.json")["runs"]
    assert (told["run"], told["author"]) == (run, "author-1")
    assert told["approved_by"] == [
        {"officer": "privacy-1", "role": "privacy_officer"},
        {"officer": "risk-1", "role": "model_risk"},
    ]
    assert "privacy-1 (privacy_officer), risk-1 (model_risk)" in " ".join(
        covenant("log", "verify", "log.jsonl", "--root", "home/root.json")[2].split()
    )
    assert "signed by author-1 (ml_engineer), privacy-1 (privacy_officer)" in covenant("log", "show")[2]


def lie(centre: Centre, change_entry: Callable[[dict], None]) -> list[bytes]:
    entries = [
        LogEntry.from_canonical(each.body).model_dump(mode="json", exclude_none=True)
        for each in _log(centre).entries()
    ]
    for each in entries:
        change_entry(each)
    return [canonical_json(each) for each in entries]


def _without_evidence(entry: dict) -> None:
    entry["what"].pop("evidence", None)


def _unnamed(entry: dict) -> None:
    if entry["what"]["kind"] == "launch":
        del entry["what"]["evidence"]


def _unlogged(entry: dict) -> None:
    if entry["what"]["kind"] == "plan":
        del entry["what"]["evidence"]


def _later(entry: dict) -> None:
    if entry["what"]["kind"] == "launch":
        entry["at"] = (datetime.now(UTC) + timedelta(days=31)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("change_entry", "words"),
    [
        (_without_evidence, "nobody has signed plan"),
        (_unnamed, "nobody has signed plan"),
        (_unlogged, "is launched under evidence"),
        (_later, "was good until"),
        (lambda _: None, None),
    ],
)
def test_an_auditor_refuses_a_log_in_which_a_plan_was_not_approved(
    change_entry: Callable[[dict], None],
    words: str | None,
    covenant: Command,
    centre: Centre,
    tmp_path: Path,
) -> None:
    all_sign(covenant)
    launched(centre, tmp_path)
    entries = lie(centre, change_entry)
    if words is None:
        assert audit(entries, _pinned(centre)).runs
        return
    with pytest.raises(Refused, match=words):
        audit(entries, _pinned(centre))


def test_an_auditor_refuses_what_a_coordinator_launched_without_approval(
    covenant: Command, centre: Centre, tmp_path: Path
) -> None:
    """The check of its own command is nothing that others rely on."""
    all_sign(covenant)
    documents = launched(centre, tmp_path)
    forged = PlanEvidence.from_canonical(documents.evidence).adding(
        approve(
            documents.plan,
            documents.contract,
            "privacy-2",
            Role.MODEL_RISK,
            key_of("stranger"),
            federation=officers().newest.identity,
            expires=datetime.now(UTC) + timedelta(days=1),
        )
    )
    record(
        centre,
        RunDocuments(
            run=RunId(f"run-{next(_numbers):016x}"),
            plan=documents.plan,
            contract=documents.contract,
            members=documents.members,
            evidence=forged.canonical,
        ),
    )
    with pytest.raises(Refused, match="privacy-2's approval as model_risk is not signed"):
        story(centre)
