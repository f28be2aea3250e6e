"""What a request on its way asks for, read without being a party to it."""

from __future__ import annotations

from dataclasses import dataclass

from protos.frames import SecureRequest, Stage, WitnessRequest
from protos.secure_codec import decode_asked
from strategies.encoding import sha256_hex
from strategies.ids import Digest, SiteName
from strategies.secagg.messages import MaskRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """`roster` and `statement` are there if the request asks for something that is computed from rows."""

    stage: Stage
    round: int
    echo: Digest
    """The digest that a reply to it names."""
    roster: tuple[SiteName, ...] | None
    statement: Digest | None


def asked_in(frame: bytes) -> Asked:
    """Read a request frame; raises `CodecError` where it is none."""
    request = decode_asked(frame)
    if isinstance(request, WitnessRequest):
        return Asked(Stage.PREPARE, 0, sha256_hex(frame), None, None)
    if not isinstance(request, SecureRequest):
        said = request.statement
        return Asked(said.stage, said.round, said.digest, said.roster, said.digest)
    first = request.frames[0]
    inputs = isinstance(first.body, MaskRequest) and request.statement is not None
    return Asked(
        Stage[first.attempt.stage],
        first.attempt.round,
        sha256_hex(frame),
        request.statement.roster if inputs and request.statement is not None else None,
        request.statement.digest if inputs and request.statement is not None else None,
    )
