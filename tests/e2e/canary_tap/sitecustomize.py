"""Writes down every byte that a process hands to TLS, and what a process is made to fail with. Tests put this folder on PYTHONPATH."""

import os
import ssl
from typing import Any

_folder = os.environ.get("COVENANT_CANARY_TAP")

if _folder:
    _tap = open(os.path.join(_folder, f"{os.getpid()}.tap"), "ab", buffering=0)  # noqa: SIM115, PTH118, PTH123

    def _tapped(name: str) -> None:
        real = getattr(ssl.SSLSocket, name)

        def write(self: ssl.SSLSocket, data: Any, *rest: Any) -> Any:
            _tap.write(bytes(data))
            return real(self, data, *rest)

        setattr(ssl.SSLSocket, name, write)

    for _name in ("send", "write"):
        _tapped(_name)
