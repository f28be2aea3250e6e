"""What a plan may say about secure aggregation: the combinations that protect nobody are refused when the plan is read."""

from __future__ import annotations

from itertools import combinations

import pytest

from protos import plan_coherence
from protos.documents import DocumentError, read_document
from protos.plan import Plan
from protos.plan_aggregation import PlainAggregation, SecureAggregation
from protos.site import SiteConfig
from strategies.secagg.parameters import sharing_an_honest_site
from strategies.secagg.payloads import MOST_WEIGHT_RATIO
from tests.protos.documents_for_tests import PLAN, SITE, changed


def read(aggregation: str = "{}", *, sites: int = 4, minimum: int = 3, weights: str = "{}") -> Plan:
    """A plan over sites s0, s1, ..."""
    text = changed(PLAN, "[west, midwest, south]", f"[{', '.join(f's{each}' for each in range(sites))}]")
    text = changed(text, "minimum: 2", f"minimum: {minimum}")
    text = changed(text, "{west: 2}", weights)
    return read_document(changed(text, "{mode: plain}", aggregation), Plan, "plan.yaml")


# Secure, unless another mode is written down.


@pytest.mark.parametrize("written", ["{}", "{adversary: active}", "{colluding: 1}", "{mode: secure}"])
def test_aggregation_without_a_mode_is_secure(written: str) -> None:
    assert read(written).aggregation == SecureAggregation()
    assert read(written).digest == read("{mode: secure}").digest
    assert read("{adversary: semi-honest}").aggregation == SecureAggregation(adversary="semi-honest")


def test_a_plan_that_says_nothing_of_aggregation_is_secure() -> None:
    text = changed(changed(PLAN, "minimum: 2", "minimum: 3"), "aggregation: {mode: plain}\n", "")
    assert read_document(text, Plan, "plan.yaml").aggregation == SecureAggregation()


def test_in_the_clear_is_written_down() -> None:
    assert read("{mode: plain}").aggregation == PlainAggregation(mode="plain")
    with pytest.raises(DocumentError, match="unknown key"):
        read("{mode: plain, adversary: active}")


@pytest.mark.parametrize("mode", ["masked", "1", "[secure]", "null"])
def test_a_mode_that_there_is_not(mode: str) -> None:
    with pytest.raises(DocumentError, match="aggregation"):
        read(f"{{mode: {mode}, adversary: active}}")


@pytest.mark.parametrize("written", ["secure", "[]", "1"])
def test_aggregation_that_is_no_mapping(written: str) -> None:
    with pytest.raises(DocumentError, match="aggregation"):
        read(written)


# Two sums of one round share an honest site.


@pytest.mark.parametrize(
    ("sites", "colluding", "fewest"), [(3, 1, 3), (4, 1, 3), (5, 1, 4), (7, 1, 5), (7, 3, 6), (10, 2, 7)]
)
def test_the_minimum_of_an_active_plan(sites: int, colluding: int, fewest: int) -> None:
    written = f"{{colluding: {colluding}}}"
    assert read(written, sites=sites, minimum=fewest).sites.minimum == fewest
    with pytest.raises(DocumentError, match=f"minimum of at least {fewest}"):
        read(written, sites=sites, minimum=fewest - 1)


@pytest.mark.parametrize("sites", [3, 4, 5, 6, 7])
@pytest.mark.parametrize("colluding", [0, 1, 2])
def test_any_two_sets_of_so_many_sites_share_an_honest_one_and_of_one_less_do_not(
    sites: int, colluding: int
) -> None:
    """By trying all sets: the colluding sites are in both, which is the worst that they can do."""
    fewest = sharing_an_honest_site(sites, colluding)
    assert colluding < fewest <= sites
    for size, shared in ((fewest, True), (fewest - 1, False)):
        sets = [set(each) for each in combinations(range(sites), size)]
        honest = [
            len({place for place in one & other if place >= colluding}) for one in sets for other in sets
        ]
        assert (min(honest) > 0) is shared


def test_a_semi_honest_coordinator_opens_one_sum_of_a_round_whatever_the_minimum() -> None:
    """It follows the protocol, which voids an attempt before it asks for another."""
    assert read("{adversary: semi-honest}", sites=7).sites.minimum == 3


def test_a_smaller_minimum_is_taken_without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: nothing else refuses it. What two disjoint sums of one round show is in `tests/client/test_one_sum_a_round.py`."""
    monkeypatch.setattr(plan_coherence, "sharing_an_honest_site", lambda *_: 0)
    assert read(sites=7, minimum=3).sites.minimum == 3


# Weights lie in one band.


def test_a_weight_that_outweighs_the_others_is_refused_under_secure_aggregation_only() -> None:
    heavy = MOST_WEIGHT_RATIO + 1
    assert read(weights=f"{{s0: {heavy - 1}}}").weight_of("s0") == heavy - 1  # type: ignore[arg-type]
    assert read(weights="{s0: 7, s1: 70, s2: 11, s3: 7}").weight_of("s1") == 70  # type: ignore[arg-type]
    with pytest.raises(DocumentError, match=r"`aggregation`: weights from 1 to 11; .*Change `sites`"):
        read(weights=f"{{s0: {heavy}}}")
    assert read("{mode: plain}", weights=f"{{s0: {heavy}}}").weight_of("s0") == heavy  # type: ignore[arg-type]


# What a site admits of it.


def site(policy: str) -> SiteConfig:
    return read_document(
        changed(SITE, "modes: [plain]", f"modes: [secure], {policy}"), SiteConfig, "site.yaml"
    )


def test_a_site_admits_plans_against_an_active_coordinator_only_unless_it_says_otherwise() -> None:
    (rule,) = read_document(SITE, SiteConfig, "site.yaml").policy.accept
    assert (rule.aggregation.adversaries, rule.aggregation.colluding_at_least) == (("active",), 1)
    chosen = site("adversaries: [active, semi-honest], colluding_at_least: 0").policy.accept[0].aggregation
    assert (chosen.adversaries, chosen.colluding_at_least) == (("active", "semi-honest"), 0)


@pytest.mark.parametrize(
    "policy",
    [
        "adversaries: [passive]",
        "adversaries: [active, active]",
        "colluding_at_least: -1",
        "colluding_at_least: some",
    ],
)
def test_a_policy_that_says_nothing_that_a_plan_could_keep(policy: str) -> None:
    with pytest.raises(DocumentError, match=policy.partition(":")[0]):
        site(policy)
