"""What the transparency log tells of one version: the judged story of the whole log, and every entry about the version with its place.

1. A log is judged entry by entry before anything is taken from it (`protos.log_audit`): what contradicts itself becomes no evidence.
2. The same code reads the log of a coordinator's database and an export, so both give the same documents.
3. Entries are kept as bytes until it is known which are about the version: a run comes before the model that it makes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from coordinator.registry.production import MOST_WINDOWS
from coordinator.registry.versions import SCORING_FILE
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.log_audit import Audit
from protos.log_deploy_events import Deployed, RecallConfirmed, RecallOrdered, RolloutMoved, TargetAdded
from protos.log_entries import CeilingSet, LogEntry, ModelRegistered, PlanRecorded, RunLaunched, What
from protos.log_evidence import ModelNoted
from protos.log_export import Export
from protos.log_gate import GateJudged
from protos.log_loop import RetrainingDecided, RetrainingDrafted, RetrainingLaunched
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded
from protos.log_policies import PolicyJudged
from protos.log_registry_events import ModelApproved, ModelMoved, ModelSigned
from protos.log_run_events import RunEvent
from protos.membership import Membership
from protos.plan import Plan
from protos.root import SignedRoot
from protos.windows import Window
from strategies.analytics.directions import FeatureDirection
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from strategies.transparency.merkle import leaf_hash

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Told:
    """An entry: its place in the log, its leaf in the tree (hex), and what it tells."""

    seq: int
    leaf: str
    at: datetime
    what: What


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A version as a judged log tells it. `told` are the entries about it, in order; `size` is how many entries were judged."""

    federation: str
    size: int
    root: str
    audit: Audit
    model: ModelRegistered
    plan: Plan
    contract: Contract
    evidence: PlanEvidence
    told: tuple[Told, ...]
    moved: tuple[FeatureDirection, ...] | None = None
    """Which way each feature moves scores, where whoever reads the log has the version's own file too (`with_file`)."""

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.model.name}@{self.model.version}"

    outcomes: tuple[Window, ...] = ()
    """Windows of outcomes of this version, the newest first, where whoever reads the log has them too (`with_windows`); they are not in the log."""

    def is_rollout(self, target: str, rollout: str) -> bool:
        """Whether a rollout is of this version."""
        return rollout in _rollouts(self.audit, self.model).get(target, ())

    def with_file(self, onnx: bytes) -> Story:
        """With what the scoring model says of itself. Raises Refused for a file that is not the one whose digest the log has."""
        from coordinator.deploy.scoring.directions import directions_of

        told, found = self.model.artifacts.get(SCORING_FILE), sha256_hex(onnx)
        if told != found:
            raise Refused(
                f"the file's digest is {found}, and the log says {told or 'of no such file'} of {SCORING_FILE} of {self.ref}; take the one that"
                " `covenant model export` writes"
            )
        return replace(self, moved=directions_of(onnx, self.contract, self.ref))

    def with_windows(self, windows: Iterable[Window]) -> Story:
        """With windows of outcomes that places have told, those alone that are of this version and of the monitor that the log tells last."""
        monitor = next((what.monitor for _, what in reversed(list(self.of(MonitorAdded)))), None)
        mine = [
            each
            for each in windows
            if each.outcomes is not None
            and monitor is not None
            and (each.version_digest, each.monitor) == (self.model.digest, monitor.digest)
        ]
        mine.sort(key=lambda each: (each.ends, each.place, each.sequence), reverse=True)
        return replace(self, outcomes=tuple(mine[:MOST_WINDOWS]))

    def of(self, *kinds: type[E]) -> Iterator[tuple[Told, E]]:
        """The entries of some kinds, in order."""
        return ((each, each.what) for each in self.told if isinstance(each.what, kinds))

    def places(self, *kinds: type[object]) -> tuple[int, ...]:
        """Where the entries of some kinds are."""
        return tuple(each.seq for each, _ in self.of(*kinds))


