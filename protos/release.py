"""Which release of this package is running."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed package's version, for people who compare machines: behaviour is bound to component versions, never to this."""
    try:
        return version("covenant-fl")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "unknown"
