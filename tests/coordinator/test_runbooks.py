"""The commands of the runbooks on keys, as they stand there: typed one after the other, and believed by a site after each."""

from __future__ import annotations

import re
import shlex
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import typer

from client.bootstrap import open_halts, open_participant
from client.cli import app as agent
from client.participant import Participant
from coordinator.api.server import ControlServer
from coordinator.bootstrap import open_centre
from coordinator.cli import register
from coordinator.db import reading, writing
from coordinator.db.witness_schema import ForkRow
from coordinator.documents import read_evidence, read_members, read_plan
from coordinator.governance.halts import views
from coordinator.governance.log import open_log
from coordinator.governance.witnesses import require_no_fork
from coordinator.keys import log_signer
from coordinator.registry.signatures import sign_files
from coordinator.service import Service
from coordinator.settings import load_settings
from protos.approval_rule import ApprovalRule
from protos.approvals import require_approved
from protos.artifact_keys import require_artifact_key
from protos.log_entries import LogEntry
from protos.membership import Trusted
from protos.shell import people, run_command
from protos.site import load_site
from protos.witness import Evidence
from simulation.demo import data
from simulation.deployment import free_port
from strategies.errors import Refused
from strategies.ids import SiteName
from tests.coordinator.conftest import submitted

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


def commands_of(page: str, *headings: str) -> dict[str, list[str]]:
    """The command lines of a runbook below each heading, all of them unless some are named."""
    found: dict[str, list[str]] = {}
    for section in (RUNBOOKS / page).read_text().split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        blocks = re.findall(r"(?s)```\n(.*?)```", text)
        lines = "".join(blocks).replace("\\\n", " ").splitlines()
        found[heading] = [line.partition("  #")[0].strip() for line in lines]
    return {heading: lines for heading, lines in found.items() if not headings or heading in headings}


