"""A coordinator that uses messages, keys or secrets of another time again. Each attack fails, and its control works."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.errors import Refused
from strategies.secagg import cohort as cohorts
from strategies.secagg import server as central
from strategies.secagg.client import ProtocolAbort
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import MaskedInput
from tests.strategies.secagg.attacks_for_tests import (
    DIMENSION,
    OTHERS,
    VICTIM,
    Guard,
    is_noise,
    off,
    posing_as_the_others,
    without,
)
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, Values

# An old round's keys. Sites forget theirs after a round; suppose that those of one round leaked afterwards.


def replay(old: Federation, new: Federation) -> Values:
    """What a coordinator reads of the victim in the new round that has everybody else's keys of the old one, and shows those again."""
    old.share(old.advertise())
    new.advertise()
    leaked = {site: (old.advertised[site].keys.mask, old.advertised[site].keys.envelope) for site in OTHERS}
    shown = [new.advertised[VICTIM].advertisement, *(old.advertised[s].advertisement for s in OTHERS)]
    return posing_as_the_others(new, shown, leaked)


def test_replay_of_an_old_round() -> None:
    with pytest.raises(
        ProtocolAbort, match="keys of site-0001 are not signed by its identity for this attempt"
    ):
        replay(Federation(seed="old"), Federation(number=2, seed="new"))


def test_replay_of_an_old_round_works_if_signatures_do_not_name_it(monkeypatch: Guard) -> None:
    off(monkeypatch, Attempt, "parts", lambda self: (self.suite, self.plan, self.run, self.stage))
    new = Federation(number=2, seed="new")
    assert np.array_equal(replay(Federation(seed="old"), new), new.vectors()[VICTIM])


# An old round's masked input, in the place of the new one.


def replayed_input(new: Federation) -> central.Opened:
    old = Federation(seed="old")
    old.until_masked()
    step = new.share(new.advertise()).ask(STATEMENT, RING, DIMENSION)
    for site in OTHERS:
        step.receive(new.masked_input(step, site, new.vectors()[site]))
    new.masked_input(step, VICTIM, new.vectors()[VICTIM])
    step.receive(old.sent[VICTIM])
    return new.unmask(new.confirm(step.close()))


def test_replay_of_an_old_input() -> None:
    with pytest.raises(Refused, match="input of site-0000 is not signed by its identity for this attempt"):
        replayed_input(Federation(number=2, seed="new"))


def test_replay_of_an_old_input_spoils_the_sum_if_it_is_not_signed_for_its_attempt(
    monkeypatch: Guard,
) -> None:
    """Nobody notices: all masks are taken off as they should, and a sum of noise is opened."""
    off(
        monkeypatch,
        MaskedInput,
        "signed_digest",
        staticmethod(lambda bound, site, packed: site.encode() + packed.encode()),
    )
    new = Federation(number=2, seed="new")
    opened = replayed_input(new)
    assert opened.survivors == new.sites
    assert is_noise(opened.total, np.sum(list(new.vectors().values()), axis=0))


# A retry of the same round. The coordinator voids an attempt after inputs came and asks again, for what it made the victim send zeros
# the first time, say: with the same masks the difference is the victim's vector.


def retry(first: Federation, second: Federation) -> Values:
    """The difference of the victim's two uploads: of zeros, and of its vector."""
    uploads = []
    for which, vector in ((first, np.zeros(DIMENSION, np.int64)), (second, second.vectors()[VICTIM])):
        ready = which.share(which.advertise())
        sent = which.masked_input(ready.ask(STATEMENT, RING, DIMENSION), VICTIM, vector)
        uploads.append(RING.unpack(sent.packed, DIMENSION))
    return RING.decode(uploads[1] - uploads[0])


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(
            {"seed": 1, "attempt_number": 2}, id="with the same secrets under the next attempt's number"
        ),
        pytest.param({"seed": 2, "attempt_number": 1}, id="with fresh secrets under the same number"),
        pytest.param({"seed": 2, "attempt_number": 2}, id="as the protocol has it"),
    ],
)
def test_a_retry_of_the_same_round(second: dict[str, int]) -> None:
    """Fresh secrets and the attempt in every label: either is enough."""
    federation = Federation(**second)  # type: ignore[arg-type]
    assert is_noise(retry(Federation(seed=1, attempt_number=1), federation), federation.vectors()[VICTIM])


def test_a_retry_of_the_same_round_shows_a_difference_if_secrets_are_used_again(monkeypatch: Guard) -> None:
    """Both guards are off: the operating system repeats itself, and labels do not name the attempt."""
    off(
        monkeypatch,
        Attempt,
        "parts",
        lambda self: (self.suite, self.plan, self.run, self.stage, str(self.round)),
    )
    again = Federation(seed=1, attempt_number=2)
    assert np.array_equal(retry(Federation(seed=1), again), again.vectors()[VICTIM])


def test_a_retry_cannot_show_the_keys_of_the_attempt_before() -> None:
    """The coordinator cannot make sites go on with keys whose secrets it may have rebuilt in the attempt that it voided."""
    first, second = Federation(seed=1), Federation(seed=2, attempt_number=2)
    with pytest.raises(ProtocolAbort, match="not signed by its identity for this attempt"):
        replay(first, second)


def test_a_retry_that_shows_the_keys_of_the_attempt_before_without_the_guard(monkeypatch: Guard) -> None:
    without(monkeypatch, cohorts, "check_advertisement", "are not signed by its identity")
    second = Federation(seed=2, attempt_number=2)
    assert np.array_equal(replay(Federation(seed=1), second), second.vectors()[VICTIM])


# One message twice.


def test_an_input_sent_twice_counts_once() -> None:
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION)
    sent = federation.masked_input(step, VICTIM, federation.vectors()[VICTIM])
    step.receive(sent)
    with pytest.raises(Refused, match="has sent its input already"):
        step.receive(sent)


def test_an_input_sent_twice_spoils_the_sum_without_the_guard(monkeypatch: Guard) -> None:
    without(monkeypatch, central.Collecting, "receive", "has sent its input already")
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION)
    for site in (*federation.sites, VICTIM):
        step.receive(federation.masked_input(step, site, federation.vectors()[site]))
    opened = federation.unmask(federation.confirm(step.close()))
    assert is_noise(opened.total, np.sum(list(federation.vectors().values()), axis=0))
