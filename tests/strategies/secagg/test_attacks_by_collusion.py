"""A coordinator with colluding sites that tells the honest ones apart, and cohorts that fall apart by themselves.

Each attack fails, and its control works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from strategies.errors import UsageError
from strategies.ids import SiteName
from strategies.secagg import client as site_side
from strategies.secagg import opening, parameters
from strategies.secagg import server as central
from strategies.secagg.client import ProtocolAbort
from strategies.secagg.graph import GraphParameters
from strategies.secagg.messages import ConfirmRequest, UnmaskRequest
from strategies.secagg.parameters import Adversary, Parameters, sharing_an_honest_site
from strategies.secagg.server import TooFewSites
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import KeySeed, PrivateKey, Suite
from tests.strategies.secagg.attacks_for_tests import (
    DIMENSION,
    VICTIM,
    Guard,
    agreed_with,
    combined,
    off,
    stripped,
)
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, Values, names

# Two halves of the honest sites, each with all colluding ones: half of ten sites collude.

SITES = names(10)
HALVES = (SITES[:3], SITES[3:5])
COLLUDERS = SITES[5:]


def half_colludes() -> Federation:
    return Federation(count=10, minimum=7, colluding=5)


def split_in_two(federation: Federation) -> Values:
    """One half is told that all have survived, the other that the victim has dropped; the colluding sites sign both."""
    federation.until_masked()
    told = (SITES, SITES[1:])
    owns, keys = (
        {site: part(federation.masked[site].held[VICTIM]) for site in COLLUDERS}
        for part in (lambda pair: pair[SHARE_BYTES:], lambda pair: pair[:SHARE_BYTES])
    )
    for half, survivors, found in zip(HALVES, told, (owns, keys), strict=True):
        asked = ConfirmRequest(survivors)
        states = {site: federation.masked[site].confirm(asked) for site in (*half, *COLLUDERS)}
        request = UnmaskRequest(
            statement=STATEMENT,
            survivors=survivors,
            dropped=tuple(site for site in SITES if site not in survivors),
            confirmations={site: signed.signature for site, (_, signed) in states.items()},
        )
        for site in half:
            shares = states[site][0].unmask(request)
            found[site] = (shares.own_seeds | shares.mask_keys)[VICTIM]  # type: ignore[operator]
    cohort = federation.shared[VICTIM].cohort
    key = PrivateKey(federation.suite, KeySeed(combined(cohort, keys)))
    return stripped(
        cohort, federation.sent[VICTIM], combined(cohort, owns), agreed_with(cohort, key, SITES[1:])
    )


def test_halves_of_the_honest_sites_that_are_told_of_different_survivors() -> None:
    federation = half_colludes()
    assert federation.parameters.threshold(10) == 8
    with pytest.raises(ProtocolAbort, match=r"7 of the peers that this site recognises .* 8 are needed"):
        split_in_two(federation)


def test_halves_of_the_honest_sites_do_not_share_their_secrets_where_the_threshold_is_too_small(
    monkeypatch: Guard,
) -> None:
    """The other guard: a site works out itself how many colluding sites a threshold bears."""
    off(monkeypatch, parameters, "sharing_an_honest_site", lambda *_: 0)
    with pytest.raises(ProtocolAbort, match="that is 5, and a threshold of 7 bears 3"):
        split_in_two(half_colludes())


def test_halves_of_the_honest_sites_give_the_input_away_without_the_guards(monkeypatch: Guard) -> None:
    off(monkeypatch, parameters, "sharing_an_honest_site", lambda *_: 0)
    off(monkeypatch, site_side, "_check_strangers")
    federation = half_colludes()
    assert federation.parameters.threshold(10) == 7
    assert np.array_equal(split_in_two(federation), federation.vectors()[VICTIM])


@pytest.mark.parametrize(
    ("sites", "minimum", "colluding", "threshold"),
    [
        (10, 7, 5, 8),  # (10 + 5) // 2 + 1: what makes two sets of confirmations share an honest site
        (10, 7, 1, 7),  # 2 * 10 // 3 + 1
        (10, 9, 1, 9),  # the minimum
        (3, 3, 1, 3),
        (128, 3, 1, 86),
        (128, 100, 98, 114),
    ],
)
def test_the_threshold_is_the_largest_of_three(
    sites: int, minimum: int, colluding: int, threshold: int
) -> None:
    active = Parameters(adversary=Adversary.ACTIVE, suite=Suite.X25519, minimum=minimum, colluding=colluding)
    assert active.threshold(sites) == threshold
    assert max(minimum, 2 * sites // 3 + 1, sharing_an_honest_site(sites, colluding)) == threshold
    curious = replace(active, adversary=Adversary.SEMI_HONEST)
    assert curious.threshold(sites) == max(minimum, sites // 2 + 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"minimum": 2, "colluding": 0}, "opens nothing below 3 survivors"),
        ({"minimum": 5, "colluding": 4}, "colluding may be 0 to 3"),
        ({"colluding": -1}, "colluding may be 0 to 1"),
        ({"dropouts": 1.0}, "use a number from 0 to below 1"),
    ],
)
def test_parameters_that_protect_nobody(changed: dict[str, float], words: str) -> None:
    right = Parameters(adversary=Adversary.ACTIVE, suite=Suite.X25519, minimum=3, colluding=1)
    with pytest.raises(UsageError, match=words):
        replace(right, **changed)


# Pieces: of 130 sites, each of which shares with 18 neighbours, so many drop out that the survivors' graph falls apart.


@pytest.fixture(scope="module")
def large() -> tuple[Federation, central.Ready]:
    """A semi-honest cohort that has shared its secrets. A twentieth of it may drop out by its plan."""
    federation = Federation(count=130, adversary=Adversary.SEMI_HONEST, dropouts=0.05)
    ready = federation.share(federation.advertise())
    assert (ready.cohort.shape.graph.degree, ready.cohort.shape.threshold) == (18, 3)
    return federation, ready


def pieces_of(ready: central.Ready, alive: Sequence[SiteName]) -> list[list[SiteName]]:
    """The connected parts of the graph that is left, the smallest first."""
    left, found = set(alive), []
    while left:
        piece, todo = [], [left.pop()]
        while todo:
            piece.append(todo.pop())
            near = left & set(ready.cohort.shape.graph.neighbours(piece[-1]))
            left -= near
            todo += near
        found.append(sorted(piece))
    return sorted(found, key=len)


def survivors_in_pieces(ready: central.Ready) -> tuple[SiteName, ...]:
    """Forty sites, the first such draw in which every secret that is needed can be rebuilt and the survivors are not in one piece."""
    source, near = np.random.default_rng(1), ready.cohort.shape.graph.neighbours
    for _ in range(100):
        alive = set(source.choice(ready.sites, 40, replace=False).tolist())
        needed = alive | {site for site in ready.sites if alive & set(near(site))}
        holders = [len(alive & {*near(site), site}) for site in needed]
        if min(holders) >= ready.cohort.shape.threshold and len(pieces_of(ready, sorted(alive))) > 1:
            return tuple(sorted(alive))
    raise AssertionError("no draw falls apart")


def opened_in_pieces(federation: Federation, ready: central.Ready) -> list[tuple[Values, Values]]:
    """What the coordinator, following the protocol, can open from its own view: each piece's sum by itself, and what it should be."""
    alive, vectors = survivors_in_pieces(ready), federation.vectors(DIMENSION)
    step = federation.confirm(federation.mask(ready, vectors, frozenset(ready.sites) - set(alive)))
    assert np.array_equal(federation.unmask(step).total, sum(vectors[site] for site in alive))
    found = []
    for piece in pieces_of(ready, alive):
        total = RING.zeros(DIMENSION)
        for site in piece:
            RING.add_packed(total, federation.sent[site].packed)
        request = replace(step.request, survivors=tuple(piece))
        part, _ = opening.open_sum(step.cohort, step.bound, RING, total, request, list(step._shares.values()))
        found.append((RING.decode(part), np.sum([vectors[site] for site in piece], axis=0)))
    return found


