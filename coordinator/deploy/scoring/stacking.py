"""A judged graph in three parts that together compute what it computes: numbers stacked, words apart, the dense layers.

1. An export encodes each input by a chain of operators of its own, on [N, 1]. Hundreds of operators on so little cost more than what they compute.
2. Chains of numbers that are alike but for their constants become one chain on [k, N], with constants [k, 1]: the same operators on the same values.
   Only operators that take each value by itself are stacked. Clip takes scalar bounds alone, so it becomes the Max and Min that it is made of.
3. The operators of words are the file's own, cut out as they are, and so are those after the first layer's input.
4. A graph of any other form is not cut (`Unlike`); whoever asks runs the file as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from coordinator.deploy.scoring.operators import Judged
from coordinator.registry.graph import PROBABILITY

NUMBERS: Final = "/numbers"
"""Input of the stacked part: [k, N] double, a row for each of the file's numeric inputs, in their order."""
STACKED: Final = "/stacked"
"""Its output: [columns, N] float32."""
_ELEMENTWISE: Final = frozenset(("Add", "Cast", "Clip", "Div", "IsNaN", "Log", "Sub", "Where"))
_ABSENT: Final = ""
"""An optional input that a node does not have."""

Constant = npt.NDArray[Any]
Ref = tuple[str, int]
"""A value within a chain: the input, a step or a constant by its place, or nothing."""


class Unlike(Exception):  # noqa: N818  (no error: the file runs as it is)
    """Why a graph cannot be cut into parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One input of the Concat that makes the encoded columns: made of the graph input `source` alone, it is columns `first` to `end`."""

    name: str
    source: str
    nodes: Sequence[Any]
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """A text input with its blocks, which are the encoded columns `at`, and the words that its operators compare with."""

    name: str
    blocks: tuple[str, ...]
    at: slice
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Three models: `stacked` from NUMBERS to STACKED, `words` from text inputs to their blocks, `dense` from the encoded columns to the output.

    `numeric` are the encoded columns that are the rows of STACKED; `constants` has those of each numeric input's chains. What a file has no inputs for is None.
    """

    width: int
    numeric: tuple[int, ...]
    constants: Sequence[tuple[float, ...]]
    texts: tuple[TextPart, ...]
    stacked: Any | None
    words: Any | None
    dense: Any


def parts_of(judged: Judged) -> Parts:
    """Cut a graph. Raises Unlike."""
    graph = _Graph(judged.proto)
    blocks = graph.blocks(judged.encoded)
    numbers = [each.name for each in judged.inputs if each.kind == "number"]
    texts = tuple(_text(graph, each.name, blocks) for each in judged.inputs if each.kind == "text")
    chains = [graph.chain(each) for each in blocks if each.source in numbers]
    groups = _alike(chains)
    return Parts(
        width=blocks[-1].end,
        numeric=tuple(each.block.first for group in groups for each in group),
        constants=[
            tuple({c.item() for each in chains if each.block.source == name for c in each.constants})
            for name in numbers
        ],
        texts=texts,
        stacked=_stacked(graph, groups, numbers) if groups else None,
        words=graph.words([each.name for each in texts], [name for each in texts for name in each.blocks])
        if texts
        else None,
        dense=graph.dense(judged.encoded, blocks[-1].end),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    """A block's nodes as steps: operator, attributes and what each takes. Chains with one `shape` differ in `constants` alone."""

    block: Block
    steps: tuple[tuple[str, tuple[bytes, ...], tuple[Ref, ...]], ...]
    constants: tuple[Constant, ...]

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.steps, tuple(str(each.dtype) for each in self.constants)


