"""From an invitation to the member list: over a real door, and by files; and what a token does not do."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from client.cli import app as agent
from client.doctor.disk import judge_space
from client.doctor.examination import examine
from client.doctor.findings import Finding
from client.doctor.machine import judge_memory
from client.enrolment.enrol import members_file
from coordinator.bootstrap import Centre, open_centre
from coordinator.cli.centre import init as init_centre
from coordinator.cli.invitations import invite, requests, welcome
from coordinator.cli.sites import certify
from coordinator.db.engine import writing
from coordinator.enrolment import door
from coordinator.enrolment.door import EnrolmentDoor
from coordinator.enrolment.invitations import InvitationBook
from coordinator.governance.log import open_log
from coordinator.settings import load_settings
from protos.documents import load_document
from protos.enrolment import EnrolmentRequest
from protos.invitation import Invitation, Submission, token_of
from protos.log_entries import LogEntry
from protos.log_office import EnrolmentDenied
from protos.shell import people, run_command
from protos.site import load_site
from simulation.demo import data
from simulation.deployment import free_port
from simulation.officers import OFFICERS, Officers
from tests.tls_for_tests import answering, certificates

Said = tuple[int, str, str]


@dataclass
class Federation:
    """A coordinator whose door is open, its officers, and a place for sites."""

    folder: Path
    officers: Officers
    centre: Centre
    agent: Callable[..., Said]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def fingerprint(self) -> str:
        return load_document(self.invitation("probe"), Invitation).root.root.fingerprint

    def invitation(self, site: str, days: int = 7) -> Path:
        path = self.folder / f"{site}-{free_port()}.invitation"
        with people.capture():
            invite(site, path, self.folder / data.CONTRACT, days, None, self.home)
        return path

    def made(self, site: str, invitation: Path, folder: str | None = None) -> Path:
        """A site that was made from its invitation; its configuration."""
        place = self.folder / (folder or site)
        code, _, err = self.agent(
            "init", str(place), "--invitation", str(invitation), "--data", str(self.folder / "rows.parquet"),
            "--purpose", "credit-risk",
        )  # fmt: skip
        assert code == 0, err
        return place / "site.yaml"

    def enroll(self, config: Path, *more: str) -> Said:
        told = () if "--offline" in more else ("--fingerprint", self.fingerprint)
        return self.agent("enroll", "--config", str(config), "--json", *told, *more)

    def sign(self, *enrolments: Path) -> None:
        """The officers sign a list that has these sites too."""
        with people.capture():
            certify(
                members=self.home / "members.json",
                root=[self.officers.root],
                requests=list(enrolments),
                officer=[f"{self.officers.card(name)}:{role}" for name, role in OFFICERS.items()],
                service=[f"{self.home / 'log.pub'}:log"],
                key=self.officers._keys,
                passphrase_file=self.officers._passphrases,
            )

    def denials(self) -> list[EnrolmentDenied]:
        log = open_log(self.centre.engine, self.centre.settings, self.centre.clock)
        found = (LogEntry.from_canonical(each.body).what for each in log.entries(0, log.size()))
        return [each for each in found if isinstance(each, EnrolmentDenied)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Officers, Centre]]:
    folder = tmp_path_factory.mktemp("enrolment")
    people_of = Officers(folder / "officers")
    with people.capture():
        people_of.make("demo")
        init_centre(
            folder / "home", "demo", port=free_port(), control_port=free_port(), enrolment_port=free_port()
        )
    shutil.copy(people_of.root, folder / "home/root.json")
    data.copy_document(data.CONTRACT, folder)
    pq.write_table(pa.table({"loan_id": [1]}), folder / "rows.parquet")
    centre = open_centre(load_settings(folder / "home"))
    with EnrolmentDoor(centre):
        yield folder, people_of, centre


@pytest.fixture
def federation(
    made: tuple[Path, Officers, Centre], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Federation:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(lambda: agent(list(arguments), standalone_mode=False))
        assert isinstance(left.value.code, int)
        return (left.value.code, *capsys.readouterr())

    folder, people_of, centre = made
    return Federation(folder, people_of, centre, run)


def facts_in(out: str) -> dict:
    """The JSON object on stdout; in this process the door logs there, too."""
    return json.loads(out[out.index("{") :])


def test_a_site_comes_in_over_the_door_and_its_key_stays(federation: Federation, tmp_path: Path) -> None:
    invitation = federation.invitation("north")
    assert invitation.stat().st_mode & 0o777 == 0o600
    config = federation.made("north", invitation)
    code, out, _ = federation.enroll(config, str(invitation))
    waiting = facts_in(out)
    assert (code, waiting["state"]) == (0, "waiting")

    with people.capture():
        requests(tmp_path, federation.home)
    enrolment = tmp_path / "north.enrolment.json"
    assert json.loads(enrolment.read_bytes()) == json.loads((config.parent / "enrolment.json").read_bytes())
    assert b"PRIVATE" not in enrolment.read_bytes()
    assert load_document(invitation, Invitation).token not in (
        federation.home / "covenant.db"
    ).read_bytes().decode("latin-1")
    federation.sign(enrolment)

    code, out, err = federation.enroll(config, str(invitation))  # the same command asks how far it is
    facts = facts_in(out)
    assert code == 0, err
    assert facts["state"] == "member"
    assert set(facts["approvers"]) == {"privacy-officer", "model-risk"}
    assert facts["root"] == federation.fingerprint
    assert (
        members_file(load_site(config)).read_bytes().strip()
        == (federation.home / "members.json").read_bytes().strip()
    )
    assert federation.denials() == []


def test_a_token_that_was_used_takes_no_other_request(federation: Federation) -> None:
    invitation = federation.invitation("west")
    first = federation.made("west", invitation)
    assert federation.enroll(first, str(invitation))[0] == 0
    second = federation.made("west", invitation, "west-again")
    for _ in range(12):
        code, _, err = federation.enroll(second, str(invitation))
        assert code == 3
        assert "was used already, for another request" in err
    told = [each for each in federation.denials() if each.site == "west"]
    assert len(told) == 10  # nobody fills the log
    (kept,) = [each for each in InvitationBook(federation.centre).all() if each.site == "west"]
    assert kept.request is not None
    assert kept.request.canonical == (first.parent / "enrolment.json").read_bytes().strip()
    assert kept.state == "waiting"


def test_a_token_is_for_its_site_and_its_time(federation: Federation) -> None:
    invitation = federation.invitation("south")
    south = federation.made("south", invitation)
    east = federation.made("east", federation.invitation("east"))
    code, _, err = federation.enroll(east, str(invitation))
    assert (code, "the invitation is for south" in err) == (3, True)

    request = load_document(south.parent / "enrolment.json", EnrolmentRequest)
    token = load_document(invitation, Invitation).token
    late = replace(federation.centre, clock=lambda: datetime.now(UTC) + timedelta(days=8))
    answer = InvitationBook(late).submit(Submission(token=token, request=request))
    assert answer.state == "refused"
    assert "its time is over" in (answer.reason or "")
    federation.invitation("south")  # a new one ends the one before
    code, _, err = federation.enroll(south, str(invitation))
    assert (code, "it is not known here, or its time is over" in err) == (3, True)


def test_nothing_is_sent_to_a_federation_whose_root_is_another(federation: Federation) -> None:
    invitation = federation.invitation("lake")
    config = federation.made("lake", invitation)
    code, _, err = federation.agent(
        "enroll", str(invitation), "--config", str(config), "--fingerprint", "0123 4567 " * 8
    )
    assert code == 3
    assert "Nothing was sent" in err
    code, _, err = federation.agent("enroll", str(invitation), "--config", str(config))
    assert (code, "say theirs with --fingerprint" in err) == (2, True)
    (kept,) = [each for each in InvitationBook(federation.centre).all() if each.site == "lake"]
    assert kept.request is None


def test_a_site_without_a_network_comes_in_by_files(federation: Federation, tmp_path: Path) -> None:
    config = federation.made("island", federation.invitation("island"))
    other = federation.made("reef", federation.invitation("reef"))
    code, out, _ = federation.enroll(config, "--offline")
    assert (code, facts_in(out)["state"]) == (0, "offline")
    federation.sign(config.parent / "enrolment.json")
    with people.capture():
        welcome("island", tmp_path / "island.welcome", federation.home)
    code, out, err = federation.enroll(config, "--welcome", str(tmp_path / "island.welcome"))
    assert code == 0, err
    assert facts_in(out)["state"] == "member"
    code, _, err = federation.enroll(other, "--welcome", str(tmp_path / "island.welcome"))
    assert (code, "reef is not on member list" in err) == (3, True)
    draft = (tmp_path / "island.welcome").read_text().replace('"island"', '"reefer"')
    (tmp_path / "forged").write_text(draft)
    assert federation.enroll(config, "--welcome", str(tmp_path / "forged"))[0] == 3


def test_who_answers_in_the_doors_place_is_named_and_gets_no_token(
    federation: Federation, tmp_path: Path
) -> None:
    invitation = federation.invitation("hill")
    config = federation.made("hill", invitation)
    theirs = certificates(tmp_path, datetime.now(UTC), federation="inspection-proxy")
    with answering(theirs, datetime.now(UTC)) as address:
        read = load_document(invitation, Invitation)
        (tmp_path / "hill.invitation").write_bytes(read.model_copy(update={"door": address}).canonical)
        code, _, err = federation.enroll(config, str(tmp_path / "hill.invitation"))
    assert code == 1
    assert "Covenant transport CA of inspection-proxy" in err
    assert read.token not in err


def connected(federation: Federation) -> socket.socket:
    """A stranger that only connects."""
    section = federation.centre.settings.config.enrolment
    assert section is not None
    return socket.create_connection((section.host, section.port))


def greeted(federation: Federation) -> ssl.SSLSocket:
    """A stranger that says nothing more once TLS is up."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
    return bare.wrap_socket(connected(federation))


