"""Roots, member lists, enrolment, and the files of private keys."""

import pickle
import stat

import pytest
from pydantic import ValidationError

from protos.documents import read_document
from protos.keys import SigningKey, create_node_key, decode_base64, node_public_pem, verify
from protos.membership import (
    EnrolmentRequest,
    FederationRoot,
    Member,
    MemberList,
    RootPublic,
    SignedMembers,
    check_members,
    fingerprint,
)
from protos.plan import Plan
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from tests.protos.documents_for_tests import PLAN, changed


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
    return MemberList(name="demo", version=1, members=tuple(sites))


@pytest.fixture(scope="module")
def root() -> FederationRoot:
    return FederationRoot.generate("demo")


def test_a_signed_list_verifies_after_its_journey(root: FederationRoot, members: MemberList):
    received = SignedMembers.from_canonical(root.sign(members).canonical)
    assert received.verify(root.public) == members
    assert received.verify(root.public).ref == "demo@1"


def test_the_order_of_members_does_not_matter(members: MemberList):
    turned = MemberList(name="demo", version=1, members=members.members[::-1])
    assert turned.digest == members.digest
    assert [member.site for member in turned.members] == ["midwest", "south", "west"]


def test_a_tampered_list_is_refused(root: FederationRoot, members: MemberList):
    data = root.sign(members).canonical.replace(b'"version":1', b'"version":2')
    with pytest.raises(Refused, match="is not signed by the root of demo"):
        SignedMembers.from_canonical(data).verify(root.public)


def test_a_member_slipped_in_is_refused(root: FederationRoot, members: MemberList):
    signed = root.sign(members)
    stranger = Member(
        site=SiteName("zeta"), identity_key=SigningKey.generate().public, node_key=OTHER_NODE_KEY
    )
    longer = MemberList(name="demo", version=1, members=(*members.members, stranger))
    with pytest.raises(Refused, match="not signed"):
        SignedMembers(list=longer, signature=signed.signature).verify(root.public)


def test_another_root_of_the_same_name_is_refused(root: FederationRoot, members: MemberList):
    impostor = FederationRoot.generate("demo")
    with pytest.raises(Refused, match=root.fingerprint):
        impostor.sign(members).verify(root.public)


def test_a_signature_by_a_member_is_refused(root: FederationRoot, members: MemberList):
    signature = SigningKey.generate().sign("covenant/members/v1", members.canonical)
    with pytest.raises(Refused, match="not signed"):
        SignedMembers(list=members, signature=signature).verify(root.public)


def test_a_signature_for_another_purpose_is_refused(members: MemberList):
    key = SigningKey.generate()
    public = RootPublic(federation="demo", public_key=key.public)
    foreign = key.sign("covenant/enrolment/v1", members.canonical)
    with pytest.raises(Refused, match="not signed"):
        SignedMembers(list=members, signature=foreign).verify(public)


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", "A" * 86 + "=="])
def test_a_signature_that_is_none_is_refused(signature: str, root: FederationRoot, members: MemberList):
    with pytest.raises(Refused, match="not signed"):
        SignedMembers(list=members, signature=signature).verify(root.public)


def test_a_list_of_another_federation_is_refused(members: MemberList):
    key = SigningKey.generate()
    other = FederationRoot("retail", key)
    with pytest.raises(UsageError, match="call it retail"):
        other.sign(members)
    signed = FederationRoot("demo", key).sign(members)  # one key used for two federations
    with pytest.raises(Refused, match="another federation"):
        signed.verify(other.public)


def test_a_list_in_another_form_is_refused(root: FederationRoot, members: MemberList):
    with pytest.raises(Refused, match="canonical form"):
        SignedMembers.from_canonical(root.sign(members).canonical + b"\n")


@pytest.mark.parametrize("field", ["site", "identity_key", "node_key"])
def test_a_site_and_its_keys_occur_once(field: str, members: MemberList):
    first, second, _ = members.members
    twin = second.model_copy(update={field: getattr(first, field)})
    with pytest.raises(ValidationError, match=f"the same {field}"):
        MemberList(name="demo", version=1, members=(first, twin))


