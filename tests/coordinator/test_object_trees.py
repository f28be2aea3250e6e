"""What a SuperLink keeps of messages on their way: trees as they were announced, and objects while a tree has them."""

from __future__ import annotations

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore

from coordinator.flower import objects
from coordinator.flower.objects import TreeStore
from tests.coordinator.test_bounded import name, tree
from tests.flower_for_tests import message


def doubling(depth: int) -> ObjectTree:
    """A tree in which each node has the one below twice, and tells its children once: 2 depth + 1 nodes that stand for 2^depth."""
    node = tree(0)
    for level in range(1, depth + 1):
        node = tree(level, node, tree(level - 1))
    return node


def test_a_tree_is_handed_out_as_it_was_announced() -> None:
    store, bomb = TreeStore(), doubling(40)
    store.preregister(1, bomb)
    assert store.get_object_tree(bomb.object_id) == bomb


def test_flowers_own_store_hands_out_what_the_tree_stands_for() -> None:
    """The control, and why there is a store of ours."""
    stock, bomb = InMemoryObjectStore(), doubling(10)
    stock.preregister(1, bomb)
    found = stock.get_object_tree(bomb.object_id)
    assert len(list(iterate_object_tree(bomb))) == 21
    assert len(list(iterate_object_tree(found))) == 2**11 - 1


def test_a_chain_of_messages_is_no_deeper_than_each_of_them() -> None:
    store, links = TreeStore(), range(2000)
    for link in links:
        store.preregister(1, tree(f"m{link}", tree(f"c{link}", tree(f"m{link - 1}"))))
    assert len(list(iterate_object_tree(store.get_object_tree(name("m1999"))))) == 3
    store.delete_objects_in_run(1)
    assert len(store) == 0


def sent(*pieces: bytes) -> tuple[ObjectTree, dict[str, bytes]]:
    """A message as its tree and its objects."""
    records = {f"frame-{number:05d}": ConfigRecord({"bytes": piece}) for number, piece in enumerate(pieces)}
    told = message(RecordDict(records))
    return get_object_tree(told), {key: each.deflate() for key, each in get_all_nested_objects(told).items()}


def test_objects_come_one_by_one_and_are_kept_while_a_tree_has_them() -> None:
    store = TreeStore()
    (first, ours), (second, theirs) = sent(b"common", b"ours"), sent(b"common", b"theirs")
    assert set(store.preregister(1, first)) == set(ours)
    for key, content in ours.items():
        assert store.get(key) == b""
        store.put(key, content)
        assert store.get(key) == content
    missing = store.preregister(1, second)
    assert set(missing) == set(theirs) - set(ours)
    assert store.preregister(1, first) == []
    store.delete(first.object_id)
    common = set(ours) & set(theirs)
    assert all(store.get(key) == ours[key] for key in common)
    assert all(store.get(key) is None and key not in store for key in set(ours) - common)
    with pytest.raises(NoObjectInStoreError):
        store.get_object_tree(first.object_id)
    store.delete_objects_in_run(1)
    assert len(store) == 0


def test_a_tree_of_two_runs_goes_with_the_last() -> None:
    store, (told, _) = TreeStore(), sent(b"x")
    store.preregister(1, told)
    store.preregister(2, told)
    store.delete_objects_in_run(1)
    assert told.object_id in store
    store.delete_objects_in_run(2)
    assert told.object_id not in store


def test_a_message_that_is_announced_again_with_another_tree_keeps_its_own() -> None:
    store, (told, contents) = TreeStore(), sent(b"x")
    store.preregister(1, told)
    assert set(store.preregister(1, ObjectTree(object_id=told.object_id))) == set(contents)
    assert store.get_object_tree(told.object_id) == told


def test_what_is_no_object_of_a_tree_is_refused() -> None:
    store, (told, contents) = TreeStore(), sent(b"x")
    content = next(iter(contents.values()))
    with pytest.raises(NoObjectInStoreError):
        store.put(next(iter(contents)), content)
    store.preregister(1, told)
    with pytest.raises(ValueError, match="not those that its id names"):
        store.put(told.object_id, content)
    with pytest.raises(ValueError, match="ids are 64 hexadecimal digits"):
        store.preregister(1, ObjectTree(object_id="x" * 100))
    assert len(store) == len(contents)


def test_a_tree_has_no_more_than_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names an object of somebody else's message in a full one of their own keeps it from nobody."""
    store = TreeStore()
    (full, ours), (other, theirs) = sent(bytes(1500), b"common" * 60, b"last"), sent(b"common" * 60)
    store.preregister(1, full)
    large = max(ours, key=lambda key: len(ours[key]))
    (common,) = (key for key in set(ours) & set(theirs))
    monkeypatch.setattr(objects, "_MOST_BYTES", len(ours[large]) + len(ours[common]) - 1)
    store.put(large, ours[large])
    store.preregister(1, other)
    store.put(common, theirs[common])
    left = next(key for key in ours if key not in {large, common})
    with pytest.raises(ValueError, match="makes its message larger than"):
        store.put(left, ours[left])
