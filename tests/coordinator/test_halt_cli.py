"""`covenant halt` as people type it: ordered by one, lifted by two, listed, and taken from a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.bootstrap import Centre
from protos.keys import SigningKey
from protos.membership import Membership
from protos.passphrases import Passphrase
from tests.coordinator.cli_for_tests import Command, facts_of
from tests.coordinator.test_plan_approvals import all_sign, centre, covenant, home, launched_code
from tests.halts_for_tests import ordered
from tests.trust_for_tests import key_of, officers

__all__ = ["centre", "covenant", "home"]


def gives(covenant: Command, *more: str, name: str = "privacy-1") -> tuple[int, str, str]:
    return covenant("halt", *more, "--officer", name, "--key", f"{name}.key")


def lifts(covenant: Command, halt_id: str, name: str) -> tuple[int, str, str]:
    reason = ("--reason", "it was looked into")
    return covenant("halt", "lift", halt_id, *reason, "--officer", name, "--key", f"{name}.key")


def test_one_officer_halts_and_two_let_it_go_on(covenant: Command, centre: Centre) -> None:
    all_sign(covenant)
    assert launched_code(covenant)[0] == 4
    code, out, err = gives(covenant, "--all", "--reason", "the figures are odd")
    assert (code, out) == (0, "")
    assert "halting everything: the figures are odd" in err
    assert "it takes 2 officers who are privacy_officer, model_risk or admin to lift it" in " ".join(
        err.split()
    )
    (halted,) = facts_of(covenant, "halt", "list")["halts"]
    assert (halted["scope"], halted["stands"], halted["by"]) == (
        "all",
        True,
        {"kind": "officer", "name": "privacy-1"},
    )
    code, _, err = lifts(covenant, halted["id"][:10], "privacy-1")
    assert (code, "stands (1 of 2 would lift it)" in err) == (0, True)
    assert lifts(covenant, halted["id"], "privacy-1")[0] == 0
    assert facts_of(covenant, "halt", "list")["halts"][0]["would_lift"] == ["privacy-1"]
    code, _, err = lifts(covenant, halted["id"], "risk-1")
    assert (code, "it is over" in err) == (0, True)
    assert facts_of(covenant, "halt", "list")["halts"][0]["stands"] is False
    assert lifts(covenant, halted["id"], "privacy-2")[0] == 3
    _, _, err = covenant("halt", "list")
    assert "lifted" in err
    _, _, err = covenant("log", "show")
    words = " ".join(err.split())
    assert "officer privacy-1 halted everything" in words
    assert "is over, say privacy-1: it was looked into; risk-1: it was looked into" in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--all"], 2),  # without a reason
        (["--reason", "odd"], 2),  # of what?
        (["--all", "--site", "west", "--reason", "odd"], 2),
        (["--all", "--run", "run-0123456789abcdef", "--reason", "odd"], 2),
        (["--run", "west", "--reason", "odd"], 2),
        (["--run", "run-0123456789abcdef", "--reason", "odd"], 2),  # which nobody knows
        (["--site", "nowhere", "--reason", "odd"], 3),
        (["--all", "--reason", ""], 2),
        (["--all", "--reason", "x" * 501], 2),
    ],
)
def test_what_is_not_said_clearly_halts_nothing(
    covenant: Command, centre: Centre, arguments: list[str], code: int
) -> None:
    assert gives(covenant, *arguments)[0] == code
    assert facts_of(covenant, "halt", "list")["halts"] == []


@pytest.mark.slow
def test_an_order_needs_its_officers_own_key(covenant: Command, centre: Centre) -> None:
    order = ("halt", "--all", "--reason", "odd")
    assert covenant(*order)[0] == 2
    assert covenant(*order, "--officer", "privacy-1", "--key", "risk-1.key")[0] == 3
    assert covenant(*order, "--officer", "stranger", "--key", "stranger.key")[0] == 3
    assert gives(covenant, "--all", "--reason", "odd", name="author-1")[0] == 0  # whatever the role
    (halted,) = facts_of(covenant, "halt", "list")["halts"]
    lift = ("halt", "lift", halted["id"], "--reason", "fine", "--officer")
    assert covenant(*lift, "risk-1", "--key", "privacy-1.key")[0] == 3
    assert covenant(*lift, "stranger", "--key", "stranger.key")[0] == 3
    assert (
        covenant("halt", "lift", "ffff", "--reason", "fine", "--officer", "risk-1", "--key", "risk-1.key")[0]
        == 2
    )


@pytest.mark.slow
def test_options_of_the_order_do_not_go_astray_before_another_command(
    covenant: Command, centre: Centre
) -> None:
    code, _, err = covenant("halt", "--all", "--reason", "odd", "list")
    assert (code, "takes its options after its name" in " ".join(err.split())) == (2, True)


@pytest.mark.slow
def test_a_key_with_a_passphrase_is_opened_from_its_file(
    covenant: Command, centre: Centre, tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_text("a long one\n")
    (tmp_path / "passphrase").chmod(0o600)
    key_of("risk-1").save(tmp_path / "locked.key", Passphrase(b"a long one"))
    order = ("halt", "--site", "west", "--reason", "odd", "--officer", "risk-1", "--key", "locked.key")
    assert covenant(*order, "--passphrase-file", "passphrase")[0] == 0


def test_an_order_that_a_site_made_is_applied(
    covenant: Command, centre: Centre, home: Path, tmp_path: Path
) -> None:
    path = home / "members.json"
    listed = Membership.from_canonical(path.read_bytes()).signed.list
    key = SigningKey.generate()
    sites = [
        each.model_copy(update={"identity_key": key.public} if each.site == "west" else {})
        for each in listed.members
    ]
    path.write_bytes(officers().sign(listed.next(members=sites)).canonical)
    order = ordered("all", by="site west", key=key, reason="our machine was broken into")
    (tmp_path / "order.json").write_bytes(order.canonical + b"\n")
    assert covenant("halt", "apply", "order.json")[0] == 0
    assert covenant("halt", "apply", "order.json")[0] == 0
    (halted,) = facts_of(covenant, "halt", "list")["halts"]
    assert (halted["id"], halted["by"]) == (order.id, {"kind": "site", "name": "west"})
    (tmp_path / "order.json").write_bytes(order.canonical.replace(b"broken", b"looked"))
    assert covenant("halt", "apply", "order.json")[0] == 3
    (tmp_path / "order.json").write_bytes(b"no order")
    assert covenant("halt", "apply", "order.json")[0] == 3
    assert covenant("halt", "apply", "none.json")[0] == 2
