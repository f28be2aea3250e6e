"""What officers type: keys, a root, a member list, and what each command refuses."""

from __future__ import annotations

import json
import os
import pty
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.keystore import make_keys
from coordinator.cli.members import write_next
from coordinator.cli.signing import Roots
from coordinator.documents import assemble, read_members
from coordinator.settings import load_settings
from protos.documents import load_document
from protos.enrolment import IdentityCard
from protos.key_files import is_encrypted
from protos.keys import SigningKey
from protos.membership import Membership, Role
from protos.passphrases import read_passphrase
from protos.root import MOST_LINKS, SignedRoot, follow
from protos.site import load_site
from strategies.errors import Refused, UsageError
from tests.client.loans_for_tests import CONTRACT
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.secure_for_tests import RUN, Template
from tests.trust_for_tests import officers

OFFICERS = ("ash", "birch", "cedar")
_SITE = """\
covenant: site/v1
site: {site}
federation: {{name: demo, superlink: "127.0.0.1:1", ca: ca.crt, root: ../root.json}}
identity: {{key: site.key, node_key: node.key}}
data: {{loans: {{contract: loans@1, contract_file: loans.yaml, file: rows.parquet}}}}
"""


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


def done(covenant: Command, line: str, code: int = 0) -> str:
    """What a command says on stderr, on one line."""
    left, _, err = covenant(*line.split())
    assert left == code, err
    return " ".join(err.split())


def make_officers(covenant: Command, *names: str) -> None:
    for name in names:
        done(covenant, f"key new {name} --out . --no-passphrase")


def make_root(covenant: Command) -> None:
    """`root.json`, signed by ash and birch."""
    make_officers(covenant, *OFFICERS)
    cards = " ".join(f"--key {name}.pub" for name in OFFICERS)
    done(covenant, f"root new --federation demo {cards} --quorum 2 --out root.json")
    done(covenant, "root sign root.json --key ash.key --key birch.key")


def request_of(folder: Path, site: str) -> str:
    """The enrolment request of a site."""
    own = folder / site
    own.mkdir()
    (own / "loans.yaml").write_bytes(CONTRACT.canonical)
    (own / "site.yaml").write_text(_SITE.format(site=site))
    (own / "enrolment.json").write_bytes(make_keys(load_site(own / "site.yaml")).canonical)
    return f"{site}/enrolment.json"


def make_list(covenant: Command, folder: Path, *sites: str) -> None:
    """`members.json`, signed by ash and birch."""
    requests = " ".join(request_of(folder, site) for site in sites)
    done(
        covenant,
        f"site certify {requests} --members members.json --root root.json --key ash.key --key birch.key",
    )


def listed(folder: Path, name: str = "members.json") -> Membership:
    return Membership.from_canonical((folder / name).read_bytes().strip())


# --- keys