def test_plans_invite_members_only(members: MemberList):
    plan = read_document(PLAN, Plan, "plan.yaml")
    check_members(plan, members)
    stranger = read_document(changed(PLAN, "midwest, south]", "midwest, north]"), Plan, "plan.yaml")
    with pytest.raises(Refused, match="north is not on member list demo@1"):
        check_members(stranger, members)
    with pytest.raises(Refused, match="is for member list demo@1, but this is demo@2"):
        check_members(plan, MemberList(name="demo", version=2, members=members.members))


OTHER_NODE_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMK9u46BYQfGbxIBE/6r15lHEbgiO
34ewLrhc71YdOGj7GRec1ynA94JMMnckixdaiDMmt2VoCnBF/T8nDI3iAA==
-----END PUBLIC KEY-----
"""


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


def test_a_root_is_saved_and_loaded(tmp_path, root: FederationRoot):
    root.save(tmp_path)
    loaded = FederationRoot.load(tmp_path)
    assert loaded.public == root.public
    assert loaded.fingerprint == root.fingerprint
    assert [len(group) for group in root.fingerprint.split(" ")] == [8] * 8
    assert stat.S_IMODE((tmp_path / "root.key").stat().st_mode) == 0o600


def test_a_root_whose_files_do_not_belong_together_is_refused(tmp_path, root: FederationRoot):
    root.save(tmp_path)
    (tmp_path / "root.json").write_bytes(FederationRoot.generate("demo").public.canonical)
    with pytest.raises(UsageError, match="is not the public key of"):
        FederationRoot.load(tmp_path)


def test_a_key_file_is_private_whatever_the_umask(tmp_path):
    import os

    before = os.umask(0)
    try:
        SigningKey.generate().save(tmp_path / "open.key")
        os.umask(0o777)
        create_node_key(tmp_path / "closed.key")
    finally:
        os.umask(before)
    for name in ("open.key", "closed.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(tmp_path, root: FederationRoot):
    path = tmp_path / "site.key"
    SigningKey.generate().save(path)
    before = path.read_bytes()
    for write in (SigningKey.generate().save, create_node_key):
        with pytest.raises(UsageError, match="is never overwritten"):
            write(path)
    assert path.read_bytes() == before
    root.save(tmp_path)
    with pytest.raises(UsageError, match="is never overwritten"):
        FederationRoot.generate("demo").save(tmp_path)
    assert FederationRoot.load(tmp_path).public == root.public


def test_a_key_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "link.key").symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(UsageError, match="never overwritten"):
        SigningKey.generate().save(tmp_path / "link.key")
    assert not (tmp_path / "elsewhere.key").exists()


def test_a_key_comes_back_from_its_file(tmp_path):
    key = SigningKey.generate()
    key.save(tmp_path / "site.key")
    assert SigningKey.load(tmp_path / "site.key").public == key.public
    public = create_node_key(tmp_path / "node.key")
    assert node_public_pem(tmp_path / "node.key") == public


def test_key_files_that_cannot_be_trusted_are_refused(tmp_path):
    path = tmp_path / "site.key"
    with pytest.raises(UsageError, match="does not exist"):
        SigningKey.load(path)
    create_node_key(path)
    with pytest.raises(UsageError, match="an Ed25519 key is needed"):
        SigningKey.load(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others; run chmod 600"):
        SigningKey.load(path)
    path.chmod(0o600)
    path.write_text("not a key")
    with pytest.raises(UsageError, match="is not an unencrypted private key"):
        SigningKey.load(path)
    with pytest.raises(UsageError, match="cannot be created"):
        SigningKey.generate().save(tmp_path / "nowhere" / "site.key")


def test_a_private_key_does_not_show_itself():
    key = SigningKey.generate()
    assert repr(key) == str(key) == "<secret SigningKey>"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(key)


def test_a_label_and_a_message_cannot_be_shifted_into_each_other():
    key = SigningKey.generate()
    signature = key.sign("ab", b"c")
    assert verify(key.public, signature, "ab", b"c")
    assert not verify(key.public, signature, "a", b"bc")


@pytest.mark.parametrize("text", ["AB==", "AA==\n", "AA", "é", "AAA="])
def test_one_byte_has_one_base64(text: str):
    assert decode_base64("AA==", 1) == b"\0"
    with pytest.raises(UsageError):
        decode_base64(text, 1)
