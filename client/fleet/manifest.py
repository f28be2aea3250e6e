"""What a site accepts as a Flower app bundle (FAB): a manifest that names installed code, and nothing else.

1. The bytes hash to the digest that the run names.
2. The archive holds the manifest and its table of contents; no code, no data, no surprise.
3. The client component is one that the site's configuration allows.
4. Where the site pins digests, the digest is among them.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
import zlib
from collections.abc import Collection

from strategies.errors import Refused

MAX_BUNDLE_BYTES = 64 << 10
_MANIFEST = "pyproject.toml"
_ALLOWED_FILES = frozenset({_MANIFEST, ".info/CONTENT"})

# What zipfile, its decompressors and tomllib raise for bytes that others chose; UnicodeDecodeError and TOMLDecodeError are
# ValueErrors, NotImplementedError (an unknown method) and RecursionError (deep nesting) are RuntimeErrors.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, OSError, EOFError)


class BundleRefused(Refused):
    """A FAB that this site does not allow."""


def check_bundle(content: bytes, named: str, *, apps: Collection[str], pinned: Collection[str]) -> None:
    """Raise `BundleRefused` unless the FAB `content`, which the run names by its SHA-256 `named`, keeps all four rules."""
    found = hashlib.sha256(content).hexdigest()
    if found != named:
        raise BundleRefused(f"the FAB hashes to {found}, but the run names {named}")
    if pinned and found not in pinned:
        raise BundleRefused(
            f"FAB {found} is not among the {len(pinned)} that `allow.fab_sha256` pins at this site"
        )
    component = _client_component(_manifest(content))
    if component not in apps:
        raise BundleRefused(
            f"the FAB asks for client app {component!r}; `allow.apps` at this site has {', '.join(apps)}"
        )


def _manifest(content: bytes) -> dict[str, object]:
    if len(content) > MAX_BUNDLE_BYTES:
        raise BundleRefused(f"the FAB has {len(content)} bytes; a manifest has at most {MAX_BUNDLE_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            extra = sorted(set(archive.namelist()) - _ALLOWED_FILES)
            if extra:
                raise BundleRefused(
                    f"the FAB carries {extra[0]!r}; only a manifest is accepted, code never travels"
                )
            if archive.getinfo(_MANIFEST).file_size > MAX_BUNDLE_BYTES:
                raise BundleRefused(f"the FAB's manifest unpacks to more than {MAX_BUNDLE_BYTES} bytes")
            return tomllib.loads(archive.read(_MANIFEST).decode())
    except _UNREADABLE as error:
        raise BundleRefused(f"the FAB is not an archive with a readable {_MANIFEST}: {error}") from error


def _client_component(manifest: dict[str, object]) -> str:
    here: object = manifest
    for key in ("tool", "flwr", "app", "components", "clientapp"):
        here = here.get(key) if isinstance(here, dict) else None
    return here if isinstance(here, str) else ""
