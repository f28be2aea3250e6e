"""An installation without the internet: wheels with their hashes, a bill of materials, and one signature over all of it.

1. `SHA256SUMS` names every other file; its signature is the only thing that must be trusted, and the scripts beside it check both with plain tools.
2. What is installed is what `requirements.txt` names, with hashes: pip takes nothing else, and asks nobody.
3. The agent's bundle and the centre's are made apart: a site gets nothing of what only the centre needs. That for simulations is for machines of neither.

What builds it asks package indexes as pip is configured to. Run as `python -m protos.bundles make --for agent --key release.key OUT`; `make bundle` does for
agent and centre.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path
from typing import Annotated, Final, Literal
from uuid import NAMESPACE_URL, uuid5

import typer

from protos.keys import Signer, SigningKey
from protos.passphrases import read_passphrase
from protos.shell import people, run_command
from strategies.errors import CovenantError, UsageError

SIGNED: Final = "covenant/bundle/v1"
For = Literal["agent", "centre", "simulation"]
_EXTRAS: Final[dict[For, str]] = {
    "agent": "[local]",
    "centre": "[coordinator]",
    "simulation": "[coordinator,local,ray,simulation]",
}
_WHEELS: Final = "wheels"
_SUMS: Final = "SHA256SUMS"
_SIGNATURE: Final = "SHA256SUMS.sig"
_HERE: Final = Path(__file__).parents[1]
_PACKAGING: Final = _HERE / "client" / "packaging"
_SCRIPTS: Final[dict[For, tuple[str, ...]]] = {
    "agent": ("verify.sh", "install.sh", "covenant-agent.service", "Containerfile"),
    "centre": ("verify.sh", "install.sh"),
    "simulation": ("verify.sh", "install.sh"),
}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in a bundle, by what its own metadata says."""

    file: str
    name: str
    version: str
    licence: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """The wheel at `path`. Raises UsageError where it is none."""
        try:
            with zipfile.ZipFile(path) as archive:
                names = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
                said = Parser().parsestr(archive.read(names[0]).decode(), headersonly=True)
        except (OSError, zipfile.BadZipFile, IndexError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no wheel; a bundle holds wheels alone") from error
        licence = said["License-Expression"] or said["License"] or "not stated"
        return cls(path.name, said["Name"], said["Version"], licence.splitlines()[0][:100], _digest(path))


def gather(what: For, folder: Path, *, torch_index: str | None = None) -> str:
    """Build this project's wheel and fetch all that it needs into `folder`/wheels; returns the version. Raises CovenantError."""
    wheels = folder / _WHEELS
    wheels.mkdir(parents=True)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(_HERE))
    own = next(wheels.glob("covenant_fl-*.whl"))
    fetch = (
        "download",
        "--only-binary=:all:",
        "--dest",
        str(wheels),
        "--constraint",
        str(_HERE / "constraints.txt"),
    )
    if torch_index is not None:
        _pip(*fetch, "--index-url", torch_index, "torch")
    _pip(*fetch, "--find-links", str(wheels), f"{own}{_EXTRAS[what]}")
    return Wheel.read(own).version


def seal(what: For, folder: Path, version: str, signer: Signer, *, at: datetime) -> list[Wheel]:
    """Make of a `folder` with wheels a bundle: requirements, bill of materials, scripts, list and signature. Raises UsageError."""
    wheels = [Wheel.read(each) for each in sorted((folder / _WHEELS).iterdir())]
    if not wheels:
        raise UsageError(f"{folder / _WHEELS} holds no wheels")
    lines = [f"{each.name}=={each.version} --hash=sha256:{each.sha256}" for each in wheels]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n")
    (folder / "VERSION").write_text(version + "\n")
    (folder / "sbom.cdx.json").write_text(bill(what, version, wheels, at))
    for name in _SCRIPTS[what]:
        shutil.copyfile(_PACKAGING / name, folder / name)
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    sums = "".join(f"{_digest(each)}  {each.relative_to(folder)}\n" for each in files)
    (folder / _SUMS).write_text(sums)
    (folder / _SIGNATURE).write_bytes(signer.sign_raw(SIGNED, sums.encode()))
    return wheels


def bill(what: For, version: str, wheels: Iterable[Wheel], at: datetime) -> str:
    """The bill of materials, CycloneDX 1.6 in JSON."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"covenant-fl/{what}/{version}"))
    bom.metadata.timestamp = at
    bom.metadata.component = Component(
        name=f"covenant-{what}", version=version, type=ComponentType.APPLICATION
    )
    for each in wheels:
        url = PackageURL("pypi", name=each.name.lower().replace("_", "-"), version=each.version)
        bom.components.add(
            Component(
                name=each.name,
                version=each.version,
                type=ComponentType.LIBRARY,
                bom_ref=str(url),
                purl=url,
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each.sha256)],
                licenses=[DisjunctiveLicense(name=each.licence)],
            )
        )
    text: str = JsonV1Dot6(bom).output_as_string()
    return json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"


def make(
    out: Annotated[
        Path, typer.Argument(help="The folder to make; a bundle of its own for each of those named.")
    ],
    key: Annotated[Path, typer.Option(help="The release key: Ed25519, PKCS8 in PEM.")],
    whom: Annotated[str, typer.Option("--for", help="agent, centre or simulation.")] = "agent",
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase of the key, mode 0600.")
    ] = None,
    torch_index: Annotated[
        str | None, typer.Option(help="A package index with PyTorch's CPU builds.")
    ] = None,
) -> None:
    """Make a signed bundle for machines without the internet."""
    what = next((each for each in _EXTRAS if each == whom), None)
    if what is None:
        raise UsageError(f"--for {whom}: use {', '.join(_EXTRAS)}")
    signer = SigningKey.load(key, None if passphrase_file is None else read_passphrase(passphrase_file))
    folder = out / what
    if folder.exists():
        raise UsageError(f"{folder} exists; a bundle is never overwritten, name another folder")
    version = gather(what, folder, torch_index=torch_index)
    wheels = seal(what, folder, version, signer, at=_moment())
    people.print(f"made {folder}: {len(wheels)} wheels, signed for the key {signer.public}", highlight=False)


def _moment() -> datetime:
    """Now, or what SOURCE_DATE_EPOCH says, so that a bundle can be made twice alike."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.now(UTC) if given is None else datetime.fromtimestamp(int(given), UTC)


def _pip(*arguments: str) -> None:
    command: Sequence[str] = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        *arguments,
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CovenantError(f"pip {arguments[0]} failed: {last}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Run this as a command of its own: what builds a release is no part of what is released."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command("make")(make)
    app.callback()(lambda: None)
    run_command(lambda: app(standalone_mode=False))


if __name__ == "__main__":
    main()
