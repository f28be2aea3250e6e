"""What may follow the root and member list that were accepted last."""

from __future__ import annotations

import pytest

from protos.keys import create_node_key
from protos.membership import Member, MemberList, Trusted
from protos.root import SignedRoot
from protos.succession import Newest, newest_after, require_follows
from strategies.errors import Refused
from strategies.ids import SiteName
from tests.trust_for_tests import Officers, key_of, officers, root_of, signed_by

NEW = ("birch", "cedar", "elm")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> MemberList:
    node_key = create_node_key(tmp_path_factory.mktemp("keys") / "node.key")
    site = Member(site=SiteName("west"), identity_key=key_of("west").public, node_key=node_key)
    return MemberList(name="demo", version=1, members=(site,))


def believed(history: Officers, members: MemberList, pinned: SignedRoot | None = None) -> Trusted:
    return history.sign(members).verify(pinned or history.pinned)


def stolen(versions: int) -> Officers:
    """What a quorum of version 1 can sign on its own: as many versions as it likes."""
    found = officers()
    for version in range(2, versions + 1):
        root = root_of("ash", "birch", "thief", version=version)
        found = Officers((*found.roots, signed_by(root, "ash", "birch", before=found.newest)))
    return found


def test_the_lineage_is_every_root_from_the_pinned_one_to_the_newest(first: MemberList) -> None:
    history = officers().rotated(*NEW).rotated(*NEW)
    digests = tuple(each.root.digest for each in history.roots)
    for place, pinned in enumerate(history.roots):
        found = history.sign(first).verify(pinned)
        assert found.lineage == digests[place:]
        assert found.root_digest == found.root.digest == digests[-1]
        assert [found.root_at(version) for version in range(5)] == [
            digests[version - 1] if place < version < 4 else None for version in range(5)
        ]


def test_what_is_said_to_come_before_the_pinned_root_is_no_part_of_it(first: MemberList) -> None:
    """Anybody can make a version 2 whose quorum happens to have signed version 3."""
    real = officers().rotated(*NEW).rotated(*NEW)
    made_up = SignedRoot(root=root_of("elm", quorum=1, version=2, of=officers().newest))
    signed = real.sign(first).model_copy(update={"roots": (made_up, real.roots[2])})
    assert signed.verify(real.roots[2]).lineage == (real.newest.digest,)


def test_a_made_up_version_1_leads_to_no_root_that_names_the_real_one(first: MemberList) -> None:
    real = officers().rotated(*NEW)
    made_up = SignedRoot(root=root_of("elm", quorum=1))
    signed = real.sign(first).model_copy(update={"roots": (made_up, real.roots[1])})
    with pytest.raises(Refused, match="names another version 1"):
        signed.verify(real.roots[1])


def test_newer_roots_and_newer_lists_follow(first: MemberList) -> None:
    one = officers()
    two = one.rotated(*NEW)
    three = two.rotated("cedar", "elm", "fir")
    newest = None
    for history, members in (
        (one, first),
        (one, first.next()),
        (two, first.next()),
        (three, first.next().next()),
    ):
        offered = believed(history, members)
        newest = newest_after(offered, newest)
        assert newest == Newest.of(offered)


@pytest.mark.parametrize("versions", [2, 3, 6])
def test_a_chain_that_passes_by_the_accepted_root_does_not_follow(first: MemberList, versions: int) -> None:
    newest = Newest.of(believed(officers().rotated(*NEW), first))
    for members in (first, first.next()):
        with pytest.raises(
            Refused, match="another root version 2 of demo than the one that has been accepted"
        ):
            require_follows(believed(stolen(versions), members), newest)


def test_a_newer_list_under_a_chain_that_ends_before_the_accepted_root_does_not_follow(
    first: MemberList,
) -> None:
    newest = Newest.of(believed(officers().rotated(*NEW), first))
    with pytest.raises(Refused, match="signed under root version 1, and version 2 has been accepted"):
        require_follows(believed(officers(), first.next()), newest)


def test_an_older_list_and_another_of_the_same_version_do_not_follow(first: MemberList) -> None:
    newest = Newest.of(believed(officers(), first.next()))
    later = officers().rotated(*NEW)
    with pytest.raises(Refused, match="an older one such as demo@1 counts no more"):
        require_follows(believed(later, first), newest)
    renamed = first.members[0].model_copy(update={"site": SiteName("north")})
    with pytest.raises(Refused, match=r"another member list demo@2.*two of one version"):
        require_follows(believed(later, MemberList(name="demo", version=2, members=(renamed,))), newest)


def test_the_same_list_counts_again_and_takes_no_root_back(first: MemberList) -> None:
    later = officers().rotated(*NEW)
    newest = Newest.of(believed(later, first))
    for again in (
        later.sign(first, by=["birch", "cedar"]),
        later.sign(first, by=["cedar", "elm"]),
        officers().sign(first),
    ):
        assert newest_after(again.verify(officers().pinned), newest) == newest
    with pytest.raises(Refused, match="signed under root version 1"):
        newest_after(believed(officers(), first.next()), newest)
