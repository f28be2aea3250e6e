"""What a site checks for itself before it touches its data. Default deny: what no rule admits is refused.

1. The documents are the ones that the statement names by digest.
2. The member list is one that this site trusts (`trust`), is the one that the plan names, and names this site with this site's own key;
   every invited site is a member.
3. The plan has the author and the approvals that the plan itself and this site's policy ask for, by officers on that list, when the run
   begins here. A run outlives them by as long as approvals may be good, so that none is begun to be carried out some day.
4. This site's policy admits the plan's purpose, privacy mode and aggregation, and what that protects against; it recognises peers.
5. A private plan is about the unit of this population's own account, costs no more than the site admits a plan, and leaves nothing without
   noise that the site has not named. Whether the account has that much left is asked at each charge (`accounts`).
6. The data contract is, to the byte, the one that this site holds for one of its own data sets.
7. The training component is installed here, and is the one for the plan's privacy mode.
8. Each statement's roster is a part of the plan's invitation, and names this site; its stage and round are ones that the plan has.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec

from client.training import COMPONENT, COMPONENTS, PRIVATE
from client.trust import Trust
from protos.approvals import PlanEvidence, require_approved
from protos.contract import Contract
from protos.documents import load_document
from protos.frames import RefusalCode, Request, Stage, Statement, Task
from protos.membership import MemberList, Trusted, check_members
from protos.plan import Plan, SecureAggregation
from protos.plan_fit import check_plan
from protos.plan_privacy import Privacy
from protos.plan_releases import PlannedReleases, releases_of
from protos.plan_training import PrivateSteps
from protos.site import AccountRule, DataSource, SiteConfig
from strategies.dp.budget import cost_of
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, SiteName
from strategies.secagg.parameters import sharing_an_honest_site


class TaskRefused(Refused):
    """A task that this site does not take part in. The reason does not depend on data, so the centre may hear it."""

    def __init__(
        self,
        code: RefusalCode,
        reason: str,
        *,
        accused: SiteName | None = None,
        evidence: bytes = b"",
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.accused = accused
        self.evidence = evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A task that passed every check; `check_documents` is its only maker."""

    plan: Plan
    contract: Contract
    trusted: Trusted
    evidence: PlanEvidence
    members_digest: Digest
    """Of the document that arrived, roots and signatures included."""
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


def check_named(request: Request) -> None:
    """Judge whether the documents of `request` are those that its statement names; raises `TaskRefused`."""
    said, task = request.statement, request.task
    for name, data, named in (
        ("plan", task.plan, said.plan_digest),
        ("contract", task.contract, said.contract_digest),
        ("member list", task.members, said.members_digest),
    ):
        if sha256_hex(data) != named:
            raise TaskRefused(RefusalCode.PROTOCOL, f"the {name} is not the one that the statement names")


