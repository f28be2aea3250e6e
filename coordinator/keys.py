"""The keys of the coordinator's services, which sign what it says; none of them can sign a root or a member list."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.settings import Settings
from protos.artifact_keys import ArtifactKey, certify_artifact_key
from protos.enrolment import IdentityCard
from protos.files import replace_file, write_new
from protos.key_files import is_encrypted, read_private, write_private
from protos.keys import Signer, SigningKey, public_pem
from protos.passphrases import Passphrase
from strategies.errors import UsageError
from strategies.ids import Digest

LOG_NAME = "log"
SIGNING_NAME = "signing"
CARD_SUFFIX = ".pub"
_log = structlog.get_logger(__name__)


def make_key(folder: Path, name: str, passphrase: Passphrase | None) -> IdentityCard:
    """Make NAME.key (secret, mode 0600) and NAME.pub, its identity card, in `folder`. UsageError where one of them is there already."""
    key, card_file = folder / f"{name}.key", folder / f"{name}{CARD_SUFFIX}"
    if card_file.exists():
        raise UsageError(f"{card_file} exists and is never overwritten; move it away first if it is obsolete")
    signer = SigningKey.generate()
    card = IdentityCard.create(name, signer)
    signer.save(key, passphrase)
    write_new(card_file, card.canonical + b"\n", mode=0o644)
    return card


def make_artifact_key(
    folder: Path,
    signer: Signer,
    service: str,
    passphrase: Passphrase | None,
    *,
    federation: Digest,
    at: datetime,
) -> ArtifactKey:
    """Make `signing.key`, the secret P-256 key that signs models, in `folder`, unless it is there; and `signing.json`, its certificate by `signer`, who
    is the `service` for artifacts. Raises UsageError.

    A certificate takes the place of the one before: it is public, and the key stays the same.
    """
    key, certificate = folder / f"{SIGNING_NAME}.key", folder / f"{SIGNING_NAME}.json"
    if not key.exists():
        write_private(key, ec.generate_private_key(ec.SECP256R1()), passphrase)
    private = read_private(key, passphrase)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{key} holds another kind of private key; a P-256 key is needed")
    made = certify_artifact_key(
        public_pem(private.public_key()), service, signer, federation=federation, at=at
    )
    replace_file(certificate, made.canonical + b"\n", mode=0o644)
    return made


def log_signer(settings: Settings) -> Signer:
    """Whoever signs the log's heads. Raises `UsageError` where its key cannot be opened."""
    source = settings.config.keys.passphrase
    return SigningKey.load(settings.log_key_file, None if source is None else source.read())


def warn_of_bare_keys(settings: Settings) -> None:
    """Tell the log of service keys that are not encrypted."""
    for path in (settings.log_key_file, settings.artifact_key_file):
        if path.exists() and not is_encrypted(path):
            _log.warning("a service's key is not encrypted", file=str(path))
