"""A new site: its folder with configuration and keys, and the request that the federation's officers must certify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from client.enrolment.starting_policy import starting_policy
from client.keystore import make_keys, read_root
from protos.contract import Contract
from protos.documents import load_document
from protos.enrolment import EnrolmentRequest
from protos.invitation import Invitation
from protos.site import load_site
from strategies.errors import UsageError

CONFIG_FILE: Final = "site.yaml"
REQUEST_FILE: Final = "enrolment.json"
_FOLDER_MODE: Final = 0o700
_FEWEST_PEERS: Final = 2

_SITE: Final = """\
covenant: site/v1
site: {site}
federation:
  name: {federation}
  superlink: {superlink}
  ca: {ca}                      # the transport's certificate authority; nothing else is trusted
  root: {root}                  # the federation's root, pinned; compare its fingerprint with the officers
  proxy: none                   # or a URL; the environment is ignored, loopback is never proxied
identity:
  key: site.key
  {passphrase}
  node_key: node.key            # of the transport; it is not encrypted, so keep its mode 0600
journal: journal.db             # what this site has answered; never copy it back from a backup, never delete it
accounts: accounts.db           # what was released of its rows; the agents of other federations name this very file
halts: halts.db                 # what people here have halted, with `covenant-agent halt`
consents: consents.db           # which plans people here have allowed, with `covenant-agent plan allow`
log_copy: log.db                # this site's copy of the transparency log, with which a lost coordinator is restored
{peers}
data:
  {contract_name}:
    contract: {contract}
    contract_file: {contract_file}
    file: {data}
    # columns: {{contract_name: name_in_the_file}}
{account}
allow:
  apps: ["client.app:app"]      # installed code that a run may name; code itself never travels
  fab_sha256: []                # pin manifests here; empty admits any that names an allowed app
{policy}run:
  cpu_threads: 1
  idle_poll: 1s
  busy_poll: 25ms
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSite:
    """What is known of a site before it is made. `account` is how much may become known of one unit, as `covenant-agent init --account` takes it."""

    site: str
    federation: str
    superlink: str
    ca: Path
    root: Path
    contract: Path
    data: Path
    purposes: Sequence[str]
    peers: Sequence[str] = ()
    allow_plain: bool = False
    privacy: Sequence[str] = ("distributed",)
    account: str | None = None
    passphrase_file: Path | None = None

    def make(self, folder: Path) -> EnrolmentRequest:
        """Make the site in `folder`; what its officers must certify is in `REQUEST_FILE` there, too.

        Raises UsageError for what cannot be used, and where there is a site already.
        """
        agreed = load_document(self.contract, Contract)
        read_root(self.root, self.federation)
        if not self.ca.exists():
            raise UsageError(f"{self.ca} does not exist; the centre's `covenant init` made it as tls/ca.crt")
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / CONFIG_FILE
        if config.exists():
            raise UsageError(f"{config} exists; a site is never overwritten, choose another folder")
        folder.chmod(_FOLDER_MODE)
        for source in (self.ca, self.root, self.contract):
            (folder / source.name).write_bytes(source.read_bytes())
        config.write_text(self._configuration(agreed))
        try:
            request = make_keys(load_site(config))
        except UsageError:
            config.unlink()
            raise
        (folder / REQUEST_FILE).write_bytes(request.canonical + b"\n")
        return request

    def _configuration(self, agreed: Contract) -> str:
        return _SITE.format(
            site=self.site,
            federation=self.federation,
            superlink=self.superlink,
            ca=self.ca.name,
            root=self.root.name,
            contract=agreed.ref,
            contract_name=agreed.name,
            contract_file=self.contract.name,
            data=self.data.resolve(),
            policy=starting_policy(
                purposes=self.purposes,
                contract=agreed.ref,
                modes=self.privacy,
                allow_plain=self.allow_plain,
            ),
            peers=_peers(sorted(set(self.peers) - {self.site})),
            account=_account(self.account),
            passphrase=_passphrase(self.passphrase_file),
        )


@contextmanager
def unfolded(invitation: Invitation, contract: Path | None) -> Iterator[tuple[Path, Path, Path]]:
    """The files of an invitation as long as the block runs: authority, root, and contract, which is `contract` if the invitation has none.

    Raises UsageError where there is no contract at all.
    """
    if contract is None and invitation.contract is None:
        raise UsageError(
            f"the invitation of {invitation.site} has no data contract; name the one that you were given with --contract"
        )
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ca.crt").write_text(invitation.ca)
        (folder / "root.json").write_bytes(invitation.root.canonical + b"\n")
        if contract is None and invitation.contract is not None:
            contract = folder / f"{invitation.contract.name}.yaml"
            contract.write_bytes(invitation.contract.canonical + b"\n")
        yield folder / "ca.crt", folder / "root.json", contract or folder


def _passphrase(file: Path | None) -> str:
    """The part of a configuration that says where the identity key's passphrase is."""
    if file is None:
        return "# passphrase: {credential: NAME}   # of systemd, or {file: PATH}; without it the key is not encrypted"
    return f"passphrase: {{file: {dumps(str(file.resolve()))}}}"


def _peers(names: Sequence[str]) -> str:
    """The part of a configuration that says whom this site recognises."""
    listed = ", ".join(names)
    if len(names) < _FEWEST_PEERS:
        return f"# peers: {{recognise: [{listed}], at_least: 2}}   # who must be in a sum with this site: needed for secure aggregation"
    return f"peers:                          # who must be in a sum with this site, and how many of them\n  recognise: [{listed}]\n  at_least: 2"


def _account(given: str | None) -> str:
    """The part of a configuration that says how much may become known of one unit."""
    what = "# how much may ever become known of one unit; order is of the filter that holds it, and stays"
    if given is None:
        return f"    # account: {{unit: {{kind: record}}, epsilon: 8.0, delta: 1.0e-5}}   {what}"
    unit, _, rest = given.partition(",")
    kind, *parts = unit.split(":")
    names = ("column", "max_rows", "max_sites") if kind == "customer" else ("max_rows",)
    try:
        epsilon, delta, *order = rest.split(",")
        figures = f"epsilon: {float(epsilon)}, delta: {float(delta)}"
    except ValueError as error:
        raise _no_account(given) from error
    if len(order) > 1 or len(parts) > len(names):
        raise _no_account(given)
    told = "".join(f", {name}: {part}" for name, part in zip(names, parts, strict=False))
    fixed = f", order: {order[0]}" if order else ""
    return f"    account: {{unit: {{kind: {kind}{told}}}, {figures}{fixed}}}   {what}"


def _no_account(given: str) -> UsageError:
    return UsageError(
        f"--account {given!r}: use UNIT,EPSILON,DELTA or UNIT,EPSILON,DELTA,ORDER, such as record,8,1e-5 or customer:customer_id:4,8,1e-6"
    )
