"""The site's keys, configuration and journal on disk: made once by `init`, opened by the agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client.accounts import AccountBook
from client.halts import HaltBook
from client.journal.answers import Answers
from client.journal.entries import Owner
from client.journal.file import Connect, Journal, connect
from client.log_copy import LogCopy
from client.participant import Participant
from client.trust import Trust
from client.witness import Witness
from client.witness_memory import WitnessMemory
from protos.documents import load_document
from protos.enrolment import EnrolmentRequest
from protos.keys import SigningKey, create_node_key, node_public_pem
from protos.root import SignedRoot
from protos.site import SiteConfig, load_site
from strategies.errors import CovenantError, UsageError
from strategies.secagg.shamir import Entropy


def open_participant(
    site_file: Path,
    *,
    connect: Connect = connect,
    entropy: Entropy = os.urandom,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Participant:
    """The participant that `site.yaml` describes; raises `CovenantError` naming the file that cannot be used."""
    config = load_site(site_file)
    pinned, identity = load_root(config), load_identity(config)
    owner = Owner(
        federation=config.federation.name,
        root=pinned.root.digest,
        site=config.site,
        identity=identity.public,
    )
    journal = Journal.open(config.journal, owner, connect=connect)
    try:
        book = AccountBook.open(config.accounts, config.site, clock=clock, connect=connect)
    except CovenantError:
        journal.close()
        raise
    try:
        answers, trust = Answers(journal, book.journal, clock), Trust(pinned, journal, clock)
        asks = config.policy.witnesses_at_least
        witness = Witness(WitnessMemory(config.site, identity, journal, clock, entropy), pinned, asks)
        halts = open_halts(config, clock=clock, connect=connect)
        witness.copy = LogCopy.open(config.log_copy, owner, connect=connect)
    except CovenantError:
        journal.close()
        book.close()
        raise
    return Participant(
        config=config,
        trust=trust,
        identity=identity,
        answers=answers,
        book=book,
        halts=halts,
        entropy=entropy,
        witness=witness,
    )


def open_accounts(config: SiteConfig) -> AccountBook:
    """The accounts of a site, also while its agent runs."""
    return AccountBook.open(config.accounts, config.site, clock=lambda: datetime.now(UTC))


def open_halts(
    config: SiteConfig,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    connect: Connect = connect,
) -> HaltBook:
    """What people at a site have halted, also while its agent runs."""
    federation = load_root(config).root.identity
    return HaltBook.open(config.halts, config.site, federation, clock=clock, connect=connect)


def load_root(config: SiteConfig) -> SignedRoot:
    """The root that this site has pinned. Raises `CovenantError` for a draft, or another federation's."""
    pinned = load_document(config.federation.root, SignedRoot)
    pinned.require_own_quorum()
    if pinned.root.federation != config.federation.name:
        raise UsageError(
            f"{config.federation.root} is the root of {pinned.root.federation}, not of {config.federation.name}; ask the officers for the right one"
        )
    return pinned


def load_identity(config: SiteConfig) -> SigningKey:
    """The site's identity key. Raises `UsageError` where it cannot be opened."""
    source = config.identity.passphrase
    return SigningKey.load(config.identity.key, None if source is None else source.read())


def make_keys(config: SiteConfig) -> EnrolmentRequest:
    """Make the site's identity and node keys (0600, never overwritten); returns what the federation's officers must certify."""
    source = config.identity.passphrase
    passphrase = None if source is None else source.read()
    identity = SigningKey.generate()
    identity.save(config.identity.key, passphrase)
    return EnrolmentRequest.create(config.site, identity, create_node_key(config.identity.node_key))


def enrolment_request(config: SiteConfig) -> EnrolmentRequest:
    """The enrolment request of a site that has its keys already."""
    return EnrolmentRequest.create(
        config.site, load_identity(config), node_public_pem(config.identity.node_key)
    )


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key that authenticates this site to the SuperLink; raises `UsageError` where there is none."""
    node_public_pem(path)
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path} holds another kind of key; the transport takes an elliptic-curve key")
    return key
