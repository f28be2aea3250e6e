"""What became of a subject under a pack: one verdict a rule, with the facts that it was judged by.

1. Only a rule that came to `true` passes. One that is false fails; one that could not be decided is an error, and does not pass either.
2. A judgement is blocked by any blocking rule that does not pass.
3. What does not pass names who must act, and how, as the pack's rule does.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from protos.contract import Contract
from protos.documents import Document, FieldError, Part
from protos.log_run_events import Facts
from protos.membership import Role
from protos.names import Name, Sha256
from protos.plan import Plan
from protos.policy_pack import MOST_RULES, Kind, PolicyPack, PolicyRule, Sentence
from strategies.encoding import digest_of
from strategies.errors import Refused, UsageError

Outcome = Literal["passes", "fails", "error"]
LONGEST_WHY = 300


class PlanSubject(Part):
    """A plan under a contract."""

    of: Literal["plan"] = "plan"
    name: Name
    plan: Sha256
    contract: Sha256

    @classmethod
    def of_plan(cls, plan: Plan, contract: Contract) -> Self:
        """As verdicts name it."""
        return cls(name=plan.name, plan=plan.digest, contract=contract.digest)

    @property
    def key(self) -> str:
        """By which its verdicts are found."""
        return f"{self.plan}/{self.contract}"

    @property
    def words(self) -> str:
        """For people."""
        return f"plan {self.name} {self.plan[:12]}"


class ModelSubject(Part):
    """A registered version of a model."""

    of: Literal["model"] = "model"
    name: Name
    version: Annotated[int, Field(ge=1, le=10**9)]

    @property
    def key(self) -> str:
        """By which its verdicts are found."""
        return f"{self.name}@{self.version}"

    @property
    def words(self) -> str:
        """For people."""
        return f"model {self.key}"


Subject = Annotated[PlanSubject | ModelSubject, Field(discriminator="of")]


class Verdict(Part):
    """What one rule came to; `why` is what stood in the way of deciding it. `acts` and `remedy` are there where it does not pass."""

    rule: Name
    outcome: Outcome
    why: Annotated[str, Field(min_length=1, max_length=LONGEST_WHY)] | None = None
    acts: Role | None = None
    remedy: Sentence | None = None

    @classmethod
    def of(cls, rule: PolicyRule, outcome: Outcome, why: str | None = None) -> Self:
        """The verdict on `rule`."""
        if outcome == "passes":
            return cls(rule=rule.id, outcome=outcome)
        return cls(rule=rule.id, outcome=outcome, why=why, acts=rule.acts, remedy=rule.remedy)

    @property
    def passes(self) -> bool:
        """Whether the rule passes."""
        return self.outcome == "passes"


class Judgement(Document):
    """A subject judged by the pack with digest `pack`, by the `facts` with digest `inputs`; verdicts in the order of the pack's rules."""

    covenant: Literal["judgement/v1"] = "judgement/v1"
    pack: Sha256
    subject: Subject
    facts: Facts
    inputs: Sha256
    verdicts: Annotated[tuple[Verdict, ...], Field(max_length=MOST_RULES)]

    @model_validator(mode="after")
    def _inputs_are_the_facts(self) -> Self:
        try:
            found = digest_of(self.facts)
        except UsageError as error:
            raise FieldError("facts", str(error)) from error
        if found != self.inputs:
            raise FieldError("inputs", f"it is of other facts; these have {found}")
        return self

    def outcomes(self) -> dict[str, Outcome]:
        """What each rule came to."""
        return {each.rule: each.outcome for each in self.verdicts}

    def blocked_by(self, pack: PolicyPack) -> tuple[Verdict, ...]:
        """The blocking rules of `pack`, which it was judged by, that do not pass."""
        blocking = {each.id for each in pack.rules if each.severity == "blocking"}
        return tuple(each for each in self.verdicts if each.rule in blocking and not each.passes)

    def require_by(self, pack: PolicyPack) -> None:
        """Check that there is one verdict for each rule of `pack` that applies, as the rule has it. Raises Refused."""
        kind: Kind = self.subject.of
        rules = pack.rules_for(kind)
        if tuple(each.rule for each in self.verdicts) != tuple(each.id for each in rules):
            raise Refused(
                f"{self.subject.words} is not judged by the rules of {pack.ref} for a {kind}, each once and in order"
            )
        for rule, found in zip(rules, self.verdicts, strict=True):
            if found != Verdict.of(rule, found.outcome, found.why):
                raise Refused(
                    f"{self.subject.words}: the verdict on {rule.id} does not say who must act, and how, as {pack.ref} does"
                )


class Difference(Part):
    """A rule that came to something else than in the judgement before; None where one of the two has no such rule."""

    rule: Name
    before: Outcome | None = None
    now: Outcome | None = None

    @property
    def words(self) -> str:
        """`epsilon-bounded: passes, now fails`."""
        return f"{self.rule}: {self.before or 'not judged'}, now {self.now or 'no rule'}"


def differences(before: Judgement | None, now: Judgement) -> tuple[Difference, ...]:
    """What changed since the judgement `before`; nothing where there is none."""
    if before is None:
        return ()
    old, new = before.outcomes(), now.outcomes()
    return tuple(
        Difference(rule=rule, before=old.get(rule), now=new.get(rule))
        for rule in sorted({*old, *new})
        if old.get(rule) != new.get(rule)
    )
