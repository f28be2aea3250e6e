"""A site's own settings: which federation, which data, and what may be done with it.

1. Everything that is not allowed is refused: an empty policy takes part in nothing.
2. Relative paths belong to the folder of the file they are written in, whatever the agent's working directory.
3. No secret is written inline: keys are files, and a proxy's URL carries no password.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, cast
from urllib.parse import parse_qsl, urlsplit

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, Document, FieldError, FilePath, Part, load_document
from protos.logs import Logging
from protos.monitoring import Monitoring
from protos.names import Address, ColumnName, Name, Reference, Sha256, Site, distinct, matching
from protos.passphrases import PassphraseSource
from protos.plan_privacy import Delta, Epsilon, Unit
from protos.site_policy import Policy
from protos.site_run import Run
from strategies.dp.filters import Ceiling
from strategies.errors import UsageError

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


class AccountRule(Part):
    """The most that may ever become known of one unit of a population: whatever the run, the plan, the contract or the federation.

    `order` is of the Rényi filter that holds the ceiling, and stays; it follows from epsilon and delta unless it is given.
    """

    unit: Unit
    epsilon: Epsilon
    delta: Delta
    order: Annotated[int, Field(ge=2, le=1024)] | None = None
    alert_at: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], AfterValidator(distinct)] = (
        0.5,
        0.8,
    )

    @property
    def ceiling(self) -> Ceiling:
        """As the filter has it."""
        return Ceiling.fixed(epsilon=self.epsilon, delta=self.delta, unit=self.unit.unit, order=self.order)

    @model_validator(mode="after")
    def _can_be_held(self) -> Self:
        try:
            _ = self.ceiling
        except UsageError as error:
            raise FieldError("epsilon", str(error)) from error
        return self


Format = Literal["parquet", "csv", "arrow", "duckdb", "sqlite", "fixed-width"]

_FORMATS: Final[Mapping[str, Format]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".duckdb": "duckdb",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
_HAVE_TABLES: Final = ("duckdb", "sqlite")
_URL_WORDS: Final = "such as postgresql://reader@db.example/loans"
_SECRET_OPTION: Final = re.compile(r"pass|pwd|secret|token", re.IGNORECASE)
_SECRET_INSIDE: Final = re.compile(r"(pass|pwd|secret|token)\w*\s*=", re.IGNORECASE)
"""Of an option that holds options, as `odbc_connect` does."""

TableName = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_$ -]{0,127}(\.[A-Za-z_][A-Za-z0-9_$ -]{0,127}){0,2}",
        "the name of a table or view, with its schema where that matters, such as risk.applications",
    ),
]


class CsvText(Part):
    """How a CSV file is written: its separator, its code page, and what stands before the decimals."""

    delimiter: Literal[",", ";", "|", "\t"] = ","
    encoding: Annotated[str, matching(r"[a-z0-9_-]{1,20}", "a code page, such as utf-8 or cp1252")] = "utf-8"
    decimal: Literal[".", ","] = "."


class DataSource(Part):
    """Rows under one contract: where they are, their own names for contract columns, and the account of their population.

    They are in a `file`, of the `format` that its name's ending tells, else Parquet; or in the `table` of a database at `url`, or of one that is
    a file. A file of fixed-width records has its `layout` described in another. A `url` holds no password; `password` says where it is.

    The key in `data` is the population's name, unless `population` gives it: the same rows under another contract are the same population,
    and have the same account. A population without an account takes part in nothing but plans without privacy. At sites that it `overlaps` with the same people may be.
    """

    contract: Reference
    contract_file: FilePath
    file: FilePath | None = None
    format: Format | None = None
    csv: CsvText | None = None
    layout: FilePath | None = None
    url: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    password: PassphraseSource | None = None
    table: TableName | None = None
    columns: Annotated[Mapping[ColumnName, ColumnName], *FROZEN] = {}
    population: Name | None = None
    account: AccountRule | None = None
    overlaps: Annotated[tuple[Site, ...], AfterValidator(distinct)] = ()

    @property
    def kind(self) -> Format | Literal["url"]:
        """What the rows are read with."""
        if self.file is None:
            return "url"
        return self.format or _FORMATS.get(self.file.suffix.lower(), "parquet")

    @property
    def place(self) -> str:
        """Where the rows are: two sources with one place are the same rows."""
        where = str(self.url) if self.file is None else str(self.file.resolve())
        return where if self.table is None else f"{where} table {self.table}"

    @property
    def named(self) -> str:
        """Short, for messages."""
        if self.file is None:
            return str(self.table)
        return self.file.name if self.table is None else f"{self.file.name} table {self.table}"

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise FieldError(
                "file", "name the file or the url of the database that has the rows, and not both"
            )
        if self.url is not None:
            _require_url(self.url)
        return self

    @model_validator(mode="after")
    def _what_belongs_together(self) -> Self:
        kind = self.kind
        for key, given, belongs in (
            ("table", self.table, kind == "url" or kind in _HAVE_TABLES),
            ("layout", self.layout, kind == "fixed-width"),
        ):
            if belongs and given is None:
                raise FieldError(key, f"is missing; rows in {kind} are found by their {key}")
            if given is not None and not belongs:
                raise FieldError(key, f"does not belong to rows in {kind}; remove it")
        for key, is_there, belongs in (
            ("csv", self.csv is not None, kind == "csv"),
            ("password", self.password is not None, kind == "url"),
            ("format", self.format is not None, kind != "url"),
        ):
            if is_there and not belongs:
                raise FieldError(key, f"does not belong to rows in {kind}; remove it")
        return self


def _require_url(url: str) -> None:
    """Refuse a URL that could hold a secret, without repeating it."""
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None or any(
            _SECRET_OPTION.search(name) or _SECRET_INSIDE.search(value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        )
    except ValueError as error:
        raise FieldError("url", f"cannot be read as a URL; use one {_URL_WORDS}") from error
    if has_password:
        raise FieldError(
            "url",
            "a password is never written here; name its place with password: {credential: ...} or {file: ...}",
        )
    # One of these in a password ends the host for this reader, and not for the driver's.
    if parts.fragment or "@" in parts.path + parts.query:
        raise FieldError(
            "url", f"has an @ or # after its host, where a password could hide; use one {_URL_WORDS}"
        )
    if parts.scheme.startswith("sqlite"):
        raise FieldError("url", "a SQLite database is a file; name it with file and format: sqlite")
    if not parts.scheme or not parts.hostname:
        raise FieldError("url", f"names no database and host; use one {_URL_WORDS}")


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
