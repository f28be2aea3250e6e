"""The site's keys on disk: made once by `init`, and the root that it has pinned."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from protos.documents import load_document
from protos.enrolment import EnrolmentRequest
from protos.keys import SigningKey, create_node_key, node_public_pem
from protos.root import SignedRoot
from protos.site import SiteConfig
from strategies.errors import UsageError


def load_root(config: SiteConfig) -> SignedRoot:
    """The root that this site has pinned. Raises `CovenantError` for a draft, or another federation's."""
    return read_root(config.federation.root, config.federation.name)


def read_root(file: Path, federation: str) -> SignedRoot:
    """The root of `federation` in `file`. Raises `CovenantError` for a draft, or another federation's."""
    found = load_document(file, SignedRoot)
    found.require_own_quorum()
    if found.root.federation != federation:
        raise UsageError(
            f"{file} is the root of {found.root.federation}, not of {federation}; ask the officers for the right one"
        )
    return found


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
    """The enrolment request of a site that has its keys already. Raises `UsageError` where one cannot be opened."""
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
