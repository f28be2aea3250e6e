"""Member lists and enrolment: whose signatures they need, who occurs once, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from protos.documents import DocumentError, read_document
from protos.enrolment import EnrolmentRequest, IdentityCard
from protos.keys import SigningKey, create_node_key, fingerprint
from protos.membership import (
    Member,
    MemberList,
    Membership,
    Officer,
    Role,
    Service,
    SignedMembers,
    check_members,
)
from protos.plan import Plan
from protos.root import KeySignature
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from tests.protos.documents_for_tests import PLAN, changed
from tests.trust_for_tests import FAR, Officers, impostors, key_of, officers, root_of, signed_by

NAMES = ("ash", "birch", "cedar")


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> MemberList:
    folder = tmp_path_factory.mktemp("nodes")
    sites = [
        Member(
            site=SiteName(name),
            identity_key=SigningKey.generate().public,
            node_key=create_node_key(folder / f"{name}.key"),
        )
        for name in ("west", "midwest", "south")
    ]
    people = [
        Officer(name=name, roles=roles, key=key_of(f"{name} decides").public, expires=FAR)
        for name, roles in (("privacy", (Role.PRIVACY_OFFICER,)), ("model", (Role.ML_ENGINEER, Role.ADMIN)))
    ]
    log = Service(name="log", purpose="log", key=key_of("log").public)
    return MemberList(name="demo", version=1, members=tuple(sites), officers=tuple(people), services=(log,))


def changed_list(before: MemberList, /, **values: object) -> MemberList:
    return MemberList(**{**dict(before), **values})


# --- signatures


def test_a_list_with_its_quorum_verifies_after_its_journey(members: MemberList):
    received = Membership.from_canonical(officers().sign(members).canonical)
    trusted = received.verify(officers().pinned)
    assert (trusted.members, trusted.root) == (members, officers().newest)
    assert trusted.members.ref == "demo@1"


@pytest.mark.parametrize("names", [(), *((name,) for name in NAMES)])
def test_a_list_without_its_quorum_is_a_draft_and_says_how_many_are_missing(names, members: MemberList):
    with pytest.raises(Refused) as refused:
        officers().sign(members, by=names).verify(officers().pinned)
    assert f"member list demo@1 has {len(names)} of the 2 signatures" in str(refused.value)
    assert f"{2 - len(names)} more of" in str(refused.value)
    assert officers().newest.fingerprint in str(refused.value)


@pytest.mark.parametrize("names", [*combinations(NAMES, 2), NAMES])
def test_any_quorum_will_do(names, members: MemberList):
    assert officers().sign(members, by=names).verify(officers().pinned).members == members


@settings(deadline=None)
@given(st.sets(st.sampled_from((*NAMES, "elm", "impostor-1"))))
def test_only_different_keys_of_the_root_count(who: set[str]):
    listed = MemberList(name="demo", version=1, members=(a_site(),))
    wide = root_of(*NAMES, "elm", "impostor-1")
    signed = SignedMembers(list=listed)
    for name in sorted(who):
        signed = signed.signed_with(key_of(name), wide)
    if len(who & set(NAMES)) >= 2:
        assert signed.verify(officers().newest) == listed
    else:
        with pytest.raises(Refused, match="of the 2 signatures"):
            signed.verify(officers().newest)


def test_one_key_cannot_sign_twice(members: MemberList):
    signed = officers().sign(members, by=("ash", "ash")).signed
    with pytest.raises(Refused, match="has 1 of the 2"):
        signed.verify(officers().newest)
    with pytest.raises(ValidationError, match="a key has signed twice"):
        SignedMembers(list=members, signatures=signed.signatures * 2)


def test_a_wrong_signature_of_a_root_key_is_refused_even_beside_a_quorum(members: MemberList):
    signed = officers().sign(members, by=("ash", "birch")).signed
    forged = KeySignature(
        key=key_of("cedar").public, signature=key_of("cedar").sign("covenant/root/v2", members.canonical)
    )
    with pytest.raises(Refused, match="the signature of cedar is not over this document"):
        SignedMembers(list=members, signatures=(*signed.signatures, forged)).verify(officers().newest)


def test_a_tampered_list_is_refused(members: MemberList):
    data = officers().sign(members).canonical.replace(b'"version":1}', b'"version":2}', 1)
    with pytest.raises(Refused, match="is not over this document"):
        Membership.from_canonical(data).verify(officers().pinned)


@pytest.mark.parametrize("kind", ["members", "officers", "services"])
def test_whoever_is_slipped_in_is_refused(kind: str, members: MemberList):
    signed = officers().sign(members)
    stranger = {
        "members": a_site(),
        "officers": Officer(name="stranger", roles=(Role.ADMIN,), key=key_of("stranger").public, expires=FAR),
        "services": Service(name="stranger", purpose="control", key=key_of("stranger").public),
    }[kind]
    longer = changed_list(members, **{kind: (*getattr(members, kind), stranger)})
    with pytest.raises(Refused, match="is not over this document"):
        SignedMembers(list=longer, signatures=signed.signed.signatures).verify(officers().newest)


def test_another_root_of_the_same_name_is_refused(members: MemberList):
    with pytest.raises(Refused, match=officers().newest.fingerprint):
        impostors().sign(members).verify(officers().pinned)


def test_no_key_on_the_list_signs_it(members: MemberList):
    with pytest.raises(
        UsageError, match="the key is not in root version 1 of demo; those of ash, birch, cedar"
    ):
        SignedMembers(list=members).signed_with(key_of("log"), officers().newest)


def test_a_list_of_another_federation_is_refused(members: MemberList):
    other = Officers.of(*NAMES, federation="retail")
    with pytest.raises(UsageError, match="call it retail"):
        other.sign(members)
    with pytest.raises(Refused, match="another federation"):  # the same keys in two federations
        officers().sign(members).verify(other.pinned)


def test_a_list_in_another_form_is_refused(members: MemberList):
    with pytest.raises(Refused, match="canonical form"):
        Membership.from_canonical(officers().sign(members).canonical + b"\n")


# --- the chain that travels with it


def test_a_list_under_a_later_root_verifies_from_any_pinned_version(members: MemberList):
    history = officers().rotated("birch", "cedar", "elm").rotated("cedar", "elm", "fir")
    received = Membership.from_canonical(history.sign(members).canonical)
    for pinned in history.roots:
        assert received.verify(pinned).root == history.newest


def test_the_newest_roots_quorum_decides_and_no_earlier_one(members: MemberList):
    """The officers of version 1 are not those of version 2, who alone sign lists from then on."""
    history = officers().rotated("elm", "fir")
    old = officers().sign(members).signed
    with pytest.raises(Refused, match="has 0 of the 2 signatures that root version 2"):
        Membership(roots=history.roots[1:], signed=old).verify(history.pinned)


def test_a_later_root_without_both_quorums_leads_nowhere(members: MemberList):
    root = root_of("impostor-1", "impostor-2", version=2)
    usurped = Officers((officers().pinned, signed_by(root, "impostor-1", "impostor-2")))
    with pytest.raises(Refused, match="root version 2 of demo has 0 of the 2 signatures that root version 1"):
        usurped.sign(members).verify(officers().pinned)


# --- who is on a list


def test_the_order_does_not_matter(members: MemberList):
    turned = changed_list(
        members, members=members.members[::-1], officers=members.officers[::-1], services=members.services
    )
    assert turned.digest == members.digest
    assert [member.site for member in turned.members] == ["midwest", "south", "west"]
    assert [officer.name for officer in turned.officers] == ["model", "privacy"]
    assert turned.officer("model").roles == (Role.ADMIN, Role.ML_ENGINEER)


@pytest.mark.parametrize("field", ["site", "identity_key", "node_key"])
def test_a_site_and_its_keys_occur_once(field: str, members: MemberList):
    first, second, _ = members.members
    twin = second.model_copy(update={field: getattr(first, field)})
    with pytest.raises(ValidationError, match=f"the same {field}"):
        MemberList(name="demo", version=1, members=(first, twin))


@pytest.mark.parametrize("field", ["name", "key"])
def test_an_officer_and_the_key_occur_once(field: str, members: MemberList):
    first, second = members.officers
    twin = second.model_copy(update={field: getattr(first, field)})
    with pytest.raises(ValidationError, match=r"the same (name|identity_key)"):
        changed_list(members, officers=(first, twin))


def test_no_key_stands_for_two_of_a_site_an_officer_and_a_service(members: MemberList):
    site, officer, service = members.members[0], members.officers[0], members.services[0]
    for values in (
        {"officers": (officer.model_copy(update={"key": site.identity_key}),)},
        {"services": (service.model_copy(update={"key": site.identity_key}),)},
        {"services": (service.model_copy(update={"key": officer.key}),)},
    ):
        with pytest.raises(ValidationError, match="have the same identity_key"):
            changed_list(members, **values)


def test_a_purpose_has_one_service(members: MemberList):
    second = Service(name="log-2", purpose="log", key=key_of("log 2").public)
    with pytest.raises(ValidationError, match="the same purpose"):
        changed_list(members, services=(*members.services, second))


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [((), "at least 1 item"), (("boss",), "Input should be"), (("admin",) * 2, "named twice")],
)
def test_an_officer_has_roles_that_there_are(roles: tuple[str, ...], sentence: str):
    with pytest.raises(ValidationError, match=sentence):
        Officer(name="stranger", roles=roles, key=key_of("stranger").public, expires=FAR)


def test_whoever_is_not_on_the_list_is_nobody(members: MemberList):
    assert members.member(SiteName("west")).site == "west"
    assert members.officer("privacy").roles == (Role.PRIVACY_OFFICER,)
    assert members.service("log").key == key_of("log").public
    newer = members.without(["privacy", "log", "west"], None)
    assert newer.ref == "demo@2"
    with pytest.raises(Refused, match="west is not on member list demo@2"):
        newer.member(SiteName("west"))
    with pytest.raises(Refused, match="privacy is no officer on member list demo@2"):
        newer.officer("privacy")
    with pytest.raises(Refused, match="demo@2 has no service for purpose log"):
        newer.service("log")


def test_an_officers_key_has_a_last_moment():
    officer = Officer(
        name="privacy",
        roles=(Role.AUDITOR,),
        key=key_of("privacy").public,
        expires=datetime(2030, 6, 30, tzinfo=UTC),
    )
    officer.require_current(datetime(2030, 6, 30, tzinfo=UTC))
    with pytest.raises(Refused, match="privacy was good until 2030-06-30"):
        officer.require_current(datetime(2030, 7, 1, tzinfo=UTC))


def test_a_next_list_replaces_who_has_the_name(members: MemberList):
    privacy = members.officer("privacy").model_copy(update={"key": key_of("privacy's new key").public})
    log = Service(name="log-2", purpose="log", key=key_of("log 2").public)
    newer = members.next(officers=[privacy], services=[log])
    assert newer.officer("privacy") == privacy
    assert newer.services == (log,)
    assert (newer.members, newer.version) == (members.members, 2)


def test_taking_off_asks_which_where_a_name_stands_for_two(members: MemberList):
    both = members.next(services=[Service(name="west", purpose="control", key=key_of("control").public)])
    with pytest.raises(UsageError, match="west is site and service on member list demo@2; say which"):
        both.without(["west"], None)
    assert [each.name for each in both.without(["west"], "service").services] == ["log"]
    with pytest.raises(UsageError, match="nobody is not on member list demo@2"):
        both.without(["nobody"], None)
    with pytest.raises(DocumentError, match="at least 1 item"):
        both.without(["west", "midwest", "south"], "site")


def test_plans_invite_members_only(members: MemberList):
    plan = read_document(PLAN, Plan, "plan.yaml")
    check_members(plan, members)
    stranger = read_document(changed(PLAN, "midwest, south]", "midwest, north]"), Plan, "plan.yaml")
    with pytest.raises(Refused, match="north is not on member list demo@1"):
        check_members(stranger, members)
    with pytest.raises(Refused, match="is for member list demo@1, but this is demo@2"):
        check_members(plan, members.next())


# --- how keys are handed in

OTHER_NODE_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMK9u46BYQfGbxIBE/6r15lHEbgiO
34ewLrhc71YdOGj7GRec1ynA94JMMnckixdaiDMmt2VoCnBF/T8nDI3iAA==
-----END PUBLIC KEY-----
"""


