"""What this site's own configuration admits of a plan, and what is installed here. Default deny: what no rule admits is refused.

`judge` is a pure function of plan, contract, configuration and what is installed. The agent raises what it refuses; `covenant-agent plan test` prints all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.specifiers import SpecifierSet

from client.admission.findings import Finding, Outcome, found, listed, passed, refusals, refused, require
from client.admission.rules import judge_rule
from client.refusal import TaskRefused
from client.training import COMPONENT, COMPONENTS, PRIVATE
from protos.approval_rule import ApprovalRule
from protos.contract import Contract
from protos.frames import RefusalCode
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_training import PrivateSteps
from protos.site import SiteConfig
from protos.site_data import DataSource
from protos.site_policy import Acceptance
from strategies.secagg.parameters import sharing_an_honest_site

Approved = Callable[[ApprovalRule], None]
"""Raises `TaskRefused` where the approvals that a rule asks for are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found, and the rule of `policy.accept` that it is about: the one that admits the plan, or that refuses the least of it."""

    findings: tuple[Finding, ...]
    rule: Acceptance | None

    def require(self) -> Acceptance:
        """The rule that admits the plan. Raises the `TaskRefused` of the first finding that refuses."""
        require(self.findings)
        if self.rule is None:
            raise TaskRefused(RefusalCode.POLICY, "no rule of `policy.accept` at this site admits the plan")
        return self.rule


def judge(plan: Plan, contract: Contract, config: SiteConfig, *, approved: Approved | None = None) -> Verdict:
    """Judge `plan` on data under `contract` by what this site admits. Without `approved`, approvals are left open."""
    rule, findings = _by_rules(plan, contract, config, approved)
    source = config.source_for(plan.contract)
    return Verdict(
        rule=rule,
        findings=(
            *findings,
            *_beside_rules(plan, config),
            *_peers(plan, config),
            no_data(plan.contract, "no data under it")
            if source is None
            else passed("data", plan.contract, source.contract),
            *_installed(plan),
            *_packages(config.allow.packages),
            *([] if source is None else _account(plan, source, config)),
        ),
    )


def _by_rules(
    plan: Plan, contract: Contract, config: SiteConfig, approved: Approved | None
) -> tuple[Acceptance | None, list[Finding]]:
    """The first rule for the plan's purpose that refuses the least of it, and what it says."""
    accept = config.policy.accept
    admitted = listed(dict.fromkeys(each.purpose for each in accept))
    judged = [
        (rule, _by_rule(f"policy.accept[{place}]", rule, plan, contract, config, approved))
        for place, rule in enumerate(accept)
        if rule.purpose == plan.purpose
    ]
    purpose = found(
        "policy.accept",
        bool(judged),
        f"purpose {plan.purpose}",
        admitted,
        f"`policy.accept` at this site admits purpose {admitted}; the plan has {plan.purpose}",
        "add a rule for this purpose, if this site agrees with it",
    )
    if not judged:
        return None, [purpose]
    rule, findings = min(judged, key=lambda each: len(refusals(each[1])))
    return rule, [purpose, *findings]


def _by_rule(
    key: str, rule: Acceptance, plan: Plan, contract: Contract, config: SiteConfig, approved: Approved | None
) -> list[Finding]:
    findings = judge_rule(key, rule, plan, contract, config)
    return [*findings, _approvals(rule, plan, approved, f"{key}.approvals")]


def _approvals(rule: Acceptance, plan: Plan, approved: Approved | None, key: str) -> Finding:
    asked = rule.approvals
    admits = f"privacy_officer {asked.privacy_officer}, model_risk {asked.model_risk}"
    if approved is None:
        who = f"approvals of plan {plan.name}"
        return Finding(
            rule=key,
            outcome=Outcome.OPEN,
            asks=who,
            admits=admits,
            remedy="judged when a run is launched: approvals come with it",
        )
    try:
        approved(asked)
    except TaskRefused as lack:
        return refused(
            key,
            "too few approvals",
            admits,
            str(lack),
            "have the plan approved",
            code=RefusalCode.SIGNATURE,
        )
    return passed(key, "approved", admits)


def _beside_rules(plan: Plan, config: SiteConfig) -> Iterator[Finding]:
    """What holds whatever a rule says."""
    policy, champion = config.policy, plan.evaluation.champion
    barred = [each for each in plan.columns if each in policy.forbid_features]
    yield found(
        "policy.forbid_features",
        not barred,
        listed(plan.columns),
        f"all but {listed(policy.forbid_features)}",
        f"`policy.forbid_features` at this site forbids {listed(barred)}, which the plan has among its features"
        + ("" if champion is None else f" or those of champion {champion.model}"),
        f"the plan must leave {listed(barred)} out of its features"
        + ("" if champion is None else ", and compare with no champion that reads them"),
    )
    if policy.minimum_cohort is not None:
        yield found(
            "policy.minimum_cohort",
            plan.sites.minimum >= policy.minimum_cohort,
            f"at least {plan.sites.minimum} sites",
            f"{policy.minimum_cohort} or more",
            f"`policy.minimum_cohort` at this site is {policy.minimum_cohort}; the plan goes on with {plan.sites.minimum} sites",
            f"the plan must have sites.minimum: {policy.minimum_cohort} or more",
        )


