"""`covenant site suspend`, `return`, `remove`, `models` and `list`: what becomes of a member, by the word of its officers."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli.site_standing import shaped
from protos.membership import Membership
from strategies.ids import SiteName
from tests.coordinator.cli_for_tests import SITES, Command, facts_of
from tests.coordinator.private_for_tests import Private, templates
from tests.coordinator.test_personal_told import federation, registered
from tests.coordinator.test_plan_approvals import all_sign, centre, covenant, home, launched_code
from tests.trust_for_tests import key_of

__all__ = ["centre", "covenant", "federation", "home", "templates"]


def said(covenant: Command, act: str, name: str, site: str = "west") -> tuple[int, str, str]:
    why = ("--reason", "an audit there")
    return covenant("site", act, site, *why, "--officer", name, "--key", f"{name}.key")


def standing(covenant: Command) -> dict[str, str]:
    return facts_of(covenant, "site", "list")["standing"]


def test_one_officer_suspends_a_site_and_two_let_it_return(covenant: Command) -> None:
    assert standing(covenant) == dict.fromkeys(SITES, "member")
    code, _, err = said(covenant, "return", "privacy-1")
    assert (code, "west is not suspended" in err) == (2, True)
    assert said(covenant, "suspend", "stranger")[0] == 3
    assert said(covenant, "suspend", "privacy-1", "nowhere")[0] == 3
    assert standing(covenant)["west"] == "member"

    code, _, err = said(covenant, "suspend", "privacy-1")
    assert code == 0, err
    assert standing(covenant) == {**dict.fromkeys(SITES, "member"), "west": "suspended"}
    assert "suspended" in covenant("site", "list")[2]
    assert said(covenant, "return", "privacy-1")[0] == 0
    assert standing(covenant)["west"] == "suspended"  # one word is too few
    assert said(covenant, "return", "privacy-1")[0] == 0  # and the same word is no second one
    assert standing(covenant)["west"] == "suspended"
    assert said(covenant, "return", "risk-1")[0] == 0
    assert standing(covenant)["west"] == "member"


@pytest.mark.slow
def test_two_halts_of_a_site_are_both_lifted(covenant: Command) -> None:
    for name in ("privacy-1", "risk-1"):
        code, _, err = said(covenant, "suspend", name)
        assert code == 0, err
    assert said(covenant, "return", "privacy-1")[0] == 0
    assert said(covenant, "return", "risk-1")[0] == 0
    assert standing(covenant)["west"] == "member"


def test_a_suspended_site_keeps_no_plan_from_being_launched(covenant: Command) -> None:
    """The others go on while the plan allows."""
    all_sign(covenant)
    assert said(covenant, "suspend", "privacy-1")[0] == 0
    assert launched_code(covenant)[0] == 4


def test_removing_drafts_a_list_that_counts_with_the_quorum(covenant: Command, tmp_path: Path) -> None:
    for name in ("ash", "birch"):
        key_of(name).save(tmp_path / f"{name}.key")
    listed = ("--members", "home/members.json", "--root", "home/root.json", "--out", "next.json")
    code, _, err = covenant("site", "remove", "nowhere", *listed, "--key", "ash.key")
    assert (code, (tmp_path / "next.json").exists()) == (2, False), err
    code, _, err = covenant("site", "remove", "west", *listed, "--key", "ash.key", "--key", "birch.key")
    assert code == 0, err
    assert "nothing is charged to the accounts of west" in err
    assert "west has shaped no registered model" in err
    made = Membership.from_canonical((tmp_path / "next.json").read_bytes().strip())
    assert [each.site for each in made.signed.list.members] == [s for s in sorted(SITES) if s != "west"]
    assert standing(covenant)["west"] == "member"  # until it takes the other's place
    (tmp_path / "next.json").replace(tmp_path / "home/members.json")
    assert "west" not in standing(covenant)


def test_models_are_those_of_the_runs_whose_sums_a_site_was_in(federation: Private) -> None:
    home = federation.centre.settings.home
    (found,) = shaped(home, SiteName("north"))
    told = registered(federation)
    assert found == {"model": "private@1", "digest": told.digest, "run": told.run}
    assert shaped(home, SiteName("nowhere")) == []
