"""A site's rows and what may become known of them: `data` in site.yaml.

1. A source is rows in one place, under one contract, of one population. A population has one account, whatever contracts and places its rows have.
2. No password stands in it: a URL that could hold one is refused, and is not repeated in the refusal.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, FieldError, FilePath, Part
from protos.names import ColumnName, Name, Reference, Site, distinct, matching
from protos.passphrases import PassphraseSource
from protos.plan_privacy import Delta, Epsilon, Unit
from strategies.dp.filters import Ceiling
from strategies.errors import UsageError


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