def test_survivors_that_fall_into_pieces(large: tuple[Federation, central.Ready]) -> None:
    """More dropouts than planned are beyond what the graph's bounds are about: the attempt is void."""
    with pytest.raises(TooFewSites, match="40 sites have sent their masked input; 123 are needed"):
        opened_in_pieces(*large)


def test_survivors_that_fall_into_pieces_are_not_opened_by_sites_either(
    monkeypatch: Guard, large: tuple[Federation, central.Ready]
) -> None:
    off(monkeypatch, central, "_require")
    with pytest.raises(ProtocolAbort, match="40 survivors; at least 123 must be in a sum"):
        opened_in_pieces(*large)


def test_survivors_that_fall_into_pieces_are_opened_piece_by_piece_without_the_guard(
    monkeypatch: Guard, large: tuple[Federation, central.Ready]
) -> None:
    """Nobody deviates, and the coordinator sees sums of far fewer inputs than survived."""
    off(monkeypatch, Parameters, "fewest_survivors", lambda self, _: self.minimum)
    found = opened_in_pieces(*large)
    assert len(found) > 1
    assert all(np.array_equal(read, right) for read, right in found)


# A survivor that has lost its neighbours. Twenty-four sites, each of which shares with four, and any three shares rebuild a secret.


@pytest.fixture
def sparse(monkeypatch: Guard) -> Federation:
    few = GraphParameters(degree=4, threshold=3, privacy_log2=-1, correctness_log2=-1)
    monkeypatch.setattr(parameters, "MOST_ACTIVE_SITES", 20)
    off(monkeypatch, parameters, "semi_honest_parameters", lambda *_, **__: few)
    return Federation(count=24, adversary=Adversary.SEMI_HONEST, dropouts=0.3)


