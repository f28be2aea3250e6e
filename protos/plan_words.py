"""A plan's privacy in words: what each stage releases, who sees it, and what nothing protects. Numbers stand elsewhere, with their units."""

from __future__ import annotations

from typing import Final

from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import CustomerUnit, Privacy, RecordUnit
from protos.plan_releases import PlannedReleases
from protos.plan_training import GradientSums, PrivateSteps
from strategies.dp.budget import grouped
from strategies.dp.events import Mechanism, Release

_STAGE_NAMES: Final = {"preparation": "scaling moments", "evaluation": "evaluation counts"}
_TAKING_PART: Final = (
    "That a site takes part at all, in which rounds, and how fast it answers: the coordinator sees it, and the other sites see who is in a sum."
    " This is an exemption by name from every figure here."
)
_COHORT: Final = (
    "The choice of sites: which sites are invited or in a sum is nobody's secret, so no figure is lowered by it. Only the sites' own secret"
    " sampling of units is counted."
)
_SITES: Final = (
    "What a site does itself: figures are for the rows of sites that clip, sample and add noise as the plan says. Nobody can see from a masked"
    " sum whether one did, and rows are open to the people and machines of their own site."
)
_REFUSAL: Final = "A refusal because of a site's data: it says the word `contract` and no reason, but that it was said depends on rows, and is not charged."
_FLOATS: Final = (
    "The digits of floating-point noise: training noise is drawn and added in floating point, and its theorem is about real numbers"
    " (Mironov 2012)."
)
_ROWS: Final = "A person with several rows: figures are for one row. Somebody with k rows, at one site or at several, is protected less."


def mode_words(plan: Plan) -> str:
    """Who has to be trusted, in one or two sentences."""
    least = plan.sites.minimum
    match plan.privacy:
        case Privacy(mode="distributed"):
            return (
                f"distributed: each site adds a share of the noise before masking, so only the noisy sum of at least {least} sites exists"
                f" anywhere. It holds against {_coordinator(plan)} and whoever gets its results, as long as at least {plan.honest_survivors} of"
                " the sites in a sum do not collude with it."
            )
        case Privacy(mode="central"):
            return (
                f"central: the coordinator opens the raw sum of at least {least} sites, sees it, and adds the noise. Only the noised sum is"
                " kept and sent on. It holds against whoever gets the results, and not against the coordinator or whoever breaks into it."
            )
        case Privacy():
            return (
                "local: each site adds all the noise itself before anything leaves it. It holds against everyone, the coordinator and all"
                " other sites included; training noise is floating-point Gaussian."
            )
        case _:
            return (
                "none: nothing protects a person's rows. What is released is exact, and may give away who is in the data and what their rows"
                f" hold. {_none_sees(plan)}"
            )


def _none_sees(plan: Plan) -> str:
    if isinstance(plan.aggregation, SecureAggregation):
        return f"Secure aggregation hides one site's part in a sum over at least {plan.sites.minimum} sites; it does not hide a person."
    return "Aggregation is plain: the coordinator sees each site's own."


def released(plan: Plan, stage: str, release: Release | None) -> str:
    """What `stage` releases; `release` is None in privacy mode none."""
    numbers = "" if release is None else f", {release.dimension} numbers"
    match stage, plan.training:
        case ("prepare", _):
            return f"scaling moments: how many rows, and of each numeric feature sums of values and of squares{numbers}"
        case ("train", GradientSums(clip=clip)):
            return f"the sum of the gradients of the units that were sampled, each clipped to {clip:g}, once a round{numbers}"
        case ("train", PrivateSteps(local_steps=steps, clip=clip)):
            return f"the sites' updates after {steps} noisy steps a round, each unit's gradient clipped to {clip:g}{numbers}"
        case ("train", _):
            return "the sites' updates after local passes over their rows, once a round"
    champion = plan.evaluation.champion
    whose = "" if champion is None else f" of this model, and the same of champion {champion.model}"
    return f"counts of held-out rows by class and score{whose}{_panels(plan)}{numbers}"


