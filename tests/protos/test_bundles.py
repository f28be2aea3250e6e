"""A bundle of two tiny wheels: verified and installed by its own scripts without a network, and refused when anything in it was changed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protos.bundles import SIGNED, Wheel, seal
from protos.keys import SigningKey, verify
from strategies.errors import UsageError

AT = datetime(2026, 1, 1, tzinfo=UTC)
VERSION = "9.9.9"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None or shutil.which("sha256sum") is None, reason="needs openssl and sha256sum"
)


def tiny_wheel(folder: Path, name: str, *needs: str) -> Path:
    """A wheel with one module and no code."""
    path = folder / f"{name}-{VERSION}-py3-none-any.whl"
    info = f"{name}-{VERSION}.dist-info"
    required = "".join(f"Requires-Dist: {each}\n" for each in needs)
    files = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {VERSION}\nLicense-Expression: MIT\n{required}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for file, text in files.items():
            archive.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{file},sha256={digest},{len(text)}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return path


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def bundle(tmp_path: Path, key: SigningKey) -> Path:
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    tiny_wheel(folder / "wheels", "tiny_agent", "tiny_part")
    tiny_wheel(folder / "wheels", "tiny_part")
    seal("agent", folder, VERSION, key, at=AT)
    return folder


def public_pem(path: Path, key: SigningKey) -> Path:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public))
    path.write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return path


def script(bundle: Path, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script of the bundle where no index can be asked."""
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
    }
    return subprocess.run(
        ["sh", str(bundle / name), *map(str, arguments)], env=offline, capture_output=True, text=True, timeout=280, check=False
    )  # fmt: skip


def test_a_bundle_is_verified_by_plain_tools(bundle: Path, key: SigningKey, tmp_path: Path) -> None:
    done = script(bundle, "verify.sh", public_pem(tmp_path / "release.pub", key))
    assert (done.returncode, done.stderr) == (0, "")
    shown = hashlib.sha256(base64.b64decode(key.public)).hexdigest()
    assert shown in done.stdout.replace(" ", "")


def test_its_signature_is_for_bundles_and_nothing_else(bundle: Path, key: SigningKey) -> None:
    sums = (bundle / "SHA256SUMS").read_bytes()
    signature = base64.b64encode((bundle / "SHA256SUMS.sig").read_bytes()).decode()
    assert verify(key.public, signature, SIGNED, sums)
    assert not verify(key.public, signature, "covenant/plan/v1", sums)


def a_wheel(bundle: Path) -> None:
    with (bundle / "wheels" / f"tiny_part-{VERSION}-py3-none-any.whl").open("ab") as wheel:
        wheel.write(b"\0")


def a_script(bundle: Path) -> None:
    (bundle / "install.sh").write_text("echo mine\n")


def a_missing_file(bundle: Path) -> None:
    (bundle / "requirements.txt").unlink()


def a_stranger(bundle: Path) -> None:
    tiny_wheel(bundle / "wheels", "tiny_stranger")


def a_part_of_a_name(bundle: Path) -> None:
    (bundle / "wheels" / "tiny_part").write_text("what a name in the list begins with")


def a_link(bundle: Path) -> None:
    (bundle / "wheels" / "tiny_stranger.whl").symlink_to(bundle / "VERSION")


def a_link_to_the_same(bundle: Path) -> None:
    elsewhere = bundle.parent / "elsewhere"
    (bundle / "install.sh").rename(elsewhere)
    (bundle / "install.sh").symlink_to(elsewhere)


def a_second_list(bundle: Path) -> None:
    (bundle / "wheels" / "SHA256SUMS").write_text("not the one that is signed")


def a_name_of_two_lines(bundle: Path) -> None:
    (bundle / "VERSION\n.").mkdir()
    (bundle / "VERSION\n." / "requirements.txt").write_text("each line of it is in the list")


def the_list(bundle: Path) -> None:
    a_wheel(bundle)
    lines = []
    for line in (bundle / "SHA256SUMS").read_text().splitlines():
        name = line.split("  ", 1)[1]
        lines.append(f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}")
    (bundle / "SHA256SUMS").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "change",
    [
        a_wheel,
        a_script,
        a_missing_file,
        a_stranger,
        a_part_of_a_name,
        a_link,
        a_link_to_the_same,
        a_second_list,
        a_name_of_two_lines,
        the_list,
    ],
)
def test_a_bundle_that_was_changed_is_refused(
    bundle: Path, key: SigningKey, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(bundle)
    done = script(bundle, "verify.sh", public_pem(tmp_path / "release.pub", key))
    assert done.returncode == 3
    assert "refused: " in done.stderr


def test_a_bundle_under_another_key_is_refused(bundle: Path, tmp_path: Path) -> None:
    done = script(bundle, "verify.sh", public_pem(tmp_path / "release.pub", SigningKey.generate()))
    assert done.returncode == 3
    assert "is not signed by" in done.stderr


def test_the_bill_of_materials_has_each_wheel_with_its_hash_and_licence(bundle: Path) -> None:
    bill = json.loads((bundle / "sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "covenant-agent"
    parts = {each["name"]: each for each in bill["components"]}
    assert set(parts) == {"tiny_agent", "tiny_part"}
    wheel = Wheel.read(bundle / "wheels" / f"tiny_part-{VERSION}-py3-none-any.whl")
    assert parts["tiny_part"]["purl"] == f"pkg:pypi/tiny-part@{VERSION}"
    assert parts["tiny_part"]["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
    assert parts["tiny_part"]["licenses"][0]["license"]["name"] == "MIT"


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="is no wheel"):
        Wheel.read(tmp_path / "x.whl")


@pytest.mark.slow
def test_versions_are_installed_side_by_side_without_a_network_and_set_back(
    bundle: Path, key: SigningKey, tmp_path: Path
) -> None:
    """`use` moves the link; the version before stays, so the link can be set back."""
    public, opt = public_pem(tmp_path / "release.pub", key), tmp_path / "opt"
    first = script(bundle, "install.sh", public, opt, "use")
    assert first.returncode == 0, first.stderr
    assert (opt / "current").readlink() == Path(VERSION)
    shown = subprocess.run(
        [opt / "current" / "bin" / "python", "-c", "import tiny_agent, tiny_part; print(tiny_agent.NAME)"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert shown.stdout == "tiny_agent\n"
    for name in ("SHA256SUMS", "SHA256SUMS.sig"):
        (bundle / name).unlink()
    seal("agent", bundle, "10.0.0", key, at=AT)
    assert script(bundle, "install.sh", public, opt, "use").returncode == 0
    assert (opt / "current").readlink() == Path("10.0.0")
    assert (opt / VERSION / "bin" / "python").exists()
    a_wheel(bundle)
    refused = script(bundle, "install.sh", public, opt, "use")
    assert refused.returncode == 3
    assert (opt / "current").readlink() == Path("10.0.0")
