"""The console's own files: scripts, styles and fonts from this package, compressed once, at addresses that change when they do."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from starlette.requests import Request
from starlette.responses import Response

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_DIGITS: Final = 16
_YEAR_S: Final = 31_536_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file."""

    data: bytes
    packed: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All files by name. What is not among them is not there: no path of a request ever reaches the disk."""

    files: Mapping[str, Asset]

    @classmethod
    def read(cls) -> Self:
        """Read the package's files."""
        paths = (path for path in sorted(_FOLDER.rglob("*")) if path.suffix in _TYPES)
        return cls({path.relative_to(_FOLDER).as_posix(): _asset(path) for path in paths})

    def url(self, name: str) -> str:
        """Where a page finds `name`. Raises KeyError for none of this package's."""
        return f"/static/{self.files[name].digest}/{name}"

    def answer(self, request: Request, digest: str, name: str) -> Response | None:
        """The file, packed where the browser takes that; None where there is none."""
        found = self.files.get(name)
        if found is None or found.digest != digest:
            return None
        headers = {
            "Cache-Control": f"public, max-age={_YEAR_S}, immutable",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(found.packed, media_type=found.media_type, headers=headers)
        return Response(found.data, media_type=found.media_type, headers=headers)


def _asset(path: Path) -> Asset:
    data = path.read_bytes()
    return Asset(
        data=data,
        packed=gzip.compress(data, 9, mtime=0),
        media_type=_TYPES[path.suffix],
        digest=hashlib.sha256(data).hexdigest()[:_DIGITS],
    )
