"""The small words of all documents: names, references and columns, each with the sentence that says what is accepted."""

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator

from strategies.errors import UsageError
from strategies.ids import Digest, RunId, SiteName, digest, run_id, site_name

V = TypeVar("V")

_LONGEST_TEXT: Final = 128
_HIGHEST_PORT: Final = 65535
_HOST_PORT: Final = re.compile(r"(?:\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


def checked(parse: Callable[[str], object]) -> AfterValidator:
    """Make a validator of a check that raises UsageError, such as those in `strategies.ids`."""

    def check(text: str) -> str:
        try:
            parse(text)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return text

    return AfterValidator(check)


def matching(pattern: str, accepted: str) -> AfterValidator:
    """Make a validator that takes what `pattern` matches in full; `accepted` completes "use ..."."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise ValueError(f"use {accepted}")
        return text

    return AfterValidator(check)


def distinct(items: tuple[V, ...]) -> tuple[V, ...]:
    """Refuse a list that names something twice."""
    seen: set[V] = set()
    for item in items:
        if item in seen:
            raise ValueError(f"{item!r} is named twice; name it once")
        seen.add(item)
    return items


def _printable(text: str) -> str:
    if not text or len(text) > _LONGEST_TEXT or not text.isprintable() or text != text.strip():
        raise ValueError(f"use 1 to {_LONGEST_TEXT} printable characters without spaces around them")
    return text


def _address(text: str) -> str:
    found = _HOST_PORT.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= _HIGHEST_PORT:
        raise ValueError(f"use host:port with a port from 1 to {_HIGHEST_PORT}, such as fl.example:9092")
    return text


def address_parts(address: str) -> tuple[str, int]:
    """Host and port of an `Address`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or number, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Address = Annotated[str, AfterValidator(_address)]
Site = Annotated[SiteName, checked(site_name)]
Run = Annotated[RunId, checked(run_id)]
Sha256 = Annotated[Digest, checked(digest)]

# Plans, contracts, federations, populations, purposes.
Name = Annotated[
    str,
    matching(r"[a-z0-9][a-z0-9-]{0,62}", "1 to 63 characters a-z, 0-9 and '-', such as credit-risk"),
]

# What a document with a version is called elsewhere: `lending-club@1`.
Reference = Annotated[
    str,
    matching(r"[a-z0-9][a-z0-9-]{0,62}@[1-9][0-9]{0,8}", "a name and a version, such as lending-club@1"),
]

# A training behaviour, held by golden vectors: `tabular/1`.
Component = Annotated[
    str, matching(r"[a-z][a-z0-9-]{0,62}/[1-9][0-9]{0,8}", "a component and its version, such as tabular/1")
]

# Columns keep the names that data sets have; words are the values of a category.
ColumnName = Annotated[str, AfterValidator(_printable)]
Word = Annotated[str, AfterValidator(_printable)]
