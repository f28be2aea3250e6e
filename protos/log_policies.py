"""Policy packs as the transparency log tells them: published, in effect, and what was judged by them.

1. A pack is published with the signatures of its officers, judged by the member list in force, and follows the version before.
2. A judgement has its facts. Those that follow from documents in the log are made again by whoever reads it. That the expressions come to these
   outcomes is checked where CEL is installed (`covenant policy recheck`): whoever only verifies needs no evaluator of what others wrote.
3. A pack takes effect once, no sooner than it says, after every model that is registered was judged by it, with as many plans, models and blocked ones
   as it has judged. Only what it blocks is quarantined in its name.
4. A version is judged for the stage that it has or is to enter, by what the log has of it. It is validated by a verdict that says what each pack in
   effect does; approved, and sent to a target, once each pack in effect has judged it for that by what the log has of it then, and blocks nothing.
5. A run is launched after its plan was judged by every pack that is in effect then, by the facts that it is launched with, and blocked by none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import Field

from protos.documents import Part
from protos.gates import PolicyFinding
from protos.log_registry import OUT, VersionStory
from protos.log_registry_events import ModelMoved
from protos.membership import Trusted
from protos.model_stages import MOVES, Stage
from protos.names import Sha256
from protos.policy_facts import PolicyFacts, require_same, stage_facts
from protos.policy_pack import PolicyPack, SignedPack, require_succeeds
from protos.policy_verdicts import Difference, Judgement, ModelSubject, PlanSubject, Subject, differences
from strategies.errors import Refused
from strategies.ids import Digest

ACTING: Final = "a policy pack"
"""How the log calls whoever quarantines what a pack blocks; no officer's name has spaces."""
_MOST_DIFFERENCES = 200
_APPROVALS = "approvals."
"""Facts that change until a plan is launched, and are compared then."""

Count = Annotated[int, Field(ge=0, le=10**9)]


class PolicyPublished(Part):
    """A version of a policy pack, with the statements of the officers who signed it."""

    kind: Literal["policy"] = "policy"
    signed: SignedPack


class PolicyJudged(Part):
    """What was judged, and how that differs from the judgement before by a pack of the same name."""

    kind: Literal["judged"] = "judged"
    judgement: Judgement
    differs: Annotated[tuple[Difference, ...], Field(max_length=_MOST_DIFFERENCES)] = ()


class PolicyInForce(Part):
    """A pack is in effect: all plans that are not launched and all models were judged by it, so many, of which so many are blocked."""

    kind: Literal["policy-in-force"] = "policy-in-force"
    pack: Sha256
    plans: Count
    models: Count
    blocked: Count


PolicyEvent = PolicyPublished | PolicyJudged | PolicyInForce


class Recalled(Protocol):
    """What the log has of plans and models before an entry (`policy_recall`)."""

    @property
    def versions(self) -> Mapping[tuple[str, int], VersionStory]:
        """All registered models."""

    def facts(self, subject: Subject) -> PolicyFacts | None:
        """The facts of a subject that follow from documents in the log; None where it has them not."""

    def launched(self, subject: PlanSubject) -> bool:
        """Whether a run of the plan was launched."""


def in_effect(packs: Collection[PolicyPack], at: datetime) -> tuple[PolicyPack, ...]:
    """Of the published `packs` those that are in effect at a moment, by name: the newest version of each whose time has come."""
    due = sorted((each for each in packs if each.effective_from <= at), key=lambda each: each.version)
    newest = {each.name: each for each in due}
    return tuple(newest[name] for name in sorted(newest))


