"""The site's keys, configuration and journal on disk: made once by `init`, opened by the agent."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client.accounts import AccountBook
from client.journal.answers import Answers
from client.journal.entries import Owner
from client.journal.file import Connect, Journal, connect
from client.participant import Participant
from protos.documents import load_document
from protos.keys import SigningKey, create_node_key, node_public_pem
from protos.membership import EnrolmentRequest, RootPublic
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
    root = load_document(config.federation.root, RootPublic)
    identity = SigningKey.load(config.identity.key)
    owner = Owner(
        federation=config.federation.name, root=root.public_key, site=config.site, identity=identity.public
    )
    journal = Journal.open(config.journal, owner, connect=connect)
    try:
        book = AccountBook.open(config.accounts, config.site, clock=clock, connect=connect)
    except CovenantError:
        journal.close()
        raise
    try:
        answers = Answers(journal, book.journal)
    except CovenantError:
        journal.close()
        book.close()
        raise
    return Participant(
        config=config, root=root, identity=identity, answers=answers, book=book, entropy=entropy
    )


def open_accounts(config: SiteConfig) -> AccountBook:
    """The accounts of a site, also while its agent runs."""
    return AccountBook.open(config.accounts, config.site, clock=lambda: datetime.now(UTC))


def make_keys(config: SiteConfig) -> EnrolmentRequest:
    """Make the site's identity and node keys (0600, never overwritten); returns what the federation root must certify."""
    identity = SigningKey.generate()
    identity.save(config.identity.key)
    return EnrolmentRequest.create(config.site, identity, create_node_key(config.identity.node_key))


def enrolment_request(config: SiteConfig) -> EnrolmentRequest:
    """The enrolment request of a site that has its keys already."""
    return EnrolmentRequest.create(
        config.site, SigningKey.load(config.identity.key), node_public_pem(config.identity.node_key)
    )


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key that authenticates this site to the SuperLink; raises `UsageError` where there is none."""
    node_public_pem(path)
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{path} holds another kind of key; the transport takes an elliptic-curve key")
    return key
