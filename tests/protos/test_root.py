"""Roots: whose quorum it takes, and where a chain of versions leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from protos.keys import SigningKey
from protos.root import MOST_LINKS, KeySignature, Root, RootKey, SignedRoot, follow
from strategies.errors import Refused, UsageError
from tests.trust_for_tests import FAR, Officers, key_of, officers, root_of, signed_by

OLD, NEW = ("ash", "birch", "cedar"), ("birch", "cedar", "elm", "fir")
EVERYBODY = tuple(sorted({*OLD, *NEW}))


# --- one version


def test_version_1_counts_when_its_own_quorum_signed_it() -> None:
    signed = signed_by(root_of(*OLD), "ash", "cedar")
    assert follow(SignedRoot.from_canonical(signed.canonical), []) == signed.root


@pytest.mark.parametrize("names", [(), ("ash",)])
def test_a_root_without_its_quorum_is_a_draft(names: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        follow(signed_by(root_of(*OLD), *names), [])
    assert f"has {len(names)} of the 2 signatures that root version 1 of demo asks for" in str(refused.value)
    assert f"{2 - len(names)} more of {'ash, ' * (not names)}birch, cedar must sign it" in str(refused.value)


@settings(deadline=None)
@given(st.sets(st.sampled_from(EVERYBODY)), st.integers(1, 3))
def test_a_quorum_is_so_many_different_keys_of_the_root_and_strangers_count_for_nothing(
    who: set[str], quorum: int
) -> None:
    root = root_of(*OLD, quorum=quorum)
    label = root_of(*EVERYBODY, quorum=1, version=2)  # a root before which everybody may sign
    signed = SignedRoot(root=root, signatures=signed_by(root, *sorted(who), before=label).signatures)
    if len(who & set(OLD)) >= quorum:
        signed.require_own_quorum()
    else:
        with pytest.raises(Refused):
            signed.require_own_quorum()


def test_a_key_that_signs_twice_counts_once() -> None:
    signed = signed_by(root_of(*OLD), "ash", "ash")
    assert len(signed.signatures) == 1
    with pytest.raises(Refused, match="has 1 of the 2"):
        signed.require_own_quorum()
    with pytest.raises(ValidationError, match="a key has signed twice"):
        SignedRoot(root=signed.root, signatures=(*signed.signatures, *signed.signatures))


def test_a_wrong_signature_in_the_name_of_a_root_key_is_refused_even_beside_a_quorum() -> None:
    signed = signed_by(root_of(*OLD), "ash", "birch")
    foreign = key_of("cedar").sign("covenant/members/v2", signed.root.canonical)
    forged = KeySignature(key=key_of("cedar").public, signature=foreign)
    spoilt = SignedRoot(root=signed.root, signatures=(*signed.signatures, forged))
    with pytest.raises(Refused, match="the signature of cedar is not over this document"):
        follow(spoilt, [])


@pytest.mark.parametrize(
    "change",
    [
        {"quorum": 1},
        {"federation": "retail"},
        {"expires": FAR - timedelta(days=1)},
        {"version": 2, "first": "ab" * 32},
    ],
)
def test_a_root_with_something_exchanged_is_refused(change: dict[str, object]) -> None:
    signed = signed_by(root_of(*OLD), "ash", "birch")
    altered = signed.root.model_copy(update=change)
    with pytest.raises(Refused, match="is not over this document"):
        follow(SignedRoot(root=altered, signatures=signed.signatures), [])


@pytest.mark.parametrize("signature", ["", "no base64!", "AAAA", "A" * 88])
def test_what_is_no_signature_is_no_document(signature: str) -> None:
    with pytest.raises(ValidationError):
        KeySignature(key=key_of("ash").public, signature=signature)


def test_the_order_of_keys_and_signatures_changes_nothing() -> None:
    one, other = root_of(*OLD), root_of(*OLD[::-1])
    assert one.digest == other.digest
    assert signed_by(one, "ash", "birch").digest == signed_by(other, "birch", "ash").digest


@pytest.mark.parametrize(
    ("names", "quorum", "sentence"),
    [
        ((), 1, "at least 1 item"),
        (OLD, 0, "greater than or equal to 1"),
        (OLD, 4, "4 of 3 keys can never sign"),
        (("ash", "ash"), 1, "two of them have the same name"),
        (tuple(f"p{number}" for number in range(21)), 1, "at most 20 items"),
    ],
)
def test_a_root_that_cannot_decide_is_none(names: tuple[str, ...], quorum: int, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        root_of(*names, quorum=quorum)


def test_one_key_under_two_names_is_one_person() -> None:
    key = key_of("ash").public
    with pytest.raises(ValidationError, match="two of them have the same key"):
        Root(
            federation="demo",
            version=1,
            keys=(RootKey(name="ash", key=key), RootKey(name="ash-2", key=key)),
            quorum=2,
            expires=FAR,
        )


def test_a_root_has_one_form_whatever_the_time_zone() -> None:
    moment = datetime.fromisoformat("2030-01-01T01:00:00+02:00")
    assert b'"expires":"2029-12-31T23:00:00Z"' in root_of(*OLD, expires=moment).canonical


def test_nothing_new_is_accepted_after_the_last_moment() -> None:
    root = root_of(*OLD, expires=datetime(2030, 6, 30, 23, 59, 59, tzinfo=UTC))
    root.require_current(datetime(2030, 6, 30, 23, 59, 59, tzinfo=UTC))
    with pytest.raises(Refused, match=r"good until 2030-06-30.*covenant root next"):
        root.require_current(datetime(2030, 7, 1, tzinfo=UTC))


def test_only_keys_of_this_version_or_the_one_before_sign() -> None:
    with pytest.raises(UsageError, match="the key is in no version that may sign root version 1 of demo"):
        SignedRoot(root=root_of(*OLD)).signed_with(SigningKey.generate(), None)


# --- the version after


def test_the_next_version_counts_with_both_quorums() -> None:
    chain = officers().rotated(*NEW).roots
    assert follow(chain[0], chain[1:]) == chain[1].root


@settings(deadline=None)
@given(st.sets(st.sampled_from(EVERYBODY)))
def test_a_version_follows_if_and_only_if_both_quorums_signed_it(who: set[str]) -> None:
    before, after = root_of(*OLD), root_of(*NEW, version=2)
    signed = signed_by(after, *sorted(who), before=before)
    pinned = signed_by(before, "ash", "birch")
    if len(who & set(OLD)) >= 2 and len(who & set(NEW)) >= 2:
        assert follow(pinned, [signed]) == after
    else:
        with pytest.raises(Refused):
            follow(pinned, [signed])


def test_those_who_are_gone_cannot_be_outvoted_by_those_who_came() -> None:
    """A stolen quorum of the new keys, or of the old ones alone, changes nothing."""
    pinned, after = signed_by(root_of(*OLD), "ash", "birch"), root_of("elm", "fir", version=2)
    for who in (("elm", "fir"), ("ash", "birch"), ("ash", "elm", "fir"), ("ash", "birch", "elm")):
        with pytest.raises(Refused, match=r"has [01] of the 2 signatures"):
            follow(pinned, [signed_by(after, *who, before=pinned.root)])
    assert follow(pinned, [signed_by(after, "ash", "birch", "elm", "fir", before=pinned.root)]) == after


def test_every_version_names_the_first_and_one_that_names_another_does_not_follow() -> None:
    pinned = officers()
    history = pinned.rotated(*NEW).rotated(*OLD)
    assert {each.root.identity for each in history.roots} == {pinned.newest.digest}
    foreign = root_of(*NEW, version=2, of=root_of("impostor-1", "impostor-2"))
    usurped = signed_by(foreign, *EVERYBODY, before=pinned.newest)
    with pytest.raises(Refused, match="names another version 1"):
        follow(pinned.pinned, [usurped])


@pytest.mark.parametrize(("version", "first"), [(1, "ab" * 32), (2, None)])
def test_only_later_versions_name_the_first(version: int, first: str | None) -> None:
    with pytest.raises(ValidationError, match="version 1 has none"):
        Root(**{**root_of(*OLD).model_dump(), "version": version, "first": first})


def test_a_chain_is_followed_version_by_version() -> None:
    history = officers()
    for newcomer in ("elm", "fir", "oak"):
        names = [each.name for each in history.newest.keys]
        history = history.rotated(*names[1:], newcomer)
    assert follow(history.pinned, history.roots[1:]).version == 4
    assert [each.name for each in history.newest.keys] == ["elm", "fir", "oak"]


@pytest.mark.parametrize(
    ("places", "sentence"),
    [
        ([2], "does not follow version 1"),
        ([1, 3], "does not follow version 2"),
        ([1, 2, 2], "does not follow version 3"),
        ([2, 1], "does not follow version 3"),
    ],
)
def test_a_chain_with_a_gap_or_out_of_order_is_refused(places: list[int], sentence: str) -> None:
    history = officers().rotated(*NEW).rotated(*NEW).rotated(*NEW)
    with pytest.raises(Refused, match=sentence):
        follow(history.pinned, [history.roots[place] for place in places])


@pytest.mark.parametrize("pinned", [0, 1, 2, 3])
def test_whichever_version_is_pinned_the_whole_chain_leads_on(pinned: int) -> None:
    history = officers().rotated(*NEW).rotated(*OLD).rotated(*NEW)
    for begin in range(pinned + 2):
        assert follow(history.roots[pinned], history.roots[begin:]) == history.newest


def test_a_chain_that_passes_by_the_pinned_version_is_refused() -> None:
    """Both versions 2 are signed by both quorums: whoever has pinned one does not follow the other."""
    one, other = officers().rotated(*NEW), officers().rotated("ash", "birch", "elm")
    with pytest.raises(Refused, match=r"another root version 2 of demo.*compare fingerprints"):
        follow(one.roots[1], other.rotated(*OLD).roots[1:])


def test_a_chain_that_ends_before_the_pinned_version_is_refused() -> None:
    history = officers().rotated(*NEW).rotated(*OLD)
    with pytest.raises(Refused, match="ends at version 2, before version 3, which is pinned here"):
        follow(history.roots[2], [history.roots[1]])


def test_a_later_version_that_is_pinned_needs_its_own_quorum() -> None:
    draft = signed_by(root_of(*NEW, version=2), "birch")
    with pytest.raises(Refused, match="root version 2 of demo has 1 of the 2"):
        follow(draft, [])


def test_another_federations_chain_is_refused() -> None:
    foreign = Officers.of(*OLD, federation="retail").rotated(*NEW)
    with pytest.raises(Refused, match="is for another federation than demo"):
        follow(officers().pinned, foreign.roots[1:])
    claiming = signed_by(root_of("impostor-1", "impostor-2", version=2), "impostor-1", "impostor-2")
    with pytest.raises(Refused, match="has 0 of the 2 signatures that root version 1"):
        follow(officers().pinned, [claiming])


def test_the_root_of_impostors_is_not_followed() -> None:
    foreign = Officers.of("impostor-1", "impostor-2").rotated("impostor-1", "impostor-2")
    with pytest.raises(Refused, match="names another version 1"):
        follow(officers().pinned, foreign.roots[1:])
    claiming = signed_by(root_of("impostor-1", "impostor-2", version=2), "impostor-1", "impostor-2")
    with pytest.raises(Refused, match="has 0 of the 2 signatures that root version 1"):
        follow(officers().pinned, [claiming])


def test_a_chain_is_bounded() -> None:
    with pytest.raises(Refused, match=f"at most {MOST_LINKS} are read"):
        follow(officers().pinned, [officers().pinned] * (MOST_LINKS + 1))


def test_an_expired_version_is_followed_by_the_next() -> None:
    over = Officers.of(*OLD, expires=datetime(2020, 1, 1, tzinfo=UTC))
    history = over.rotated(*NEW)
    follow(over.pinned, history.roots[1:]).require_current(datetime(2030, 1, 1, tzinfo=UTC))


# --- drafting


def test_the_next_draft_has_who_joins_and_not_who_leaves() -> None:
    elm = RootKey(name="elm", key=key_of("elm").public)
    draft = root_of(*OLD).next(add=[elm], remove=["ash"], quorum=None, expires=FAR)
    assert draft == root_of("birch", "cedar", "elm", version=2)
    assert draft.next(add=[], remove=[], quorum=3, expires=FAR).quorum == 3


def test_a_draft_that_could_not_decide_is_refused() -> None:
    with pytest.raises(UsageError, match="2 of 1 keys can never sign"):
        root_of(*OLD).next(add=[], remove=["ash", "birch"], quorum=None, expires=FAR)
    with pytest.raises(
        UsageError, match="nobody has no key in root version 1; it has those of ash, birch, cedar"
    ):
        root_of(*OLD).next(add=[], remove=["nobody"], quorum=None, expires=FAR)
