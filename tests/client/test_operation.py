"""`covenant-agent status` and `history`, and the metrics: what they say of an agent that ran, and of one that does not."""

from __future__ import annotations

import json
import urllib.request
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from client.accounts.views import AccountView, views
from client.bootstrap import open_accounts, open_standing
from client.cli import app as commands
from client.doctor import disk, records
from client.doctor.findings import Patient
from client.journal.answers import ANSWERED
from client.operation.metrics import AccountMetrics, AgentMetrics
from client.operation.reporter import StateReporter, Watchers
from client.operation.state import AgentState, StateFolder
from client.operation.status import status_of
from client.operation.watching import Occurrence, occurrence
from client.standing import Act
from protos.frames import RefusalCode
from protos.monitoring import Monitoring, new_registry, served
from protos.secure_codec import decode_asked, encode_secure_request
from protos.shell import people
from simulation.deployment import free_port
from strategies.errors import CovenantError, Unreachable, UsageError
from strategies.ids import RunId
from tests.bank_for_tests import make_bank
from tests.client.secure_for_tests import RUN, SITES, VICTIM, SecureBank, Sum

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEGAN = AgentState(pid=7, version="0.1.0", started_at=NOW.isoformat())
ASKED = Occurrence(run=RUN, stage="train", step="mask", round=2, attempt=1, outcome="answered")


def test_a_site_that_never_ran_is_down_and_told_how_to_start(tmp_path: Path) -> None:
    found = status_of(make_bank(tmp_path).config("south"), lambda: NOW)
    assert (found.word, found.state, found.well) == ("down", None, False)
    assert "covenant-agent run" in found.warnings[0]