@dataclass(slots=True)
class _Graph:
    """A file's graph by names."""

    proto: Any
    makers: dict[str, Any] = field(init=False)
    tensors: dict[str, Any] = field(init=False)
    inputs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.proto.graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.tensors = {each.name: each for each in graph.initializer}
        self.inputs = {each.name: each for each in graph.input}

    def concatenated(self, name: str) -> Sequence[str]:
        """What the encoded columns are put together from."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Concat" or [each.i for each in node.attribute] != [1]:
            raise Unlike("the first layer takes no concatenation of columns")
        return list(node.input)

    def cut(self, outputs: Sequence[str], stop: frozenset[str]) -> tuple[list[Any], set[str]]:
        """The nodes that make `outputs` out of `stop`, in the file's order, and the names that they take and none of them makes."""
        needed, leaves, waiting = set(), set(), list(outputs)
        while waiting:
            name = waiting.pop()
            if name in stop or name not in self.makers:
                leaves.add(name)
            elif name not in needed:
                needed.add(name)
                waiting += self.makers[name].input
        nodes = [each for each in self.proto.graph.node if needed & set(each.output)]
        return nodes, leaves - {_ABSENT}

    def blocks(self, encoded: str) -> Sequence[Block]:
        """The blocks of the encoded columns, in order. Raises Unlike for one that is made of other than one input."""
        widths = {
            each.name: each.type.tensor_type.shape.dim[1].dim_value
            for each in onnx.shape_inference.infer_shapes(self.proto).graph.value_info
        }
        found, first = [], 0
        for name in self.concatenated(encoded):
            nodes, leaves = self.cut([name], frozenset())
            sources = [each for each in leaves if each in self.inputs]
            if len(sources) != 1 or not nodes:
                raise Unlike("a column is made of other than one input")
            end = first + widths[name]
            found.append(Block(name=name, source=sources[0], nodes=nodes, first=first, end=end))
            first = end
        return found

    def chain(self, block: Block) -> _Chain:
        """A numeric block as steps. Raises Unlike for an operator or a constant that cannot be stacked."""
        if block.end != block.first + 1:
            raise Unlike("a number is several columns at once")
        made: dict[str, Ref] = {block.source: ("input", 0), _ABSENT: ("none", 0)}
        constants: list[Constant] = []
        steps = []
        for place, node in enumerate(block.nodes):
            if node.op_type not in _ELEMENTWISE or len(node.output) != 1:
                raise Unlike(f"a number goes through {node.op_type}")
            for name in node.input:
                if name not in made:
                    made[name] = ("constant", len(constants))
                    constants.append(self.scalar(name))
            attributes = tuple(each.SerializeToString(deterministic=True) for each in node.attribute)
            steps.append((node.op_type, attributes, tuple(made[name] for name in node.input)))
            made[node.output[0]] = ("step", place)
        return _Chain(block=block, steps=tuple(steps), constants=tuple(constants))

    def scalar(self, name: str) -> Constant:
        """A constant of one value. Raises Unlike for another."""
        array = onnx.numpy_helper.to_array(self.tensors[name])
        if array.size != 1 or array.ndim > 2 or array.dtype.kind not in "fb":  # noqa: PLR2004  ([1, 1] has two)
            raise Unlike("a number meets a constant of more than one value")
        return np.asarray(array).reshape(())

    def vocabulary(self, block: Block) -> Iterator[str]:
        """The words that a text block compares with."""
        for name in {name: None for node in block.nodes for name in node.input if name in self.tensors}:
            tensor = self.tensors[name]
            if tensor.data_type == onnx.TensorProto.STRING:
                yield from (word.decode(errors="replace") for word in tensor.string_data)

    def words(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:  # noqa: ANN401  (onnx has no types)
        """A model of the file's own nodes from text inputs to their blocks."""
        nodes, leaves = self.cut(outputs, frozenset(inputs))
        return self.model(
            nodes,
            [self.inputs[name] for name in inputs],
            [_value(name, onnx.TensorProto.FLOAT, ["N", None]) for name in outputs],
            [self.tensors[each] for each in sorted(leaves & self.tensors.keys())],
        )

    def dense(self, encoded: str, width: int) -> Any:  # noqa: ANN401
        """A model of the file's own nodes after `encoded`. Raises Unlike when they take anything else."""
        nodes, leaves = self.cut([PROBABILITY], frozenset((encoded,)))
        if not leaves <= {encoded, *self.tensors}:
            raise Unlike("the layers take more than the encoded columns")
        return self.model(
            nodes,
            [_value(encoded, onnx.TensorProto.FLOAT, ["N", width])],
            [_value(PROBABILITY, onnx.TensorProto.FLOAT, ["N", 1])],
            [self.tensors[each] for each in sorted(leaves - {encoded})],
        )

    def model(self, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], tensors: Any) -> Any:  # noqa: ANN401
        """A model in the file's versions of format and operators."""
        graph = onnx.helper.make_graph(nodes, "part", inputs, outputs, tensors)
        return onnx.helper.make_model(
            graph, ir_version=self.proto.ir_version, opset_imports=self.proto.opset_import
        )


