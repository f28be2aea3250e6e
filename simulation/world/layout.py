"""The folders of a simulated federation: what `covenant init` and `covenant-agent init` would make, from one seed.

UNSAFE KEYS: every private key follows from the seed, so that a simulation can be repeated to the bit. Anybody can compute them.
They exist in a simulation's folder only, and no command that serves a real federation can make them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.documents import evidence_file
from coordinator.governance.members import Listed
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from coordinator.settings import CONFIG_NAME, load_settings
from protos.contract import Contract
from protos.enrolment import EnrolmentRequest
from protos.key_files import write_private
from protos.keys import SigningKey, node_public_pem
from protos.membership import Member, MemberList, Membership, Service, SignedMembers
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_releases import fitting_ceiling, releases_of
from protos.root import Root, RootKey, SignedRoot
from simulation.world.approvals import FOR_EVER, SimulatedOfficers
from strategies.ids import SiteName

_FEWEST_PEERS = 2
_OFFICERS, _QUORUM = 3, 2
_NOWHERE = "127.0.0.1:1"
_MEMBERS: Final = "members.json"
_ROOT: Final = "root.json"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything of a simulated federation lies."""

    folder: Path

    @property
    def home(self) -> Path:
        """The coordinator's folder."""
        return self.folder / "coordinator"

    @property
    def plan_file(self) -> Path:
        """The plan, as it was given."""
        return self.folder / "plan.json"

    @property
    def contract_file(self) -> Path:
        """Its data contract."""
        return self.folder / "contract.json"

    @property
    def officers(self) -> Path:
        """The private keys of those who decide about accounts."""
        return self.folder / "officers"

    def site_file(self, site: SiteName) -> Path:
        """The configuration of a site."""
        return self.folder / "sites" / site / "site.yaml"

    def journal(self, site: SiteName) -> Path:
        """The journal of a site."""
        return self.site_file(site).parent / "journal.db"

    def node_keys(self) -> dict[SiteName, bytes]:
        """The public node key of each member, PEM."""
        signed = Membership.from_canonical((self.home / _MEMBERS).read_bytes()).signed
        return {member.site: member.node_key.encode() for member in signed.list.members}

    def files_of(self, site: SiteName) -> Mapping[str, bytes]:
        """What a site that has not begun needs, by its path in the folder: put down in another folder, also on another machine, it works as here."""
        own = sorted(self.site_file(site).parent.iterdir())
        shared = (self.home / _ROOT, self.contract_file)
        return {each.relative_to(self.folder).as_posix(): each.read_bytes() for each in (*own, *shared)}


def lay_out(
    folder: Path, plan: Plan, contract: Contract, tables: Mapping[SiteName, pa.Table], *, seed: int
) -> Layout:
    """Make the folders of a coordinator and of one site for each table, with keys that follow from `seed`."""
    layout, source = Layout(folder), Random(f"keys {seed}")  # noqa: S311 (unsafe on purpose, see above)
    federation, _, version = plan.sites.members.partition("@")
    officers = [_signing_key(source) for _ in range(_OFFICERS)]
    root = _root(federation, officers)
    layout.home.mkdir(parents=True)
    layout.plan_file.write_bytes(plan.canonical)
    layout.contract_file.write_bytes(contract.canonical)
    (layout.home / _ROOT).write_bytes(root.canonical)
    members = tuple(
        _lay_out_site(layout, site, federation, plan, contract, table, source, sorted(tables))
        for site, table in sorted(tables.items())
    )
    log = _signing_key(source)
    log.save(layout.home / "log.key")
    people = SimulatedOfficers.of(plan, lambda: _signing_key(source))
    if people.roles:
        evidence_file(layout.plan_file).write_bytes(
            people.evidence(plan, contract, root.root.identity).canonical
        )
    listed = MemberList(
        name=federation,
        version=int(version),
        members=members,
        officers=people.listed,
        services=(Service(name="log", purpose="log", key=log.public),),
    )
    signed = SignedMembers(list=listed)
    for officer in officers[:_QUORUM]:
        signed = signed.signed_with(officer, root.root)
    (layout.home / _MEMBERS).write_bytes(Membership(signed=signed).canonical)
    config = {"covenant": "coordinator/v1", "federation": federation}
    (layout.home / CONFIG_NAME).write_text(json.dumps(config))
    engine = open_database(load_settings(layout.home).database_url)
    migrate(engine)
    people.save(layout.officers)
    listed_by = Listed.of(Membership(signed=signed), root)
    _open_accounts(
        Ledger(engine, lambda: datetime(2026, 1, 1, tzinfo=UTC)), plan, contract, people, listed_by
    )
    engine.dispose()
    return layout


