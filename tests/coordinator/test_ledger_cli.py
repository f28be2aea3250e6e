"""`covenant ledger` as an officer types it: exit codes, one sentence on stderr, one object on stdout, never a bare epsilon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from coordinator.bootstrap import Centre, open_centre
from coordinator.cli import register
from coordinator.db import writing
from coordinator.db.schema import Run, RunState, Site
from coordinator.ledger import Ledger
from coordinator.ledger.units import parse_unit
from coordinator.settings import load_settings
from protos.account_statement import StatedAccount, sign
from protos.keys import SigningKey
from protos.shell import run_command
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from tests.ceilings_for_tests import ONE, TWO
from tests.coordinator.cli_for_tests import make_home
from tests.coordinator.ledger_for_tests import (
    CEILING,
    LOANS,
    NORTH,
    launched,
    need,
    numbered,
    rounds,
    settle,
)
from tests.trust_for_tests import key_of

UNIT = ("--unit", "customer:customer_id:4")
FIRST = (
    "north",
    LOANS,
    *UNIT,
    "--epsilon",
    "8",
    "--delta",
    "1e-6",
    "--reason",
    "first",
)
RAISED = (
    "north",
    LOANS,
    *UNIT,
    "--epsilon",
    "9",
    "--delta",
    "1e-6",
    "--reason",
    "more",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_home(tmp_path)
    for name in (*TWO, "stranger"):
        key_of(name).save(tmp_path / f"{name}.key")
    monkeypatch.setenv("COVENANT_HOME", str(tmp_path))
    monkeypatch.setattr("protos.shell.people._width", 300)
    return tmp_path


@pytest.fixture
def centre(home: Path) -> Centre:
    return open_centre(load_settings(home))


def ledger(centre: Centre) -> Ledger:
    return Ledger(centre.engine, centre.clock)


class Shell:
    """Types commands and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._capsys, self._home = capsys, home
        self._app = typer.Typer(pretty_exceptions_enable=False)
        register(self._app)

    def __call__(self, *arguments: str, leaves: int | None = 0) -> Any:
        """Stdout and stderr; the exit code as well where none is expected."""
        with pytest.raises(SystemExit) as left:
            run_command(lambda: self._app(["ledger", *arguments], standalone_mode=False))
        out, err = self._capsys.readouterr()
        code = left.value.code or 0
        if leaves is None:
            return out, err, code
        assert code == leaves, err
        return out, err

    def decide(self, *arguments: str, by: Sequence[str] = ONE, leaves: int = 0) -> tuple[str, str]:
        """Drafted, signed by each of `by`, and carried out; whatever refuses leaves so."""
        file = self._home / "decision.json"
        file.unlink(missing_ok=True)
        drafted = self("ceiling", "draft", *arguments, "--out", str(file), leaves=None)
        if not file.exists():
            assert drafted[2] == leaves, drafted[1]
            return drafted[:2]
        for name in by:
            self.sign(file, name)
        out, err, code = self("ceiling", "apply", str(file), leaves=None)
        assert code == leaves, err
        return out, err

    def sign(self, file: Path, name: str, *more: str, leaves: int = 0, key: str | None = None) -> str:
        key_file, root = self._home / f"{key or name}.key", self._home / "root.json"
        who = ("--officer", name, "--key", str(key_file), "--root", str(root))
        return self("ceiling", "sign", str(file), *who, *(more or ("--yes",)), leaves=leaves)[1]

    def json(self, *arguments: str, leaves: int = 0) -> dict[str, Any]:
        out, _ = self(*arguments, "--json", leaves=leaves)
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, home)


def test_a_first_ceiling_is_set_listed_and_shown(shell: Shell) -> None:
    out, err = shell.decide(*FIRST)
    assert out == ""
    assert CEILING.words in err
    for arguments in (("list",), ("show", "north", LOANS)):
        out, err = shell(*arguments)
        assert out == ""
        assert CEILING.words in err


def test_raising_takes_a_second_officer(shell: Shell) -> None:
    shell.decide(*FIRST)
    _, err = shell.decide(*RAISED, leaves=3)
    assert "raising a ceiling is for 2 officers" in err
    shell.decide(*RAISED, by=TWO)
    shown = shell.json("show", "north", LOANS)
    assert shown["ceiling"]["epsilon"] == 9.0
    assert [change["officers"] for change in shown["history"]] == [list(ONE), list(TWO)]
    assert shown["history"][1]["reason"] == "more"


MEANINGLESS = (
    ("--epsilon", "nan"),
    ("--epsilon", "0"),
    ("--delta", "0"),
    ("--delta", "1"),
    ("--delta", "nan"),
    ("--unit", "customer"),
    ("--unit", "person"),
    ("--reason", ""),
)


