"""Entries of the transparency log for people: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protos.ceilings import SignedCeiling
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from protos.log_deploy_events import (
    Deployed,
    DeployEvent,
    RecallConfirmed,
    RecallOrdered,
    RolloutMoved,
    TargetAdded,
)
from protos.log_entries import (
    AccountsAdopted,
    CeilingSet,
    GapLogged,
    Halted,
    HaltLifted,
    MembersSigned,
    ModelRegistered,
    PersonalTold,
    PlanRecorded,
    RunLaunched,
    What,
)
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_loop import LoopEvent, RetrainingDecided, RetrainingDrafted, RetrainingLaunched
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded, MonitorEvent
from protos.log_office import (
    AccessGranted,
    CallDenied,
    EnrolmentDenied,
    OfficeEvent,
    PlanApproved,
    PlanProposed,
)
from protos.log_policies import PolicyEvent, PolicyInForce, PolicyJudged, PolicyPublished
from protos.log_registry_events import ModelAliased, ModelApproved, ModelMoved, ModelSigned, RegistryEvent
from protos.log_run_events import (
    AttemptVoided,
    ReservationGivenUp,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    RunEvent,
    RunResumed,
    RunWitnessed,
    SiteRefused,
    SumSettled,
)

_SHORT = 12


def words_of(what: What) -> str:  # noqa: PLR0911  (one line a kind)
    """An entry in a line."""
    match what:
        case MembersSigned():
            listed = what.members.document["signed"]["list"]
            return f"member list {listed['name']}@{listed['version']}"
        case PlanRecorded():
            said = [] if what.evidence is None else what.evidence.document.get("statements", [])
            by = ", ".join(f"{each['officer']} ({each['role']})" for each in said) or "nobody"
            return f"plan {what.plan.document['name']} {what.plan.digest[:_SHORT]}, contract {what.contract.digest[:_SHORT]}, signed by {by}"
        case (
            ModelRegistered()
            | ModelMoved()
            | ModelAliased()
            | ModelSigned()
            | ModelApproved()
            | GateJudged()
            | ModelNoted()
        ):
            return _words_of_registry(what)
        case TargetAdded() | Deployed() | RolloutMoved() | RecallOrdered() | RecallConfirmed():
            return _words_of_deployment(what)
        case MonitorAdded() | DriftAlarm() | DriftAcknowledged():
            return _words_of_monitoring(what)
        case RetrainingDrafted() | RetrainingDecided() | RetrainingLaunched():
            return _words_of_loop(what)
        case (
            CeilingSet()
            | Halted()
            | HaltLifted()
            | AccessGranted()
            | PlanProposed()
            | PlanApproved()
            | CallDenied()
            | EnrolmentDenied()
            | GapLogged()
            | AccountsAdopted()
        ):
            return _words_of_decision(what)
        case PersonalTold() | RunWitnessed() | SiteRefused():
            return _words_of_sites(what)
        case PolicyPublished() | PolicyJudged() | PolicyInForce():
            return _words_of_policy(what)
        case _:
            return f"{what.run}: {_words_of_run(what)}"


def _words_of_registry(what: ModelRegistered | RegistryEvent | GateJudged | ModelNoted) -> str:
    match what:
        case GateJudged():
            found = "passed" if what.verdict.passed else f"failed ({len(what.verdict.failures)})"
            return f"{what.ref} {found} its gates, asked by {what.by}: {what.why}"
        case ModelRegistered():
            return f"{what.name}@{what.version} {what.digest[:_SHORT]} from {what.run}"
        case ModelMoved():
            return f"{what.ref} from {what.before} to {what.to}, by {what.by}: {what.why}"
        case ModelAliased():
            names = "nothing any more" if what.version is None else f"version {what.version}"
            return f"{what.name}@{what.alias} names {names}, says {what.by}"
        case ModelSigned():
            return f"the files of {what.name}@{what.version} are signed by {what.key.service}"
        case ModelApproved() | ModelNoted():
            said = what.note if isinstance(what, ModelNoted) else what.statement
            return said.words


def _words_of_metrics(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "no metrics"
    champion = metrics.get("champion")
    beside = "" if champion is None else f", the champion's {champion['auc']:.4f}"
    return f"AUC {metrics['auc']:.4f}{beside}"


def _words_of_deployment(what: DeployEvent) -> str:
    match what:
        case TargetAdded():
            return f"target {what.name} ({what.target_kind}), says {what.by}"
        case Deployed():
            released = ", ".join(f"{each.released.ref} ({each.mode})" for each in what.releases)
            return f"order {what.revision} of {what.target} to {what.state}: {released or 'nothing new'}, by {what.by}: {what.why}"
        case RolloutMoved():
            share = f" at {what.share:.0%}" if what.state == "canary" else ""
            return f"{what.rollout} is {what.state}{share}: {what.target} confirms order {what.revision}"
        case RecallOrdered():
            return f"{what.model}@{what.version} is recalled from {what.target}, by {what.by}: {what.why}"
        case RecallConfirmed():
            return f"{what.model}@{what.version} runs on {what.target} no more, confirmed with order {what.revision}"


def _words_of_monitoring(what: MonitorEvent) -> str:
    match what:
        case MonitorAdded():
            allowed = (
                ""
                if what.approvals is None
                else f", loosened as {' and '.join(each.officer for each in what.approvals)} signed"
            )
            rules = what.rules
            rate = f"{rules.false_alarm_rate:g} in {rules.horizon} windows"
            tolerated = f"PSI {rules.tolerated_psi:g} and metrics worse by {rules.tolerated_drop:g} tolerated"
            return (
                f"{what.model}@{what.version} is watched by monitor {what.monitor.digest[:_SHORT]}, false alarms at most {rate}, {tolerated},"
                f" by {what.by}{allowed}: {what.why}"
            )
        case DriftAlarm():
            return f"{what.alarm} of {what.model}@{what.version} at {what.place}, window {what.number}: {what.words}"
        case DriftAcknowledged():
            return f"{what.alarm} of {what.model} is acknowledged by {what.by}: {what.why}"


def _words_of_loop(what: LoopEvent) -> str:
    match what:
        case RetrainingDrafted():
            made = f"drafts plan {what.plan[:_SHORT]}" if what.plan is not None else "drafts no plan"
            cause = f"for {what.alarm}" if what.alarm is not None else f"asked by {what.by}"
            return f"{what.draft} of {what.model}@{what.version} {made}, {cause}: {what.says[0]}"
        case RetrainingDecided(decision="expired"):
            return f"{what.draft} of {what.model} has expired: {what.why}"
        case RetrainingDecided():
            return f"{what.draft} of {what.model} is {what.decision} by {what.by}: {what.why}"
        case RetrainingLaunched():
            return f"{what.run}: launched by the coordinator for {what.draft} of {what.model}, as pack {what.pack[:_SHORT]} allows"


def _words_of_office(what: OfficeEvent) -> str:
    match what:
        case AccessGranted():
            return f"{what.request.officer} may reach the control API until {what.request.until:%Y-%m-%d %H:%M} UTC"
        case PlanProposed() | PlanApproved():
            return f"plan {what.plan} {what.statement.plan[:_SHORT]}: {what.statement.words}"
        case CallDenied():
            more = "; further ones within the hour are not told" if what.silent else ""
            return f"{what.officer} was refused {what.method}: {what.reason}{more}"
        case EnrolmentDenied():
            return f"refused at the enrolment door, with a token of {what.site}: {what.reason}"


def _words_of_decision(
    what: CeilingSet | Halted | HaltLifted | GapLogged | AccountsAdopted | OfficeEvent,
) -> str:
    match what:
        case CeilingSet():
            signed = what.decision.read_as(SignedCeiling)
            decided, by = signed.decision, ", ".join(each.officer for each in signed.statements)
            return f"{decided.site}/{decided.population}: {decided.terms.words}, by {by}: {decided.reason}"
        case Halted():
            return what.order.read_as(HaltOrder).words
        case HaltLifted():
            lift = what.lift.read_as(HaltLift)
            said = "; ".join(f"{each.officer}: {each.reason}" for each in lift.statements)
            return f"the halt of order {lift.order[:_SHORT]} is over, say {said}"
        case GapLogged():
            gap = what.gap.document["gap"]
            return f"entries after the first {gap['kept']['size']} are lost, {len(gap.get('lost', []))} later heads are known: {gap['reason']}"
        case AccountsAdopted():
            times = sum(each.times for each in what.adopted)
            return f"{what.site}: {times} charges of its own statement {what.statement[:_SHORT]} adopted after a gap"
        case _:
            return _words_of_office(what)


def _words_of_policy(what: PolicyEvent) -> str:
    match what:
        case PolicyPublished():
            pack, said = what.signed.pack, what.signed.statements
            by = ", ".join(f"{each.officer} ({each.role})" for each in said)
            return f"pack {pack.ref} with {len(pack.rules)} rules from {pack.effective_from:%Y-%m-%d %H:%M} UTC, signed by {by}: {pack.reason}"
        case PolicyJudged():
            found = what.judgement
            open_ = [
                f"{each.rule} {each.outcome} ({each.acts})" for each in found.verdicts if not each.passes
            ]
            became = ", ".join(open_) or "every rule passes"
            changed = "".join(f"; {each.words}" for each in what.differs)
            return f"{found.subject.words} by pack {found.pack[:_SHORT]}: {became}{changed}"
        case PolicyInForce():
            return f"pack {what.pack[:_SHORT]} is in effect: {what.plans} plans and {what.models} models judged, {what.blocked} blocked"


def _words_of_sites(what: PersonalTold | RunWitnessed | SiteRefused) -> str:
    match what:
        case PersonalTold():
            said = what.statement.document
            return f"{said['site']} personalises the model {said['model'][:_SHORT]}"
        case SiteRefused():
            return f"{what.run}: {what.site} refuses ({what.code}) {what.reason}".rstrip()
        case RunWitnessed():
            seen = [f"{each.statement.site} ({each.statement.head.size} entries)" for each in what.statements]
            return f"{what.run}: witnessed by {', '.join(seen)}"


def _words_of_run(what: RunLaunched | RunEvent) -> str:
    match what:
        case RunLaunched():
            words = f"plan {what.plan[:_SHORT]}, {len(what.reserved)} reservations"
        case RoundPrepared():
            words = f"scaling and initial model from {', '.join(what.survivors)}"
        case SumSettled():
            charged = "" if what.releases else ", no privacy to charge"
            words = f"{what.stage} of round {what.round}, attempt {what.attempt}, may be opened over {', '.join(what.sites)}{charged}"
        case AttemptVoided():
            words = f"attempt {what.attempt} at round {what.round} came to nothing: {what.reason}"
        case RoundCommitted():
            words = f"round {what.round}, model {what.model[:_SHORT]}"
        case RoundEvaluated():
            words = f"round {what.round} evaluated: {_words_of_metrics(what.metrics)}{'' if what.panels is None else ', with panels'}"
        case RunEnded():
            words = what.state if what.reason is None else f"{what.state}: {what.reason}"
        case RunResumed():
            words = "resumed"
        case ReservationGivenUp():
            words = f"{what.releases} releases given back: {what.reason}"
    return words
