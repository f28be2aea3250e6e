"""A site's own settings: which federation, which data, and what may be done with it.

1. Everything that is not allowed is refused: an empty policy takes part in nothing.
2. Relative paths belong to the folder of the file they are written in, whatever the agent's working directory.
3. No secret is written inline: keys are files, and a proxy's URL carries no password.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, Document, FieldError, FilePath, Part, load_document
from protos.logs import Logging
from protos.monitoring import Monitoring
from protos.names import Address, Name, Sha256, Site, distinct, matching
from protos.passphrases import PassphraseSource
from protos.site_data import DataSource
from protos.site_policy import Policy
from protos.site_run import Run

Proxy = Annotated[
    str,
    matching(r"none|https?://[A-Za-z0-9._-]{1,253}:[0-9]{1,5}", "none, or a URL with a port and no password"),
]
AppReference = Annotated[
    str,
    matching(
        r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
        "an installed module and its app, such as client.app:app",
    ),
]


PackageName = Annotated[
    str, matching(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a package's name in lower case, such as torch")
]


class Federation(Part):
    """Where the centre is, and what its answers are checked against: `ca` for TLS, `root` for member lists."""

    name: Name
    superlink: Address
    ca: FilePath
    root: FilePath
    proxy: Proxy = "none"

    @property
    def proxy_url(self) -> str | None:
        """The proxy between this site and the centre, if there is one."""
        return None if self.proxy == "none" else self.proxy


class Identity(Part):
    """The site's private keys: `key` signs for Covenant (Ed25519), `node_key` authenticates the transport.

    `passphrase` opens `key`, which is not encrypted without it. The transport's key never is: flwr reads it as it is.
    """

    key: FilePath
    node_key: FilePath
    passphrase: PassphraseSource | None = None


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError("use versions such as >=2.9,<3 or ==0.1.0") from error
    return text


class Allow(Part):
    """Which code may run: installed apps, and the digests of the manifests that may name them (empty: any).

    Of `packages`, by name as they are installed, only these versions may be.
    """

    apps: Annotated[tuple[AppReference, ...], AfterValidator(distinct)] = ()
    packages: Annotated[Mapping[PackageName, Annotated[str, AfterValidator(_specifier)]], *FROZEN] = {}
    fab_sha256: Annotated[tuple[Sha256, ...], AfterValidator(distinct)] = ()


class Peers(Part):
    """Who must be in a sum with this site: the sites that it `recognise`s, and how many of them at least.

    Whoever is not recognised counts as colluding with the coordinator.
    """

    recognise: Annotated[tuple[Site, ...], Field(min_length=2, max_length=1000), AfterValidator(distinct)]
    at_least: Annotated[int, Field(ge=2)] = 2

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.at_least > len(self.recognise):
            raise FieldError(
                "at_least",
                f"{self.at_least} of {len(self.recognise)} recognised sites can never take part; lower it",
            )
        return self


class Personal(Part):
    """Personal models of this site: their `folder`, and how many rows one is made from at most. Without it the agent keeps no shared model either.

    `tell_registry` lets a person here state to the centre that a shared model is personalised; what came of it is never told.
    """

    folder: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "personal")
    most_rows: Annotated[int, Field(ge=1000, le=5_000_000)] = 200_000
    tell_registry: bool = False


class SiteConfig(Document):
    """`site.yaml`."""

    covenant: Literal["site/v1"]
    site: Site
    federation: Federation
    identity: Identity
    # Text, because that is what the documents' strict reading takes; it becomes a path like any other.
    journal: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "journal.db")
    accounts: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "accounts.db")
    """What was released of this site's populations. Agents of one site in several federations name the same file."""
    halts: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "halts.db")
    """What people at this site have halted; `covenant-agent halt` writes it while the agent runs."""
    consents: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "consents.db")
    """Which plans people at this site have consented to; `covenant-agent plan` writes it while the agent runs."""
    log_copy: Annotated[FilePath, Field(validate_default=True)] = cast("Path", "log.db")
    """This site's copy of the transparency log."""
    peers: Peers | None = None
    data: Annotated[Mapping[Name, DataSource], Field(min_length=1, max_length=100), *FROZEN]
    allow: Annotated[Allow, Field(default_factory=Allow)]
    policy: Policy = Policy()
    run: Run = Run()
    personal: Personal | None = None
    monitoring: Monitoring = Monitoring()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _one_source_a_contract(self) -> Self:
        seen: dict[str, str] = {}
        for population, source in self.data.items():
            if source.contract in seen:
                raise FieldError(
                    "data",
                    f"{seen[source.contract]} and {population} both follow {source.contract}; a plan could mean either,"
                    " keep one",
                )
            seen[source.contract] = population
        return self

    @model_validator(mode="after")
    def _one_population_a_file(self) -> Self:
        """The same rows have one account, whatever contracts they follow."""
        by_place: dict[str, str] = {}
        by_population: dict[str, DataSource] = {}
        for name, source in self.data.items():
            population = source.population or name
            other = by_place.setdefault(source.place, population)
            if other != population:
                what = "file" if source.table is None else "table"
                raise FieldError(
                    "data",
                    f"{name} and {other} are the same {what}, {source.named}, and would have an account each; write population: {other} in {name}",
                )
            if by_population.setdefault(population, source).account != source.account:
                raise FieldError(
                    "data",
                    f"population {population} has two different accounts; write the same in both places",
                )
        return self

    def source_for(self, contract: str) -> DataSource | None:
        """The data that follow `contract` (`name@version`), or None if this site has none."""
        return next((source for source in self.data.values() if source.contract == contract), None)

    def population_of(self, source: DataSource) -> str:
        """What this site calls the population of `source`."""
        return next(source.population or name for name, each in self.data.items() if each is source)


def load_site(path: Path) -> SiteConfig:
    """Read `site.yaml`; its paths come back absolute. Raises DocumentError."""
    return load_document(path, SiteConfig)