class Desk:
    """Whoever types: at a terminal, and with one passphrase for everything, as nobody should."""

    def __init__(self, folder: Path) -> None:
        covenant = typer.Typer()
        register(covenant)
        self.folder = folder
        self.programs: dict[str, typer.Typer] = {"covenant": covenant, "covenant-agent": agent}

    def type(self, line: str) -> None:
        program, *arguments = shlex.split(line)
        if program not in self.programs:
            subprocess.run(["bash", "-ec", line], cwd=self.folder, check=True, capture_output=True)
            return
        with pytest.raises(SystemExit) as left:
            run_command(lambda: self.programs[program](arguments, standalone_mode=False))
        assert left.value.code == 0, line

    def follow(self, lines: list[str]) -> None:
        for line in lines:
            self.type(line)

    @property
    def list(self) -> Trusted:
        """What the coordinator uses now."""
        return read_members(load_settings(self.folder / "centre"))[1]

    def believed(self, site: Participant) -> Trusted:
        """The same, if a site that pinned version 1 of the root accepts it."""
        return site.trust.accept((self.folder / "centre/members.json").read_bytes().strip(), begun=False)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A federation made by the first runbook, with three sites."""
    made = Desk(tmp_path_factory.mktemp("runbooks"))
    data.copy_document(data.CONTRACT, made.folder)
    with pytest.MonkeyPatch.context() as patch:
        at_terminal(patch, made.folder)
        for heading, lines in commands_of("first-federation.md").items():
            if heading[0] in "124":
                made.follow(lines)
            elif heading[0] == "3":
                for site in ("north", "south", "east"):
                    made.follow([re.sub(r"\bnorth\b", site, line) for line in lines])
    return made


@pytest.fixture(autouse=True)
def terminal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    at_terminal(monkeypatch, desk.folder)


def at_terminal(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    patch.setattr(people, "_width", 400)
    patch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    patch.setattr("builtins.input", lambda: "yes")
    patch.setattr("getpass.getpass", lambda _: "correct horse battery staple")


def test_the_first_federation_is_one_that_its_sites_believe(desk: Desk) -> None:
    trusted = desk.list
    assert (trusted.members.ref, trusted.root.version, trusted.root.quorum) == ("retail@1", 1, 2)
    assert [each.site for each in trusted.members.members] == ["east", "north", "south"]
    assert trusted.members.officer("privacy-1").roles == ("privacy_officer",)
    assert trusted.members.service("log").key == log_signer(load_settings(desk.folder / "centre")).public


def test_the_first_plan_is_approved_by_the_officers_on_the_list(desk: Desk) -> None:
    plan = data.copy_document(data.PLAN, desk.folder)
    text = plan.read_text().replace("members: demo@1", "members: retail@1")
    text = re.sub(r"invite: \[[^]]*\]", "invite: [north, south, east]", text)
    plan.write_text(text)
    (lines,) = commands_of("first-federation.md", "7. A plan is signed, approved and launched").values()
    desk.follow([line for line in lines if re.match(r"covenant plan (check|sign|approve|status)", line)])
    documents = read_plan(plan, desk.folder / data.CONTRACT)
    rules = [ApprovalRule()]
    approved = require_approved(*documents, read_evidence(plan), desk.list, rules, datetime.now(UTC))
    assert (approved.author, [name for name, _ in approved.approved_by]) == ("ml-1", ["privacy-1", "risk-1"])


def test_an_officer_is_given_access_and_uses_it(desk: Desk) -> None:
    steps = commands_of("give-an-officer-access.md")
    config = desk.folder / "centre/covenant.yaml"
    config.write_text(config.read_text().replace("port: 9093", f"port: {free_port()}"))
    for heading in list(steps)[:3]:
        desk.follow(steps[heading])
    with ControlServer(open_centre(load_settings(desk.folder / "centre"))):
        desk.follow(steps["4. The officer tries it"])


@pytest.mark.slow
def test_a_backup_comes_back_and_what_nobody_has_is_a_gap(desk: Desk) -> None:
    """Before the remedies of the next test, which change who the officers are."""
    page = commands_of("backup-and-restore.md")
    served(desk)
    desk.follow(page["1. Back up"][:2])
    decided(desk, "first")
    desk.follow(page["1. Back up"][2:])
    desk.follow(page["2. Drill"])
    before = told_by(desk)
    desk.follow(page["3. Restore"])
    assert told_by(desk) == before
    desk.follow(page["4. Entries that nobody has"])
    kinds = [kind for kind, _ in told_by(desk)]
    assert kinds == [*[kind for kind, _ in before][:-1], "gap"]
    decided(desk, "again")
    desk.follow(page["5. After a gap: the accounts"])
    assert [kind for kind, _ in told_by(desk)][-3:] == ["gap", "ceiling", "adopted"]


def decided(desk: Desk, why: str) -> None:
    """An account at the centre, opened by one officer."""
    for line in (
        f"covenant ledger ceiling draft north lending-club --unit record --epsilon 12 --delta 1e-5 --reason {why} --out {why}.json --home centre",
        f"covenant ledger ceiling sign {why}.json --officer privacy-1 --key officers/privacy-1.key --root officers/root.json",
        f"covenant ledger ceiling apply {why}.json --home centre",
    ):
        desk.type(line)


def served(desk: Desk) -> None:
    """As a coordinator does when it starts: the sites are recorded, and the log has the member list."""
    centre = open_centre(load_settings(desk.folder / "centre"))
    membership, trusted = read_members(centre.settings)
    Service(centre)._record(trusted.members, membership)
    centre.engine.dispose()


def told_by(desk: Desk) -> list[tuple[str, bytes]]:
    """The kinds and bytes of all entries of the centre's log."""
    centre = open_centre(load_settings(desk.folder / "centre"))
    log = open_log(centre.engine, centre.settings, centre.clock)
    found = [(LogEntry.from_canonical(each.body).what.kind, each.body) for each in log.entries()]
    centre.engine.dispose()
    return found


