"""Expressions of policy rules, compiled with checked types and evaluated without side effects (CEL).

1. An expression that does not compile, or whose type is not bool, has a defect with line and column, and is never evaluated.
2. Evaluation answers `True`, `False`, or why there is no answer: CEL's runtime errors come back as values of type ERROR, and none of them is an answer.
3. Everything is bounded: the expression (`policy_pack`), its nesting (32, by the parser), the facts, what it may use, and so the steps that it takes
   over the facts that it is given (`language`). One that would take more is not evaluated (`judge`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cel_expr_python import cel

from coordinator.governance.policies.language import CONFIGURATION, Defect, Shape, shape_of
from protos.policy_facts import FactType, facts_for
from protos.policy_pack import MOST_EXPRESSION, Kind
from protos.policy_verdicts import LONGEST_WHY
from strategies.encoding import canonical_json
from strategies.errors import UsageError

MOST_FACTS_BYTES: Final = 256 * 1024
_AT: Final = re.compile(r"<input>:(-?\d+):(-?\d+): ([^\n]*)")
_STATUS: Final = re.compile(r"^[A-Z_]+: ")
_TYPES: Final = {
    FactType.BOOL: cel.Type.BOOL,
    FactType.INT: cel.Type.INT,
    FactType.DOUBLE: cel.Type.DOUBLE,
    FactType.STRING: cel.Type.STRING,
    FactType.STRINGS: cel.Type.List(cel.Type.STRING),
    FactType.NUMBERS: cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; `compile_expression` is its only maker."""

    kind: Kind
    shape: Shape
    _program: Any

    def answer(self, facts: Mapping[str, Any]) -> bool | str:
        """True, False, or in words why neither. `facts` are those that `cel_facts` made; whoever asks has looked at the steps that it takes."""
        try:
            found = self._program.eval(data=dict(facts))
        except RuntimeError as error:  # the evaluator's own bounds
            return _plain(str(error))
        value = found.value()
        if found.type() == cel.Type.BOOL and isinstance(value, bool):
            return value
        return (
            _plain(str(value))
            if found.type() == cel.Type.ERROR
            else f"it is no bool, but {found.type().name()}"
        )


def compile_expression(text: str, kind: Kind, unknown: frozenset[str] = frozenset()) -> Expression | Defect:
    """The expression `text` of a rule about a plan or a model, or what is wrong with it: also where it names a fact that is `unknown`."""
    if len(text) > MOST_EXPRESSION:
        return Defect(0, 0, f"it has {len(text)} characters; at most {MOST_EXPRESSION} are accepted")
    shape = shape_of(text)
    if isinstance(shape, Defect):
        return shape
    try:
        program = _environment(kind, unknown).compile(text)
    except RuntimeError as error:
        return _defect(str(error))
    if (found := program.return_type()) != cel.Type.BOOL:
        return Defect(1, 1, f"it is of type {found.name()}; a rule is a bool")
    return Expression(kind, shape, program)


def cel_facts(facts: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Facts as CEL takes them, each of its own type, also where JSON made an integer of a float. Raises UsageError for more than is bounded, and
    for another type."""
    size = len(canonical_json(dict(facts)))
    if size > MOST_FACTS_BYTES:
        raise UsageError(f"the facts have {size} bytes; rules are given at most {MOST_FACTS_BYTES}")
    types = {each.name: each.type for each in facts_for(kind)}
    return {name: _typed(name, value, types[name]) for name, value in facts.items() if name in types}


def _typed(name: str, value: Any, kind: FactType) -> Any:  # noqa: ANN401  (a value that JSON has)
    """Raises UsageError for one of another type: an entry of the log has what somebody wrote there."""
    match kind, value:
        case (FactType.BOOL, bool()) | (FactType.STRING, str()):
            return value
        case (FactType.INT, int()) if not isinstance(value, bool):
            return value
        case (FactType.DOUBLE, int() | float()) if not isinstance(value, bool):
            return float(value)
        case (FactType.STRINGS, list()) if all(isinstance(each, str) for each in value):
            return value
        case (FactType.NUMBERS, dict()):
            return {key: _typed(name, number, FactType.DOUBLE) for key, number in value.items()}
        case _:
            raise UsageError(f"the fact {name} is no {kind}, but {type(value).__name__}")


@cache
def _environment(kind: Kind, unknown: frozenset[str]) -> Any:  # noqa: ANN401  (the library has no types)
    variables = {each.name: _TYPES[each.type] for each in facts_for(kind, unknown)}
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(CONFIGURATION), variables=variables)


def _defect(message: str) -> Defect:
    found = _AT.search(message)
    if found is None:
        return Defect(0, 0, _plain(message))
    return Defect(max(0, int(found[1])), max(0, int(found[2])), found[3].removesuffix(" (in container '')"))


def _plain(message: str) -> str:
    """The library's first line, without its status."""
    line = _STATUS.sub("", message.strip().partition("\n")[0])
    return (line or "it could not be evaluated")[:LONGEST_WHY]