def test_an_agent_that_runs_says_what_it_does(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config("south")
    folder = StateFolder(config.journal.parent)
    reporter = StateReporter(folder, BEGAN, lambda: NOW, lambda: 0.0)
    with folder.held():
        reporter.away("the SuperLink at x:1 cannot be reached")
        connecting = status_of(config, lambda: NOW)
        reporter.connected()
        reporter.occurred(ASKED)
        reporter.connected()
        running = status_of(config, lambda: NOW)
        late = status_of(config, lambda: NOW + timedelta(hours=2))
        reporter.draining()
        draining = status_of(config, lambda: NOW)
    assert (connecting.word, running.word, draining.word) == ("connecting", "running", "draining")
    assert "x:1 cannot be reached" in connecting.warnings[0]
    assert running.state is not None
    assert (running.state.answered, running.state.last_request) == (
        1,
        f"{RUN}: mask of train 2, attempt 1: answered",
    )
    assert any("last heard 7200 s ago" in each for each in late.warnings)


def test_one_that_was_killed_and_one_that_left_are_told_apart(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config("south")
    folder = StateFolder(config.journal.parent)
    reporter = StateReporter(folder, BEGAN, lambda: NOW, lambda: 0.0)
    reporter.connected()
    assert "without a word" in status_of(config, lambda: NOW).warnings[0]
    reporter.ended("it was told to")
    assert "it was told to" in status_of(config, lambda: NOW).warnings[0]


@pytest.mark.parametrize(
    ("act", "words"), [("suspend", "is suspended (moving)"), ("leave", "has left the federation (moving)")]
)
def test_a_site_that_its_people_keep_out_is_told_so_by_status_and_doctor(
    tmp_path: Path, act: Act, words: str
) -> None:
    config = make_bank(tmp_path).config("south")
    patient = Patient(config=config, file=tmp_path / "site.yaml", clock=lambda: NOW)
    (standing,) = [each for each in records.CHECKS if each.name == "standing"]
    with closing(open_standing(config)) as book:
        assert list(standing.look(patient)) == []
        book.say(act, "moving")
    (told,) = [each for each in status_of(config, lambda: NOW).warnings if words in each]
    (found,) = standing.look(patient)
    assert found.level == "warning"
    assert "covenant-agent return" in told
    assert "covenant-agent return" in found.next
    with closing(open_standing(config)) as book:
        book.say("return", "moved")
    assert list(standing.look(patient)) == []
    assert not any(words in each for each in status_of(config, lambda: NOW).warnings)


def test_doctor_looks_at_the_disk_of_every_file_that_the_agent_writes(tmp_path: Path) -> None:
    config = make_bank(tmp_path).config("south")
    elsewhere = config.model_copy(update={"consents": tmp_path / "elsewhere" / "consents.db"})
    (tmp_path / "elsewhere").mkdir()
    patient = Patient(config=elsewhere, file=tmp_path / "site.yaml", clock=lambda: NOW)
    space = next(each for each in disk.CHECKS if each.name == "disk")
    assert len(list(space.look(patient))) == 2


@pytest.mark.parametrize(("state", "error"), [(None, CovenantError), (BEGAN, Unreachable)])
def test_a_monitor_hears_of_it_by_the_exit_code(
    tmp_path: Path, state: AgentState | None, error: type[CovenantError]
) -> None:
    bank = make_bank(tmp_path)
    folder = StateFolder(bank.config("south").journal.parent)
    command = ["status", "--check", "--json", "--config", str(bank.config_file("south"))]
    if state is None:
        with pytest.raises(error):
            commands(command, standalone_mode=False)
        return
    with folder.held():
        folder.write(state)
        with pytest.raises(error):
            commands(command, standalone_mode=False)


def test_history_has_answers_and_each_lasting_refusal_once(
    bank: SecureBank, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Sum(bank)
    asked.unmask(asked.confirmed())
    other = RunId("run-00000000000000ff")
    site = bank.participant(VICTIM)
    for _ in range(3):
        site.answers.note_refusal(other, RefusalCode.POLICY, "`policy.purposes` admits nothing")
    site.answers.note_refusal(other, RefusalCode.PROTOCOL, "an attempt of which nobody need know")
    bank.crash(VICTIM).answers.note_refusal(other, RefusalCode.POLICY, "again, after a restart")
    capsys.readouterr()
    commands(
        ["history", "--json", "--config", str(bank.folder / VICTIM / "site.yaml")], standalone_mode=False
    )
    runs = {each["run"]: each for each in json.loads(capsys.readouterr().out)["runs"]}
    assert runs[RUN]["prepared"]
    assert (runs[RUN]["steps"], runs[RUN]["refusals"]) == (3, [])
    assert [(each["code"], each["reason"]) for each in runs[other]["refusals"]] == [
        ("policy", "`policy.purposes` admits nothing")
    ]


def test_what_the_centre_wrote_moves_no_cursor_where_it_is_shown(bank: SecureBank) -> None:
    reason = "the plan \x1b[2J[bold]x is not admitted"
    bank.participant(VICTIM).answers.note_refusal(RUN, RefusalCode.POLICY, reason)
    with people.capture() as shown:
        commands(["history", "--config", str(bank.folder / VICTIM / "site.yaml")], standalone_mode=False)
    assert "[bold]x is not admitted" in shown.get()
    assert "\x1b[2J" not in shown.get()


def test_a_refusal_in_the_journal_is_no_answer(bank: SecureBank) -> None:
    site = bank.participant(VICTIM)
    site.answers.note_refusal(RUN, RefusalCode.CONTRACT, "x")
    assert list(site.answers.journal.entries(ANSWERED)) == []


def test_a_participant_tells_what_became_of_each_request(bank: SecureBank) -> None:
    told: list[Occurrence] = []
    site = bank.participant(VICTIM)
    site.told = lambda asked, outcome: told.append(occurrence(asked, outcome))
    asked = Sum(bank)
    bank.said(VICTIM, asked.advertise_request())
    site.drain.begin()
    bank.said(VICTIM, Sum(bank, attempt_number=2).advertise_request())
    assert [(each.stage, each.step, each.attempt, each.outcome) for each in told[1:]] == [
        ("prepare", "keys", 1, "answered"),
        ("prepare", "keys", 2, "failed"),
    ]
    assert occurrence(decode_asked(encode_secure_request(asked.advertise_request())), "answered").run == RUN


def test_metrics_are_a_page_for_prometheus(tmp_path: Path) -> None:
    config, registry = make_bank(tmp_path).config("south"), new_registry()
    at = [0.0]
    metrics = Watchers([AgentMetrics(config, registry, now=lambda: 1e9, monotonic=lambda: at[0])])

    def accounts() -> list[object]:
        with closing(open_accounts(config)) as book:
            return list(views(config, book))

    registry.register(AccountMetrics(accounts, lambda: 4096))  # type: ignore[arg-type]
    metrics.connected()
    metrics.away("why not")
    metrics.began()
    at[0] = 5.0
    metrics.occurred(ASKED)
    section = Monitoring(metrics=f"127.0.0.1:{free_port()}")
    with served(section, registry):
        with urllib.request.urlopen(f"http://{section.metrics}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        with (
            pytest.raises(UsageError, match=r"`monitoring.metrics` is .*nobody can listen"),
            served(section, new_registry()),
        ):
            pytest.fail("one address was had twice")
    assert 'covenant_agent_requests_total{outcome="answered",stage="train",step="mask"} 1.0' in page
    assert 'covenant_agent_answer_seconds_bucket{le="1.0",stage="train"} 0.0' in page
    assert 'covenant_agent_answer_seconds_bucket{le="10.0",stage="train"} 1.0' in page
    for line in (
        "covenant_agent_connected 0.0",
        "covenant_agent_connection_failures_total 1.0",
        "covenant_agent_disk_free_bytes 4096.0",
    ):
        assert line in page
    assert "why not" not in page
    assert "process_resident_memory_bytes" in generate_latest(registry).decode()


def test_accounts_that_cannot_be_read_cost_their_figures_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever serves the page would print a traceback otherwise, words and all, beside the log."""

    def damaged() -> list[AccountView]:
        raise CovenantError("the accounts are damaged")

    registry = new_registry()
    registry.register(AccountMetrics(damaged, lambda: 4096))
    section = Monitoring(metrics=f"127.0.0.1:{free_port()}")
    with (
        served(section, registry),
        urllib.request.urlopen(f"http://{section.metrics}/metrics", timeout=10) as answer,
    ):
        assert "covenant_agent_disk_free_bytes 4096.0" in answer.read().decode()
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_served_where_no_address_is_written(tmp_path: Path) -> None:
    assert make_bank(tmp_path).config("south").monitoring.metrics is None
    with served(Monitoring(), new_registry()):
        pass
    assert len(SITES) == 4