@pytest.mark.slow
def test_a_halt_is_given_kept_as_evidence_and_lifted_as_the_runbook_says(desk: Desk) -> None:
    sections = commands_of("halt-and-resume.md")
    assert list(sections) == [
        "An officer halts", "A site halts", "Keep the evidence", "Two officers let it go on", "The coordinator itself is gone",
    ]  # fmt: skip
    centre = open_centre(load_settings(desk.folder / "centre"))
    desk.follow(sections["An officer halts"])
    given = [(each.order.by.name, each.order.scope, each.lifted_at) for each in views(centre.engine)]
    assert given == [("privacy-1", "all", None)] * 2  # typed at the centre, and signed into a file
    desk.follow(sections["A site halts"])
    assert {each.order.by.words for each in views(centre.engine)} == {"officer privacy-1", "site north"}
    desk.follow(sections["Keep the evidence"])
    setting, *lifts = sections["Two officers let it go on"]
    assert setting.startswith("HALT=$(covenant halt list --json")
    for each in views(centre.engine):
        desk.follow([line.replace("$HALT", each.order.id[:8]) for line in lifts[:2]])
    assert all(each.lifted_at for each in views(centre.engine))
    book = open_halts(load_site(desk.folder / "north/site.yaml"))
    assert len(book.standing()) == 1
    desk.follow(lifts[2:])
    assert book.standing() == ()
    book.close()


def test_a_fork_is_looked_at_and_settled(desk: Desk) -> None:
    """The evidence is there, both sides see what they have, and launches are admitted again."""
    centre = open_centre(load_settings(desk.folder / "centre"))
    open_participant(desk.folder / "north/site.yaml").close()
    with writing(centre.engine, "a run with evidence") as session:
        session.add(submitted())
        session.flush()
        evidence = Evidence(shows="shorter", site=SiteName("north"))
        session.add(
            ForkRow(
                digest=evidence.digest,
                shows=evidence.shows,
                site=evidence.site,
                run_id=submitted().id,
                evidence=evidence.canonical,
                found_at=centre.clock(),
            )
        )
    with reading(centre.engine, "looking") as session, pytest.raises(Refused, match="evidence 1, shorter"):
        require_no_fork(session)
    for lines in commands_of("a-fork-was-found.md").values():
        desk.follow([line.partition(" > ")[0] for line in lines])
    with reading(centre.engine, "looking") as session:
        require_no_fork(session)


@pytest.mark.slow
def test_every_remedy_works_and_leaves_what_it_says(desk: Desk) -> None:
    """One after the other, as a federation may live to see them; a site that pinned version 1 follows all of it."""
    south = open_participant(desk.folder / "south/site.yaml")
    south_believes = partial(desk.believed, south)
    first = south_believes()
    remedies = commands_of("keys.md")
    assert list(remedies) == [
        "An officer's root key", "An officer on the list", "A site", "The log", "The key that signs models", "The quorum", "The root is due",
    ]  # fmt: skip

    desk.follow(remedies["An officer's root key"])
    trusted = south_believes()
    assert (trusted.root.version, trusted.members.ref) == (2, "retail@1")
    assert [each.name for each in trusted.root.keys] == ["officer-1", "officer-2", "officer-4"]

    desk.follow(remedies["An officer on the list"])
    trusted = south_believes()
    assert trusted.members.officer("privacy-1").key != first.members.officer("privacy-1").key

    desk.follow(remedies["A site"][:2])
    trusted = south_believes()
    with pytest.raises(Refused, match="north is not on member list retail@3"):
        trusted.members.member(SiteName("north"))
    desk.follow(remedies["A site"][2:])
    north = south_believes().members.member(SiteName("north"))
    assert north.identity_key != first.members.member(SiteName("north")).identity_key
    anew = open_participant(desk.folder / "north-anew/site.yaml")
    assert anew.identity.public == north.identity_key
    anew.close()

    desk.follow(remedies["The log"])
    key = south_believes().members.service("log").key
    assert key != first.members.service("log").key
    assert key == log_signer(load_settings(desk.folder / "centre")).public

    settings = load_settings(desk.folder / "centre")
    before = sign_files(settings, {"model.onnx": b"a graph"})
    desk.follow(remedies["The key that signs models"])
    after = sign_files(settings, {"model.onnx": b"a graph"})
    assert before is not None
    assert after is not None
    assert require_artifact_key(after.key, south_believes()) != before.key.key
    with pytest.raises(Refused, match="is not by artifacts, the artifacts service"):
        require_artifact_key(before.key, south_believes())

    assert remedies["The quorum"] == []
    desk.follow(remedies["The root is due"])
    trusted = south_believes()
    assert (trusted.root.version, f"{trusted.root.expires:%Y-%m-%d}") == (3, "2035-06-30")
    assert trusted.members.ref == desk.list.members.ref == "retail@6"
    south.close()
