"""Values changed in the text of a document that people wrote: comments, order, quoting and line ends of all else stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from strategies.errors import UsageError

KeyPath = tuple[str, ...]


def with_values(text: str, values: Mapping[KeyPath, float]) -> str:
    """`text`, one YAML document, with the number at each path of keys replaced.

    Raises UsageError for a text that is no YAML, and for a path at which no single value stands.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise UsageError(f"this is not YAML: {error}") from error
    spans = [(_scalar(root, path), value) for path, value in values.items()]
    for node, value in sorted(spans, key=lambda each: -int(each[0].start_mark.index)):
        text = text[: node.start_mark.index] + json.dumps(value) + text[node.end_mark.index :]
    return text


def _scalar(root: Node | None, path: KeyPath) -> ScalarNode:
    node = root
    for key in path:
        pairs = node.value if isinstance(node, MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    if not isinstance(node, ScalarNode):
        raise UsageError(f"the document has no value at `{'.'.join(path)}`; write one there first")
    return node