def _panels(plan: Plan) -> str:
    """What is counted with the scores."""
    asked, words = plan.evaluation, ""
    if asked.fairness is not None:
        words += f"; by group of {', '.join(plan.protected or ())}, class and score, where a group has {asked.fairness.minimum_group} rows or more"
    if asked.explanations is not None:
        parts = {
            "none": "",
            "rows": ", for each half of the rows",
            "sites": ", for each of two groups of sites",
        }
        words += f"; sums of what each feature adds to the scores, a row's clipped to {asked.explanations.clip:g}{parts[asked.explanations.parts]}"
    if asked.profile is not None:
        words += f"; how the {len(plan.features)} features are distributed, each number in {asked.profile.bins} bins"
    return words


def seen_by(plan: Plan, release: Release | None) -> str:
    """Who sees what of one stage's release; None is privacy mode none."""
    least = plan.sites.minimum
    if release is None:
        whose = (
            f"the exact sum over at least {least} sites"
            if isinstance(plan.aggregation, SecureAggregation)
            else "each site's own, exactly"
        )
        return f"the coordinator sees {whose}, and passes results on to the sites; nothing protects a person"
    sums = {
        Mechanism.DISTRIBUTED: f"the noisy sum over at least {least} sites is all that exists; the coordinator sees it, and results go to the sites",
        Mechanism.CENTRAL: f"the coordinator sees the raw sum over at least {least} sites; only the noised sum is kept and goes to the sites",
        Mechanism.LOCAL: "what leaves a site is noisy already, whoever sees it",
        Mechanism.GAUSSIAN: "what leaves a site is noisy already, whoever sees it; the noise is floating-point",
        Mechanism.NONE: f"exempt: the coordinator sees the exact sum over at least {least} sites, and results go to the sites; nothing protects a person",
    }
    return sums[release.mechanism]


def counted_noise(plan: Plan, release: Release) -> str:
    """Whose noise counts."""
    match release.mechanism:
        case Mechanism.DISTRIBUTED:
            colluding = plan.sites.minimum - plan.honest_survivors
            return (
                f"discrete Gaussian, in shares: {release.shares} are counted on, of the {plan.sites.minimum} or more sites of a sum, of which"
                f" {colluding} may collude"
            )
        case Mechanism.CENTRAL:
            return "discrete Gaussian, all of it by the coordinator"
        case Mechanism.LOCAL:
            return "discrete Gaussian, all of it by the site itself"
        case Mechanism.GAUSSIAN:
            return "floating-point Gaussian, all of it by the site itself, in every step"
        case _:
            return "none: the plan exempts this stage"


def composition_words(planned: PlannedReleases) -> str:
    """How the stages add up."""
    if any(len(group) > 1 for group in grouped(planned.planned())):
        return (
            "A unit is either held out or trained on, by a public hash of its key: the whole costs what its dearer part costs, preparation and"
            " training together or evaluation."
        )
    return "Every unit is in every stage: costs add up, in Rényi divergence and not in epsilon."


def not_protected(plan: Plan) -> tuple[str, ...]:
    """What no figure of the plan is about."""
    privacy = plan.privacy
    if not isinstance(privacy, Privacy):
        return ("Everything: no noise is added to anything that is released.", _TAKING_PART, _REFUSAL)
    told = [
        f"The {_STAGE_NAMES[stage]}: the plan exempts {stage}, so they are released without noise, and no figure here counts them."
        for stage in privacy.exempt
    ]
    told += [_TAKING_PART, _COHORT, _SITES, _REFUSAL]
    if privacy.mode == "local":
        told.append(_FLOATS)
    if isinstance(privacy.unit, RecordUnit):
        told.append(_ROWS)
    if isinstance(privacy.unit, CustomerUnit):
        sites = privacy.unit.max_sites
        where = "one site" if sites == 1 else f"{sites} sites"
        told.append(
            f"A person at more than {where}: figures are for a customer whose rows are at no more than that."
        )
    return tuple(told)


def _coordinator(plan: Plan) -> str:
    """The coordinator, as far as the plan's aggregation protects from it."""
    chosen = plan.aggregation
    if isinstance(chosen, SecureAggregation) and chosen.adversary == "semi-honest":
        return "a coordinator that follows the protocol (one that deviates can get at one site's input, which has that site's own noise only)"
    return "the coordinator"
