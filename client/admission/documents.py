"""The documents of a run: plan, contract, member list and approvals, judged once for all of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from client.admission.policy import judge
from client.admission.trust import Trust
from client.refusal import TaskRefused, refusing
from protos.approval_rule import ApprovalRule
from protos.approvals import PlanEvidence, require_approved
from protos.contract import Contract
from protos.documents import load_document
from protos.frames import RefusalCode, Task
from protos.membership import MemberList, Trusted, check_members
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_releases import PlannedReleases, releases_of
from protos.site import SiteConfig
from protos.site_data import DataSource
from protos.site_policy import Acceptance
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import CovenantError
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A task that passed every check; `check_documents` is its only maker."""

    plan: Plan
    contract: Contract
    trusted: Trusted
    evidence: PlanEvidence
    members_digest: Digest
    """Of the document that arrived, roots and signatures included."""
    rule: Acceptance
    """The rule of this site's policy that admits the plan."""
    source: DataSource
    population: str
    releases: PlannedReleases | None
    """What the plan releases; None if it has no privacy."""
    documents: Digest
    """Of all four documents together: plan, contract, member list and evidence."""

    @property
    def members(self) -> MemberList:
        """The member list that the plan names."""
        return self.trusted.members


def check_documents(
    task: Task, *, config: SiteConfig, trust: Trust, identity_key: str, began: datetime | None
) -> Accepted:
    """Judge the documents of a run, which this site `began` at some moment, or has not; raises `TaskRefused` at the first rule that they break."""
    plan, contract = _documents(task)
    trusted = _membership(task, plan, config, trust, identity_key, begun=began is not None)
    evidence = _evidence(task)
    approved = partial(_require_approved, plan, contract, evidence, trusted, trust, began=began)
    approved()
    rule = judge(plan, contract, config, approved=approved).require()
    source = _source(plan, contract, config)
    return Accepted(
        plan=plan,
        contract=contract,
        trusted=trusted,
        evidence=evidence,
        members_digest=sha256_hex(task.members),
        rule=rule,
        source=source,
        population=config.population_of(source),
        releases=releases_of(plan, contract),
        documents=_digest_of_all(plan, contract, sha256_hex(task.members), evidence),
    )


def _digest_of_all(plan: Plan, contract: Contract, members: Digest, evidence: PlanEvidence) -> Digest:
    return digest_of(
        {
            "plan": plan.digest,
            "contract": contract.digest,
            "members": members,
            "evidence": evidence.digest,
        }
    )


def check_trust(accepted: Accepted, trust: Trust, *, began: datetime | None) -> None:
    """Judge again what time changes in an accepted task: a newer member list may have come since, and approvals expire. Raises `TaskRefused`."""
    with refusing(RefusalCode.SIGNATURE):
        trust.require(accepted.trusted, begun=began is not None)
    _require_approved(
        accepted.plan,
        accepted.contract,
        accepted.evidence,
        accepted.trusted,
        trust,
        accepted.rule.approvals,
        began=began,
    )


def _documents(task: Task) -> tuple[Plan, Contract]:
    with refusing(RefusalCode.PROTOCOL, CovenantError):
        plan, contract = Plan.from_canonical(task.plan), Contract.from_canonical(task.contract)
        check_plan(plan, contract)
    return plan, contract


def _membership(
    task: Task, plan: Plan, config: SiteConfig, trust: Trust, identity_key: str, *, begun: bool
) -> Trusted:
    with refusing(RefusalCode.SIGNATURE):
        # Remembered whatever becomes of the plan: it is the newest that the officers have signed.
        trusted = trust.accept(task.members, begun=begun)
        members = trusted.members
        check_members(plan, members)
        ours = members.member(config.site)
    if ours.identity_key != identity_key:
        raise TaskRefused(
            RefusalCode.SIGNATURE, f"member list {members.ref} has another key for {config.site}"
        )
    return trusted


def _evidence(task: Task) -> PlanEvidence:
    with refusing(RefusalCode.SIGNATURE):
        return PlanEvidence.from_canonical(task.evidence) if task.evidence else PlanEvidence()


def _require_approved(
    plan: Plan,
    contract: Contract,
    evidence: PlanEvidence,
    trusted: Trusted,
    trust: Trust,
    *rules: ApprovalRule,
    began: datetime | None,
) -> None:
    """Judge the approvals, by the plan's own rule and by `rules`, as of the moment at which this site began the run, which outlives them by what they are good for, and no longer."""
    rules, now = (plan.approval_rule, *rules), trust.clock()
    with refusing(RefusalCode.SIGNATURE):
        require_approved(plan, contract, evidence, trusted, rules, began or now)
    longest = min(rule.valid_for for rule in rules)
    if began is not None and evidence.statements and now > began + timedelta(seconds=longest):
        raise TaskRefused(
            RefusalCode.SIGNATURE,
            f"this site began the run on {began:%Y-%m-%d}, and a run goes on for {longest / 86400:g} days at most, which is what `approvals.valid_for`"
            " admits; have the plan approved again, and launch it anew",
        )


def _source(plan: Plan, contract: Contract, config: SiteConfig) -> DataSource:
    source = config.source_for(plan.contract)
    if source is None:
        raise TaskRefused(RefusalCode.POLICY, f"this site has no data under contract {plan.contract}")
    if load_document(source.contract_file, Contract).digest != contract.digest:
        raise TaskRefused(
            RefusalCode.POLICY, f"contract {plan.contract} differs from the one that this site agreed to"
        )
    return source