def _text(graph: _Graph, name: str, blocks: Sequence[Block]) -> TextPart:
    """A text input's part. Raises Unlike when its columns do not lie together."""
    own = [each for each in blocks if each.source == name]
    if not own or any(a.end != b.first for a, b in pairwise(own)):
        raise Unlike("the columns of a text input do not lie together")
    return TextPart(
        name=name,
        blocks=tuple(each.name for each in own),
        at=slice(own[0].first, own[-1].end),
        vocabulary=tuple(dict.fromkeys(word for each in own for word in graph.vocabulary(each))),
    )


def _alike(chains: Sequence[_Chain]) -> list[list[_Chain]]:
    """Chains that have one shape, together."""
    groups: dict[tuple[Any, ...], list[_Chain]] = {}
    for chain in chains:
        groups.setdefault(chain.shape, []).append(chain)
    return list(groups.values())


def _stacked(graph: _Graph, groups: Sequence[Sequence[_Chain]], numbers: Sequence[str]) -> Any:  # noqa: ANN401
    """The model of all chains. Raises Unlike."""
    nodes: list[Any] = []
    tensors: list[Any] = []
    ends = []
    for number, group in enumerate(groups):
        found, constants, end = _stack(f"/group{number}", group, numbers)
        nodes += found
        tensors += constants
        ends.append(end)
    nodes.append(onnx.helper.make_node("Concat", ends, [STACKED], axis=0))
    inputs = [_value(NUMBERS, onnx.TensorProto.DOUBLE, [len(numbers), "N"])]
    outputs = [_value(STACKED, onnx.TensorProto.FLOAT, [sum(map(len, groups)), "N"])]
    return graph.model(nodes, inputs, outputs, tensors)


def _stack(prefix: str, chains: Sequence[_Chain], numbers: Sequence[str]) -> tuple[list[Any], list[Any], str]:
    """Nodes and constants of chains of one shape, and the name of what they make, a row for each chain."""
    make, first = onnx.helper.make_node, f"{prefix}/rows"
    rows = np.array([numbers.index(each.block.source) for each in chains], dtype=np.int64)
    tensors = [onnx.numpy_helper.from_array(rows, f"{prefix}/places")]
    nodes = [make("Gather", [NUMBERS, f"{prefix}/places"], [first], axis=0)]
    for place, values in enumerate(zip(*(each.constants for each in chains), strict=True)):
        column = np.array(values).reshape(-1, 1)
        if len({each.tobytes() for each in values}) == 1:  # one value for all rows costs the runtime less
            column = column[:1]
        tensors.append(onnx.numpy_helper.from_array(column, f"{prefix}/constant{place}"))

    def name(ref: Ref) -> str:
        kind, place = ref
        return {"input": first, "none": _ABSENT}.get(kind, f"{prefix}/{kind}{place}")

    steps = chains[0].steps
    for place, ((operator, _, refs), node) in enumerate(zip(steps, chains[0].block.nodes, strict=True)):
        output, taken = name(("step", place)), [name(ref) for ref in refs]
        if operator == "Clip":
            nodes += _clip(taken, output)
        else:
            nodes.append(make(operator, taken, [output]))
            nodes[-1].attribute.extend(node.attribute)
    return nodes, tensors, name(("step", len(steps) - 1))


def _clip(taken: Sequence[str], output: str) -> list[Any]:
    """Clip with bounds for each row. Raises Unlike unless it has both."""
    value, low, high = (*taken, _ABSENT, _ABSENT)[:3]
    if not low or not high:
        raise Unlike("a number is clipped on one side")
    raised = f"{output}/raised"
    return [
        onnx.helper.make_node("Max", [value, low], [raised]),
        onnx.helper.make_node("Min", [raised, high], [output]),
    ]


def _value(name: str, kind: int, shape: Sequence[Any]) -> Any:  # noqa: ANN401
    return onnx.helper.make_tensor_value_info(name, kind, shape)