def check_documents(
    task: Task, *, config: SiteConfig, trust: Trust, identity_key: str, began: datetime | None
) -> Accepted:
    """Judge the documents of a run, which this site `began` at some moment, or has not; raises `TaskRefused` at the first rule that they break."""
    plan, contract = _documents(task)
    trusted = _membership(task, plan, config, trust, identity_key, begun=began is not None)
    evidence = _evidence(task)
    _approved(plan, contract, evidence, trusted, config, trust, began=began)
    _policy(plan, config)
    source = _source(plan, contract, config)
    _require_component(plan)
    _privacy_policy(plan, contract, source, config)
    return Accepted(
        plan=plan,
        contract=contract,
        trusted=trusted,
        evidence=evidence,
        members_digest=sha256_hex(task.members),
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


def check_trust(accepted: Accepted, config: SiteConfig, trust: Trust, *, began: datetime | None) -> None:
    """Judge again what time changes in an accepted task: a newer member list may have come since, and approvals expire. Raises `TaskRefused`."""
    try:
        trust.require(accepted.trusted, begun=began is not None)
    except Refused as refused:
        raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
    _approved(
        accepted.plan, accepted.contract, accepted.evidence, accepted.trusted, config, trust, began=began
    )


def check_statement(statement: Statement, accepted: Accepted, *, site: SiteName) -> None:
    """Judge what differs from request to request of an accepted task; raises `TaskRefused`."""
    strangers = sorted(set(statement.roster) - set(accepted.plan.sites.invite))
    if strangers:
        raise TaskRefused(
            RefusalCode.PROTOCOL, f"the roster names {strangers[0]}, which the plan does not invite"
        )
    if site not in statement.roster:
        raise TaskRefused(RefusalCode.PROTOCOL, "the roster does not name this site")
    if statement.component != accepted.plan.training.component:
        raise TaskRefused(
            RefusalCode.PROTOCOL, f"the statement names component {statement.component}, the plan another"
        )
    if not _is_planned(statement, accepted.plan):
        raise TaskRefused(
            RefusalCode.PROTOCOL,
            f"the plan has no {statement.stage.name.lower()} stage in round {statement.round}: it trains for"
            f" {accepted.plan.training.rounds} rounds and evaluates every {accepted.plan.evaluation.every}",
        )


def _is_planned(statement: Statement, plan: Plan) -> bool:
    match statement.stage:
        case Stage.PREPARE:
            return statement.round == 0
        case Stage.TRAIN:
            return 1 <= statement.round <= plan.training.rounds
        case Stage.EVALUATE:
            return plan.evaluates(statement.round)


def _documents(task: Task) -> tuple[Plan, Contract]:
    try:
        plan, contract = Plan.from_canonical(task.plan), Contract.from_canonical(task.contract)
        check_plan(plan, contract)
    except CovenantError as error:
        raise TaskRefused(RefusalCode.PROTOCOL, str(error)) from error
    return plan, contract


def _membership(
    task: Task, plan: Plan, config: SiteConfig, trust: Trust, identity_key: str, *, begun: bool
) -> Trusted:
    try:
        # Remembered whatever becomes of the plan: it is the newest that the officers have signed.
        trusted = trust.accept(task.members, begun=begun)
        members = trusted.members
        check_members(plan, members)
        ours = members.member(config.site)
    except Refused as refused:
        raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
    if ours.identity_key != identity_key:
        raise TaskRefused(
            RefusalCode.SIGNATURE, f"member list {members.ref} has another key for {config.site}"
        )
    return trusted


def _evidence(task: Task) -> PlanEvidence:
    try:
        return PlanEvidence.from_canonical(task.evidence) if task.evidence else PlanEvidence()
    except Refused as refused:
        raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused


def _approved(
    plan: Plan,
    contract: Contract,
    evidence: PlanEvidence,
    trusted: Trusted,
    config: SiteConfig,
    trust: Trust,
    *,
    began: datetime | None,
) -> None:
    """Judge the approvals as of the moment at which this site began the run, which outlives them by what they are good for, and no longer."""
    rules, now = (plan.approval_rule, config.policy.approvals), trust.clock()
    try:
        require_approved(plan, contract, evidence, trusted, rules, began or now)
    except Refused as refused:
        raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
    longest = min(rule.valid_for for rule in rules)
    if began is not None and evidence.statements and now > began + timedelta(seconds=longest):
        raise TaskRefused(
            RefusalCode.SIGNATURE,
            f"this site began the run on {began:%Y-%m-%d}, and a run goes on for {longest / 86400:g} days at most, which is what `approvals.valid_for`"
            " admits; have the plan approved again, and launch it anew",
        )


def _policy(plan: Plan, config: SiteConfig) -> None:
    policy = config.policy
    for rule, value, admitted in (
        ("purposes", plan.purpose, policy.purposes),
        ("privacy_modes", plan.privacy.mode, policy.privacy_modes),
        ("aggregation", plan.aggregation.mode, policy.aggregation),
    ):
        if value not in admitted:
            raise TaskRefused(
                RefusalCode.POLICY,
                f"`policy.{rule}` at this site admits {', '.join(admitted) or 'nothing'}; the plan has {value}",
            )
    _secure_policy(plan, config)


def _secure_policy(plan: Plan, config: SiteConfig) -> None:
    chosen, policy = plan.aggregation, config.policy
    if not isinstance(chosen, SecureAggregation):
        return
    if config.peers is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            "`peers` is not configured at this site, so it recognises nobody to be in a sum with",
        )
    if chosen.adversary not in policy.adversaries:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.adversaries` at this site admits {', '.join(policy.adversaries) or 'nothing'}; the plan's secure aggregation is"
            f" {chosen.adversary}",
        )
    strangers = len(set(plan.sites.invite) - set(config.peers.recognise) - {config.site})
    needed = sharing_an_honest_site(len(plan.sites.invite), chosen.colluding + strangers)
    if chosen.adversary == "active" and plan.sites.minimum < needed:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"{strangers} of the plan's sites are not among the `peers` that this site recognises, and count as colluding: a minimum of"
            f" {plan.sites.minimum} lets two sums of one round be opened over different sites; {needed} would not",
        )
    if chosen.colluding < policy.colluding_at_least:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.colluding_at_least` at this site is {policy.colluding_at_least}; the plan bears {chosen.colluding} colluding sites",
        )


