"""A reply on its way: announced by the tree of its objects, which come one by one, and may not come at all.

A tree tells no sizes. What a site may send is therefore counted as it comes, and given up as soon as it is more than an answer has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

from protos.envelope import MOST_PIECES
from strategies.errors import CovenantError

MOST_OBJECTS = MOST_PIECES + 2
"""A message, its content, and the pieces of a frame."""
_SPARE_BYTES = 1 << 20
"""What a message has beside its frame."""


class NeverArrivedError(CovenantError):
    """An object of a reply that the SuperLink does not know any more, or too many of them: its site ended in the middle of sending, or does not keep to the bounds."""


@dataclass(slots=True)
class Arriving:
    """A reply of a frame of at most `most_bytes` that was announced; its objects may come a little later."""

    tree: ObjectTree
    most_bytes: int
    contents: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    late: ObjectTree | None = None
    """The object that was not there when it was asked for last."""
    given_up: bool = False

    def parts(self) -> Iterator[ObjectTree]:
        """Its objects in the order in which they are fetched.

        That is the order in which agents send them; where the reply was given up, the one that was late comes first and then the last ones, so that
        nothing large is fetched again before all is there.
        """
        if not self.given_up:
            return iterate_object_tree(self.tree)
        return iter([*([self.late] if self.late else []), *reversed(list(iterate_object_tree(self.tree)))])

    def take(self, object_id: str, content: bytes) -> None:
        """Keep an object. Raises `NeverArrivedError` beyond what a reply may be."""
        self.contents[object_id] = content
        self.size += len(content)
        if self.size > self.most_bytes + _SPARE_BYTES:
            raise NeverArrivedError(
                f"sent {self.size} bytes in one answer; the largest that this run asks for has {self.most_bytes}"
            )
        if len(self.contents) > MOST_OBJECTS:
            raise NeverArrivedError(f"sent more than {MOST_OBJECTS} objects in one answer")

    def give_up(self) -> None:
        """Give its memory back; what came can be had again."""
        self.contents.clear()
        self.size = 0
        self.given_up = True

    def place_of(self, object_id: str) -> str:
        """Which piece of a frame an object is, for people."""
        pieces = self._pieces
        return (
            f"piece {pieces.index(object_id) + 1} of {len(pieces)}"
            if object_id in pieces
            else f"object {object_id}"
        )

    @property
    def missing(self) -> str | None:
        """Which pieces of a reply of several have not come."""
        pieces = self._pieces
        if self.given_up and self.late is not None:
            return f"{self.place_of(self.late.object_id)} of its answer did not come before the deadline"
        late = [number for number, piece in enumerate(pieces, 1) if piece not in self.contents]
        if len(pieces) < 2 or not late:  # noqa: PLR2004 (of one piece nothing is half there)
            return None
        return f"sent {len(pieces) - len(late)} of {len(pieces)} pieces of its answer before the deadline; piece {late[0]} did not come"

    @property
    def _pieces(self) -> list[str]:
        """The records of the message's content, in their order."""
        return [record.object_id for content in self.tree.children for record in content.children]
