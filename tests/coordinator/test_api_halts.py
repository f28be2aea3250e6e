"""Halts and ceilings over the control API: anybody stops, two officers let it go on, everybody hears of it within a second, each request once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.api.client import ControlClient
from coordinator.ledger.ceilings import Proposal
from protos import governance_pb2 as governance
from protos.ceilings import SignedCeiling
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder
from protos.log_entries import LogEntry
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, SiteName
from tests.coordinator.api_for_tests import BY_ROLE, FEDERATION, Bank, approved, new_id, plan_of, serving
from tests.coordinator.cli_for_tests import RECORD, SITES, Command, facts_of
from tests.coordinator.test_api_cli import away, let_in
from tests.halts_for_tests import ordered, would_lift
from tests.trust_for_tests import key_of

__all__ = ["away"]
HALTS = "covenant.governance.v1.Halts/"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


def gives(client: ControlClient, order: HaltOrder, request_id: str | None = None) -> governance.Halt:
    request = governance.GiveHaltRequest(request_id=request_id or new_id(), order=order.canonical)
    return client.ask(f"{HALTS}GiveHalt", request, governance.Halt)


def says(
    client: ControlClient, order: HaltOrder, said: LiftStatement, request_id: str | None = None
) -> governance.Halt:
    request = governance.SayLiftRequest(
        request_id=request_id or new_id(), halt=order.id, statement=said.canonical
    )
    return client.ask(f"{HALTS}SayLift", request, governance.Halt)


def test_every_role_may_halt_and_a_halt_stops_what_it_covers(bank: Bank) -> None:
    run = bank.desk("author-1").launch(approved(plan_of()))
    for role, name in BY_ROLE.items():
        found = bank.desk(name).give_halt(ordered(by=f"officer {name}", reason=f"odd, says {role}"))
        assert found.state == "stands"
    assert next(bank.desk("auditor-1").watch(run)).state == "stopped"
    assert bank.transport.stopped == [1]
    with pytest.raises(Refused, match="halted everything"):
        bank.desk("author-1").launch(approved(plan_of(2)))
    with pytest.raises(Refused, match="halted everything"):
        bank.desk("author-1").resume(run)
    assert len(list(bank.desk("operator-1").halts())) == len(BY_ROLE)
    bank.audited()


def test_two_officers_lift_a_halt_and_each_says_so_for_themselves(bank: Bank) -> None:
    run = bank.desk("author-1").launch(approved(plan_of()))
    order = ordered("run", run, by="officer operator-1")
    bank.desk("operator-1").give_halt(order)
    word = {name: would_lift(order.digest, name) for name in ("privacy-1", "risk-1", "admin-1")}
    with pytest.raises(Refused, match="privacy-1 must"):
        bank.desk("admin-1").say_lift(order.id, word["privacy-1"])
    for name in ("author-1", "operator-1", "auditor-1"):
        with pytest.raises(Refused, match="SayLift takes"):
            bank.desk(name).say_lift(order.id, would_lift(order.digest, name))
    assert bank.desk("admin-1").say_lift(order.id, word["admin-1"]).said == ("admin-1",)
    assert bank.desk("admin-1").say_lift(order.id, word["admin-1"]).lifted_at is None
    assert bank.desk("risk-1").halt(order.id[:9]).said == ("admin-1",)
    assert bank.desk("risk-1").say_lift(order.id, word["risk-1"]).state == "lifted"
    with pytest.raises(Refused, match="was lifted"):
        bank.desk("privacy-1").say_lift(order.id, word["privacy-1"])
    bank.desk("author-1").resume(run)
    assert not bank.audited().halts.standing


def test_a_halt_and_a_word_that_are_sent_again_change_nothing(bank: Bank) -> None:
    client, order, first = bank.client("risk-1"), ordered(by="officer risk-1"), new_id()
    gives(client, order, first)
    said, second = would_lift(order.digest, "risk-1"), new_id()
    says(client, order, said, second)
    lifting = would_lift(order.digest, "privacy-1")
    says(bank.client("privacy-1"), order, lifting)
    # The order of a halt that was lifted does not come back; its request, sent again, is answered with what became of it.
    assert gives(client, order, first).HasField("lifted_at")
    assert says(client, order, said, second).HasField("lifted_at")
    with pytest.raises(Refused, match="does not come back"):
        gives(client, order)
    with pytest.raises(Refused, match="was used for another request"):
        gives(client, ordered(by="officer risk-1"), first)
    assert [len(bank.told(kind)) for kind in ("halted", "halt-lifted")] == [1, 1]
    bank.audited()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (ordered(by="officer privacy-1", key=key_of("stranger")), "is not signed with their key"),
        (ordered(by="officer stranger"), "stranger is no officer"),
        (ordered(by="officer privacy-1", federation=Digest("ab" * 32)), "is for the federation with root"),
        (ordered("site", "nowhere"), "nowhere"),
    ],
)
def test_an_order_that_does_not_count_is_refused_and_told(order: HaltOrder, words: str, bank: Bank) -> None:
    with pytest.raises(Refused, match=words):
        bank.desk("privacy-1").give_halt(order)
    assert (bank.told("halted"), len(bank.told("denied"))) == ([], 1)
    with pytest.raises(UsageError, match="there is no run"):
        bank.desk("privacy-1").give_halt(ordered("run", "run-0123456789abcdef"))


def test_every_listener_hears_of_a_halt_within_a_second(bank: Bank) -> None:
    heard: dict[str, float] = {}
    listening = threading.Barrier(4)

    def listen(name: str) -> None:
        start = bank.desk(name).entries(1, None)[0]
        events = bank.desk(name).events(start - 1)
        next(events)  # the stream is open once it has told an entry
        listening.wait(30)
        for each in events:
            if LogEntry.from_canonical(each.body).what.kind == "halted":
                heard[name] = time.monotonic()
                return

    for name in ("author-1", "auditor-1", "operator-1", "privacy-1", "admin-1"):
        bank.access(name)
    threads = [
        threading.Thread(target=listen, args=(each,)) for each in ("author-1", "auditor-1", "operator-1")
    ]
    for each in threads:
        each.start()
    listening.wait(30)
    desk, order = bank.desk("admin-1"), ordered(by="officer admin-1")
    given = time.monotonic()
    desk.give_halt(order)
    for each in threads:
        each.join(10)
    assert len(heard) == 3
    assert max(heard.values()) - given < 1.0


def test_a_ceiling_is_decided_from_other_machines_and_carried_out_once(bank: Bank) -> None:
    desk, west = bank.desk("privacy-1"), SiteName("west")
    lower = Proposal(epsilon=40.0, delta=1e-5, unit=RECORD, reason="as agreed", alert_at=[0.5])
    drafted = desk.ledger.draft_ceiling(west, "lending-club", lower)
    assert (drafted.officers, drafted.decision.federation) == (1, FEDERATION)
    signed = SignedCeiling(decision=drafted.decision)
    with pytest.raises(Refused):
        desk.ledger.apply_ceiling(signed)
    with pytest.raises(Refused, match="ApplyCeiling takes"):
        bank.desk("risk-1").ledger.apply_ceiling(signed.signed_with("privacy-1", key_of("privacy-1")))
    client, id_ = bank.client("privacy-1"), new_id()
    request = governance.ApplyCeilingRequest(
        request_id=id_, decision=signed.signed_with("privacy-1", key_of("privacy-1")).canonical
    )
    for _ in range(2):
        client.ask("covenant.governance.v1.Ledger/ApplyCeiling", request, governance.AppliedCeiling)
    assert desk.ledger.account("west", "lending-club", None)["ceiling"]["epsilon"] == 40.0
    assert len(bank.told("ceiling")) == len(SITES) + 1
    higher = desk.ledger.draft_ceiling(
        west, "lending-club", Proposal(epsilon=50.0, delta=1e-5, unit=RECORD, reason="more", overlaps=[])
    )
    assert higher.officers == 2
    with pytest.raises(Refused, match="is for 2 officers"):
        desk.ledger.apply_ceiling(
            SignedCeiling(decision=higher.decision).signed_with("privacy-1", key_of("privacy-1"))
        )
    bank.audited()


# --- as officers type it


def signs(name: str) -> tuple[str, ...]:
    return ("--officer", name, "--key", f"{name}.key")


def test_officers_halt_and_lift_from_their_own_machines(away: Command, bank: Bank) -> None:
    for name in ("operator-1", "privacy-1", "risk-1"):
        let_in(away, bank, name)
    giving = ("halt", "--all", "--reason", "odd figures", "--root", "root.json", *signs("operator-1"), "--access", "operator-1")  # fmt: skip
    halted = facts_of(away, *giving)
    assert (halted["scope"], halted["stands"]) == ("all", True)
    (listed,) = facts_of(away, "halt", "list", "--access", "privacy-1")["halts"]
    assert listed["id"] == halted["id"]
    for name in ("privacy-1", "risk-1"):
        code, _, err = away(
            "halt", "lift", halted["id"][:8], "--reason", "looked into", *signs(name), "--access", name
        )
        assert code == 0, err
        assert "lifting: officer operator-1 halted everything" in err
    assert facts_of(away, "halt", "list", "--access", "risk-1")["halts"][0]["stands"] is False


def test_an_order_is_signed_where_no_coordinator_is_and_applied_by_anybody(away: Command, bank: Bank) -> None:
    let_in(away, bank, "auditor-1")
    making = (
        "halt",
        "order",
        "--out",
        "order.json",
        "--root",
        "root.json",
        "--reason",
        "odd",
        *signs("privacy-1"),
    )
    assert away(*making)[0] == 2  # of what?
    code, _, err = away(*making, "--site", "west")
    assert (code, "halting site west: odd" in err) == (0, True)
    assert away(*making, "--site", "west")[0] == 2  # the file is there
    assert bank.told("halted") == []
    found = facts_of(away, "halt", "apply", "order.json", "--access", "auditor-1")
    assert (found["target"], found["by"]["name"]) == ("west", "privacy-1")


@pytest.mark.slow
def test_which_federation_is_halted_is_not_asked_of_the_server(away: Command, bank: Bank) -> None:
    let_in(away, bank, "privacy-1")
    giving = ("halt", "--all", "--reason", "odd", *signs("privacy-1"), "--access", "privacy-1")
    code, _, err = away(*giving)
    assert (code, "with --root" in err) == (2, True)
    assert away(*giving, "--root", "root.json")[0] == 0


@pytest.mark.slow
def test_a_ceiling_goes_from_its_draft_to_the_ledger(away: Command, bank: Bank) -> None:
    access = let_in(away, bank, "privacy-2")
    drafting = ("ledger", "ceiling", "draft", "west", "lending-club", "--unit", "record", "--epsilon", "30", "--delta", "1e-5", "--reason", "less", "--out", "west.json")  # fmt: skip
    assert facts_of(away, *drafting, "--access", access)["officers_needed"] == 1
    signing = ("ledger", "ceiling", "sign", "west.json", *signs("privacy-2"), "--root", "root.json", "--yes")
    assert away(*signing)[0] == 0
    applied = facts_of(away, "ledger", "ceiling", "apply", "west.json", "--access", access)
    assert (applied["ceiling"]["epsilon"], applied["alerts_reached_now"]) == (30.0, [])
    assert away("ledger", "ceiling", "apply", "west.json", "--access", access)[0] == 3