def _peers(plan: Plan, config: SiteConfig) -> Iterator[Finding]:
    """Of a plan that aggregates securely: enough of those whom this site recognises must be in each sum."""
    chosen = plan.aggregation
    if not isinstance(chosen, SecureAggregation):
        return
    yield found(
        "peers",
        config.peers is not None,
        "secure aggregation",
        "nobody" if config.peers is None else listed(config.peers.recognise),
        "`peers` is not configured at this site, so it recognises nobody to be in a sum with",
        "write `peers` with the sites that you know to be real",
    )
    if config.peers is None:
        return
    strangers = len(set(plan.sites.invite) - set(config.peers.recognise) - {config.site})
    needed = sharing_an_honest_site(len(plan.sites.invite), chosen.colluding + strangers)
    yield found(
        "peers.recognise",
        chosen.adversary != "active" or plan.sites.minimum >= needed,
        f"a minimum of {plan.sites.minimum} with {strangers} sites that are not recognised",
        f"a minimum of {needed} or more",
        f"{strangers} of the plan's sites are not among the `peers` that this site recognises, and count as colluding: a minimum of"
        f" {plan.sites.minimum} lets two sums of one round be opened over different sites; {needed} would not",
        "recognise the sites that you know to be real, or ask for a larger minimum",
    )


def no_data(contract: str, held: str) -> Finding:
    """The finding of a site that has no data under `contract`, but under those that are `held`."""
    return refused(
        "data",
        contract,
        held,
        f"this site has no data under contract {contract}",
        "add the data to `data`, if this site has them",
    )


def _installed(plan: Plan) -> Iterator[Finding]:
    """What the plan computes is installed: its component, and for local privacy the library that it stands on."""
    component = plan.training.component
    yield found(
        "opacus",
        not isinstance(plan.training, PrivateSteps) or find_spec("opacus") is not None,
        plan.training.algorithm,
        "installed" if find_spec("opacus") else "not installed",
        "algorithm dp-sgd needs Opacus, which is not installed at this site: pip install 'covenant-fl[local]'",
        "install it from the bundle",
    )
    yield found(
        "components",
        component in COMPONENTS,
        component,
        listed(COMPONENTS),
        f"training component {component} is not installed; this site has {', '.join(COMPONENTS)}",
        "install the release that has it",
    )
    wanted = PRIVATE if isinstance(plan.privacy, Privacy) else COMPONENT
    yield found(
        "components",
        component == wanted,
        f"{component} in mode {plan.privacy.mode}",
        wanted,
        f"training component {component} does not do privacy mode {plan.privacy.mode}; the plan must name {wanted}",
        f"the plan must have training.component: {wanted}",
        code=RefusalCode.PROTOCOL,
    )


def _packages(pinned: Mapping[str, str]) -> Iterator[Finding]:
    for name, admitted in pinned.items():
        installed = _version(name)
        passes = installed is not None and SpecifierSet(admitted).contains(installed, prereleases=True)
        yield found(
            f"allow.packages.{name}",
            passes,
            installed or "not installed",
            admitted,
            f"`allow.packages` at this site does not admit the {name} that is installed there",
            f"install {name} {admitted}, or change `allow.packages`",
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _account(plan: Plan, source: DataSource, config: SiteConfig) -> Iterator[Finding]:
    """A private plan is about the unit that the population's own account is about; one without privacy is about no such population."""
    privacy, account, population = plan.privacy, source.account, config.population_of(source)
    key = f"data.{population}.account"
    if not isinstance(privacy, Privacy):
        yield found(
            key,
            account is None,
            "no privacy",
            "none is needed" if account is None else "plans with privacy",
            f"population {population} has an account at this site; a plan without privacy would release of it what no account bounds",
            "the plan must have a privacy mode",
        )
        return
    yield found(
        key,
        account is not None,
        f"privacy mode {privacy.mode}",
        "nothing" if account is None else account.ceiling.words,
        f"`data.{population}.account` is not configured at this site, so nothing may be released of it",
        "write the account that this site's privacy officer says",
    )
    if account is None:
        return
    named = plan.population_of(config.site)
    yield found(
        "data",
        named == population,
        f"population {named}",
        population,
        f"the plan charges population {named} of this site, which calls it {population}; `sites.populations` must say so",
        f"the plan must have sites.populations: {{{config.site}: {population}}}",
    )
    ours, theirs = account.unit.unit, privacy.unit.unit
    yield found(
        f"{key}.unit",
        ours.is_same_person(theirs) and theirs.max_sites >= ours.max_sites,
        theirs.words,
        ours.words,
        f"the account at this site is per {ours.words}; the plan protects a {theirs.words}, and one says nothing about the other",
        "the plan must protect the account's unit",
    )
