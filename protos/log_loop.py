"""Retraining as the transparency log tells it: plans that were drafted, what people made of them, and launches that a policy pack allowed.

1. A draft is of a registered version, and of an alarm of its model where one made it. A model has at most one draft that is open.
2. The text of a draft is a whole plan of that name. Nobody has signed it: what is launched of it is proposed and approved as any other plan.
3. A person adopts a draft or dismisses it, once. What was adopted and led to no run of its model within `ADOPTED_FOR` expires: figures that it rests on are old by then.
4. The coordinator launches only what was adopted, unchanged, and what a pack in effect allows by the model's name; the launch itself is the next entry
   of that run, and is judged as every launch is. It takes an approval of each of `LAUNCH_ROLES`, also where the plan asks for fewer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import FieldError, Part, read_document
from protos.log_monitor import AlarmId
from protos.log_registry_events import By, Why
from protos.log_run_events import Facts
from protos.membership import Role
from protos.model_release import Number
from protos.names import Name, Run, Sha256, matching
from protos.plan import Plan
from protos.policy_pack import PolicyPack
from strategies.errors import Refused
from strategies.ids import Digest, RunId

DraftId = Annotated[str, matching(r"draft-[0-9a-f]{16}", "an id such as draft-0123456789abcdef")]
MOST_SENTENCES = 200
ADOPTED_FOR: Final = timedelta(days=30)
"""How long an adopted draft waits for a run of its model: as long as approvals of plans last where a plan says nothing else."""
LAUNCH_ROLES = (Role.PRIVACY_OFFICER, Role.MODEL_RISK)
"""Whose approvals a launch without a person takes, whatever the plan itself asks for."""
Sentence = Annotated[str, Field(min_length=1, max_length=1000)]


class RetrainingDrafted(Part):
    """A plan that was drafted for a model, with why it is as it is; or, without `text`, that none could be drafted, and why.

    `plan` is the digest of the text as a plan, `contract` that of its contract. `author` signed the plan before, and is asked.
    """

    kind: Literal["retraining-drafted"] = "retraining-drafted"
    draft: DraftId
    model: Name
    version: Number
    alarm: AlarmId | None = None
    author: Name | None = None
    text: Annotated[str, Field(min_length=1, max_length=400_000)] | None = None
    plan: Sha256 | None = None
    contract: Sha256 | None = None
    says: Annotated[tuple[Sentence, ...], Field(min_length=1, max_length=MOST_SENTENCES)]
    gain: Facts
    by: By

    @model_validator(mode="after")
    def _has_a_plan_or_none(self) -> Self:
        if len({each is None for each in (self.text, self.plan, self.contract)}) > 1:
            raise FieldError("text", "a draft has text and both digests, or none of them")
        return self


class RetrainingDecided(Part):
    """What became of a draft; it expires after it was adopted."""

    kind: Literal["retraining-decided"] = "retraining-decided"
    draft: DraftId
    model: Name
    decision: Literal["adopted", "dismissed", "expired"]
    why: Why
    by: By


class RetrainingLaunched(Part):
    """The coordinator launches what was adopted and approved, because `pack` allows it for this model."""

    kind: Literal["retraining-launched"] = "retraining-launched"
    draft: DraftId
    model: Name
    run: Run
    plan: Sha256
    contract: Sha256
    pack: Sha256


LoopEvent = RetrainingDrafted | RetrainingDecided | RetrainingLaunched


def allowing(packs: Iterable[PolicyPack], model: str) -> PolicyPack | None:
    """The first pack, of those in effect, that allows a launch without a person for `model`; None, as long as officers publish no such pack."""
    return next((each for each in packs if model in (each.launches_retraining_of or ())), None)


def is_over(adopted: datetime, now: datetime) -> bool:
    """Whether a draft that was adopted then is adopted no more."""
    return now - adopted >= ADOPTED_FOR


@dataclass(slots=True)
class LoopStory:
    """Judges entries about retraining, in order."""

    drafts: dict[str, RetrainingDrafted] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """By draft: open, adopted, dismissed, expired or launched."""
    open: dict[str, str] = field(default_factory=dict)
    """The open draft by model."""
    adopted: dict[str, datetime] = field(default_factory=dict)
    """When each draft was adopted."""
    followed: set[str] = field(default_factory=set)
    """Adopted drafts after which a run of their model was launched, by whomever."""
    launching: dict[RunId, RetrainingLaunched] = field(default_factory=dict)
    """Launches that were announced and have not come."""

    def take(
        self,
        what: LoopEvent,
        registered: Collection[tuple[str, int]],
        alarms: Mapping[str, str],
        packs: Iterable[PolicyPack],
        at: datetime,
    ) -> None:
        """Judge one of moment `at`; `registered` are models by name and version, `alarms` all that there were to their model, `packs` those in effect.

        Raises Refused.
        """
        match what:
            case RetrainingDrafted():
                self._draft(what, registered, alarms)
            case RetrainingDecided():
                self._decide(what, at)
            case RetrainingLaunched():
                self._launch(what, packs, at)

    def launched(
        self, run: RunId, model: str, plan: Digest, contract: Digest, approved_as: Collection[str]
    ) -> None:
        """Take a launch of `model`; one that was announced has to be as it was, with approvals in roles `approved_as`. Raises Refused."""
        self.followed |= {each for each in self.adopted if self.drafts[each].model == model}
        said = self.launching.pop(run, None)
        if said is None:
            return
        if missing := [role for role in LAUNCH_ROLES if role not in approved_as]:
            raise Refused(f"{run} is launched by the coordinator without the approval of {missing[0]}")
        if (said.plan, said.contract) != (plan, contract):
            raise Refused(f"{run} was to be launched for {said.draft} of another plan, and is of {plan[:12]}")

    def require_launched(self) -> None:
        """Check, at the end of the entries, that what was announced has come: both are one transaction. Raises Refused."""
        for run, said in self.launching.items():
            raise Refused(f"{run} is announced as launched for {said.draft}, and was not launched")

    def _draft(
        self,
        what: RetrainingDrafted,
        registered: Collection[tuple[str, int]],
        alarms: Mapping[str, str],
    ) -> None:
        if (what.model, what.version) not in registered:
            raise Refused(
                f"{what.model}@{what.version}, for which {what.draft} is drafted, is not registered"
            )
        if what.alarm is not None and alarms.get(what.alarm) != what.model:
            raise Refused(f"{what.alarm} is no alarm of {what.model}, and {what.draft} is drafted for it")
        if what.draft in self.drafts:
            raise Refused(f"{what.draft} is drafted twice")
        if what.model in self.open:
            raise Refused(f"{what.model} has an open draft already, {self.open[what.model]}")
        if what.text is not None:
            plan = read_document(what.text, Plan, f"the plan of {what.draft}")
            if (plan.name, plan.digest) != (what.model, what.plan):
                raise Refused(f"the text of {what.draft} is not the plan of {what.model} that it names")
        self.drafts[what.draft], self.states[what.draft] = what, "open"
        self.open[what.model] = what.draft

    def _decide(self, what: RetrainingDecided, at: datetime) -> None:
        if what.decision == "expired":
            self._expire(what, at)
            return
        if self.open.get(what.model) != what.draft:
            raise Refused(f"{what.draft} is not the open draft of {what.model}")
        if what.decision == "adopted" and self.drafts[what.draft].text is None:
            raise Refused(f"{what.draft} has no plan that could be adopted")
        self.states[what.draft] = what.decision
        del self.open[what.model]
        if what.decision == "adopted":
            self.adopted[what.draft] = at

    def _expire(self, what: RetrainingDecided, at: datetime) -> None:
        if self.states.get(what.draft) != "adopted" or self.drafts[what.draft].model != what.model:
            raise Refused(f"{what.draft} expires, and is no adopted draft of {what.model}")
        if what.draft in self.followed:
            raise Refused(f"{what.draft} expires, and {what.model} was trained again since it was adopted")
        if not is_over(self.adopted[what.draft], at):
            raise Refused(
                f"{what.draft} expires after {(at - self.adopted[what.draft]).days} days; it is adopted for {ADOPTED_FOR.days}"
            )
        self.states[what.draft] = "expired"

    def _launch(self, what: RetrainingLaunched, packs: Iterable[PolicyPack], at: datetime) -> None:
        known = self.drafts.get(what.draft)
        if known is None or self.states[what.draft] != "adopted":
            raise Refused(f"{what.run} is launched for {what.draft}, which nobody has adopted")
        if (known.model, known.plan, known.contract) != (what.model, what.plan, what.contract):
            raise Refused(f"{what.run} is launched for {what.draft}, and its plan is another")
        if is_over(self.adopted[what.draft], at):
            raise Refused(
                f"{what.run} is launched for {what.draft}, which was adopted more than {ADOPTED_FOR.days} days before"
            )
        pack = next((each for each in packs if each.digest == what.pack), None)
        if pack is None or allowing([pack], what.model) is None:
            raise Refused(
                f"{what.run} is launched by the coordinator, and no pack in effect allows that for {what.model}"
            )
        self.states[what.draft], self.launching[what.run] = "launched", what
