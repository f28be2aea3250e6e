"""The witnesses of as many sites as active secure aggregation has fit into a request, and more than that are refused before they are read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.codec import decode_request, encode_request
from protos.codec_fields import CodecError
from protos.keys import SigningKey
from protos.log_names import origin_of
from protos.witness import (
    MOST_BUNDLE_BYTES,
    Position,
    SignedWitness,
    WitnessBundle,
    WitnessStatement,
    key_part,
    view_digest,
)
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg.graph import MOST_ACTIVE_SITES
from strategies.transparency.notes import Checkpoint
from tests.protos.test_codec import PREPARE, TASK

LONGEST_NAME = 63


def bundle_of(count: int) -> WitnessBundle:
    """What `count` sites with the longest names have signed, each with a view of all that is its own."""
    key = SigningKey.generate()
    names = [SiteName(f"site-{number:04d}".ljust(LONGEST_NAME, "x")) for number in range(count)]
    places = {
        name: Position(
            epoch=key_part(key.public) + "0" * 16, sequence=10**9 + number, head=sha256_hex(name.encode())
        )
        for number, name in enumerate(names)
    }
    head = Checkpoint(origin=origin_of("demo"), size=10**9, root=bytes(32)).text
    statements, views = [], {}
    for name in names:
        view = {**places, name: places[name].model_copy(update={"sequence": 2 * 10**9})}
        digest = view_digest(view)
        views[digest] = view
        said = WitnessStatement(
            federation="demo", site=name, identity=key.public, run="run-0123456789abcdef", launch=1, plan="0" * 64,
            checkpoint=head, position=places[name], view=digest, at="2026-11-26T00:00:00Z",
        )  # fmt: skip
        statements.append(SignedWitness.sign(said, key))
    return WitnessBundle(note=head, statements=tuple(statements), views=views, grown=())


def test_the_witnesses_of_the_largest_active_cohort_fit_into_a_request() -> None:
    bundle = bundle_of(MOST_ACTIVE_SITES)
    sent = decode_request(encode_request(replace(PREPARE, task=replace(TASK, witness=bundle.canonical))))
    assert sent.task is not None
    assert WitnessBundle.from_canonical(sent.task.witness) == bundle


def test_more_bytes_than_that_are_refused_unread() -> None:
    data = b" " * (MOST_BUNDLE_BYTES + 1)
    with pytest.raises(Refused, match=f"{MOST_BUNDLE_BYTES + 1} bytes; at most {MOST_BUNDLE_BYTES}"):
        WitnessBundle.from_canonical(data)
    with pytest.raises(CodecError, match=f"a witness document of {MOST_BUNDLE_BYTES + 1} bytes"):
        decode_request(encode_request(replace(PREPARE, task=replace(TASK, witness=data))))