@dataclass
class PolicyStory:
    """What the log tells of packs: `published` by digest, those `in_force`, and the last judgement by pack and subject."""

    published: dict[Digest, PolicyPack] = field(default_factory=dict)
    in_force: set[Digest] = field(default_factory=set)
    judged: dict[tuple[Digest, str], Judgement] = field(default_factory=dict)
    told: list[Judgement] = field(default_factory=list)
    """All judgements, in order."""
    _last: dict[tuple[str, str], Judgement] = field(default_factory=dict)
    """By the pack's name and the subject."""

    def take(self, what: PolicyEvent, trusted: Trusted | None, recalled: Recalled, at: datetime) -> None:
        """Take an entry, by the member list in force and what the log has before it. Raises Refused."""
        match what:
            case PolicyPublished():
                self._publish(what, trusted, at)
            case PolicyJudged():
                self._judge(what, recalled, at)
            case PolicyInForce():
                self._take_effect(what, recalled, at)

    def _publish(self, what: PolicyPublished, trusted: Trusted | None, at: datetime) -> None:
        if trusted is None:
            raise Refused("a policy pack is published before any member list says who may sign it")
        pack = what.signed.require(trusted, at).pack
        named = [each for each in self.published.values() if each.name == pack.name]
        require_succeeds(pack, max(named, key=lambda each: each.version, default=None))
        self.published[pack.digest] = pack

    def _judge(self, what: PolicyJudged, recalled: Recalled, at: datetime) -> None:
        said = what.judgement
        pack = self._effective(said.pack, at)
        said.require_by(pack)
        made = recalled.facts(said.subject)
        if made is not None and isinstance(said.subject, ModelSubject):
            made = made | _stage(said, recalled.versions[said.subject.name, said.subject.version])
        if made is not None:
            _require_own(said, made)
        place = pack.name, said.subject.key
        if what.differs != differences(self._last.get(place), said):
            raise Refused(
                f"{said.subject.words}: what differs is not what {pack.ref} and the judgement before say"
            )
        self.told.append(said)
        self._last[place] = self.judged[pack.digest, said.subject.key] = said

    def _take_effect(self, what: PolicyInForce, recalled: Recalled, at: datetime) -> None:
        """Each model was judged by the pack, and what it blocks serves no more."""
        pack = self._effective(what.pack, at)
        if pack.digest in self.in_force:
            raise Refused(f"{pack.ref} takes effect twice")
        self._require_models(pack, recalled.versions)
        self._require_counts(what, pack, recalled)
        self.in_force.add(pack.digest)

    def _require_models(self, pack: PolicyPack, models: Mapping[tuple[str, int], VersionStory]) -> None:
        for (name, version), story in models.items():
            ref = f"{name}@{version}"
            found = self._last.get((pack.name, ref))
            if found is None or found.pack != pack.digest:
                raise Refused(f"{pack.ref} takes effect, and model {ref} was not judged by it")
            if found.blocked_by(pack):
                if story.stage not in OUT:
                    raise Refused(
                        f"{pack.ref} takes effect and blocks model {ref}, which is still {story.stage}"
                    )
            elif found.facts["model.stage"] != story.stage:
                raise Refused(
                    f"{pack.ref} takes effect, and model {ref} was judged by it as {found.facts['model.stage']}, and is {story.stage}"
                )

    def _require_counts(self, what: PolicyInForce, pack: PolicyPack, recalled: Recalled) -> None:
        """What waits is what the pack has judged and nobody has launched; plans whose proposal the log does not have count as well."""
        found = [
            each
            for (name, _), each in self._last.items()
            if (name, each.pack) == (pack.name, pack.digest)
            and not (isinstance(each.subject, PlanSubject) and recalled.launched(each.subject))
        ]
        plans, models = (sum(each.subject.of == kind for each in found) for kind in ("plan", "model"))
        blocked = sum(bool(each.blocked_by(pack)) for each in found)
        if (what.plans, what.models, what.blocked) != (plans, models, blocked):
            raise Refused(
                f"{pack.ref} takes effect with {what.plans} plans and {what.models} models judged, {what.blocked} blocked; before it are {plans},"
                f" {models} and {blocked}"
            )

    def require_recalled(self, subject: PlanSubject, recalled: Recalled) -> None:
        """Check what was judged of a plan before its documents were in the log, which has them now. Raises Refused."""
        made = recalled.facts(subject) or {}
        for said in self.told:
            if said.subject.key == subject.key:
                _require_own(said, made)

    def require_blocked(self, what: ModelMoved) -> None:
        """Check that a version that a pack is said to quarantine was judged just so, and is blocked. Raises Refused."""
        ref = f"{what.name}@{what.version}"
        said = next((each for each in reversed(self.told) if each.digest == what.on), None)
        if (
            what.to is not Stage.QUARANTINED
            or said is None
            or said.subject.key != ref
            or not said.blocked_by(self.published[said.pack])
        ):
            raise Refused(
                f"{ref} is moved to {what.to} by a policy pack, and no judgement of it before asks for that"
            )

    def require_entered(self, subject: ModelSubject, stage: Stage, recalled: Recalled, at: datetime) -> None:
        """Check that a version that enters `stage` was judged for it by each pack in effect, by what the log has of it now, and is blocked by none.
        Raises Refused."""
        for pack, found in self._of_model(subject, stage, recalled, at):
            if blocked := found.blocked_by(pack):
                raise Refused(
                    f"{found.subject.words} becomes {stage}, and {pack.ref} blocks it by {', '.join(each.rule for each in blocked)}"
                )

    def require_told(
        self, subject: ModelSubject, said: Collection[PolicyFinding], recalled: Recalled, at: datetime
    ) -> None:
        """Check that a verdict of the gate has what each blocking rule of the packs in effect says of a version, and of no other
        that it holds. Raises Refused."""
        told = {each.rule: each.holds for each in said}
        for pack, found in self._of_model(subject, Stage.VALIDATED, recalled, at):
            outcomes = found.outcomes()
            for rule in pack.rules_for("model"):
                named = f"{pack.ref}/{rule.id}"
                if rule.severity == "blocking" and told.pop(named, None) is not (
                    outcomes[rule.id] == "passes"
                ):
                    raise Refused(
                        f"the gate's verdict on {found.subject.words} does not say of {named} what the pack does: it {outcomes[rule.id]}"
                    )
        if told := {rule: holds for rule, holds in told.items() if holds}:
            raise Refused(
                f"the gate's verdict on {subject.key} tells of {min(told)}, which is no blocking rule of a pack in effect"
            )

    def _of_model(
        self, subject: ModelSubject, stage: Stage, recalled: Recalled, at: datetime
    ) -> Iterator[tuple[PolicyPack, Judgement]]:
        """What each pack in effect said last of a version for `stage`. Raises Refused where one said nothing, or by other facts than those of now."""
        for pack in in_effect(self.published.values(), at):
            found = self._last.get((pack.name, subject.key))
            if found is None or found.pack != pack.digest or found.facts["model.stage"] != stage:
                raise Refused(f"{subject.words} was not judged for {stage} by {pack.ref}, which is in effect")
            require_same(found.facts, (recalled.facts(subject) or {}) | stage_facts(stage), subject.words)
            yield pack, found

    def require_passed(self, subject: Subject, made: PolicyFacts, at: datetime) -> None:
        """Check that a plan that is launched was judged by each pack in effect, by its own facts, and is blocked by none. Raises Refused."""
        for pack in in_effect(self.published.values(), at):
            found = self.judged.get((pack.digest, subject.key))
            if found is None:
                raise Refused(
                    f"{subject.words} is launched, and was not judged by {pack.ref}, which is in effect"
                )
            _require_facts(found, made)
            if blocked := found.blocked_by(pack):
                raise Refused(
                    f"{subject.words} is launched, and {pack.ref} blocks it by {', '.join(each.rule for each in blocked)}"
                )

    def _effective(self, digest: Digest, at: datetime) -> PolicyPack:
        pack = self.published.get(digest)
        if pack is None:
            raise Refused(f"pack {digest} was not published before")
        if pack not in in_effect(self.published.values(), at):
            raise Refused(f"pack {pack.ref} is not in effect at {at:%Y-%m-%d %H:%M:%S} UTC")
        return pack