def without_neighbours(federation: Federation, lost: int) -> central.Unmasking:
    """So many of the victim's neighbours drop out, which by the plan may happen: what the coordinator would settle."""
    ready = federation.share(federation.advertise())
    gone = frozenset(ready.cohort.shape.graph.neighbours(VICTIM)[:lost])
    return federation.confirm(federation.mask(ready, federation.vectors(), gone))


def test_a_survivor_whose_masks_could_not_be_taken_off_voids_the_attempt_before_it_is_settled(
    sparse: Federation,
) -> None:
    with pytest.raises(TooFewSites, match="too few neighbours of site-0000 have survived to open its masks"):
        without_neighbours(sparse, 3)
    step = without_neighbours(sparse, 2)
    expected = sum(sparse.vectors()[site] for site in step.request.survivors)
    assert np.array_equal(sparse.unmask(step).total, expected)


def test_a_survivor_whose_masks_cannot_be_taken_off_keeps_a_settled_sum_closed_without_the_guard(
    monkeypatch: Guard, sparse: Federation
) -> None:
    """All survivors have given all their shares, for this attempt and for no other."""
    with monkeypatch.context() as guard:
        off(guard, central, "_lacking", lambda *_: [])
        step = without_neighbours(sparse, 3)
    with pytest.raises(TooFewSites, match="too few for the secrets of site-0000"):
        sparse.unmask(step)
    assert step.waiting_for == ()


@pytest.mark.parametrize(
    ("count", "adversary", "dropouts", "fewest"),
    [
        (7, Adversary.ACTIVE, 0.5, 5),
        (7, Adversary.SEMI_HONEST, 0.5, 4),  # a complete graph: fewer could not open
        (130, Adversary.SEMI_HONEST, 0.05, 123),
        (130, Adversary.SEMI_HONEST, 0.0, 130),
    ],
)
def test_the_fewest_survivors_that_are_opened(
    count: int, adversary: Adversary, dropouts: float, fewest: int
) -> None:
    federation = Federation(count=count, adversary=adversary, dropouts=dropouts)
    shape = federation.parameters.shape(federation.sites, STATEMENT)
    assert federation.parameters.fewest_survivors(shape) == fewest