def test_a_value_that_means_nothing_is_a_usage_error_and_sets_nothing(shell: Shell) -> None:
    for at, value in MEANINGLESS:
        arguments = list(FIRST)
        arguments[arguments.index(at) + 1] = value
        shell.decide(*arguments, leaves=2)
    assert shell.json("list") == {"accounts": []}


def test_an_epsilon_without_a_unit_is_a_usage_error(shell: Shell) -> None:
    arguments = [each for each in FIRST if each not in UNIT]
    _, err = shell.decide(*arguments, leaves=2)
    assert "--unit" in err
    assert shell.json("list") == {"accounts": []}


def test_a_ceiling_below_what_is_spent_is_exit_code_3(shell: Shell, centre: Centre) -> None:
    shell.decide(*FIRST)
    (run,) = launched(centre.engine, 1)
    ledger(centre).reserve_now(run, [need(NORTH, rounds(6))])
    before = shell.json("show", "north", LOANS)
    lowered = [{"8": "4.5"}.get(each, each) for each in FIRST]
    _, err = shell.decide(*lowered, leaves=3)
    assert "is below what is charged already" in err
    assert shell.json("show", "north", LOANS) == before


def figures(found: object) -> list[dict[str, Any]]:
    """Everything in `found` that has an epsilon."""
    if isinstance(found, dict):
        here = [found] if "epsilon" in found else []
        return here + [each for value in found.values() for each in figures(value)]
    return (
        [each for value in found for each in figures(value)]
        if isinstance(found, Sequence) and not isinstance(found, str)
        else []
    )


def test_no_epsilon_is_printed_without_delta_unit_and_neighbours(shell: Shell, centre: Centre) -> None:
    shell.decide(*FIRST, "--alert-at", "0.5", "--overlap", "south")
    (run,) = launched(centre.engine, 1)
    ledger(centre).reserve_now(run, [need(NORTH, rounds(6))])
    settle(ledger(centre), centre.engine, run, 1)
    shown = shell.json("show", "north", LOANS)
    assert len(figures(shown)) >= 8
    for each in figures([shown, shell.json("list")]):
        assert {"epsilon", "delta", "unit", "neighbours", "words"} <= set(each)
        assert "per customer (customer_id" in each["words"]
    assert [each["fraction"] for each in shown["alerts"]] == [0.5]
    assert shown["alerts"][0]["run"] == run
    assert shown["overlap"]["sites"] == ["north", "south"]
    assert shown["tight"]["caveat"]
    _, err = shell("show", "north", LOANS)
    for part in (
        "alert at 50% of the ceiling: reached",
        "not in the worst case: south",
        "5 releases are reserved",
        run,
    ):
        assert part in err


def test_overlaps_are_taken_away_by_name_and_with_two_officers(shell: Shell) -> None:
    shell.decide(*FIRST, "--overlap", "south")
    shell.decide(*FIRST, "--no-overlap", leaves=3)
    shell.decide(*FIRST, "--no-overlap", "--overlap", "west", leaves=2)
    shell.decide(*FIRST, "--no-overlap", by=TWO)
    assert shell.json("show", "north", LOANS)["overlap"] is None


def test_a_draft_says_what_it_takes_and_what_it_will_do(shell: Shell, home: Path) -> None:
    shell.decide(*FIRST, "--alert-at", "0.8")
    file = home / "raised.json"
    _, err = shell("ceiling", "draft", *RAISED, "--out", str(file))
    for words in (
        "decision 2 on north/retail-loans",
        "alerts at 0.8",
        "because: more",
        "it takes 2 privacy officers",
    ):
        assert words in err
    assert "because of raising a ceiling" in err
    assert shell.json("ceiling", "show", str(file))["signed_by"] == []
    assert shell.json("show", "north", LOANS)["ceiling"]["epsilon"] == 8.0
    shell(
        "ceiling", "draft", *RAISED, "--out", str(file), leaves=2
    )  # what officers have signed is not overwritten


def test_nobody_signs_without_having_been_asked(
    shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "first.json"
    shell("ceiling", "draft", *FIRST, "--out", str(file))
    root = ("--root", str(home / "root.json"))
    who = ("--officer", "privacy-1", "--key", str(home / "privacy-1.key"), *root)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    _, err = shell("ceiling", "sign", str(file), *who, leaves=2)
    assert "give --yes" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "no")
    shell("ceiling", "sign", str(file), *who, leaves=3)
    assert shell.json("ceiling", "show", str(file))["signed_by"] == []
    monkeypatch.setattr("builtins.input", lambda: "y")
    shell("ceiling", "sign", str(file), *who)
    assert shell.json("ceiling", "show", str(file))["signed_by"] == ["privacy-1"]


