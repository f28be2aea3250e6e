"""What attacks have in common: how a guard is switched off, and how secrets that an attacker has strip a victim's input of its masks."""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, ModuleType

import numpy as np
import pytest

from strategies.ids import SiteName
from strategies.secagg import shamir
from strategies.secagg.cohort import Cohort
from strategies.secagg.labels import ENVELOPE, MASK_OWN, MASK_PAIR
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import Advertisement, Bound, MaskedInput, MaskRequest
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import (
    Agreed,
    OwnSeed,
    PrivateKey,
    envelope_key,
    own_mask,
    pair_mask,
    seal,
    unseal,
)
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, Values, names

Guard = pytest.MonkeyPatch
VICTIM = names(1)[0]
OTHERS = names(4)[1:]
DIMENSION = 5


def off(guard: Guard, where: object, name: str, instead: Callable[..., object] = lambda *_: None) -> None:
    """Put something else in the place of one guard."""
    guard.setattr(where, name, instead)


def without(guard: Guard, where: type | ModuleType, name: str, *refusals: str) -> None:
    """Take out of one function of the product the `if`s that refuse with these words; the rest of it stays as it is."""
    function = inspect.getattr_static(where, name)
    assert isinstance(function, FunctionType)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for words in refusals:
        taken = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _refuses_with(node, words)]
        assert len(taken) == 1, f"{name} has {len(taken)} guards that say {words!r}"
        for parent in ast.walk(tree):
            body = getattr(parent, "body", None)
            if isinstance(body, list) and taken[0] in body:
                parent.body = [node for node in body if node is not taken[0]] or [ast.Pass()]  # type: ignore[attr-defined]
    made: dict[str, object] = {}
    code = compile(
        ast.fix_missing_locations(tree),
        f"<{name} without a guard>",
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    exec(code, function.__globals__, made)
    guard.setattr(where, name, made[function.__name__])


def _refuses_with(node: ast.If, words: str) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Raise) and words in ast.unparse(last)


def combined(cohort: Cohort, shares: Mapping[SiteName, bytes]) -> bytes:
    """A secret from shares by site, as anybody can compute it."""
    by_point = {cohort.point(site): share for site, share in shares.items()}
    return shamir.combine(by_point, shamir.coefficients_at_zero(tuple(by_point)))


def sealed_to(cohort: Cohort, sender: SiteName, key: PrivateKey, sealed: bytes) -> bytes:
    """What `sender` has sealed for the owner of this envelope key, for whoever has the key: a pair of shares."""
    owner = next(site for site, item in cohort.members.items() if item.envelope_key == key.public)
    label = cohort.label(ENVELOPE, sender, owner)
    return unseal(envelope_key(key.agree(cohort.members[sender].envelope_key), label), sealed, label)


def sealed_by(cohort: Cohort, sender: SiteName, key: PrivateKey, receiver: SiteName) -> bytes:
    """An envelope with worthless shares, by whoever has the envelope key of `sender`."""
    label = cohort.label(ENVELOPE, sender, receiver)
    agreed = key.agree(cohort.members[receiver].envelope_key)
    return seal(envelope_key(agreed, label), bytes(2 * SHARE_BYTES), label)


def agreed_by(cohort: Cohort, keys: Mapping[SiteName, PrivateKey]) -> dict[SiteName, Agreed]:
    """What the victim has agreed on with the owners of these mask keys."""
    return {site: key.agree(cohort.members[VICTIM].mask_key) for site, key in keys.items()}


def agreed_with(cohort: Cohort, key: PrivateKey, sites: Iterable[SiteName]) -> dict[SiteName, Agreed]:
    """What the victim, whose mask key this is, has agreed on with `sites`."""
    assert key.public == cohort.members[VICTIM].mask_key
    return {site: key.agree(cohort.members[site].mask_key) for site in sites}


def stripped(cohort: Cohort, sent: MaskedInput, own: bytes, agreed: Mapping[SiteName, Agreed]) -> Values:
    """The victim's vector, for whoever has the seed of its own mask and what it agreed on with every neighbour on its roster."""
    bound = Bound(cohort.attempt, cohort.digest, sent.statement)
    vector = RING.unpack(sent.packed, DIMENSION)
    add_mask(RING, vector, own_mask(OwnSeed(own), bound.label(MASK_OWN, VICTIM)), -1)
    for other, secret in agreed.items():
        assert other > VICTIM  # so the victim has added the mask
        add_mask(RING, vector, pair_mask(secret, bound.label(MASK_PAIR, VICTIM, other)), -1)
    return RING.decode(vector)


def posing_as_the_others(
    federation: Federation,
    shown: Iterable[Advertisement],
    owned: Mapping[SiteName, tuple[PrivateKey, PrivateKey]],
) -> Values:
    """What a coordinator reads of the victim that has the mask and envelope keys of all other sites of the cohort it shows to the victim."""
    shared, envelopes = federation.shares_with(VICTIM, shown)
    cohort = shared.cohort
    pairs = {site: sealed_to(cohort, VICTIM, owned[site][1], envelopes.sealed[site]) for site in owned}
    own = combined(cohort, {site: pair[SHARE_BYTES:] for site, pair in pairs.items()})
    back = {site: sealed_by(cohort, site, owned[site][1], VICTIM) for site in owned}
    request = MaskRequest(statement=STATEMENT, roster=cohort.sites, envelopes=back)
    _, sent = shared.mask(request, RING, federation.vectors()[VICTIM])
    return stripped(cohort, sent, own, agreed_by(cohort, {site: keys[0] for site, keys in owned.items()}))


def is_noise(read: Values, vector: Values) -> bool:
    """Whether nothing of `vector`, whose coordinates are below 1000, shows in `read`: uniform over a ring of 2^24."""
    return bool((read != vector).all() and np.abs(read).max() > 100 * np.abs(vector).max())
