"""The key that signs models: P-256, because the OpenSSF Model Signing format takes no Ed25519, vouched for by the service that the member list names.

1. The member list names the `artifacts` service by its Ed25519 key, as every other service. That key signs one kind of document: which P-256 key
   signs models from then on. So the list, its keys and what sites have pinned stay as they are, and a new P-256 key takes no quorum.
2. A certificate names the federation by its root, version 1: it counts in no other.
3. Who is not the `artifacts` service on the list in force certifies nothing. A key on another curve is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protos.documents import Document, make_document
from protos.keys import Signature, Signer, check_node_pem, grouped, verify
from protos.membership import Trusted
from protos.moments import Moment
from protos.names import Name, Sha256, checked
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

ARTIFACTS: Final = "artifacts"
PUBLIC_FILE: Final = "artifacts.pub"
"""The public key in PEM, as `model_signing verify key --public_key` takes it."""
CERTIFICATE_FILE: Final = "artifact-key.json"
SIGNATURE_FILE: Final = "model.sig"
RESERVED: Final = frozenset({PUBLIC_FILE, CERTIFICATE_FILE, SIGNATURE_FILE})
"""What lies beside the files of a signed version; none of those may be called so."""
MOST_CERTIFICATE_BYTES: Final = 8192
_LABEL: Final = "covenant/artifact-key/v1"


def _p256(text: str) -> str:
    key = serialization.load_pem_public_key(check_node_pem(text).encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError("this is a key on another curve; models are signed on P-256")
    return text


P256Key = Annotated[str, checked(_p256)]


class _ArtifactKey(Document):
    """What is signed."""

    covenant: Literal["artifact-key/v1"] = "artifact-key/v1"
    federation: Sha256
    """Digest of root version 1."""
    service: Name
    key: P256Key
    at: Moment


class ArtifactKey(_ArtifactKey):
    """Which key signs models, signed by the `artifacts` service. Worth nothing before `require_artifact_key`."""

    signature: Signature

    @property
    def message(self) -> bytes:
        """What the signature is over: the canonical JSON of all the rest."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))


def certify_artifact_key(
    key: str, service: str, signer: Signer, *, federation: Digest, at: datetime
) -> ArtifactKey:
    """The certificate of the P-256 public `key` (PEM) by the service that holds `signer`. Raises UsageError."""
    said = make_document(
        _ArtifactKey,
        "the certificate",
        federation=federation,
        service=service,
        key=key,
        at=at.replace(microsecond=0),
    )
    return ArtifactKey(**dict(said), signature=signer.sign(_LABEL, said.canonical))


def require_artifact_key(found: ArtifactKey, trusted: Trusted) -> str:
    """The key that signs models, in PEM, if the `artifacts` service on the `trusted` list vouches for it. Raises Refused."""
    members = trusted.members
    service = members.service(ARTIFACTS)
    if found.service != service.name or not verify(service.key, found.signature, _LABEL, found.message):
        raise Refused(
            f"the certificate of the key that signs models is not by {service.name}, the {ARTIFACTS} service on member list {members.ref}; have"
            " `covenant key signing` make one with that service's key"
        )
    if found.federation != trusted.federation:
        raise Refused(
            f"the certificate of the key that signs models is for the federation with root {grouped(found.federation)}, and this is the one with"
            f" root {grouped(trusted.federation)}"
        )
    return found.key
