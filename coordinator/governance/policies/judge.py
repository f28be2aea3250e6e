"""Facts judged by a pack's rules: a pure function, used by checks, launches, re-judgements and simulations alike.

Facts without one of those that came later (`policy_facts.LATER`) are judged as whoever recorded them did: a rule that names it is no expression, and an error.
So nothing is won by leaving such a fact out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from coordinator.governance.policies.expressions import Expression, cel_facts, compile_expression
from coordinator.governance.policies.language import MOST_PACK_STEPS, MOST_STEPS, Defect
from protos.policy_facts import unknown_to
from protos.policy_pack import PolicyPack, PolicyRule
from protos.policy_verdicts import LONGEST_WHY, Judgement, Subject, Verdict
from strategies.encoding import digest_of
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_MOST_PACKS: Final = 64
_MOST_DEFECTS: Final = 10


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule and its expression, or why it has none."""

    rule: PolicyRule
    expression: Expression | Defect

    def verdict(self, facts: Mapping[str, Any], budget: _Budget) -> Verdict:
        """What it comes to by `facts`, as CEL takes them, for what is left of `budget`."""
        if isinstance(self.expression, Defect):
            return Verdict.of(self.rule, "error", self.expression.words[:LONGEST_WHY])
        if why := budget.refusal(self.expression.shape.steps(facts)):
            return Verdict.of(self.rule, "error", why)
        answer = self.expression.answer(facts)
        if answer is True:
            return Verdict.of(self.rule, "passes")
        return Verdict.of(self.rule, "fails") if answer is False else Verdict.of(self.rule, "error", answer)


@dataclass(slots=True)
class _Budget:
    """What the rules of a pack may take over one subject, spent in their order: the same rules come to the same on every machine."""

    left: int = MOST_PACK_STEPS

    def refusal(self, steps: int) -> str:
        """Why a rule that takes `steps` is not evaluated; nothing where it is, and they are spent."""
        if steps > MOST_STEPS:
            return f"it may take more than {MOST_STEPS} steps over these facts; use fewer comprehensions in one rule"
        if steps > self.left:
            return (
                f"it may take {steps} steps over these facts, and {self.left} are left of the {MOST_PACK_STEPS} that all rules of a pack may take; use"
                " fewer comprehensions, or put rules into a pack of another name"
            )
        self.left -= steps
        return ""


@dataclass(frozen=True, slots=True)
class CompiledPack:
    """A pack that can judge."""

    pack: PolicyPack
    digest: Digest
    rules: tuple[CompiledRule, ...]

    def require_sound(self) -> None:
        """Check that every rule is an expression. Raises UsageError with rule, line and column of those that are none."""
        defects = [
            f"pack {self.pack.ref}, rule {each.rule.id}: `expression` {each.expression.words}"
            for each in self.rules
            if isinstance(each.expression, Defect)
        ]
        if len(defects) > _MOST_DEFECTS:
            defects[_MOST_DEFECTS:] = [
                f"pack {self.pack.ref}: and {len(defects) - _MOST_DEFECTS} more rules that are no expressions"
            ]
        if defects:
            raise UsageError("\n".join(defects))

    def judge(self, subject: Subject, facts: Mapping[str, Any]) -> Judgement:
        """What its rules for such a subject say by `facts`. Where those are too many, every rule is an error, and says so."""
        unknown = unknown_to(facts)
        known = compiled(self.pack, unknown) if unknown else self
        rules = [each for each in known.rules if each.rule.applies_to == subject.of]
        try:
            given = cel_facts(facts, subject.of)
            budget = _Budget()
            verdicts = [each.verdict(given, budget) for each in rules]
        except UsageError as error:
            verdicts = [Verdict.of(each.rule, "error", str(error)[:LONGEST_WHY]) for each in rules]
        return Judgement(
            pack=self.digest,
            subject=subject,
            facts=dict(facts),
            inputs=digest_of(dict(facts)),
            verdicts=tuple(verdicts),
        )


@lru_cache(maxsize=_MOST_PACKS)
def compiled(pack: PolicyPack, unknown: frozenset[str] = frozenset()) -> CompiledPack:
    """`pack`, its rules compiled; one that is no expression any more, or none without the `unknown` facts, is an error in every judgement."""
    return CompiledPack(
        pack,
        pack.digest,
        tuple(
            CompiledRule(each, compile_expression(each.expression, each.applies_to, unknown))
            for each in pack.rules
        ),
    )


def require_unblocked(pack: PolicyPack, found: Judgement) -> None:
    """Check that no blocking rule stands in the way. Raises Refused with rules, who must act, and how."""
    if blocked := found.blocked_by(pack):
        raise Refused(
            f"{found.subject.words} is blocked by policy pack {pack.ref}: "
            + "; ".join(f"{each.rule} ({words(each)})" for each in blocked)
        )


def words(verdict: Verdict) -> str:
    """What became of a rule, and what to do about it."""
    if verdict.passes:
        return "passes"
    became = "fails" if verdict.outcome == "fails" else f"is not decided: {verdict.why}"
    return f"{became}; {verdict.acts}: {verdict.remedy}"
