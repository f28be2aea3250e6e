"""The keys of the coordinator's services, which sign what it says; none of them can sign a root or a member list."""

from __future__ import annotations

from pathlib import Path

import structlog

from coordinator.settings import Settings
from protos.enrolment import IdentityCard
from protos.files import write_new
from protos.key_files import is_encrypted
from protos.keys import Signer, SigningKey
from protos.passphrases import Passphrase
from strategies.errors import UsageError

LOG_NAME = "log"
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


def log_signer(settings: Settings) -> Signer:
    """Whoever signs the log's heads. Raises `UsageError` where its key cannot be opened."""
    source = settings.config.keys.passphrase
    return SigningKey.load(settings.log_key_file, None if source is None else source.read())


def artifacts_signer(settings: Settings) -> Signer:
    """Whoever signs releases of models. Raises `UsageError` where its key cannot be opened."""
    if not settings.artifacts_key_file.exists():
        raise UsageError(
            f"{settings.artifacts_key_file} does not exist, so no model can be released; make it with `covenant key new artifacts --out"
            f" {settings.home}` and have the officers certify it with `covenant site certify --service`"
        )
    source = settings.config.keys.passphrase
    return SigningKey.load(settings.artifacts_key_file, None if source is None else source.read())


def warn_of_bare_keys(settings: Settings) -> None:
    """Tell the log of a service key that is not encrypted."""
    for file in (settings.log_key_file, settings.artifacts_key_file):
        if file.exists() and not is_encrypted(file):
            _log.warning("a service's key is not encrypted", file=str(file))
