"""The transparency log for people: tables and sentences on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from protos.approvals import ApprovedPlan
from protos.ceilings import SignedCeiling
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from protos.log_audit import Audit
from protos.log_deploy import (
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
    LogEntry,
    MembersSigned,
    ModelRegistered,
    PersonalTold,
    PlanRecorded,
    RunLaunched,
    What,
)
from protos.log_evidence import ModelNoted
from protos.log_export import Verified
from protos.log_gaps import Gap
from protos.log_gate import GateJudged
from protos.log_office import (
    AccessGranted,
    CallDenied,
    EnrolmentDenied,
    OfficeEvent,
    PlanApproved,
    PlanProposed,
)
from protos.log_policies import PolicyEvent, PolicyInForce, PolicyJudged, PolicyPublished
from protos.log_registry import ModelAliased, ModelApproved, ModelMoved, ModelSigned, RegistryEvent
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
from protos.root import SignedRoot
from protos.shell import as_written, people

_SHORT = 12


def _row(table: Table, *texts: str) -> None:
    table.add_row(*map(as_written, texts))


def show_entries(size: int, found: Sequence[tuple[int, LogEntry]]) -> None:
    """Entries, one a line."""
    table = Table("entry", "at", "kind", "what", title=f"transparency log, {size} entries")
    for seq, entry in found:
        _row(table, str(seq), f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.what.kind, words_of(entry.what))
    people.print(table)


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
            words = f"round {what.round} evaluated: {_words_of_metrics(what.metrics)}"
        case RunEnded():
            words = what.state if what.reason is None else f"{what.state}: {what.reason}"
        case RunResumed():
            words = "resumed"
        case ReservationGivenUp():
            words = f"{what.releases} releases given back: {what.reason}"
    return words


def _approved_by(approved: ApprovedPlan) -> str:
    return ", ".join(f"{name} ({role})" for name, role in approved.approved_by) or "nobody, as the plan asks"


def show_verified(found: Verified, pinned: SignedRoot) -> None:
    """What an export proves, and what it does not."""
    for table in (_runs(found.story), _models(found.story), _budgets(found.story)):
        if table.row_count:
            people.print(table)
    for gap in found.story.gaps.met:
        _show_gap(gap)
    for pack in found.story.policies.published.values():
        force = (
            "everything was judged by it" if pack.digest in found.story.policies.in_force else "not in force"
        )
        people.print(
            as_written(f"policy pack {pack.ref} from {pack.effective_from:%Y-%m-%d %H:%M} UTC: {force}")
        )
    for halt in found.story.halts.standing.values():
        people.print(as_written(f"under a halt: {halt.order.words}"))
    people.print(
        _witnesses(found.story)
        + f"verified: all {found.head.size} entries of the log of {found.federation} (fingerprint {pinned.root.fingerprint}), in order and"
        f" without a gap, are those of the head that {found.log_key.name} signed. Each fits those before it.\n"
        f"Whether others than those witnesses see the same log, they have to say: compare the head of {found.head.size} entries, {found.head.root.hex()}.",
        highlight=False,
        markup=False,
    )


def _show_gap(gap: Gap) -> None:
    """Loudly: whatever a log says besides, it does not say what happened there."""
    declared = gap.sound.declared
    known = "".join(f"\n  lost: {each.words}" for each in declared.lost) or "\n  no later head is known"
    by = ", ".join(gap.sound.signed.signed(gap.sound.root))
    people.print(Text("GAP", style="bold red"), end=" ")
    people.print(
        f"at entry {gap.seq}: what came after the first {declared.kept.size} entries is lost. {by} signed so on {declared.declared:%Y-%m-%d}:"
        f" {declared.reason}{known}\nModels and charges of that time are in this log only as far as sites stated them.",
        highlight=False,
        markup=False,
    )


def _witnesses(story: Audit) -> str:
    """How far which sites have seen the log."""
    by_size: dict[int, list[str]] = {}
    for site, size in story.witnesses.sizes.items():
        by_size.setdefault(size, []).append(site)
    lines = [
        f"up to entry {size - 1} it was witnessed by {', '.join(sites)}\n"
        for size, sites in sorted(by_size.items(), reverse=True)
    ]
    unseen = story.witnesses.unseen
    return "".join(lines) + f"{unseen} entries at the end were witnessed by nobody\n"


def _runs(story: Audit) -> Table:
    table = Table(
        "run",
        "plan",
        "approved by",
        "witnessed by",
        "privacy",
        "state",
        "rounds",
        "sites whose input was opened",
        title="runs",
    )
    for each in story.runs.values():
        plan = f"{each.plan.name} {each.plan.digest[:_SHORT]}"
        rest = (each.state, str(each.committed), ", ".join(sorted(each.survivors)))
        seen = ", ".join(sorted(each.witnesses)) or "nobody"
        _row(table, each.run, plan, _approved_by(each.approved), seen, each.plan.privacy.mode, *rest)
    return table


def _models(story: Audit) -> Table:
    table = Table("model", "stage", "digest", "run", title="models")
    for each in story.models:
        stage = story.registry.versions[each.name, each.version].stage
        _row(table, f"{each.name}@{each.version}", stage, each.digest, each.run)
    return table


def _budgets(story: Audit) -> Table:
    table = Table(
        "account",
        "sums opened",
        "opened at most",
        "with what is reserved",
        "ceiling",
        "decided by",
        title="budgets",
    )
    for each in story.budgets.standing():
        officers = ", ".join(each.decisions[-1].officers)
        figures = (each.opened.words, each.charged.words, each.ceiling.words)
        _row(table, each.account.words, str(each.sums), *figures, officers)
    return table