def test_a_new_key_has_a_card_and_a_fingerprint(covenant: Command, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("open sesame\n")
    (tmp_path / "word").chmod(0o600)
    said = done(covenant, "key new ash --out keys --passphrase-file word")
    card = load_document(tmp_path / "keys/ash.pub", IdentityCard).verify()
    assert card.fingerprint in said
    key = tmp_path / "keys/ash.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert is_encrypted(key)
    assert SigningKey.load(key, read_passphrase(tmp_path / "word")).public == card.public_key
    assert "sesame" not in said


def test_a_key_without_a_passphrase_has_to_be_asked_for(covenant: Command, tmp_path: Path) -> None:
    said = done(covenant, "key new ash --out keys", code=2)
    assert "no terminal to ask for it" in said
    assert not list((tmp_path / "keys").iterdir())
    done(covenant, "key new ash --out keys --no-passphrase")
    assert not is_encrypted(tmp_path / "keys/ash.key")


@pytest.mark.parametrize("lost", ["ash.key", "ash.pub"])
def test_neither_half_of_a_key_is_overwritten(covenant: Command, tmp_path: Path, lost: str) -> None:
    make_officers(covenant, "ash")
    (tmp_path / lost).unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "is never overwritten" in done(covenant, "key new ash --out . --no-passphrase", code=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_a_passphrase_is_typed_at_the_terminal_and_never_shown(tmp_path: Path) -> None:
    assert at_terminal(tmp_path, "key new ash --out .", ["open sesame", "open sesamf"])[0] == 2
    assert not (tmp_path / "ash.key").exists()
    code, shown = at_terminal(tmp_path, "key new ash --out .", ["open sesame", "open sesame"])
    assert code == 0
    assert "Passphrase of ash.key:" in shown
    assert "sesame" not in shown
    assert is_encrypted(tmp_path / "ash.key")
    command = "root new --federation demo --key ash.pub --quorum 1 --out root.json"
    assert at_terminal(tmp_path, command, [])[0] == 0
    code, shown = at_terminal(tmp_path, "root sign root.json --key ash.key", ["open barley"])
    assert code == 2
    assert "the passphrase does not open ash.key" in shown
    assert at_terminal(tmp_path, "root sign root.json --key ash.key", ["open sesame"])[0] == 0
    load_document(tmp_path / "root.json", SignedRoot).require_own_quorum()


def at_terminal(folder: Path, line: str, typed: list[str]) -> tuple[int, str]:
    """A command in a process with a terminal of its own, at which a person answers what is asked."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", "coordinator.main", *line.split()])
    shown, answers = "", iter(typed)
    asked = 0
    while True:
        try:
            piece = os.read(terminal, 4096).decode()
        except OSError:  # Linux's end of file at a terminal
            break
        if not piece:
            break
        shown += piece
        while (prompts := shown.count("Passphrase of") + shown.count("The same again:")) > asked:
            asked = prompts
            os.write(terminal, f"{next(answers)}\n".encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_passphrase_files_go_with_keys_in_their_order(covenant: Command, tmp_path: Path) -> None:
    for name in ("ash", "birch"):
        (tmp_path / f"{name}.word").write_text(f"{name}'s word")
        (tmp_path / f"{name}.word").chmod(0o600)
        done(covenant, f"key new {name} --out . --passphrase-file {name}.word")
    done(covenant, "root new --federation demo --key ash.pub --key birch.pub --quorum 2 --out root.json")
    both = "root sign root.json --key ash.key --key birch.key"
    assert "1 passphrase files for 2 keys" in done(covenant, f"{both} --passphrase-file ash.word", code=2)
    turned = f"{both} --passphrase-file birch.word --passphrase-file ash.word"
    assert "the passphrase does not open ash.key" in done(covenant, turned, code=2)
    assert "there is no terminal" in done(covenant, both, code=2)
    (tmp_path / "birch.word").chmod(0o644)
    paired = f"{both} --passphrase-file ash.word --passphrase-file birch.word"
    assert "birch.word can be read by others" in done(covenant, paired, code=2)
    assert not load_document(tmp_path / "root.json", SignedRoot).signatures
    (tmp_path / "birch.word").chmod(0o600)
    done(covenant, paired)
    load_document(tmp_path / "root.json", SignedRoot).require_own_quorum()


# --- roots


def test_a_root_is_drafted_and_signed_until_its_quorum_has(covenant: Command, tmp_path: Path) -> None:
    make_officers(covenant, *OFFICERS)
    cards = " ".join(f"--key {name}.pub" for name in OFFICERS)
    said = done(
        covenant, f"root new --federation demo {cards} --quorum 2 --expires 2030-06-30 --out root.json"
    )
    root = load_document(tmp_path / "root.json", SignedRoot)
    assert root.root.fingerprint in said
    assert root.root.expires.isoformat() == "2030-06-30T23:59:59+00:00"
    said = done(covenant, "root sign root.json --key cedar.key")
    assert "1 of 2 signatures by cedar; 1 more of ash, birch must sign" in said
    assert "root version 1 of demo is a draft: it needs 1 more" in said
    assert facts_of(covenant, "root", "show", "root.json")["valid"] is False
    said = done(covenant, "root sign root.json --key ash.key")
    assert "root version 1 of demo is signed" in said
    facts = facts_of(covenant, "root", "show", "root.json")
    assert (facts["valid"], facts["fingerprint"], facts["quorum"]) == (True, root.root.fingerprint, 2)
    assert facts["signatures"] == [{"root_version": 1, "quorum": 2, "signed": ["ash", "cedar"], "lacking": 0}]
    said = done(covenant, "root show root.json")
    assert root.root.fingerprint in said
    assert load_document(tmp_path / "ash.pub", IdentityCard).fingerprint in said


def test_the_next_root_needs_both_quorums(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_officers(covenant, "elm")
    done(covenant, "root next root.json --add elm.pub --remove ash --out root-2.json")
    said = done(covenant, "root sign root-2.json --after root.json --key cedar.key --key elm.key")
    assert "root version 1: 1 of 2 signatures by cedar; 1 more of ash, birch must sign" in said
    assert "root version 2: 2 of 2 signatures by cedar, elm" in said
    assert "is a draft: it needs 1 more" in said
    facts = facts_of(covenant, "root", "show", "root-2.json", "--after", "root.json")
    assert (facts["valid"], list(facts["keys"])) == (False, ["birch", "cedar", "elm"])
    assert "root version 2 of demo is signed" in done(
        covenant, "root sign root-2.json --after root.json --key ash.key"
    )
    pinned, following = (load_document(tmp_path / name, SignedRoot) for name in ("root.json", "root-2.json"))
    assert follow(pinned, [following]).version == 2


@pytest.mark.parametrize(
    ("line", "sentence", "code"),
    [
        ("root sign root.json --key elm.key", "the key is in no version that may sign root version 1", 2),
        ("root sign root.json", "nobody signs; name a private key with --key", 2),
        ("root sign root-2.json --key ash.key", "name that with --after", 2),
        ("root sign root.json --after root.json --key ash.key", "leave --after out", 2),
        ("root sign root-2.json --after root-2.json --key ash.key", "has 0 of the 2 signatures", 3),
        ("root next root-2.json --out root-3.json", "has 0 of the 2 signatures", 3),
        ("root next root.json --out root-2.json", "is never overwritten", 2),
        ("root next root.json --remove nobody --out root-3.json", "nobody has no key in root version 1", 2),
        ("root next root.json --expires 2020-01-01 --out root-3.json", "2020-01-01 is over", 2),
        ("root next root.json --expires 30.6.2030 --out root-3.json", "write it as YYYY-MM-DD", 2),
        ("root next root.json --expires 20300630 --out root-3.json", "write it as YYYY-MM-DD", 2),
        (
            "root new --federation demo --key ash.key --quorum 1 --out root-3.json",
            "ash.key is a key or a certificate (PEM)",
            2,
        ),
        (
            "root new --federation demo --key ash.pub --quorum 2 --out root-3.json",
            "2 of 1 keys can never sign",
            2,
        ),
    ],
)
def test_what_a_root_refuses_is_one_sentence(
    covenant: Command, tmp_path: Path, line: str, sentence: str, code: int
) -> None:
    make_root(covenant)
    make_officers(covenant, "elm")
    done(covenant, "root next root.json --quorum 2 --out root-2.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sentence in done(covenant, line, code)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# --- the member list


def test_a_list_is_drafted_by_one_officer_and_signed_elsewhere_by_another(
    covenant: Command, tmp_path: Path
) -> None:
    make_root(covenant)
    request = request_of(tmp_path, "west")
    said = done(covenant, f"site certify {request} --members members.json --root root.json --key ash.key")
    assert "member list demo@1 is a draft: it needs 1 more" in said
    assert "root version 1: 1 of 2 signatures by ash; 1 more of birch, cedar must sign" in said
    facts = facts_of(covenant, "members", "show", "members.json", "--root", "root.json")
    assert (facts["valid"], list(facts["sites"])) == (False, ["west"])
    said = done(covenant, "members sign members.json --root root.json --key cedar.key")
    assert "member list demo@1 is signed" in said
    assert facts_of(covenant, "members", "show", "members.json", "--root", "root.json")["valid"] is True
    assert "west" in done(covenant, "members show members.json --root root.json")


def test_officers_and_services_are_on_the_list(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_officers(covenant, "privacy", "model", "log")
    make_list(covenant, tmp_path, "west")
    officers = (
        "--officer privacy.pub:privacy_officer,auditor --officer model.pub:ml_engineer --until 2027-01-31"
    )
    said = done(
        covenant,
        f"site certify --members members.json --root root.json {officers} --service log.pub:log --key ash.key --key birch.key",
    )
    assert load_document(tmp_path / "privacy.pub", IdentityCard).fingerprint in said
    found = listed(tmp_path).verify(load_document(tmp_path / "root.json", SignedRoot)).members
    assert found.ref == "demo@2"
    assert found.officer("privacy").roles == (Role.AUDITOR, Role.PRIVACY_OFFICER)
    assert f"{found.officer('model').expires:%Y-%m-%d}" == "2027-01-31"
    assert found.service("log").name == "log"
    facts = facts_of(covenant, "members", "show", "members.json", "--root", "root.json")
    assert facts["officers"]["model"]["roles"] == ["ml_engineer"]
    assert facts["services"]["log"]["purpose"] == "log"


def test_whoever_is_taken_off_is_on_no_next_version(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_list(covenant, tmp_path, "west", "south")
    before = (tmp_path / "members.json").read_bytes()
    done(
        covenant,
        "members remove south --members members.json --root root.json --key ash.key --key cedar.key --out next.json",
    )
    assert (tmp_path / "members.json").read_bytes() == before
    found = listed(tmp_path, "next.json").verify(load_document(tmp_path / "root.json", SignedRoot)).members
    assert (found.ref, [each.site for each in found.members]) == ("demo@2", ["west"])


def test_lists_after_a_new_root_carry_the_chain(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_list(covenant, tmp_path, "west", "south")
    make_officers(covenant, "elm")
    done(covenant, "root next root.json --add elm.pub --remove ash --out root-2.json")
    done(covenant, "root sign root-2.json --after root.json --key birch.key --key cedar.key")
    both = "--root root.json --root root-2.json"
    said = done(covenant, f"members remove south --members members.json {both} --key ash.key", code=2)
    assert "the key is in no" not in said
    assert "the key is not in root version 2 of demo; those of birch, cedar, elm may sign" in said
    done(covenant, f"members remove south --members members.json {both} --key birch.key")
    done(covenant, f"members sign members.json {both} --key elm.key")
    pinned = load_document(tmp_path / "root.json", SignedRoot)
    assert listed(tmp_path).verify(pinned).root.version == 2
    # The list itself has the chain now: the root that sites have pinned is enough from here on.
    done(
        covenant,
        f"site certify {request_of(tmp_path, 'east')} --members members.json --root root.json --key cedar.key --key elm.key",
    )
    trusted = listed(tmp_path).verify(pinned)
    assert (trusted.root.version, trusted.members.ref) == (2, "demo@3")


@pytest.mark.parametrize(
    ("line", "sentence", "code"),
    [
        ("site certify --members members.json --root root.json", "nobody is certified", 2),
        ("site certify nowhere.json --members members.json --root root.json", "nowhere.json cannot be read", 2),
        ("site certify --officer elm.pub --members members.json --root root.json", "use CARD:ROLE,ROLE", 2),
        ("site certify --officer elm.pub:boss --members members.json --root root.json", "the roles are ml_engineer", 2),
        ("site certify --service elm.pub:mail --members members.json --root root.json", "'log', 'control' or 'artifacts'", 2),
        ("site certify --officer elm.key:admin --members members.json --root root.json", "elm.key is a key or a certificate (PEM)", 2),
        ("site certify west/enrolment.json --members draft.json --root root.json", "demo@2 has 0 of the 2", 3),
        ("site certify west/enrolment.json --members members.json --root root-2.json", "root version 2 of demo has 0", 3),
        ("site certify west/enrolment.json --members members.json --root root.json --root root-2.json", "root version 2 of demo has 0", 3),
        ("site certify west/enrolment.json --members members.json --root root.json --out draft.json", "is never overwritten", 2),
        ("members sign members.json --root root.json", "nobody signs", 2),
        ("members sign members.json --root root.json --key elm.key", "the key is not in root version 1", 2),
        ("members sign nowhere.json --root root.json --key ash.key", "nowhere.json does not exist", 2),
        ("members remove nobody --members members.json --root root.json", "nobody is not on member list demo@1", 2),
        ("members remove west --members members.json --root root.json", "at least 1 item", 2),
    ],
)  # fmt: skip
def test_what_a_list_refuses_is_one_sentence(
    covenant: Command, tmp_path: Path, line: str, sentence: str, code: int
) -> None:
    make_root(covenant)
    make_officers(covenant, "elm")
    make_list(covenant, tmp_path, "west")
    done(covenant, "root next root.json --out root-2.json")
    done(
        covenant,
        "site certify --officer elm.pub:admin --members members.json --root root.json --out draft.json",
    )
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert sentence in done(covenant, line, code)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_list_under_more_roots_than_are_read_is_refused_and_replaces_nothing(
    covenant: Command, tmp_path: Path
) -> None:
    make_root(covenant)
    make_list(covenant, tmp_path, "west")
    before = (tmp_path / "members.json").read_bytes()
    history = officers()
    for _ in range(MOST_LINKS + 1):
        history = history.rotated("ash", "birch", "cedar")
    roots = Roots(history.pinned, history.roots[1:], history.newest)
    with pytest.raises(UsageError, match=r"member list demo@2: `roots`.*at most 100 items"):
        write_next(listed(tmp_path).signed.list.next(), roots, [], tmp_path / "members.json", None)
    assert (tmp_path / "members.json").read_bytes() == before


def test_an_expired_root_signs_no_list_and_has_a_next_version(
    covenant: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_root(covenant)
    for module in ("signing", "members"):
        monkeypatch.setattr(f"coordinator.cli.{module}.now", lambda: datetime(2050, 1, 1, tzinfo=UTC))
    line = f"site certify {request_of(tmp_path, 'west')} --members members.json --key ash.key --key birch.key"
    assert "covenant root next" in done(covenant, f"{line} --root root.json", code=3)
    assert not (tmp_path / "members.json").exists()
    done(covenant, "root next root.json --out root-2.json")
    done(covenant, "root sign root-2.json --after root.json --key ash.key --key birch.key")
    done(covenant, f"{line} --root root.json --root root-2.json")


# --- the coordinator


def test_the_coordinator_uses_a_signed_list_and_no_draft(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_list(covenant, tmp_path, "west")
    done(covenant, "init home --federation demo")
    for name in ("root.json", "members.json"):
        (tmp_path / "home" / name).write_bytes((tmp_path / name).read_bytes())
    assert list(facts_of(covenant, "site", "list")["sites"]) == ["west"]
    done(
        covenant,
        f"site certify {request_of(tmp_path, 'south')} --members home/members.json --root root.json --key cedar.key",
    )
    said = done(covenant, "site list", code=3)
    assert "member list demo@2 has 1 of the 2 signatures" in said
    assert "1 more of ash, birch must sign it" in said
    with pytest.raises(Refused, match="demo@2 has 1 of the 2"):
        read_members(load_settings(tmp_path / "home"))


def test_nothing_is_launched_under_an_expired_root(four: Template) -> None:
    layout = four.template
    documents = (load_settings(layout.home), RUN, layout.plan_file, layout.contract_file)
    assemble(*documents, now=datetime(2999, 12, 31, tzinfo=UTC))
    with pytest.raises(Refused, match="good until 2999-12-31: nothing new is accepted under it"):
        assemble(*documents, now=datetime(3000, 1, 1, tzinfo=UTC))


def test_init_makes_the_logs_key_and_card(covenant: Command, tmp_path: Path) -> None:
    from coordinator.keys import log_signer

    (tmp_path / "word").write_text("open sesame\n")
    (tmp_path / "word").chmod(0o600)
    said = done(covenant, "init home --federation demo --passphrase-file word")
    card = load_document(tmp_path / "home/log.pub", IdentityCard).verify()
    assert card.fingerprint in said
    assert is_encrypted(tmp_path / "home/log.key")
    assert stat.S_IMODE((tmp_path / "home/log.key").stat().st_mode) == 0o600
    assert log_signer(load_settings(tmp_path / "home")).public == card.public_key
    done(covenant, "init bare --federation demo")
    assert log_signer(load_settings(tmp_path / "bare"))
    assert not is_encrypted(tmp_path / "bare/log.key")


def test_a_coordinator_with_a_bare_key_says_so_when_it_starts(
    covenant: Command, tmp_path: Path, heard: list[dict[str, object]]
) -> None:
    from coordinator.keys import warn_of_bare_keys

    (tmp_path / "word").write_text("open sesame")
    (tmp_path / "word").chmod(0o600)
    done(covenant, "init home --federation demo --passphrase-file word")
    done(covenant, "init bare --federation demo")
    for folder in ("home", "bare"):
        warn_of_bare_keys(load_settings(tmp_path / folder))
    (line,) = heard
    assert line["event"] == "a service's key is not encrypted"
    assert line["file"] == str(tmp_path / "bare/log.key")


def test_json_of_the_members_is_one_object(covenant: Command, tmp_path: Path) -> None:
    make_root(covenant)
    make_list(covenant, tmp_path, "west")
    code, out, _ = covenant("members", "show", "members.json", "--root", "root.json", "--json")
    assert code == 0
    assert json.loads(out)["signatures"] == {
        "root_version": 1,
        "quorum": 2,
        "signed": ["ash", "birch"],
        "lacking": 0,
    }
