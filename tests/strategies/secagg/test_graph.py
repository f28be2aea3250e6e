"""The graph follows from the keys and from nobody's wish, and its parameters hold what their bounds say."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.secagg.graph import (
    Graph,
    _upper_tails_log2,
    complete_graph,
    regular_graph,
    semi_honest_parameters,
)
from tests.strategies.secagg.attempt_for_tests import names


def components(graph: Graph, left: set[int]) -> int:
    """Connected parts of the graph over the places `left`."""
    count, left = 0, set(left)
    while left:
        count, todo = count + 1, [left.pop()]
        while todo:
            for other in set(graph.near[todo.pop()]) & left:
                left.remove(other)
                todo.append(other)
    return count


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 40), st.integers(1, 12), st.binary(max_size=8))
def test_a_random_graph_is_regular_symmetric_and_in_one_piece(count: int, half: int, seed: bytes) -> None:
    sites = names(count)
    graph = regular_graph(sites, 2 * half, sha256_hex(seed))
    assert graph.degree == min(2 * half, count - 1)
    for site in sites:
        near = graph.neighbours(site)
        assert len(near) == graph.degree
        assert site not in near
        assert list(near) == sorted(set(near))
        assert all(site in graph.neighbours(other) for other in near)
    assert components(graph, set(range(count))) == 1
    assert graph == regular_graph(sites, 2 * half, sha256_hex(seed))


def test_another_digest_gives_another_graph_and_so_nobody_can_keep_one() -> None:
    sites = names(50)
    graphs = [regular_graph(sites, 6, sha256_hex(bytes([each]))).neighbours(sites[0]) for each in range(40)]
    assert len(set(graphs)) == 40


def test_a_graph_that_somebody_chooses_surrounds_a_victim() -> None:
    """What the digest of signed keys keeps a coordinator from: with a seed of its choice all neighbours of a site are its own."""
    sites = names(10)
    victim, owned = sites[0], set(sites[6:])
    chosen = next(
        seed
        for seed in (sha256_hex(str(each).encode()) for each in range(1000))
        if set(regular_graph(sites, 2, seed).neighbours(victim)) <= owned
    )
    assert set(regular_graph(sites, 2, chosen).neighbours(victim)) <= owned


def test_everybody_with_everybody() -> None:
    graph = complete_graph(names(5))
    assert all(len(graph.neighbours(site)) == 4 for site in graph.sites)
    for wrong in (names(1), tuple(reversed(names(4))), (*names(3), names(3)[2])):
        with pytest.raises(UsageError, match="sorted"):
            complete_graph(wrong)


@pytest.mark.parametrize(("others", "marked", "drawn"), [(9, 4, 5), (20, 7, 6), (12, 0, 4), (12, 12, 4)])
def test_tails_are_those_of_counting(others: int, marked: int, drawn: int) -> None:
    tails = _upper_tails_log2(others, marked, drawn)
    for least in range(drawn + 2):
        exact = sum(
            Fraction(math.comb(marked, x) * math.comb(others - marked, drawn - x), math.comb(others, drawn))
            for x in range(least, drawn + 1)
            if x <= marked and drawn - x <= others - marked
        )
        if exact == 0:
            assert tails[least] == -math.inf
        else:
            assert tails[least] == pytest.approx(math.log2(exact), abs=1e-9)


@pytest.mark.parametrize("count", [200, 500, 1000, 10_000])
def test_parameters_keep_their_bounds(count: int) -> None:
    found = semi_honest_parameters(count, corrupt=0.05, dropouts=0.05)
    assert found.privacy_log2 <= -40
    assert found.correctness_log2 <= -20
    assert found.degree % 2 == 0
    assert 1 <= found.threshold <= found.degree < 60
    worse = semi_honest_parameters(count, corrupt=0.1, dropouts=0.1)
    assert worse.degree > found.degree
    looser = semi_honest_parameters(count, corrupt=0.05, dropouts=0.05, privacy_log2=-10, correctness_log2=-5)
    assert looser.degree < found.degree


def test_events_are_as_rare_as_their_bound_says() -> None:
    """With bounds of 1 in 8 and 1 in 4, over 400 seeded draws of who is corrupt and who drops out."""
    count, corrupt, dropouts = 60, 0.1, 0.1
    found = semi_honest_parameters(
        count, corrupt=corrupt, dropouts=dropouts, privacy_log2=-3, correctness_log2=-2
    )
    source, leaks, voids = Random(1), 0, 0
    for each in range(400):
        graph = regular_graph(names(count), found.degree, sha256_hex(str(each).encode()))
        places = source.sample(range(count), 12)
        bad, gone = set(places[:6]), set(places[6:])
        honest = set(range(count)) - bad
        surrounded = any(len(bad & set(graph.near[place])) >= found.threshold for place in honest)
        leaks += surrounded or components(graph, honest - gone) > 1
        voids += any(len(set(graph.near[place]) - gone) < found.threshold for place in range(count))
    assert leaks / 400 <= 2**-3
    assert voids / 400 <= 2**-2


@pytest.mark.parametrize(
    ("corrupt", "dropouts", "message"),
    [(0.6, 0.5, "less than all"), (-0.1, 0.0, "less than all"), (0.4, 0.5, "share with everybody")],
)
def test_what_no_graph_can_stand(corrupt: float, dropouts: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        semi_honest_parameters(150, corrupt=corrupt, dropouts=dropouts)
