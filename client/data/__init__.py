"""A site's rows: read through connectors, judged by their contract, and kept for training."""

from client.data.reading import Reading, read_source, table_from
from client.data.report import DataError, Report, Unreadable
from client.data.table import Part, Table

__all__ = ["DataError", "Part", "Reading", "Report", "Table", "Unreadable", "read_source", "table_from"]
