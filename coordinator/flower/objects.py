"""What a SuperLink keeps of messages on their way: objects, each as long as a tree that announced it is kept.

Stock Flower's store in memory links objects to each other by what was announced first, so that one small tree can stand for 2^98 objects once it is
read again, and a chain of messages can be too deep to be read, or to be forgotten. Here

1. a tree is what was announced, node by node, and is handed out as it was;
2. an object is kept while a tree has it, and nothing else hangs on it;
3. the objects of a tree add up to no more than a frame.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    get_object_id,
    is_valid_sha256_hash,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore

from protos.frame_size import MAX_FRAME_BYTES

_MOST_BYTES: Final = MAX_FRAME_BYTES + (1 << 20)


@dataclass(slots=True)
class _Tree:
    announced: ObjectTree
    objects: tuple[str, ...]
    """Each once, children before their parents."""
    runs: set[int]
    size: int = 0


@dataclass(slots=True)
class _Object:
    content: bytes = b""
    trees: set[str] = field(default_factory=set)


class TreeStore(ObjectStore):
    """flwr's `ObjectStore` in memory, by trees. Only the root of a tree has a tree, or can be deleted."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._trees: dict[str, _Tree] = {}
        self._objects: dict[str, _Object] = {}

    def preregister(self, run_id: int, object_tree: ObjectTree) -> list[str]:
        """Take a tree in; the objects of it that have not come, children first. A tree that is there already stays as it was.

        Raises ValueError for an id that is no SHA-256.
        """
        objects = tuple(dict.fromkeys(part.object_id for part in iterate_object_tree(object_tree)))
        for name in objects:
            if not is_valid_sha256_hash(name):
                raise ValueError(f"{name[:80]!r} is not the id of an object; ids are 64 hexadecimal digits")
        root = object_tree.object_id
        with self._lock:
            if (tree := self._trees.get(root)) is None:
                tree = self._trees[root] = _Tree(_copy_of(object_tree), objects, set())
                for name in objects:
                    held = self._objects.setdefault(name, _Object())
                    held.trees.add(root)
                    tree.size += len(held.content)
            tree.runs.add(run_id)
            return [name for name in tree.objects if not self._objects[name].content]

    def get_object_tree(self, object_id: str) -> ObjectTree:
        """The tree that was announced. Raises `NoObjectInStoreError`."""
        with self._lock:
            if (tree := self._trees.get(object_id)) is None:
                raise NoObjectInStoreError(f"no message {object_id} was announced")
            return tree.announced

    def put(self, object_id: str, object_content: bytes) -> None:
        """Keep an object; one that is there already stays. Raises `NoObjectInStoreError` for one that no tree has, and ValueError for other bytes
        than the id names, or more than a tree may have.
        """
        if get_object_id(object_content) != object_id:
            raise ValueError(f"the bytes of object {object_id} are not those that its id names")
        validate_object_content(object_content)
        with self._lock:
            if (held := self._objects.get(object_id)) is None:
                raise NoObjectInStoreError(f"no message with object {object_id} was announced")
            if held.content:
                return
            trees = [self._trees[root] for root in held.trees]
            if all(tree.size + len(object_content) > _MOST_BYTES for tree in trees):
                raise ValueError(f"object {object_id} makes its message larger than {_MOST_BYTES} bytes")
            held.content = object_content
            for tree in trees:
                tree.size += len(object_content)

    def get(self, object_id: str) -> bytes | None:
        """An object; nothing of one that has not come, and None for one that no tree has."""
        with self._lock:
            held = self._objects.get(object_id)
            return None if held is None else held.content

    def delete(self, object_id: str) -> None:
        """Forget a tree, and its objects that no other tree has."""
        with self._lock:
            if (tree := self._trees.pop(object_id, None)) is None:
                return
            for name in tree.objects:
                held = self._objects[name]
                held.trees.discard(object_id)
                if not held.trees:
                    del self._objects[name]

    def delete_objects_in_run(self, run_id: int) -> None:
        """Forget the trees that were announced in a run and in no other."""
        with self._lock:
            for root in [root for root, tree in self._trees.items() if run_id in tree.runs]:
                self._trees[root].runs.discard(run_id)
                if not self._trees[root].runs:
                    self.delete(root)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._trees.clear()
            self._objects.clear()

    def __contains__(self, object_id: str) -> bool:
        """Whether a tree has the object."""
        with self._lock:
            return object_id in self._objects

    def __len__(self) -> int:
        """How many objects trees have."""
        with self._lock:
            return len(self._objects)


def _copy_of(tree: ObjectTree) -> ObjectTree:
    """The tree alone: a part of a message keeps all of it in memory."""
    copy = ObjectTree()
    copy.CopyFrom(tree)
    return copy
