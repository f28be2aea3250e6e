"""Tree heads and proofs: what verifies, what does not, and the vectors of another implementation."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.errors import UsageError
from strategies.transparency.merkle import (
    EMPTY_ROOT,
    MOST_LEAVES,
    Frontier,
    ProofRefused,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root_at,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "merkle"
MOST = 70
LEAVES = [leaf_hash(bytes([number])) for number in range(MOST)]


def head(leaves: Sequence[bytes]) -> bytes:
    """The definition of RFC 9162, section 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(head(leaves[:half]), head(leaves[half:]))


def grown(leaves: Sequence[bytes]) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
    tree = Frontier()
    subtrees: dict[tuple[int, int], bytes] = {}
    for leaf in leaves:
        tree, completed = tree.append(leaf)
        subtrees |= {(level, index): node for level, index, node in completed}
    return tree, subtrees


SUBTREES = grown(LEAVES)[1]


def subtree(level: int, index: int) -> bytes:
    return SUBTREES[level, index]


def cases(name: str) -> list[Any]:
    found = json.loads((VECTORS / name).read_text())
    return [pytest.param(each, id=each["name"]) for each in found]


def binary(value: str | None) -> bytes:
    return base64.b64decode(value or "")


@pytest.mark.parametrize("case", cases("inclusion.json"))
def test_inclusion_vectors(case: dict[str, Any]) -> None:
    def check() -> None:
        verify_inclusion(
            binary(case["leafHash"]),
            index=case["leafIdx"],
            size=case["treeSize"],
            proof=[binary(each) for each in case["proof"] or []],
            root=binary(case["root"]),
        )

    if case["wantErr"]:
        with pytest.raises(ProofRefused):
            check()
    else:
        check()


@pytest.mark.parametrize("case", cases("consistency.json"))
def test_consistency_vectors(case: dict[str, Any]) -> None:
    def check() -> None:
        verify_consistency(
            old=case["size1"],
            old_root=binary(case["root1"]),
            new=case["size2"],
            new_root=binary(case["root2"]),
            proof=[binary(each) for each in case["proof"] or []],
        )

    if case["wantErr"]:
        with pytest.raises(ProofRefused):
            check()
    else:
        check()


@pytest.mark.parametrize("size", range(MOST + 1))
def test_heads_are_as_defined_and_a_tree_grows_as_it_would_be_rebuilt(size: int) -> None:
    tree, subtrees = grown(LEAVES[:size])
    assert tree.root == head(LEAVES[:size]) == root_at(size, subtree)
    assert Frontier.of(size, lambda level, index: subtrees[level, index]) == tree


@pytest.mark.parametrize("size", range(1, MOST + 1))
def test_every_entry_is_proved_in_every_tree_and_every_tree_extends_every_smaller_one(size: int) -> None:
    for index in range(size):
        proof = prove_inclusion(index, size, subtree)
        verify_inclusion(LEAVES[index], index=index, size=size, proof=proof, root=head(LEAVES[:size]))
    for old in range(1, size + 1):
        verify_consistency(
            old=old,
            old_root=head(LEAVES[:old]),
            new=size,
            new_root=head(LEAVES[:size]),
            proof=prove_consistency(old, size, subtree),
        )


@given(st.data())
def test_a_proof_proves_nothing_else(data: st.DataObject) -> None:
    """For another entry, place, size or head, or with a hash changed, added or left out."""
    size = data.draw(st.integers(1, MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = list(prove_inclusion(index, size, subtree))
    said: dict[str, Any] = {
        "leaf": LEAVES[index],
        "index": index,
        "size": size,
        "proof": proof,
        "root": head(LEAVES[:size]),
    }
    changed = dict(said) | data.draw(
        st.one_of(
            st.builds(lambda value: {"leaf": LEAVES[value]}, st.integers(0, MOST - 1)),
            st.builds(lambda value: {"index": value}, st.integers(-1, MOST)),
            st.builds(lambda value: {"root": head(LEAVES[:value])}, st.integers(0, MOST)),
            st.builds(lambda value: {"proof": [*proof, LEAVES[value]]}, st.integers(0, MOST - 1)),
            st.builds(lambda value: {"proof": proof[:value]}, st.integers(0, len(proof))),
        )
    )
    if changed == said:
        return
    with pytest.raises(ProofRefused):
        verify_inclusion(changed.pop("leaf"), **changed)


@given(st.data())
def test_a_log_that_was_rewritten_extends_nothing(data: st.DataObject) -> None:
    """Whatever entry of the old part is exchanged, no proof of the new tree's own shows that it begins with the old one."""
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new - 1))
    place = data.draw(st.integers(0, old - 1))
    forged = [*LEAVES[:place], leaf_hash(b"forged"), *LEAVES[place + 1 : new]]
    subtrees = grown(forged)[1]
    proof = prove_consistency(old, new, lambda level, index: subtrees[level, index])
    with pytest.raises(ProofRefused):
        verify_consistency(old=old, old_root=head(LEAVES[:old]), new=new, new_root=head(forged), proof=proof)
    verify_consistency(old=old, old_root=head(forged[:old]), new=new, new_root=head(forged), proof=proof)


def test_a_leaf_is_no_node() -> None:
    """An entry made of two hashes does not pass for the node above them."""
    one, other = LEAVES[:2]
    assert leaf_hash(one + other) != node_hash(one, other)
    with pytest.raises(ProofRefused):
        verify_inclusion(leaf_hash(one + other), index=0, size=1, proof=[], root=head(LEAVES[:2]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"index": 3}, "no entry 3"),
        ({"index": -1}, "no entry -1"),
        ({"size": MOST_LEAVES + 1}, "no entry 0"),
        ({"proof": [b"short"]}, "a hash of 5 bytes"),
        ({"root": b""}, "a hash of 0 bytes"),
        ({"proof": []}, "2 lead to the head"),
    ],
)
def test_a_refusal_says_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    said: dict[str, Any] = {
        "index": 0,
        "size": 3,
        "proof": prove_inclusion(0, 3, subtree),
        "root": head(LEAVES[:3]),
    } | changes
    with pytest.raises(ProofRefused, match=words):
        verify_inclusion(LEAVES[0], **said)


def test_what_cannot_be_proved_is_not() -> None:
    with pytest.raises(UsageError, match="no entry 3"):
        prove_inclusion(3, 3, subtree)
    with pytest.raises(UsageError, match="extends one of 4"):
        prove_consistency(4, 3, subtree)
    with pytest.raises(UsageError, match="complete subtrees"):
        Frontier(3, (LEAVES[0],))