def _open_accounts(
    ledger: Ledger, plan: Plan, contract: Contract, people: SimulatedOfficers, listed: Listed
) -> None:
    """An account at each site that admits this plan once, and no more."""
    releases = releases_of(plan, contract)
    if releases is None or not isinstance(plan.privacy, Privacy):
        return
    ceiling = fitting_ceiling(releases, plan.privacy)
    for site in plan.sites.invite:
        proposal = Proposal(
            epsilon=ceiling.epsilon,
            delta=ceiling.delta,
            unit=ceiling.unit,
            order=ceiling.order,
            reason="an account for one simulated run",
        )
        federation = listed.trusted.federation
        drafted = ledger.draft_ceiling(site, plan.population_of(site), proposal, federation)
        ledger.set_ceiling(people.decided(drafted.decision), listed)


def _account(plan: Plan, contract: Contract) -> dict[str, object]:
    """The same account as the site has it."""
    releases = releases_of(plan, contract)
    if releases is None or not isinstance(plan.privacy, Privacy):
        return {}
    limit = plan.privacy.limit
    return {
        "account": {
            "unit": plan.privacy.unit.model_dump(),
            "epsilon": limit.epsilon,
            "delta": limit.delta,
            "order": fitting_ceiling(releases, plan.privacy).order,
        }
    }


def _lay_out_site(
    layout: Layout,
    site: SiteName,
    federation: str,
    plan: Plan,
    contract: Contract,
    table: pa.Table,
    source: Random,
    everybody: Sequence[SiteName],
) -> Member:
    folder = layout.site_file(site).parent
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "rows.parquet")
    config = {
        "covenant": "site/v1",
        "site": site,
        "federation": {
            "name": federation,
            "superlink": _NOWHERE,
            "ca": "ca.crt",
            "root": _beside(folder, layout.home / _ROOT),
        },
        "identity": {"key": "site.key", "node_key": "node.key"},
        "data": {
            plan.population_of(site): {
                "contract": contract.ref,
                "contract_file": _beside(folder, layout.contract_file),
                "file": "rows.parquet",
                **_account(plan, contract),
            }
        },
        "peers": {"recognise": [each for each in everybody if each != site], "at_least": 2},
        "policy": {
            "accept": [
                {
                    "purpose": plan.purpose,
                    "contracts": [contract.ref],
                    "components": [plan.training.component],
                    "privacy": {
                        "modes": [plan.privacy.mode],
                        "exemptions": list(plan.privacy.exempt) if isinstance(plan.privacy, Privacy) else [],
                    },
                    "aggregation": {
                        "modes": [plan.aggregation.mode],
                        "adversaries": ["active", "semi-honest"],
                        "colluding_at_least": 0,
                    },
                    "protected": list(plan.protected_columns),
                    "approvals": plan.approval_rule.model_dump(mode="json"),
                }
            ]
        },
    }
    if len(everybody) <= _FEWEST_PEERS:
        del config["peers"]
    layout.site_file(site).write_text(json.dumps(config))
    identity = _signing_key(source)
    identity.save(folder / "site.key")
    scalar = 1 + int.from_bytes(source.randbytes(40), "big") % (_P256_ORDER - 1)
    write_private(folder / "node.key", ec.derive_private_key(scalar, ec.SECP256R1()))
    return EnrolmentRequest.create(site, identity, node_public_pem(folder / "node.key")).verify()


def _beside(folder: Path, file: Path) -> str:
    """`file` as the site file in `folder` names it: without the way to the simulation, so that both can be moved together."""
    return Path(os.path.relpath(file, folder)).as_posix()


def _root(federation: str, officers: Sequence[SigningKey]) -> SignedRoot:
    keys = tuple(
        RootKey(name=f"officer-{number}", key=each.public) for number, each in enumerate(officers, 1)
    )
    root = SignedRoot(
        root=Root(federation=federation, version=1, keys=keys, quorum=_QUORUM, expires=FOR_EVER)
    )
    for officer in officers[:_QUORUM]:
        root = root.signed_with(officer, None)
    return root


def _signing_key(source: Random) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(source.randbytes(32)))
