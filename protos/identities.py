"""Signatures of the sites on a member list, checked with keys that are loaded once."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protos.keys import labelled, public_bytes
from strategies.ids import SiteName


class Identities:
    """The public identity keys of some sites, in base64 by site."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Mapping[SiteName, str]) -> None:
        self._keys = {
            site: Ed25519PublicKey.from_public_bytes(public_bytes(key)) for site, key in keys.items()
        }

    def verify(self, site: SiteName, label: str, message: bytes, signature: bytes) -> bool:
        """Whether `site` signed `message` for the purpose `label`. False for a site that is not among these."""
        key = self._keys.get(site)
        if key is None:
            return False
        try:
            key.verify(signature, labelled(label, message))
        except InvalidSignature:
            return False
        return True
