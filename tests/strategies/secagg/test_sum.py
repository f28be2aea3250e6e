"""The opened sum is the plain sum of the survivors, exactly, whatever the cohort, the threshold, the dropouts and the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.ids import SiteName
from strategies.secagg.parameters import Adversary
from strategies.secagg.rings import Ring
from strategies.secagg.server import TooFewSites
from strategies.secagg.suites import Suite
from tests.strategies.secagg.attempt_for_tests import Federation, names

BITS = st.sampled_from([8, 13, 24, 25, 32, 33, 62])


@st.composite
def losses(draw: st.DrawFn, sites: tuple[SiteName, ...], most: int) -> frozenset[SiteName]:
    return frozenset(draw(st.lists(st.sampled_from(sites), max_size=most, unique=True)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_opened_sum_is_the_sum_of_the_survivors(data: st.DataObject) -> None:
    count = data.draw(st.integers(3, 9))
    sites = names(count)
    federation = Federation(
        count=count,
        colluding=data.draw(st.integers(0, 1)),
        adversary=data.draw(st.sampled_from(Adversary)),
        suite=data.draw(st.sampled_from(Suite)),
        seed=data.draw(st.integers()),
        at_least=2,
    )
    ring, dimension = Ring(data.draw(BITS)), data.draw(st.integers(1, 40))
    span = ring.modulus // (2 * count) - 1
    source = np.random.Generator(np.random.Philox(data.draw(st.integers(0, 2**32))))
    vectors = {site: source.integers(-span, span + 1, dimension) for site in sites}
    lost = [data.draw(losses(sites, 2)) for _ in range(5)]
    try:
        first = federation.advertise(tuple(site for site in sites if site not in lost[0]))
        ready = federation.share(first, lost[1])
        confirming = federation.mask(ready, vectors, lost[2], ring=ring)
        unmasking = federation.confirm(confirming, lost[3])
        opened = federation.unmask(unmasking, lost[4])
    except TooFewSites:
        return  # void: allowed, and nothing was opened
    expected = np.sum([vectors[site] for site in opened.survivors], axis=0)
    assert np.array_equal(opened.total, expected)
    assert set(opened.survivors) == set(sites) - lost[0] - lost[1] - lost[2]
    assert opened.doubted == ()


@pytest.mark.parametrize("suite", Suite)
def test_dropouts_at_every_step_up_to_the_threshold(suite: Suite) -> None:
    federation = Federation(count=10, suite=suite, at_least=6)
    sites = federation.sites
    ready = federation.share(federation.advertise(sites[1:]), frozenset(sites[1:2]))
    vectors = federation.vectors()
    confirming = federation.mask(ready, vectors, frozenset(sites[2:3]))
    opened = federation.unmask(federation.confirm(confirming), frozenset())
    assert opened.survivors == sites[3:]
    assert np.array_equal(opened.total, np.sum([vectors[site] for site in sites[3:]], axis=0))


def test_below_the_threshold_every_step_ends_as_void() -> None:
    sites = names(4)
    with pytest.raises(TooFewSites, match="2 sites have advertised keys of their own; 3 are needed"):
        Federation().advertise(sites[:2])
    federation = Federation()
    with pytest.raises(TooFewSites, match="2 sites have shared their secrets; 3 are needed"):
        federation.share(federation.advertise(), frozenset(sites[:2]))
    ready = federation.share(federation.advertise())
    with pytest.raises(TooFewSites, match="2 sites have sent their masked input; 3 are needed"):
        federation.mask(ready, federation.vectors(), frozenset(sites[:2]))
    confirming = federation.mask(ready, federation.vectors())
    with pytest.raises(TooFewSites, match="2 sites have confirmed who survived; 3 are needed"):
        federation.confirm(confirming, frozenset(sites[:2]))
    unmasking = federation.confirm(federation.mask(ready, federation.vectors()))
    with pytest.raises(TooFewSites, match="2 survivors have given their shares"):
        federation.unmask(unmasking, frozenset(sites[:2]))


@pytest.mark.slow
def test_a_large_semi_honest_cohort_shares_with_few_and_still_sums_up() -> None:
    federation = Federation(count=150, adversary=Adversary.SEMI_HONEST, colluding=1, dropouts=0.05)
    vectors = federation.vectors()
    ready = federation.share(federation.advertise())
    assert ready.cohort.shape.graph.degree < 149
    lost = frozenset(federation.sites[::40])
    opened = federation.unmask(federation.confirm(federation.mask(ready, vectors, lost)))
    expected = np.sum([vectors[site] for site in federation.sites if site not in lost], axis=0)
    assert np.array_equal(opened.total, expected)
