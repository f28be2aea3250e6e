"""Names that were checked once and are trusted from then on."""

import re
from typing import Final, NewType

from strategies.errors import UsageError

SiteName = NewType("SiteName", str)
RunId = NewType("RunId", str)
Digest = NewType("Digest", str)

_SITE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_RUN_ID: Final = re.compile(r"run-[0-9a-f]{16}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def site_name(text: str) -> SiteName:
    """Check the name of a site: fit for a DNS label, a file name and a metric label. Raises UsageError."""
    if not _SITE_NAME.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a site name; use 1 to 63 characters a-z, 0-9 and '-', starting with a letter"
        )
    return SiteName(text)


def run_id(text: str) -> RunId:
    """Check Covenant's own name of a run, which outlives the transport's runs. Raises UsageError."""
    if not _RUN_ID.fullmatch(text):
        raise UsageError(f"{text!r} is not a run id; it looks like run-0123456789abcdef (16 digits 0-9, a-f)")
    return RunId(text)


def digest(text: str) -> Digest:
    """Check a SHA-256 digest in lower-case hexadecimal. Raises UsageError."""
    if not _DIGEST.fullmatch(text):
        raise UsageError(f"{text!r} is not a SHA-256 digest; use 64 lower-case hexadecimal digits")
    return Digest(text)