def test_a_decision_is_carried_out_once_and_only_if_it_is_the_next(shell: Shell, home: Path) -> None:
    shell.decide(*FIRST)
    _, err = shell("ceiling", "apply", str(home / "decision.json"), leaves=3)
    assert "this is decision 1, and decision 2 is next" in err


def test_what_a_stranger_or_another_key_signed_is_not_carried_out(shell: Shell, home: Path) -> None:
    for name, key, words in (
        ("stranger", "stranger", "stranger is no officer on member list demo@1"),
        ("privacy-1", "stranger", "is not signed with the key of privacy-1"),
    ):
        file = home / f"by-{name}.json"
        shell("ceiling", "draft", *FIRST, "--out", str(file))
        shell.sign(file, name, key=key)
        _, err = shell("ceiling", "apply", str(file), leaves=3)
        assert words in err
    assert shell.json("list") == {"accounts": []}


def test_a_failed_run_is_given_up_with_a_reason(shell: Shell, centre: Centre) -> None:
    shell.decide(*FIRST)
    (run,) = launched(centre.engine, 1)
    ledger(centre).reserve_now(run, [need(NORTH, rounds(6))])
    _, err = shell("release", run, "--reason", "mistake", leaves=3)
    assert f"covenant run stop {run}" in err
    with writing(centre.engine, "failing") as session:
        session.get_one(Run, run).state = RunState.FAILED
    assert shell.json("release", run, "--reason", "mistake") == {"run": run, "voided": 6}


def enrolled(centre: Centre) -> SigningKey:
    identity = SigningKey.generate()
    facts = {"name": NORTH, "identity_key": identity.public, "node_key": "n", "members_ref": "demo@1"}
    with writing(centre.engine, "enrolling") as session:
        session.add(Site(**facts, enrolled_at=datetime.now(UTC)))
    return identity


def test_an_unexplained_difference_is_printed_and_is_exit_code_3(
    shell: Shell, centre: Centre, home: Path
) -> None:
    shell.decide(*FIRST)
    identity, (run,) = enrolled(centre), launched(centre.engine, 1)
    ledger(centre).reserve_now(run, [need(NORTH, rounds(6))])
    account = StatedAccount.of(LOANS, CEILING, (), ())
    statement = home / "north.json"
    statement.write_bytes(sign(NORTH, identity, datetime.now(UTC) + timedelta(hours=1), [account]).to_bytes())
    assert shell.json("reconcile", str(statement))["alarms"] == 0
    settle(ledger(centre), centre.engine, run, 1)
    found = shell.json("reconcile", str(statement), leaves=3)
    (alarm,) = found["accounts"][0]["alarms"]
    assert (alarm["what"], alarm["run"], alarm["round"]) == (
        "settled at the centre, not charged at the site",
        run,
        1,
    )
    assert found["accounts"][0]["quoted"] == found["accounts"][0]["centre"]
    _, err = shell("reconcile", str(statement), leaves=3)
    assert (
        f"ALARM north/{LOANS} per customer (customer_id): settled at the centre, not charged at the site: {run}"
        in err
    )


def test_statements_that_cannot_be_read_or_believed_are_refused(
    shell: Shell, centre: Centre, home: Path
) -> None:
    shell("reconcile", str(home / "absent.json"), leaves=2)
    forged = home / "forged.json"
    forged.write_bytes(sign(NORTH, SigningKey.generate(), datetime.now(UTC), []).to_bytes())
    _, err = shell("reconcile", str(forged), leaves=3)
    assert "not enrolled here" in err
    enrolled(centre)
    _, err = shell("reconcile", str(forged), leaves=3)
    assert "not signed with the identity key" in err


def test_accounts_and_runs_that_are_not_there_are_told(shell: Shell) -> None:
    _, err = shell("show", "north", LOANS, leaves=2)
    assert "covenant ledger list" in err
    shell("release", numbered(1), "--reason", "x", leaves=1)
    shell("release", "run-1", "--reason", "x", leaves=2)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("record", PrivacyUnit(kind=UnitKind.RECORD)),
        ("site", PrivacyUnit(kind=UnitKind.SITE)),
        ("customer:id", PrivacyUnit(kind=UnitKind.CUSTOMER, column="id")),
        ("customer:id:4", PrivacyUnit(kind=UnitKind.CUSTOMER, column="id", max_rows=4)),
        ("customer:id:4:2", PrivacyUnit(kind=UnitKind.CUSTOMER, column="id", max_rows=4, max_sites=2)),
    ],
)
def test_a_unit_is_read_as_it_is_written(text: str, unit: PrivacyUnit) -> None:
    assert parse_unit(text) == unit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "customer",
        "customer:id:x",
        "customer:id:4:2:1",
        "record:1",
        "site:id",
        "customer:id:0",
        "customer:id:-1",
    ],
)
def test_a_unit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_unit(text)
