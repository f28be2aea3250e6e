"""Who says so: signatures under the identity keys that the federation's root has certified. The keys themselves live elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from strategies.ids import SiteName

SIGNATURE_BYTES: Final = 64

Sign: TypeAlias = Callable[[str, bytes], bytes]
"""Signs a message for a purpose with this site's Ed25519 identity key: 64 bytes."""

Verify: TypeAlias = Callable[[SiteName, str, bytes, bytes], bool]
"""Whether a site on the member list signed a message for a purpose: site, purpose, message, signature. False for a stranger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """The other sites that this site's own configuration recognises as honest, and how many of them must be among the survivors.

    Whoever is not recognised counts as colluding with the coordinator.
    """

    recognised: frozenset[SiteName]
    at_least: int

    def among(self, sites: frozenset[SiteName]) -> int:
        """How many of `sites` are recognised peers."""
        return len(self.recognised & sites)
