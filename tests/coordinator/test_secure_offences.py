"""Sites that do not keep to secure aggregation: they count as dropped, and are named with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from coordinator.rounds.asking import TooFewSurvivors
from protos.codec import encode_reply
from protos.frames import Moments, Reply, SecureAnswer, Stage
from protos.secure_codec import decode_answer, encode_secure_reply
from strategies.ids import Digest, SiteName
from strategies.secagg import cohort as cohorts
from strategies.secagg.messages import (
    ADVERTISEMENT,
    CONFIRMATION,
    UPLOAD,
    Advertisement,
    Body,
    Bound,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    Frame,
    MaskedInput,
)
from tests.coordinator.secure_for_tests import (
    EAST,
    FOUR,
    NORTH,
    SOUTH,
    WEST,
    Ask,
    Secured,
    changed,
    secure_plan,
)
from tests.coordinator.sums_for_tests import (
    RIVAL,
    Change,
    Make,
    at,
    close_to_the_mean,
    keys_of,
    offends,
    sign,
)


def said_in_anothers_name(_: Secured, __: SiteName, ___: Ask, reply: bytes) -> bytes:
    return changed(reply, lambda body: body, kind=MaskedInput, name=EAST)


def said_of(kind: type[Body], change: Callable[[Secured, SiteName, Bound, Body], Body]) -> Change:
    """Another body instead of the site's own. It may sign what it likes with its own key."""

    def meddle(federation: Secured, site: SiteName, ask: Ask, reply: bytes) -> bytes:
        bound = federation.bound(ask.attempt) if kind in {MaskedInput, Confirmation} else None
        return changed(reply, lambda body: change(federation, site, bound or _unbound(ask), body), kind=kind)

    return meddle


def _unbound(ask: Ask) -> Bound:
    return Bound(ask.attempt, RIVAL, RIVAL)


def input_of(packed: Callable[[bytes], bytes], statement: Digest | None = None) -> Change:
    """A masked input that a site has changed itself, and signed."""

    def change(federation: Secured, site: SiteName, bound: Bound, body: Body) -> Body:
        assert isinstance(body, MaskedInput)
        told = replace(bound, statement=statement or bound.statement)
        message = MaskedInput.signed_bytes(told, site, packed(body.packed))
        signature = sign(federation, site, UPLOAD, message)
        return replace(body, packed=packed(body.packed), statement=told.statement, signature=signature)

    return said_of(MaskedInput, change)