@dataclass
class Reading:
    """A log that is being read: `take` its entries in order, then ask for the `story` of a version."""

    audit: Audit
    _bodies: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        """Judge the next entry. Raises AuditRefused."""
        self.audit.take(len(self._bodies), body)
        self._bodies.append(body)

    def passing(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """The same entries, which somebody else judges."""
        for each in entries:
            self._bodies.append(each)
            yield each

    def story(self, name: str, version: int | None = None) -> Story:
        """The version `version` of the model `name`, the latest without. Raises UsageError where the log has none."""
        models = [each for each in self.audit.models if each.name == name and version in {None, each.version}]
        if not models:
            raise UsageError(f"the log tells of no model {name}{'' if version is None else f'@{version}'}")
        model = models[-1]
        run = self.audit.runs[model.run]
        told = tuple(self._about(model, run.plan.digest, run.contract))
        plans = [each.what for each in told if isinstance(each.what, PlanRecorded)]
        launched = next(each.what for each in told if isinstance(each.what, RunLaunched))
        said = (each.evidence for each in plans if each.evidence is not None)
        evidence = next((each for each in said if each.digest == launched.evidence), None)
        tree = self.audit.witnesses.tree
        return Story(
            federation=self.audit.pinned.root.federation,
            size=tree.size,
            root=tree.root.hex(),
            audit=self.audit,
            model=model,
            plan=run.plan,
            contract=plans[-1].contract.read_as(Contract),
            evidence=PlanEvidence() if evidence is None else evidence.read_as(PlanEvidence),
            told=told,
        )

    def _about(self, model: ModelRegistered, plan: Digest, contract: Digest) -> Iterator[Told]:
        rollouts = _rollouts(self.audit, model)
        likely = list(self._likely(model, plan, rollouts))
        came = _came_of(likely, model)
        for each in likely:
            what = each.what
            if (
                _is_about(what, model, plan, contract)
                or _is_deployed(what, model, rollouts)
                or _is_watched(what, model, came)
            ):
                yield each

    def _likely(
        self, model: ModelRegistered, plan: Digest, rollouts: Mapping[str, Collection[str]]
    ) -> Iterator[Told]:
        """Entries that may be about a version, by words that such entries have; parsing all of a long log takes minutes."""
        named = (f'"{key}":"{model.name}"' for key in ("name", "model"))
        started = (each for found in rollouts.values() for each in found)
        words = (model.run, plan, model.digest, *named, *started, '"kind":"ceiling"', '"kind":"target-added"')
        needles = [each.encode() for each in words]
        for seq, body in enumerate(self._bodies):
            if any(each in body for each in needles):
                entry = LogEntry.from_canonical(body)
                yield Told(seq, leaf_hash(body).hex(), entry.at, entry.what)


def _is_about(what: What, model: ModelRegistered, plan: Digest, contract: Digest) -> bool:
    """Whether an entry is about a version, its run, or the plan of that under its contract; decisions on accounts are about every version."""
    place = (model.name, model.version)
    match what:
        case PlanRecorded():
            return (what.plan.digest, what.contract.digest) == (plan, contract)
        case ModelRegistered() | ModelMoved() | ModelSigned() | GateJudged():
            return (what.name, what.version) == place
        case ModelApproved() | ModelNoted():
            said = what.note if isinstance(what, ModelNoted) else what.statement
            return (said.model, said.version) == place
        case PolicyJudged():
            return what.judgement.subject.key in {f"{plan}/{contract}", f"{model.name}@{model.version}"}
        case _:
            of_run = isinstance(what, RunLaunched | RunEvent) and what.run == model.run
            return of_run or isinstance(what, CeilingSet)


def _is_deployed(what: What, model: ModelRegistered, rollouts: Mapping[str, Collection[str]]) -> bool:
    """Whether an entry is about where a version runs: a rollout of it, a release of it, its recall, or a target that it was sent to."""
    place = (model.name, model.version)
    match what:
        case TargetAdded():
            return what.name in rollouts
        case Deployed():
            released = ((each.released.model, each.released.version) for each in what.releases)
            return what.rollout in rollouts.get(what.target, ()) or place in released
        case RolloutMoved():
            return what.rollout in rollouts.get(what.target, ())
        case RecallOrdered() | RecallConfirmed():
            return (what.model, what.version) == place
        case _:
            return False


def _came_of(told: Iterable[Told], model: ModelRegistered) -> frozenset[str]:
    """Alarms of a version, and drafts that start from it: what becomes of them is told by their names alone."""
    found = (
        what.alarm if isinstance(what, DriftAlarm) else what.draft
        for what in (each.what for each in told)
        if isinstance(what, DriftAlarm | RetrainingDrafted)
        and (what.model, what.version) == (model.name, model.version)
    )
    return frozenset(found)


def _is_watched(what: What, model: ModelRegistered, came: Collection[str]) -> bool:
    """Whether an entry is about a version where it runs: its monitor, its alarms, or plans that were drafted from it."""
    match what:
        case MonitorAdded():
            return (what.model, what.version) == (model.name, model.version)
        case DriftAlarm() | DriftAcknowledged():
            return what.alarm in came
        case RetrainingDrafted() | RetrainingDecided() | RetrainingLaunched():
            return what.draft in came
        case _:
            return False


def _rollouts(audit: Audit, model: ModelRegistered) -> dict[str, frozenset[str]]:
    """The rollouts of a version, by the targets that have any."""
    found = {
        target: frozenset(
            rollout
            for rollout, each in story.rollouts.items()
            if (each.started.model, each.started.version) == (model.name, model.version)
        )
        for target, story in audit.deployments.targets.items()
    }
    return {target: rollouts for target, rollouts in found.items() if rollouts}


def read_entries(entries: Iterable[bytes], pinned: SignedRoot) -> Reading:
    """A log from its entries, judged. Raises AuditRefused."""
    found = Reading(Audit(pinned))
    for each in entries:
        found.take(each)
    return found


def read_export(path: Path, pinned: SignedRoot, known: Membership | None = None) -> Reading:
    """A log from an export, with its head verified. Raises UsageError where it cannot be read, Refused where it is not what it must be."""
    found = Reading(Audit(pinned))
    try:
        with path.open("rb") as file:
            export = Export.read(file)
            verified = replace(export, entries=found.passing(export.entries)).verify(pinned, known)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    found.audit = verified.story
    return found
