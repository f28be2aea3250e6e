"""What `covenant up --demo` prepares and says; that it is so is tested end to end."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from protos.documents import load_document
from protos.plan import Plan
from protos.shell import people
from simulation.demo import data
from simulation.demo.demonstration import Demonstration
from simulation.demo.governed import AUTHOR, Officers
from simulation.demo.kept_up import Welcome, _next, _port
from simulation.demo.machines import Machine
from simulation.officers import ROLES
from strategies.errors import UsageError
from strategies.ids import run_id


@pytest.mark.parametrize(("private", "full"), [(True, False), (True, True), (False, False)])
def test_the_plan_that_waits_is_new_and_of_the_kind_that_the_sites_admit(
    tmp_path: Path, private: bool, full: bool
) -> None:
    ran = {data.copy_document(data.PLAN if private else data.WITHOUT_PRIVACY, tmp_path, data.PLAN)}
    if full:
        ran.add(data.copy_document(data.PILOT, tmp_path))
    before = [load_document(each, Plan) for each in ran]
    officers = Officers({AUTHOR: Machine(tmp_path, AUTHOR)})

    waits = load_document(_next(Demonstration(tmp_path, private=private, full=full), officers), Plan)

    assert waits.digest not in {each.digest for each in before}
    assert {(each.name, each.privacy.mode) for each in before} == {(waits.name, waits.privacy.mode)}


def test_a_port_that_is_taken_is_refused_by_its_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} "):
            _port(port)
    assert _port(port) == port
    assert _port(0) > 0


def test_people_are_told_links_authority_desk_and_what_to_do() -> None:
    welcome = Welcome(
        address="https://127.0.0.1:9095",
        links={name: f"https://127.0.0.1:9095/signin/link?key={name}" for name in ROLES},
        ca=Path("ca.crt"),
        fingerprint="ab" * 32,
        home=Path("home"),
        machines={name: Path("machines") / name for name in ROLES},
        run=run_id("run-0123456789abcdef"),
        plan="cd" * 32,
    )
    with people.capture() as said:
        welcome.show()

    text = said.get()
    for each in (
        *welcome.links.values(),
        "abababab abababab",
        "desk --access",
        "run watch run-0123",
        "Ctrl-C",
    ):
        assert each in text
    assert {each["role"] for each in welcome.facts()["links"]} == {str(role) for role in ROLES.values()}  # type: ignore[attr-defined]