def test_strangers_who_hold_connections_open_keep_no_site_out(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_COMES_WITHIN_S", 1.5)
    invitation = federation.invitation("heath")
    config = federation.made("heath", invitation)
    with ExitStack() as held:
        strangers = [held.enter_context(greeted(federation)) for _ in range(20)]
        strangers[0].sendall(b"POST /covenant/enrolment/v1 HTTP/1.1\r\nHost: x\r\nX: ")
        code, out, err = federation.enroll(config, str(invitation))
        assert (code, facts_in(out)["state"]) == (0, "waiting"), err
        for each in strangers:
            each.settimeout(10)
            with suppress(OSError):
                assert each.recv(1) == b""  # they are sent away


def test_strangers_who_only_connect_take_the_coordinator_few_files(federation: Federation) -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before, many = files(), 150
    with ExitStack() as held:
        for _ in range(many):
            held.enter_context(connected(federation))
        time.sleep(1.0)  # for a server that takes all
        assert files() - before - many <= 64 + 5
    invitation = federation.invitation("brook")
    config = federation.made("brook", invitation)
    assert federation.enroll(config, str(invitation))[0] == 0


def test_a_stranger_without_a_token_locks_nothing(federation: Federation) -> None:
    """Else 20 calls a second would keep rounds from being written."""
    invitation = federation.invitation("down")
    request = load_document(federation.made("down", invitation).parent / "enrolment.json", EnrolmentRequest)
    book = InvitationBook(federation.centre)
    with writing(federation.centre.engine, "a round") as session:
        session.execute(text("SELECT 1"))
        answer = book.submit(Submission(token=token_of(bytes(32)), request=request))
    assert answer.state == "refused"


# --- doctor -----------------------------------------------------------------------------------------------------------


def found(
    config: Path, check: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> list[Finding]:
    return [each for each in examine(config, clock=clock) if each.check == check]


def at(config: Path, address: str, ca: Path) -> Path:
    """The configuration with another SuperLink."""
    site = load_site(config)
    text = config.read_text().replace(site.federation.superlink, address)
    changed = config.with_name("elsewhere.yaml")
    changed.write_text(text)
    shutil.copy(ca, site.federation.ca)
    return changed


def test_doctor_says_what_is_wrong_with_clock_and_tls(federation: Federation, tmp_path: Path) -> None:
    config = federation.made("moor", federation.invitation("moor"))
    ours = certificates(tmp_path / "ours", datetime.now(UTC) - timedelta(days=1))
    with answering(ours, datetime.now(UTC)) as address:
        changed = at(config, address, ours / "ca.crt")
        assert [each.level for each in found(changed, "clock")] == ["ok"]
        assert [each.level for each in found(changed, "tls")] == ["ok"]
        (clock,) = found(changed, "clock", lambda: datetime.now(UTC) + timedelta(hours=2))
        assert (clock.level, clock.next) == ("wrong", "timedatectl set-ntp true")
        assert "2.0 h ahead of" in clock.what
        for years, words in ((10, "10.0 years ahead of"), (-10, "10.0 years behind")):
            off = timedelta(days=365.25 * years)
            (clock,) = found(changed, "clock", lambda off=off: datetime.now(UTC) + off)  # type: ignore[misc]
            assert (clock.level, clock.next) == ("wrong", "timedatectl set-ntp true")
            assert words in clock.what
    theirs = certificates(tmp_path / "theirs", datetime.now(UTC), federation="inspection-proxy")
    with answering(theirs, datetime.now(UTC)) as address:
        (tls,) = found(at(config, address, ours / "ca.crt"), "tls")
        assert tls.level == "wrong"
        assert "Covenant transport CA of inspection-proxy" in tls.what
        assert "exempt" in tls.next


def test_doctor_leaves_with_1_and_says_it_as_json(federation: Federation) -> None:
    config = federation.made("dale", federation.invitation("dale"))
    code, out, _ = federation.agent("doctor", "--config", str(config), "--json")
    facts = facts_in(out)
    assert (code, facts["healthy"]) == (1, False)  # nothing listens at the SuperLink's address
    levels: dict[str, list[str]] = {}
    for each in facts["findings"]:
        levels.setdefault(each["check"], []).append(each["level"])
    assert levels["superlink"] == ["wrong"]
    assert levels["keys"] == ["warning", "ok"]  # it opens, and is not encrypted
    assert all(
        levels[each] == ["ok"] for each in ("config", "root", "contract", "data", "journal", "versions")
    )
    assert all(each["next"] for each in facts["findings"] if each["level"] != "ok")


def test_doctor_finds_a_typo_with_the_nearest_key(federation: Federation) -> None:
    config = federation.made("fen", federation.invitation("fen"))
    config.write_text(config.read_text().replace("superlink:", "superlnik:"))
    (only,) = examine(config, clock=lambda: datetime.now(UTC))
    assert (only.check, only.level) == ("config", "wrong")
    assert "superlnik" in only.what
    assert "superlink" in only.what


def test_doctor_finds_keys_that_others_can_read(federation: Federation) -> None:
    config = federation.made("ford", federation.invitation("ford"))
    load_site(config).identity.key.chmod(0o644)
    (keys,) = found(config, "keys")
    assert keys.level == "wrong"
    assert "chmod 600" in keys.what


def test_a_full_disk_and_short_memory_are_found_before_they_end_the_agent(tmp_path: Path) -> None:
    assert [judge_space(tmp_path, free).level for free in (0, 100 << 20, 5 << 30)] == [
        "wrong",
        "warning",
        "ok",
    ]
    assert [judge_memory(kib).level for kib in (500_000, 1_200_000, 4_000_000)] == ["wrong", "warning", "ok"]
