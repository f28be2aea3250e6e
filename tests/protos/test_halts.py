"""Halts: anybody stops alone, two officers go on, and nobody who is not on the list says anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from protos.halt_lifts import HaltLift, LiftRule, require_lift
from protos.halts import HaltOrder, OrderedBy, order_halt, require_halt
from protos.keys import SigningKey, create_node_key
from protos.membership import Member, MemberList, Officer, Role, Service
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import RunId, SiteName
from tests.halts_for_tests import FEDERATION, ordered, would_lift
from tests.trust_for_tests import FAR, Officers, key_of

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
RUN = RunId("run-0123456789abcdef")
PEOPLE: dict[str, tuple[Role, ...]] = {
    "author-1": (Role.ML_ENGINEER,),
    "auditor-1": (Role.AUDITOR,),
    "privacy-1": (Role.PRIVACY_OFFICER,),
    "risk-1": (Role.MODEL_RISK,),
    "admin-1": (Role.ADMIN,),
}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> MemberList:
    sites = tuple(
        Member(
            site=SiteName(site),
            identity_key=key_of(site).public,
            node_key=create_node_key(tmp_path_factory.mktemp(site) / "node.key"),
        )
        for site in ("north", "south")
    )
    people = tuple(
        Officer(name=name, roles=roles, key=key_of(name).public, expires=FAR)
        for name, roles in PEOPLE.items()
    )
    gone = Officer(
        name="privacy-0",
        roles=(Role.PRIVACY_OFFICER,),
        key=key_of("privacy-0").public,
        expires=NOW - timedelta(seconds=1),
    )
    return MemberList(name="demo", version=3, members=sites, officers=(*people, gone))


@pytest.mark.parametrize("name", PEOPLE)
def test_any_officer_halts_alone(members: MemberList, name: str) -> None:
    assert require_halt(ordered(by=f"officer {name}"), members, FEDERATION, NOW).order.by.name == name


@pytest.mark.parametrize(("scope", "target"), [("all", None), ("run", RUN), ("site", "north")])
def test_a_site_halts_itself_a_run_or_all(members: MemberList, scope: str, target: str | None) -> None:
    order = ordered(scope, target, by="site north")  # type: ignore[arg-type]
    assert require_halt(order, members, FEDERATION, NOW).digest == order.digest


def test_the_logs_service_halts_for_officers_on_the_list_and_no_other_service(members: MemberList) -> None:
    listed = members.model_copy(
        update={
            "services": (
                Service(name="log", purpose="log", key=key_of("log").public),
                Service(name="drafts", purpose="control", key=key_of("drafts").public),
            )
        }
    )

    def given(name: str, asked_by: str, key: str | None = None) -> HaltOrder:
        by = OrderedBy(kind="service", name=name, asked_by=asked_by)
        return order_halt(FEDERATION, "all", None, "stop", by, key_of(key or name), at=NOW, entropy=bytes(16))

    assert require_halt(given("log", "auditor-1"), listed, FEDERATION, NOW).order.by.asked_by == "auditor-1"
    for name, asked_by, key, words in (
        ("drafts", "auditor-1", None, "of services only log does"),
        ("log", "auditor-1", "drafts", "not signed with their key"),
        ("log", "auditor-1", "auditor-1", "not signed with their key"),
        ("log", "north", None, "no officer on member list"),
        ("log", "nobody-1", None, "no officer on member list"),
        ("log", "privacy-0", None, "privacy-0"),
    ):
        with pytest.raises(Refused, match=words):
            require_halt(given(name, asked_by, key), listed, FEDERATION, NOW)


def test_a_site_halts_no_other_site(members: MemberList) -> None:
    with pytest.raises(UsageError, match="another site is halted by an officer"):
        ordered("site", "south", by="site north")
    assert require_halt(ordered("site", "south", by="officer risk-1"), members, FEDERATION, NOW)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (ordered(by="officer stranger"), "stranger is no officer on member list demo@3"),
        (ordered(by="site stranger"), "stranger is not on member list demo@3"),
        (ordered(by="officer privacy-0"), "the key of officer privacy-0 was good until"),
        (ordered(by="officer risk-1", key=key_of("privacy-1")), "is not signed with their key"),
        (ordered(by="site north", key=key_of("south")), "is not signed with their key"),
        (
            ordered(federation=Officers.of("a", "b").newest.identity),
            "counts in no other",
        ),
    ],
)
def test_an_order_of_somebody_else_says_nothing(members: MemberList, order: HaltOrder, words: str) -> None:
    with pytest.raises(Refused, match=words):
        require_halt(order, members, FEDERATION, NOW)


@pytest.mark.parametrize("name", ["reason", "target", "scope", "id", "at", "by"])
def test_an_order_with_one_changed_value_is_refused(members: MemberList, name: str) -> None:
    other = ordered("site", "south", by="officer risk-1", reason="another", at=NOW)
    order = ordered("run", RUN, at=NOW - timedelta(days=1))
    changed = json.loads(order.canonical)
    changed[name] = json.loads(other.canonical)[name]
    with pytest.raises(Refused):
        require_halt(HaltOrder.from_canonical(canonical_json(changed)), members, FEDERATION, NOW)


def test_a_target_fits_its_scope() -> None:
    for scope, target in (
        ("all", "north"),
        ("run", None),
        ("run", "north"),
        ("site", RUN + "!"),
        ("site", None),
    ):
        with pytest.raises(UsageError, match="target"):
            ordered(scope, target)  # type: ignore[arg-type]
    for reason in ("", "x" * 501):
        with pytest.raises(UsageError, match="reason"):
            ordered(reason=reason)


def test_an_order_travels_whole() -> None:
    for order in (ordered(), ordered("run", RUN), ordered("site", "north")):
        assert HaltOrder.from_canonical(order.canonical) == order


def test_an_order_covers_what_it_names() -> None:
    north = frozenset([SiteName("north")])
    assert ordered().covers(RUN)
    assert ordered("run", RUN).covers(RUN)
    assert not ordered("run", RUN).covers(RunId("run-00000000000000aa"), north)
    assert ordered("site", "north").covers(RUN, north)
    assert not ordered("site", "south").covers(RUN, north)


# --- going on


def lift_of(
    order: HaltOrder, *officers: str, at: datetime = NOW, keys: dict[str, SigningKey] | None = None
) -> HaltLift:
    said = tuple(would_lift(order.digest, each, at=at, key=(keys or {}).get(each)) for each in officers)
    return HaltLift(order=order.digest, statements=said)


@pytest.mark.parametrize("by", ["officer privacy-1", "officer author-1", "site north"])
def test_two_officers_lift_a_halt_whoever_gave_it(members: MemberList, by: str) -> None:
    order = ordered(by=by)
    for pair in (("privacy-1", "risk-1"), ("admin-1", "risk-1"), ("privacy-1", "admin-1")):
        assert require_lift(lift_of(order, *pair), order.digest, members, NOW)


def test_one_officer_lifts_nothing_and_counts_once(members: MemberList) -> None:
    order = ordered()
    with pytest.raises(
        Refused,
        match="1 of 2 statements: a halt is lifted by 2 officers who are privacy_officer, model_risk or admin",
    ):
        require_lift(lift_of(order, "privacy-1"), order.digest, members, NOW)
    with pytest.raises(ValueError, match="privacy-1 makes two statements, and counts once"):
        lift_of(order, "privacy-1", "privacy-1")
    again = lift_of(order, "privacy-1").adding(would_lift(order.digest, "privacy-1", at=NOW))
    with pytest.raises(Refused, match="1 of 2"):
        require_lift(again, order.digest, members, NOW)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("author-1", "author-1 is ml_engineer"),
        ("auditor-1", "auditor-1 is auditor"),
        ("privacy-0", "was good until"),
        ("stranger", "is no officer"),
    ],
)
def test_who_may_not_lift_refuses_the_whole_lift(members: MemberList, second: str, words: str) -> None:
    order = ordered()
    for officers in (("privacy-1", second), ("privacy-1", "risk-1", second)):
        with pytest.raises(Refused, match=words):
            require_lift(lift_of(order, *officers), order.digest, members, NOW)


def test_a_statement_is_about_one_order_signed_and_fresh(members: MemberList) -> None:
    order, other = ordered(), ordered()
    with pytest.raises(Refused, match="the lift is of order"):
        require_lift(lift_of(other, "privacy-1", "risk-1"), order.digest, members, NOW)
    with pytest.raises(ValueError, match="about another order"):
        HaltLift(order=order.digest, statements=(would_lift(other.digest, "risk-1"),))
    forged = lift_of(order, "privacy-1", "risk-1", keys={"risk-1": key_of("privacy-1")})
    with pytest.raises(Refused, match="statement of risk-1 is not signed with their key"):
        require_lift(forged, order.digest, members, NOW)
    for at in (NOW - timedelta(days=8), NOW + timedelta(hours=1)):
        with pytest.raises(Refused, match="is good for 7 days"):
            require_lift(lift_of(order, "privacy-1", "risk-1", at=at), order.digest, members, NOW)


def test_what_no_longer_counts_is_left_out(members: MemberList) -> None:
    order = ordered()
    old = would_lift(order.digest, "privacy-1", at=NOW - timedelta(days=8))
    lift = lift_of(order, "risk-1").adding(old)
    fresh = lift.fresh(members, NOW)
    assert fresh is not None
    assert [each.officer for each in fresh.statements] == ["risk-1"]
    assert lift_of(order, "stranger").fresh(members, NOW) is None


def test_a_rule_may_ask_for_more(members: MemberList) -> None:
    order = ordered()
    three = LiftRule(officers=3)
    with pytest.raises(Refused, match="2 of 3"):
        require_lift(lift_of(order, "privacy-1", "risk-1"), order.digest, members, NOW, three)
    assert require_lift(lift_of(order, "privacy-1", "risk-1", "admin-1"), order.digest, members, NOW, three)
