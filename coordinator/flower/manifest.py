"""The Flower app bundle (FAB) of every run: a manifest that names installed code, and nothing else. No code travels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flwr.cli.build import build_fab_from_files

from strategies.ids import Digest, digest

SERVER_APP = "coordinator.flower.server_app:app"
CLIENT_APP = "client.app:app"
RUN_KEY = "covenant-run"
"""The one setting of a Flower run: which Covenant run it carries."""

_MANIFEST = f"""\
[project]
name = "covenant"
version = "1.0.0"
description = "Names installed components; carries no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "covenant"
fab-format-version = 0

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"

[tool.flwr.app.config]
{RUN_KEY} = ""
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A FAB and the SHA-256 that sites may pin."""

    content: bytes
    digest: Digest


def build_bundle(manifest: str = _MANIFEST) -> Bundle:
    """Build the FAB; the same bytes on every machine."""
    content, _ = build_fab_from_files({"pyproject.toml": manifest.encode()})
    return Bundle(content, digest(hashlib.sha256(content).hexdigest()))
