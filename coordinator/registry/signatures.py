"""Signatures over the files of a version in the OpenSSF Model Signing format, which other people's tools verify.

1. What is signed is a folder: the version's files, the public key in PEM and the certificate that vouches for it. So whoever gets the folder verifies
   it as it is, and a file that was changed, added, removed or renamed breaks the signature.
2. The key is opened where it is used. It must be the one that the certificate names, and that the member list in use vouches for.
3. Without a key a version is registered unsigned, loudly. A key that cannot be used, or a disk without room for a copy of the
   files, does not lose a finished run either: the model is kept, unsigned.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.documents import read_listed
from coordinator.governance.members import Listed
from coordinator.settings import Settings
from protos.artifact_keys import (
    CERTIFICATE_FILE,
    MOST_CERTIFICATE_BYTES,
    PUBLIC_FILE,
    SIGNATURE_FILE,
    ArtifactKey,
    require_artifact_key,
)
from protos.key_files import read_private
from protos.keys import public_pem
from strategies.errors import CovenantError, DiskError, Refused, UsageError
from strategies.pieces import Bytes, pieces_of

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature file, the certificate of the key that made it, and the member list that vouches for it."""

    signature: bytes
    key: ArtifactKey
    listed: Listed


def sign_files(settings: Settings, files: Mapping[str, Bytes]) -> Signed | None:
    """Sign the `files` of a version by name, with the key that the coordinator of `settings` has for that. None, and a warning, where it has none
    that may be used. Raises DiskError."""
    if not settings.artifact_key_file.exists():
        _log.warning(
            "registered unsigned", reason=f"there is no key that signs models, {settings.artifact_key_file}"
        )
        return None
    try:
        return _signed(settings, files)
    except DiskError:
        raise
    except CovenantError as error:
        _log.error("registered unsigned", reason=str(error))
        return None


def read_certificate(path: Path) -> ArtifactKey:
    """The certificate in `path`, judged by nobody yet. Raises `CovenantError`."""
    try:
        with path.open("rb") as file:
            return ArtifactKey.from_canonical(file.read(MOST_CERTIFICATE_BYTES).strip())
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; `covenant key signing` makes it") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def beside(key: ArtifactKey) -> dict[str, bytes]:
    """The files that are signed with those of a version: the public key, and its certificate."""
    return {PUBLIC_FILE: key.key.encode(), CERTIFICATE_FILE: key.canonical + b"\n"}


def write_folder(folder: Path, files: Mapping[str, Bytes]) -> None:
    """Write `files` by name into `folder`. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with (folder / name).open("wb") as file:
                file.writelines(pieces_of(data).parts)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def verify_folder(folder: Path, key: str, name: str) -> None:
    """Check that the signature in `folder` is by the P-256 public `key` (PEM) over exactly the other files there. Raises Refused, calling it `name`."""
    from model_signing import hashing, verifying

    with tempfile.TemporaryDirectory() as made:
        public = Path(made) / PUBLIC_FILE
        public.write_text(key)
        signature = folder / SIGNATURE_FILE
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        # Whatever lies there counts: nothing is left out because of how it is called.
        config.set_hashing_config(
            hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
        )
        try:
            config.verify(folder, signature)
        except Exception as error:  # whatever the library makes of a file that anybody may have written
            raise Refused(
                f"{name}: the files are not those that were signed ({str(error).splitlines()[0] if str(error) else type(error).__name__}); use"
                " nothing of them, and get the version again"
            ) from error


def _signed(settings: Settings, files: Mapping[str, Bytes]) -> Signed:
    """Raises UsageError for a key that cannot be opened or a certificate of another one, Refused for one that does not count."""
    path = settings.artifact_key_file
    certificate = read_certificate(settings.artifact_certificate_file)
    listed = read_listed(settings)
    require_artifact_key(certificate, listed.trusted)
    source = settings.config.keys.passphrase
    passphrase = None if source is None else source.read()
    private = read_private(path, passphrase)
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey)
        or public_pem(private.public_key()) != certificate.key
    ):
        raise UsageError(
            f"{settings.artifact_certificate_file} is the certificate of another key than {path}; `covenant key signing` makes the right one"
        )
    password = None if passphrase is None else passphrase.reveal()
    return Signed(_signature({**files, **beside(certificate)}, path, password), certificate, listed)


def _signature(files: Mapping[str, Bytes], key: Path, password: Any) -> bytes:  # noqa: ANN401  (as `_sign`)
    """The signature file over `files` by name. Raises CovenantError, whatever the disk or the library says."""
    try:
        with tempfile.TemporaryDirectory() as made:
            folder, signature = Path(made) / "model", Path(made) / SIGNATURE_FILE
            write_folder(folder, files)
            _sign(folder, signature, key, password)
            return signature.read_bytes()
    except OSError as error:
        raise CovenantError(
            f"the files cannot be signed in the folder for temporary files ({error.strerror or error}); make room there before the next run"
        ) from error
    except (ValueError, TypeError, RuntimeError, UnsupportedAlgorithm) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CovenantError(
            f"model_signing cannot sign the files with {key} ({why}); make the key anew with `covenant key signing`"
        ) from error


def _sign(folder: Path, signature: Path, key: Path, password: Any) -> None:  # noqa: ANN401  (bytes, where its types say text)
    from model_signing import hashing, signing

    config = signing.Config().use_elliptic_key_signer(private_key=key, password=password)
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False))
    config.sign(folder, signature)
