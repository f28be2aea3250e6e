"""What a site's policy admits of plans: `policy` in site.yaml. Default deny.

1. A plan is admitted if one rule of `accept` admits all of it. Rules are never added up, and a site without rules takes part in nothing.
2. A list that narrows what is admitted already (`plans`, `targets`, `units`) admits all of it where it is left out; every other list admits what it names.
3. `forbid_features`, `minimum_cohort` and `witnesses_at_least` hold whatever a rule says.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from protos.approval_rule import ApprovalRule
from protos.documents import Part
from protos.names import ColumnName, Component, Name, Reference, distinct
from protos.plan_privacy import Epsilon, ExemptStage
from protos.quantities import Duration

Confirm = Literal["always", "first-time", "never"]

_MONTH_S: Final = 30 * 86400.0


class PrivacyAdmitted(Part):
    """In which modes, at which cost of a plan at most (for the unit of the account), and which stages may be released without noise."""

    modes: Annotated[
        tuple[Literal["none", "local", "distributed", "central"], ...],
        Field(min_length=1),
        AfterValidator(distinct),
    ]
    max_epsilon_per_plan: Epsilon | None = None
    exemptions: Annotated[tuple[ExemptStage, ...], AfterValidator(distinct)] = ()


class AggregationAdmitted(Part):
    """How updates may be summed up, against which coordinators, and how many colluding sites a plan must bear at least."""

    modes: Annotated[
        tuple[Literal["secure", "plain"], ...], Field(min_length=1), AfterValidator(distinct)
    ] = ("secure",)
    adversaries: Annotated[
        tuple[Literal["active", "semi-honest"], ...], Field(min_length=1), AfterValidator(distinct)
    ] = ("active",)
    colluding_at_least: Annotated[int, Field(ge=0, le=1000)] = 1


class Acceptance(Part):
    """One rule: plans for `purpose` that keep all the rest of it."""

    purpose: Name
    contracts: Annotated[tuple[Reference, ...], Field(min_length=1), AfterValidator(distinct)]
    components: Annotated[tuple[Component, ...], Field(min_length=1), AfterValidator(distinct)]
    plans: Annotated[tuple[Name, ...], AfterValidator(distinct)] = ()
    """Names of plans; any, unless some are listed."""
    targets: Annotated[tuple[ColumnName, ...], AfterValidator(distinct)] = ()
    """What may be predicted; whatever the contract has as its target, unless some are listed."""
    units: Annotated[tuple[Literal["record", "customer", "site"], ...], AfterValidator(distinct)] = ()
    """Whom a private plan protects; whatever the account is about, unless some are listed."""
    privacy: PrivacyAdmitted
    aggregation: AggregationAdmitted = AggregationAdmitted()
    approvals: ApprovalRule = ApprovalRule()
    """Officers who must have approved: one of each role, unless something else is written down."""
    protected: Annotated[tuple[ColumnName, ...], Field(max_length=100), AfterValidator(distinct)] = ()
    """Protected attributes that a plan may read to count groups by or to reweigh by; none, unless some are listed."""
    confirm: Confirm = "never"
    """When a person at this site is asked: for each plan, for each new kind of plan, or never."""


class Policy(Part):
    """What plans may ask for at this site."""

    owner: Name | None = None
    """Who answers for this policy at the site, and consents to plans where a rule asks for it; anybody who may write here, if left out."""
    accept: Annotated[tuple[Acceptance, ...], Field(max_length=100)] = ()
    forbid_features: Annotated[tuple[ColumnName, ...], Field(max_length=1000), AfterValidator(distinct)] = ()
    """Columns that are never an input of a model, whatever the contract offers."""
    minimum_cohort: Annotated[int, Field(ge=1, le=1000)] | None = None
    """The fewest sites that a plan must have in every sum."""
    consent_for: Duration = _MONTH_S
    """How long a person's consent is good at most."""
    witnesses_at_least: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many sites must have witnessed a run in the log before this one takes part; the plan's number, where that is larger."""
