"""What a site accepts as a bundle, and how often it asks for work."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest

from client.fleet.cadence import Backoff, Cadence
from client.fleet.manifest import MAX_BUNDLE_BYTES, BundleRefused, check_bundle
from coordinator.flower.manifest import CLIENT_APP, build_bundle

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