def _stage(said: Judgement, story: VersionStory) -> PolicyFacts:
    """The facts of the stage that a version was judged for: the one that it has, or one that it may enter. Raises Refused."""
    for stage in (story.stage, *MOVES[story.stage]):
        if said.facts.get("model.stage") == stage:
            return stage_facts(stage)
    raise Refused(
        f"{said.subject.words} is judged as {said.facts.get('model.stage')}, is {story.stage}, and cannot become that"
    )


def _require_own(said: Judgement, made: PolicyFacts) -> None:
    """The facts of a judgement, without those that its subject may still get."""
    if isinstance(said.subject, PlanSubject) and said.subject.name != made["plan.name"]:
        raise Refused(f"{said.subject.words} is judged by that name, and is called {made['plan.name']}")
    _require_facts(said, {name: fact for name, fact in made.items() if _is_fixed(said, name)})


def _is_fixed(said: Judgement, name: str) -> bool:
    return said.subject.of == "model" or not name.startswith(_APPROVALS)


def _require_facts(said: Judgement, made: PolicyFacts) -> None:
    """Facts about approvals that were not made again are left to the launch."""
    told: Mapping[str, Any] = {
        name: fact
        for name, fact in said.facts.items()
        if name in made or not (said.subject.of == "plan" and name.startswith(_APPROVALS))
    }
    require_same(told, made, said.subject.words)