def _require_modest(plan: Plan, contract: Contract, account: AccountRule, most: float | None) -> None:
    """The plan costs what the site admits a plan at most: at the account's own delta and order, because the plan chooses its own."""
    planned = releases_of(plan, contract)
    if most is None or planned is None:
        return
    ceiling = account.ceiling
    costs = ceiling.guarantee(cost_of(planned.planned(), ceiling.order))
    if not costs.epsilon <= most:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.max_epsilon_per_plan` at this site is {most:g}; the plan costs {costs.words} at the account's order {ceiling.order}",
        )


def _privacy_policy(plan: Plan, contract: Contract, source: DataSource, config: SiteConfig) -> None:
    """A private plan is about the unit that the population's account is about, within the site's limit, and exempts only what may be."""
    privacy, policy, account = plan.privacy, config.policy, source.account
    if not isinstance(privacy, Privacy):
        if account is not None:
            raise TaskRefused(
                RefusalCode.POLICY,
                f"population {config.population_of(source)} has an account at this site; a plan without privacy would release of it what no"
                " account bounds",
            )
        return
    if account is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`data.{config.population_of(source)}.account` is not configured at this site, so nothing may be released of it",
        )
    named, called = plan.population_of(config.site), config.population_of(source)
    if named != called:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"the plan charges population {named} of this site, which calls it {called}; `sites.populations` must say so",
        )
    ours, theirs = account.unit.unit, privacy.unit.unit
    if not ours.is_same_person(theirs) or theirs.max_sites < ours.max_sites:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"the account at this site is per {ours.words}; the plan protects a {theirs.words}, and one says nothing about the other",
        )
    _require_modest(plan, contract, account, policy.max_epsilon_per_plan)
    exempt = sorted(set(privacy.exempt) - set(policy.exemptions))
    if exempt:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.exemptions` at this site admits {', '.join(policy.exemptions) or 'nothing'}; the plan releases {', '.join(exempt)}"
            " without noise",
        )


def _require_component(plan: Plan) -> None:
    """What the plan computes is installed: its component, and for local privacy the library that it stands on."""
    if isinstance(plan.training, PrivateSteps) and find_spec("opacus") is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            "algorithm dp-sgd needs Opacus, which is not installed at this site: pip install 'covenant-fl[local]'",
        )
    if plan.training.component not in COMPONENTS:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"training component {plan.training.component} is not installed; this site has {', '.join(COMPONENTS)}",
        )
    wanted = PRIVATE if isinstance(plan.privacy, Privacy) else COMPONENT
    if plan.training.component != wanted:
        raise TaskRefused(
            RefusalCode.PROTOCOL,
            f"training component {plan.training.component} does not do privacy mode {plan.privacy.mode}; the plan must name {wanted}",
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