def flipped(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


def wrongly_signed(kind: type[Body]) -> Change:
    def change(_: Secured, __: SiteName, ___: Bound, body: Body) -> Body:
        assert isinstance(body, Advertisement | MaskedInput | Confirmation)
        return replace(body, signature=flipped(body.signature))

    return said_of(kind, change)


def keys_with(envelope_key: Callable[[Advertisement], bytes]) -> Change:
    """An envelope key of a site's own choice, properly signed."""

    def change(federation: Secured, site: SiteName, bound: Bound, body: Body) -> Body:
        assert isinstance(body, Advertisement)
        chosen = replace(body, envelope_key=envelope_key(body))
        message = Advertisement.signed_bytes(bound.attempt, site, *keys_of(chosen))
        return replace(chosen, signature=sign(federation, site, ADVERTISEMENT, message))

    return said_of(Advertisement, change)


def of_east(_: Secured, __: SiteName, ___: Bound, body: Body) -> Body:
    assert isinstance(body, MaskedInput)
    return replace(body, site=EAST)


def other_survivors(federation: Secured, site: SiteName, bound: Bound, body: Body) -> Body:
    assert isinstance(body, Confirmation)
    message = Confirmation.signed_bytes(bound, site, ConfirmRequest((EAST, SOUTH, WEST)).digest)
    return replace(body, signature=sign(federation, site, CONFIRMATION, message))


def an_envelope_short(_: Secured, __: SiteName, ___: Bound, body: Body) -> Body:
    assert isinstance(body, Envelopes)
    return replace(body, sealed={site: each for site, each in body.sealed.items() if site != EAST})


def with_frames(change: Callable[[tuple[Frame, ...]], tuple[Frame, ...]]) -> Change:
    def meddle(_: Secured, __: SiteName, ___: Ask, reply: bytes) -> bytes:
        said = decode_answer(reply)
        assert isinstance(said.body, SecureAnswer)
        return encode_secure_reply(
            said.statement_digest, said.site, replace(said.body, frames=change(said.body.frames))
        )

    return meddle


def in_the_clear(_: Secured, site: SiteName, __: Ask, reply: bytes) -> bytes:
    echo = decode_answer(reply).statement_digest
    return encode_reply(Reply(statement_digest=echo, site=site, body=Moments(np.ones(3))))


def to_another_request(_: Secured, site: SiteName, __: Ask, reply: bytes) -> bytes:
    said = decode_answer(reply)
    assert isinstance(said.body, SecureAnswer)
    return encode_secure_reply(RIVAL, site, said.body)


def of_another_attempt(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(Frame(replace(each.attempt, attempt=7), each.body) for each in frames)


OFFENCES: dict[str, tuple[type[Body], Change, str]] = {
    "answers in another's name": (MaskedInput, said_in_anothers_name, "answered in the name of east"),
    "answers another request": (MaskedInput, to_another_request, "answered another statement"),
    "sends another's input": (
        MaskedInput,
        said_of(MaskedInput, of_east),
        "sent no MaskedInput of its own",
    ),
    "sends an input for another attempt": (
        MaskedInput,
        with_frames(of_another_attempt),
        "sent no MaskedInput of its own",
    ),
    "sends two inputs": (
        MaskedInput,
        with_frames(lambda frames: frames * 2),
        "sent no MaskedInput of its own",
    ),
    "sends more steps than there are": (
        MaskedInput,
        with_frames(lambda f: f[:1] * 5),
        "1 to 4 are accepted",
    ),
    "masks for another statement": (
        MaskedInput,
        input_of(lambda packed: packed, RIVAL),
        "for another statement",
    ),
    "signs its input wrongly": (MaskedInput, wrongly_signed(MaskedInput), "is not signed by its identity"),
    "sends a coordinate too few": (MaskedInput, input_of(lambda packed: packed[:-3]), "coordinates takes"),
    "sends a byte too many": (MaskedInput, input_of(lambda packed: packed + b"\0"), "coordinates takes"),
    "sends far too much": (MaskedInput, input_of(lambda packed: packed * 9999), "coordinates takes"),
    "sends half a frame": (
        MaskedInput,
        lambda _, __, ___, reply: reply[: len(reply) // 2],
        "sent bytes that are not",
    ),
    "sends its moments in the clear": (MaskedInput, in_the_clear, "sent Moments"),
    "signs its keys wrongly": (
        Advertisement,
        wrongly_signed(Advertisement),
        "are not signed by its identity",
    ),
    "has one key for two purposes": (
        Advertisement,
        keys_with(lambda body: body.mask_key),
        "advertises one key for both purposes",
    ),
    "seals an envelope too few": (
        Envelopes,
        said_of(Envelopes, an_envelope_short),
        "has not sealed exactly one",
    ),
    "signs its confirmation wrongly": (
        Confirmation,
        wrongly_signed(Confirmation),
        "has signed other survivors",
    ),
    "confirms other survivors": (
        Confirmation,
        said_of(Confirmation, other_survivors),
        "has signed other survivors",
    ),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_a_site_that_breaks_a_rule_counts_as_dropped_and_is_named_with_the_reason(
    make: Make, offence: str
) -> None:
    """Two of four are too many, and void the attempt; one of four is not missed."""
    kind, change, words = OFFENCES[offence]
    federation = make(secure_plan(), begun=True)
    offends(federation, kind, change, {1: [SOUTH, WEST], 2: [WEST]})
    federation.drive()
    void, good = federation.rounds()
    assert void.state == "voided"
    assert void.reason is not None
    assert re.search(f": south .*{re.escape(words)}.*; west .*{re.escape(words)}", void.reason)
    survivors = FOUR if kind is Confirmation else (EAST, NORTH, SOUTH)
    assert (good.state, good.survivors) == ("committed", list(survivors))
    roster = survivors if kind in {Advertisement, Envelopes} else FOUR
    assert close_to_the_mean(federation, 1, survivors, roster=roster)


def test_a_site_whose_key_gives_no_secret_counts_as_dropped(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    low = keys_with(lambda _: bytes(32))
    offends(federation, Advertisement, low, {1: [WEST]})
    federation.drive()
    assert [(row.state, row.survivors) for row in federation.rounds()] == [
        ("committed", [EAST, NORTH, SOUTH])
    ]


def test_a_site_whose_key_gives_no_secret_ends_the_run_without_the_guard(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All honest sites refuse its cohort, in every attempt, and nobody says whose fault it is."""
    monkeypatch.setattr(cohorts, "check_public_key", lambda _, key: key)
    federation = make(secure_plan(), begun=True)
    offends(federation, Advertisement, keys_with(lambda _: bytes(32)), dict.fromkeys((1, 2, 3), (WEST,)))
    with pytest.raises(TooFewSurvivors, match="a public key gives no secret"):
        federation.drive()
    assert [row.state for row in federation.rounds()] == ["voided"] * 3


def test_why_a_site_is_not_in_a_sum_is_in_the_log(make: Make, heard: list[dict[str, object]]) -> None:
    federation = make(secure_plan(), begun=True)
    offends(federation, MaskedInput, wrongly_signed(MaskedInput), {1: [WEST]})
    federation.drive()
    assert [line for line in heard if "west" in str(line) and "is not signed by its identity" in str(line)]


def test_the_reason_of_a_dropout_is_not_lost_to_what_rides_along(make: Make) -> None:
    federation = make(secure_plan(rounds=2), begun=True)

    def unsigned_and_nothing_ahead(told: Secured, site: SiteName, ask: Ask, reply: bytes) -> bytes:
        alone = with_frames(lambda frames: frames[:1])(told, site, ask, reply)
        return wrongly_signed(MaskedInput)(told, site, ask, alone)

    offends(federation, MaskedInput, unsigned_and_nothing_ahead, {1: [WEST]})
    federation.wire.request_lost = at(Stage.TRAIN, 1, Confirmation, [EAST])
    federation.drive()
    void = federation.rounds()[0]
    assert void.state == "voided"
    assert "is not signed by its identity" in (void.reason or "")
