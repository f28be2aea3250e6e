"""A graph of the console: nodes that lead somewhere and what leads to what. A script draws it; the same lies below it as a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A thing with its `kind` in a word, such as run, and where a click leads. `here` is what the page is about."""

    id: str
    kind: str
    label: str
    href: str | None = None
    here: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Edges are pairs of ids, from what was first to what came of it."""

    name: str
    title: str
    nodes: Sequence[Node]
    edges: Sequence[tuple[str, str]]

    @property
    def drawn(self) -> dict[str, Any]:
        """For the script: plain JSON."""
        return {
            "title": self.title,
            "nodes": [
                {"id": each.id, "kind": each.kind, "label": each.label, "href": each.href, "here": each.here}
                for each in self.nodes
            ],
            "edges": [list(each) for each in self.edges],
        }

    @property
    def listed(self) -> Sequence[tuple[Node, Sequence[Node]]]:
        """Each node with what comes of it, for who reads instead of looking."""
        by_id = {each.id: each for each in self.nodes}
        return [
            (each, [by_id[after] for before, after in self.edges if before == each.id]) for each in self.nodes
        ]
