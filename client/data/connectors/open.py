"""Which connector a source of `site.yaml` is read with."""

from __future__ import annotations

from pathlib import Path
from typing import Final, assert_never
from urllib.parse import urlsplit

from client.data.connectors.duck import DuckTable
from client.data.connectors.files import ArrowFile, CsvFile, ParquetFile
from client.data.connectors.fixed_width import FixedWidthFile, load_layout
from client.data.connectors.interface import Connector
from client.data.connectors.postgres import PostgresTable
from client.data.connectors.sql import SqlTable, sqlite_url
from client.data.report import DataError, Unreadable
from protos.passphrases import Passphrase
from protos.site_data import CsvText, DataSource
from strategies.errors import UsageError

_POSTGRES: Final = ("postgresql", "postgres")


def connector_of(source: DataSource) -> Connector:
    """The connector for `source`; opens nothing but a layout and a password. Raises `DataError`."""
    return _database(source) if source.file is None else _file(source, source.file)


def _file(source: DataSource, path: Path) -> Connector:
    made: Connector
    match source.kind:
        case "parquet":
            made = ParquetFile(path)
        case "csv":
            made = CsvFile(path, source.csv or CsvText())
        case "arrow":
            made = ArrowFile(path)
        case "duckdb":
            made = DuckTable(path, str(source.table))
        case "sqlite":
            made = SqlTable(url=sqlite_url(path), table=str(source.table), named=source.named)
        case "fixed-width":
            made = FixedWidthFile(path, load_layout(source.layout))
        case "url":
            made = _database(source)
        case _ as never:
            assert_never(never)
    return made


def _database(source: DataSource) -> Connector:
    url, table, password = str(source.url), str(source.table), _password(source)
    if urlsplit(url).scheme in _POSTGRES:
        return PostgresTable(url=url, table=table, password=password)
    try:
        from sqlalchemy.engine import make_url
    except ImportError as error:
        raise DataError(
            f"{table} is in a SQL database; SQLAlchemy is not installed here, run: pip install 'covenant-fl[sql]'"
        ) from error
    return SqlTable(url=make_url(url), table=table, named=table, password=password)


def _password(source: DataSource) -> Passphrase | None:
    """Read each time: whoever changes it need not restart the agent."""
    try:
        return None if source.password is None else source.password.read()
    except UsageError as error:
        raise Unreadable(
            f"the password of the database of {source.named} is not to be had: {error}"
        ) from error
