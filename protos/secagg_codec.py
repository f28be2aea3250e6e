"""Frames of secure aggregation to bytes and back: `secagg.proto` as the types of `strategies.secagg.messages`.

Whatever bytes come in, either a frame whose every field is within bounds comes out, or a `CodecError`; nothing else. Lists of sites are
sorted and name nobody twice. What a frame means, and whether it is believed, is for the states of the protocol to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeVar, assert_never

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import DecodeError

from protos import secagg_pb2 as pb
from protos.codec_fields import MAX_ROSTER, CodecError, decode_digest, parse_as
from protos.frame_size import OPENING, SECAGG, Vectors, cut
from strategies.errors import CovenantError
from strategies.ids import SiteName, run_id, site_name
from strategies.pieces import Bytes
from strategies.secagg.cohort import Cohort, checked_cohort
from strategies.secagg.identities import SIGNATURE_BYTES, Verify
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Body,
    Bound,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    Frame,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.parameters import Parameters
from strategies.secagg.rings import Ring
from strategies.secagg.server import Unmasking
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import TAG_BYTES, Suite

VERSION: Final = 1
_SEALED_BYTES: Final = 2 * SHARE_BYTES + TAG_BYTES
_MOST_ROUNDS: Final = 1 << 31
_STAGES: Final = frozenset({"PREPARE", "TRAIN", "EVALUATE"})
_name: Final = lru_cache(maxsize=MAX_ROSTER)(site_name)
"""The same names come again and again."""
T = TypeVar("T", pb.Advertisement, pb.Envelope, pb.Confirmation, pb.Share)


def encode_frame(frame: Frame) -> Bytes:
    """Serialise a frame deterministically: equal frames give equal bytes."""
    vectors = Vectors.beside(masked_vector(frame))
    return vectors.put(frame_message(frame, vectors).SerializeToString(deterministic=True), SECAGG)


def masked_vector(frame: Frame) -> Bytes | None:
    """The vector in a frame, if there is one."""
    return frame.body.packed if isinstance(frame.body, MaskedInput) else None


def decode_frame(data: Bytes) -> Frame:
    """Parse a frame; raises `CodecError` for anything else."""
    message = pb.Frame()
    vectors = parse_as(message, data, SECAGG, "bytes that are not a frame of secure aggregation")
    return read_frame(message, vectors)


def encode_opening(step: Unmasking) -> Bytes:
    """What `decode_opening` goes on from."""
    cohort, attempt = step.cohort, step.cohort.attempt
    keys = ShareRequest(tuple(cohort.members[site] for site in cohort.sites))
    total = step.ring.pack(step.total)
    vectors = Vectors.beside(total)
    message = pb.Opening(
        cohort=frame_message(Frame(attempt, keys), vectors),
        request=frame_message(Frame(attempt, step.request), vectors),
        bits=step.ring.bits,
        total=vectors.token(total),
    )
    return vectors.put(message.SerializeToString(deterministic=True), OPENING)


def decode_opening(data: Bytes, parameters: Parameters, dimension: int, verify: Verify) -> Unmasking:
    """The step that was kept, its keys verified again. Raises `CodecError` for anything else."""
    message = pb.Opening()
    try:
        skeleton, vectors = cut(data, OPENING)
        message.ParseFromString(skeleton)
        attempt = _read_attempt(message.cohort.attempt)
        keys = _read_cohort(message.cohort.share_request, Suite(attempt.suite))
        request = _read_unmask(message.request.unmask_request)
        cohort = checked_cohort(attempt, parameters, keys.cohort, verify)
        _require_one_attempt(attempt, _read_attempt(message.request.attempt), cohort, request)
        ring = Ring(message.bits)
        bound = Bound(attempt, cohort.digest, request.statement)
        total = ring.unpack(vectors.of(message.total), dimension)
        return Unmasking(cohort, bound, ring, total, request)
    except CodecError:
        raise
    except (DecodeError, CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"what was kept to open a sum cannot be read: {error}") from error


def _require_one_attempt(keys: Attempt, shares: Attempt, cohort: Cohort, request: UnmaskRequest) -> None:
    if keys != shares:
        raise CodecError("the request for shares is of another attempt than the keys")
    roster = (*request.survivors, *request.dropped)
    if len(set(roster)) < len(roster) or not set(roster) <= set(cohort.sites):
        raise CodecError("survivors and dropped sites are no partition of sites whose keys are there")


def frame_message(frame: Frame, vectors: Vectors) -> pb.Frame:  # noqa: C901 (one case a message)
    """The message of a frame, to be put into another, with tokens for its vectors."""
    said = frame.attempt
    message = pb.Frame(
        version=VERSION,
        attempt=pb.Attempt(
            suite=said.suite,
            plan=bytes.fromhex(said.plan),
            run=said.run,
            stage=said.stage,
            round=said.round,
            attempt=said.attempt,
        ),
    )
    match frame.body:
        case AdvertiseRequest():
            message.advertise_request.SetInParent()
        case Advertisement() as body:
            message.advertisement.CopyFrom(_advertisement(body))
        case ShareRequest(cohort=cohort):
            message.share_request.SetInParent()
            message.share_request.cohort.extend(map(_advertisement, cohort))
        case Envelopes(site=site, sealed=sealed):
            message.envelopes.site = site
            message.envelopes.envelopes.extend(_envelopes(sealed))
        case MaskRequest() as body:
            message.mask_request.statement = bytes.fromhex(body.statement)
            message.mask_request.roster.extend(body.roster)
            message.mask_request.envelopes.extend(_envelopes(body.envelopes))
        case MaskedInput() as body:
            message.masked_input.site = body.site
            message.masked_input.statement = bytes.fromhex(body.statement)
            message.masked_input.packed = vectors.token(body.packed)
            message.masked_input.signature = body.signature
        case ConfirmRequest(survivors=survivors):
            message.confirm_request.survivors.extend(survivors)
        case Confirmation(site=site, signature=signature):
            message.confirmation.site, message.confirmation.signature = site, signature
        case UnmaskRequest() as body:
            message.unmask_request.statement = bytes.fromhex(body.statement)
            message.unmask_request.survivors.extend(body.survivors)
            message.unmask_request.dropped.extend(body.dropped)
            message.unmask_request.confirmations.extend(
                pb.Confirmation(site=site, signature=body.confirmations[site])
                for site in sorted(body.confirmations)
            )
        case Shares() as body:
            message.shares.site = body.site
            message.shares.own_seeds.extend(_shares(body.own_seeds))
            message.shares.mask_keys.extend(_shares(body.mask_keys))
        case unreachable:
            assert_never(unreachable)
    return message


def read_frame(message: pb.Frame, vectors: Vectors) -> Frame:
    """The frame in a message; raises `CodecError` where a field is out of bounds."""
    if message.version != VERSION:
        raise CodecError(f"secure aggregation version {message.version}; this side speaks {VERSION}")
    try:
        return Frame(_read_attempt(message.attempt), _read_body(message, vectors))
    except CodecError:
        raise
    except (CovenantError, ValueError, LookupError) as error:
        raise CodecError(f"a frame with a field out of bounds: {error}") from error


def _read_attempt(message: pb.Attempt) -> Attempt:
    if not 1 <= message.attempt < _MOST_ROUNDS or message.round >= _MOST_ROUNDS:
        raise CodecError(f"attempt {message.attempt} at round {message.round}; attempts count from 1")
    if message.stage not in _STAGES:
        raise CodecError("an attempt at a stage that there is not")
    return Attempt(
        suite=Suite(message.suite),
        plan=decode_digest(message.plan, "plan"),
        run=run_id(message.run),
        stage=message.stage,
        round=message.round,
        attempt=message.attempt,
    )


def _read_body(message: pb.Frame, vectors: Vectors) -> Body:  # noqa: C901, PLR0911 (one case a message)
    kind = message.WhichOneof("body")
    match kind:
        case "advertise_request":
            return AdvertiseRequest()
        case "advertisement":
            return _read_advertisement(message.advertisement, Suite(message.attempt.suite))
        case "share_request":
            return _read_cohort(message.share_request, Suite(message.attempt.suite))
        case "envelopes":
            sealed = _read_envelopes(message.envelopes.envelopes)
            return Envelopes(site=site_name(message.envelopes.site), sealed=sealed)
        case "mask_request":
            asked = message.mask_request
            return MaskRequest(
                statement=decode_digest(asked.statement, "statement"),
                roster=_sites(asked.roster),
                envelopes=_read_envelopes(asked.envelopes),
            )
        case "masked_input":
            return _read_masked(message.masked_input, vectors)
        case "confirm_request":
            return ConfirmRequest(_sites(message.confirm_request.survivors))
        case "confirmation":
            return _read_confirmation(message.confirmation)
        case "unmask_request":
            return _read_unmask(message.unmask_request)
        case "shares":
            return _read_shares(message.shares)
    raise CodecError("a frame without a body")


def _read_advertisement(message: pb.Advertisement, suite: Suite) -> Advertisement:
    return Advertisement(
        site=_name(message.site),
        mask_key=_exactly(message.mask_key, suite.public_bytes, "mask_key"),
        envelope_key=_exactly(message.envelope_key, suite.public_bytes, "envelope_key"),
        own_seed=decode_digest(message.own_seed, "own_seed"),
        signature=_exactly(message.signature, SIGNATURE_BYTES, "signature"),
    )


def _read_cohort(message: pb.ShareRequest, suite: Suite) -> ShareRequest:
    return ShareRequest(tuple(_read_advertisement(item, suite) for item in _by_site(message.cohort).values()))


def _read_masked(message: pb.MaskedInput, vectors: Vectors) -> MaskedInput:
    return MaskedInput(
        site=site_name(message.site),
        statement=decode_digest(message.statement, "statement"),
        packed=vectors.of(message.packed),
        signature=_exactly(message.signature, SIGNATURE_BYTES, "signature"),
    )


def _read_confirmation(message: pb.Confirmation) -> Confirmation:
    signature = _exactly(message.signature, SIGNATURE_BYTES, "signature")
    return Confirmation(site=site_name(message.site), signature=signature)


def _read_unmask(message: pb.UnmaskRequest) -> UnmaskRequest:
    confirmations = _by_site(message.confirmations)
    return UnmaskRequest(
        statement=decode_digest(message.statement, "statement"),
        survivors=_sites(message.survivors),
        dropped=_sites(message.dropped),
        confirmations={site: _read_confirmation(item).signature for site, item in confirmations.items()},
    )


def _read_shares(message: pb.Shares) -> Shares:
    return Shares(
        site=site_name(message.site),
        own_seeds=_all_of(
            {s: item.share for s, item in _by_site(message.own_seeds).items()}, SHARE_BYTES, "share"
        ),
        mask_keys=_all_of(
            {s: item.share for s, item in _by_site(message.mask_keys).items()}, SHARE_BYTES, "share"
        ),
    )


def _read_envelopes(items: RepeatedCompositeFieldContainer[pb.Envelope]) -> dict[SiteName, bytes]:
    sealed = {site: item.sealed for site, item in _by_site(items).items()}
    return _all_of(sealed, _SEALED_BYTES, "sealed")


def _all_of(items: dict[SiteName, bytes], length: int, name: str) -> dict[SiteName, bytes]:
    """`items`, of which there may be ten thousand, each of which has this length."""
    for wrong in set(map(len, items.values())) - {length}:
        raise CodecError(f"{name} has {wrong} bytes; it takes {length}")
    return items


def _by_site(items: RepeatedCompositeFieldContainer[T]) -> dict[SiteName, T]:
    """The items of a list by the site that each names; sorted, nobody twice."""
    names = _sites(item.site for item in items) if len(items) <= MAX_ROSTER else _too_many(len(items))
    return dict(zip(names, items, strict=True))


def _sites(names: Iterable[str]) -> tuple[SiteName, ...]:
    listed = list(names)
    if len(listed) > MAX_ROSTER:
        _too_many(len(listed))
    sites = tuple(map(_name, listed))
    if len(set(sites)) < len(sites) or sorted(sites) != list(sites):
        raise CodecError("a list of sites that is not sorted, or names a site twice")
    return sites


def _too_many(count: int) -> tuple[SiteName, ...]:
    raise CodecError(f"a list of {count} sites; at most {MAX_ROSTER} are accepted")


def _exactly(data: bytes, length: int, name: str) -> bytes:
    if len(data) != length:
        raise CodecError(f"{name} has {len(data)} bytes; it takes {length}")
    return data


def _advertisement(body: Advertisement) -> pb.Advertisement:
    return pb.Advertisement(
        site=body.site,
        mask_key=body.mask_key,
        envelope_key=body.envelope_key,
        own_seed=bytes.fromhex(body.own_seed),
        signature=body.signature,
    )


def _envelopes(sealed: Mapping[SiteName, bytes]) -> list[pb.Envelope]:
    return [pb.Envelope(site=site, sealed=sealed[site]) for site in sorted(sealed)]


def _shares(shares: Mapping[SiteName, bytes]) -> list[pb.Share]:
    return [pb.Share(site=site, share=shares[site]) for site in sorted(shares)]
