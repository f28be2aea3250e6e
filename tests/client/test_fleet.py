"""What a site accepts as a bundle, how often it asks for work, and what it does not tell beside its replies."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import certifi
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse

from client.fleet.cadence import Backoff, Cadence
from client.fleet.connection import FleetConnection
from client.fleet.manifest import MAX_BUNDLE_BYTES, BundleRefused, check_bundle
from coordinator.flower.manifest import CLIENT_APP, build_bundle
from protos.envelope import seal
from tests.flower_for_tests import message

GOOD = build_bundle()


def judge(content: bytes, *, apps: tuple[str, ...] = (CLIENT_APP,), pinned: tuple[str, ...] = ()) -> None:
    check_bundle(content, hashlib.sha256(content).hexdigest(), apps=apps, pinned=pinned)


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


MANIFEST = b'[tool.flwr.app.components]\nclientapp = "client.app:app"\nserverapp = "x:y"\n'


def test_the_coordinators_own_bundle_is_accepted_also_when_pinned() -> None:
    judge(GOOD.content)
    judge(GOOD.content, pinned=(GOOD.digest,))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (archive({"pyproject.toml": MANIFEST, "client/app.py": b"import os"}), "carries 'client/app.py'"),
        (archive({"pyproject.toml": MANIFEST, "../evil": b""}), "carries '../evil'"),
        (archive({"readme.md": b""}), "carries 'readme.md'"),
        (archive({".info/CONTENT": b""}), "not an archive with a readable pyproject.toml"),
        (archive({"pyproject.toml": b"\xff"}), "not an archive with a readable pyproject.toml"),
        (archive({"pyproject.toml": b"= 1"}), "not an archive with a readable pyproject.toml"),
        (archive({"pyproject.toml": b""}), "asks for client app ''"),
        (archive({"pyproject.toml": b"tool = 3"}), "asks for client app ''"),
        (
            archive({"pyproject.toml": MANIFEST.replace(b"client.app", b"evil")}),
            "asks for client app 'evil:app'",
        ),
        (archive({"pyproject.toml": MANIFEST + b"#" * 10_000_000}), "unpacks to more than"),
        (b"not a zip", "not an archive"),
        (b"x" * (MAX_BUNDLE_BYTES + 1), "a manifest has at most"),
    ],
)
def test_anything_but_a_manifest_of_allowed_code_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(BundleRefused, match=sentence.replace("(", r"\(")):
        judge(content)


def test_a_bundle_under_another_name_is_refused() -> None:
    with pytest.raises(BundleRefused, match="but the run names"):
        check_bundle(GOOD.content, "0" * 64, apps=(CLIENT_APP,), pinned=())


def test_a_bundle_that_is_not_pinned_is_refused() -> None:
    with pytest.raises(BundleRefused, match="not among the 1 that"):
        judge(GOOD.content, pinned=("0" * 64,))


def test_an_idle_agent_asks_less_than_twice_a_second_and_a_busy_one_within_tens_of_milliseconds() -> None:
    cadence = Cadence(busy_s=0.025, idle_s=1.0)
    assert all(cadence.wait_s(3600, chance / 10) >= 0.8 for chance in range(10))
    assert all(cadence.wait_s(0.1, chance / 10) <= 0.03 for chance in range(10))
    assert cadence.wait_s(10, 0.5) == pytest.approx(0.5)
    assert len({cadence.wait_s(3600, chance / 10) for chance in range(10)}) == 10


def test_backoff_doubles_up_to_its_bound_and_is_spread() -> None:
    backoff = Backoff(first_s=0.2, longest_s=10)
    assert backoff.wait_s(0, 1) == pytest.approx(0.2)
    assert backoff.wait_s(3, 1) == pytest.approx(1.6)
    assert backoff.wait_s(10_000, 1) == pytest.approx(10)
    assert backoff.wait_s(10_000, 0) == pytest.approx(5)


def test_a_reply_leaves_without_the_time_that_it_took_to_compute(tmp_path: Path) -> None:
    """That is a function of rows, and of a secret sample. Read off the bytes that leave."""
    sent: list[httpx.Request] = []

    def superlink(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        answer = PushMessagesResponse().SerializeToString()
        return httpx.Response(200, content=answer, headers={"content-type": "application/x-protobuf"})

    connection = FleetConnection(
        address="127.0.0.1:9092",
        ca_file=Path(certifi.where()),
        key=ec.generate_private_key(ec.SECP384R1()),
        node_file=tmp_path / "node",
    )
    connection._client._client = httpx.Client(transport=httpx.MockTransport(superlink))
    received = message(seal(b"question"))
    connection.push(Message(seal(b"answer"), reply_to=received))
    (request,) = sent
    pushed = PushMessagesRequest.FromString(request.content)
    assert len(pushed.messages_list) == 1
    assert list(pushed.clientapp_runtime_list) == [0.0]
