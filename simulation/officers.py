"""The officers of a federation on this machine: their keys, the root that two of three decide under, and the list that they sign.

Keys and passphrases of all of them lie in one folder, which is fit for a demonstration and nothing else: in production each officer has
a machine, and nobody else the passphrase.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.bootstrap import Centre
from coordinator.cli.approvals import approve_plan, sign
from coordinator.cli.keys import new as new_key
from coordinator.cli.roots import new as new_root
from coordinator.cli.roots import sign as sign_root
from coordinator.cli.sites import certify
from coordinator.documents import read_listed
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from protos.ceilings import SignedCeiling
from protos.files import write_new
from protos.keys import SigningKey
from protos.membership import Role
from protos.passphrases import read_passphrase
from strategies.ids import SiteName

ROOT_OFFICERS: Final = ("officer-1", "officer-2", "officer-3")
QUORUM: Final = 2
PRIVACY: Final = "privacy-officer"
OFFICERS: Final[Mapping[str, Role]] = {
    PRIVACY: Role.PRIVACY_OFFICER,
    "model-risk": Role.MODEL_RISK,
    "ml-engineer": Role.ML_ENGINEER,
}
"""Who decides about plans, by one role each."""
ONLOOKERS: Final[Mapping[str, Role]] = {
    "auditor": Role.AUDITOR,
    "site-operator": Role.SITE_OPERATOR,
    "admin": Role.ADMIN,
}
"""Who looks: nothing in the demo waits for their signatures."""
ROLES: Final[Mapping[str, Role]] = {**OFFICERS, **ONLOOKERS}
"""Everybody on the member list."""


@dataclass(frozen=True, slots=True)
class Officers:
    """The officers' folder: `NAME.key`, `NAME.pub` and `NAME.passphrase` of each, and `root.json`."""

    folder: Path

    @property
    def root(self) -> Path:
        """Version 1 of the root, signed by two of three."""
        return self.folder / "root.json"

    def key(self, name: str) -> Path:
        """The private key of an officer."""
        return self.folder / f"{name}.key"

    def card(self, name: str) -> Path:
        """The identity card of an officer."""
        return self.folder / f"{name}.pub"

    def passphrase(self, name: str) -> Path:
        """The file with an officer's passphrase."""
        return self.folder / f"{name}.passphrase"

    def make(self, federation: str) -> None:
        """Make all keys, and the root."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for name in (*ROOT_OFFICERS, *ROLES):
            new_key(name, self.folder, make_passphrase(self.passphrase(name)))
        new_root(federation, [self.card(name) for name in ROOT_OFFICERS], QUORUM, self.root)
        sign_root(self.root, self._keys, None, self._passphrases)

    def certify(self, requests: Sequence[Path], services: Mapping[str, Path], members: Path) -> None:
        """Sign a list of the sites that made `requests`, all officers, and the `services` by purpose, whose cards are named."""
        certify(
            members=members,
            root=[self.root],
            requests=list(requests),
            officer=[f"{self.card(name)}:{role}" for name, role in ROLES.items()],
            service=[f"{card}:{purpose}" for purpose, card in services.items()],
            key=self._keys,
            passphrase_file=self._passphrases,
        )

    def approve(self, plan: Path, contract: Path | None = None) -> None:
        """Have its author sign a plan, and one officer of each role approve it."""
        for name, role in sorted(OFFICERS.items(), key=lambda each: each[1] is not Role.ML_ENGINEER):
            key, passphrase = self.key(name), self.passphrase(name)
            if role is Role.ML_ENGINEER:
                sign(plan, name, key, self.root, contract, passphrase, yes=True)
            else:
                approve_plan(plan, role, name, key, self.root, contract, passphrase, yes=True)

    def decide(
        self,
        centre: Centre,
        site: SiteName,
        population: str,
        proposal: Proposal,
        *,
        by: Sequence[str] = (PRIVACY,),
    ) -> None:
        """Have privacy officers sign a decision on an account, and carry it out at the centre."""
        ledger, listed = Ledger(centre.engine, centre.clock), read_listed(centre.settings)
        drafted = ledger.draft_ceiling(site, population, proposal, listed.trusted.federation)
        signed = SignedCeiling(decision=drafted.decision)
        for name in by:
            signed = signed.signed_with(
                name, SigningKey.load(self.key(name), read_passphrase(self.passphrase(name)))
            )
        ledger.set_ceiling(signed, listed)

    @property
    def _keys(self) -> list[Path]:
        return [self.key(name) for name in ROOT_OFFICERS[:QUORUM]]

    @property
    def _passphrases(self) -> list[Path]:
        return [self.passphrase(name) for name in ROOT_OFFICERS[:QUORUM]]


def make_passphrase(path: Path) -> Path:
    """Write a fresh passphrase to a new file, mode 0600; returns `path`."""
    write_new(path, secrets.token_hex(16).encode() + b"\n", mode=0o600)
    return path
