"""A FAB is a manifest that names installed code; anything else in it, about it or instead of it is refused."""

import hashlib
import io
import random
import struct
import zipfile

import pytest

from client.fleet.manifest import MAX_BUNDLE_BYTES, BundleRefused, check_bundle
from coordinator.flower.manifest import CLIENT_APP, build_bundle
from strategies.errors import Refused

APPS = (CLIENT_APP,)
MANIFEST = f'[tool.flwr.app.components]\nclientapp = "{CLIENT_APP}"\n'


def zipped(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def check(content: bytes, *, named: str | None = None, apps=APPS, pinned=()) -> None:
    check_bundle(content, named or hashlib.sha256(content).hexdigest(), apps=apps, pinned=pinned)


def sentence(content: bytes, **rules) -> str:
    with pytest.raises(BundleRefused) as caught:
        check(content, **rules)
    assert isinstance(caught.value, Refused)
    return str(caught.value)


def test_the_centres_own_bundle_is_accepted_and_is_always_the_same():
    bundle = build_bundle()
    check_bundle(bundle.content, bundle.digest, apps=APPS, pinned=())
    check_bundle(bundle.content, bundle.digest, apps=("other:app", CLIENT_APP), pinned=(bundle.digest,))
    assert build_bundle() == bundle


def test_a_minimal_manifest_is_accepted():
    check(zipped({"pyproject.toml": MANIFEST}))
    check(zipped({"pyproject.toml": MANIFEST, ".info/CONTENT": "pyproject.toml,..."}, zipfile.ZIP_STORED))


def test_another_hash_than_the_run_names_is_refused():
    text = sentence(zipped({"pyproject.toml": MANIFEST}), named="ab" * 32)
    assert text.startswith("the FAB hashes to ")
    assert text.endswith(f"but the run names {'ab' * 32}")


def test_a_bundle_that_is_not_pinned_is_refused():
    content = zipped({"pyproject.toml": MANIFEST})
    assert "is not among the 1 that `allow.fab_sha256` pins" in sentence(content, pinned=("cd" * 32,))
    check(content, pinned=("cd" * 32, hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize(
    "name", ["client/app.py", "evil.pth", "../app.py", "pyproject.toml/", "PYPROJECT.TOML", ".info/CONTENT2"]
)
def test_code_or_anything_else_in_a_bundle_is_refused(name):
    text = sentence(zipped({"pyproject.toml": MANIFEST, name: "import os"}))
    assert text == f"the FAB carries {name!r}; only a manifest is accepted, code never travels"


def test_an_app_that_the_site_does_not_allow_is_refused():
    other = MANIFEST.replace(CLIENT_APP, "evil.app:app")
    assert sentence(zipped({"pyproject.toml": other})) == (
        f"the FAB asks for client app 'evil.app:app'; `allow.apps` at this site has {CLIENT_APP}"
    )
    assert "`allow.apps`" in sentence(zipped({"pyproject.toml": MANIFEST}), apps=())


@pytest.mark.parametrize(
    "manifest",
    ["", "tool = 1", "[tool]\nflwr = 1", "[tool.flwr.app.components]\nclientapp = ['client.app:app']"],
)
def test_a_manifest_that_names_no_client_app_is_refused(manifest):
    assert "asks for client app ''" in sentence(zipped({"pyproject.toml": manifest}))


UNREADABLE = {
    "nothing": b"",
    "not a zip": b"#!/bin/sh\nrm -rf /\n",
    "no manifest": zipped({".info/CONTENT": "x"}),
    "not TOML": zipped({"pyproject.toml": "clientapp :="}),
    "not UTF-8": zipped({"pyproject.toml": b"\xff\xfe"}),
    "deeply nested": zipped({"pyproject.toml": "x = " + "[" * 30_000}),
    "cut short": build_bundle().content[:-30],
}


@pytest.mark.parametrize("defect", UNREADABLE)
def test_what_is_no_readable_archive_is_refused(defect):
    assert "is not an archive with a readable pyproject.toml" in sentence(UNREADABLE[defect])


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    bomb = zipped({"pyproject.toml": " " * (MAX_BUNDLE_BYTES * 50)})
    assert len(bomb) < MAX_BUNDLE_BYTES
    assert f"unpacks to more than {MAX_BUNDLE_BYTES} bytes" in sentence(bomb)
    check(zipped({"pyproject.toml": MANIFEST + " " * (MAX_BUNDLE_BYTES - len(MANIFEST))}))  # a control


def test_a_zip_bomb_that_lies_about_its_size_is_refused():
    """The directory's word for the size is what is read at most; the rest fails the check sum."""
    length = MAX_BUNDLE_BYTES * 50
    bomb = zipped({"pyproject.toml": MANIFEST + " " * (length - len(MANIFEST))})
    assert bomb.count(struct.pack("<I", length)) == 2
    lying = bomb.replace(struct.pack("<I", length), struct.pack("<I", 100))
    assert "is not an archive" in sentence(lying)


def test_a_large_bundle_is_refused():
    large = zipped({"pyproject.toml": MANIFEST + "#" * MAX_BUNDLE_BYTES}, zipfile.ZIP_STORED)
    assert sentence(large).startswith(f"the FAB has {len(large)} bytes; a manifest has at most")


def test_a_damaged_bundle_is_refused_or_still_names_an_allowed_app():
    """Whatever zipfile raises for bytes that others chose: the agent sees BundleRefused and nothing else."""
    good, chance = build_bundle().content, random.Random(7)
    outcomes = set()
    for _ in range(4000):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            check(bytes(damaged))
        except BundleRefused:
            outcomes.add("refused")
        else:
            outcomes.add("accepted")
    assert "refused" in outcomes