def a_site() -> Member:
    return Member(site=SiteName("zeta"), identity_key=key_of("zeta").public, node_key=OTHER_NODE_KEY)


def test_a_request_shows_that_the_identity_key_is_held():
    identity = SigningKey.generate()
    request = EnrolmentRequest.create(SiteName("west"), identity, OTHER_NODE_KEY)
    received = EnrolmentRequest.from_canonical(request.canonical)
    assert received.verify() == Member(
        site=SiteName("west"), identity_key=identity.public, node_key=OTHER_NODE_KEY
    )
    assert received.fingerprint == fingerprint(identity.public)


@pytest.mark.parametrize("field", ["site", "identity_key", "node_key"])
def test_a_request_with_something_exchanged_is_refused(field: str, members: MemberList):
    request = EnrolmentRequest.create(SiteName("east"), SigningKey.generate(), OTHER_NODE_KEY)
    other = request.model_copy(update={field: getattr(members.members[0], field)})
    with pytest.raises(Refused, match="is not signed by its identity key"):
        other.verify()


@pytest.mark.parametrize(
    ("defect", "node_key"),
    [
        ("not PEM", "hello"),
        (
            "Ed25519",
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n",
        ),
        ("text around it", "# the key\n" + OTHER_NODE_KEY),
    ],
)
def test_node_keys_that_the_transport_cannot_use_are_refused(defect: str, node_key: str):
    with pytest.raises(ValidationError):
        Member(site=SiteName("west"), identity_key=SigningKey.generate().public, node_key=node_key)


def test_a_card_shows_that_its_key_is_held():
    card = IdentityCard.create("privacy", key_of("privacy"))
    received = IdentityCard.from_canonical(card.canonical).verify()
    assert (received.name, received.public_key) == ("privacy", key_of("privacy").public)
    assert received.fingerprint == fingerprint(key_of("privacy").public)


@pytest.mark.parametrize("change", [{"name": "other"}, {"public_key": SigningKey.generate().public}])
def test_a_card_with_something_exchanged_is_refused(change: dict[str, str]):
    card = IdentityCard.create("privacy", key_of("privacy")).model_copy(update=change)
    with pytest.raises(Refused, match="is not signed by its own key"):
        card.verify()


def test_a_card_needs_a_name():
    with pytest.raises(UsageError, match="1 to 63 characters"):
        IdentityCard.create("../Privacy", key_of("privacy"))
