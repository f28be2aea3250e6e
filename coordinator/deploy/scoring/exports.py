"""Opens what `covenant model export` wrote: the files of a registered version in a folder called NAME@VERSION.

The digest of a version is over all of its files, so it holds every byte of what is opened. Nobody's approval is looked at here: this serves a model
to try it, and measures the service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from coordinator.deploy.scoring.operators import MOST_BYTES
from coordinator.deploy.scoring.serving import Opened
from coordinator.registry.publish import SCORING_FILE
from protos.contract import Contract
from protos.log_audit import CONTRACT_FILE, PLAN_FILE
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import Refused

_FOLDER: Final = re.compile(r"([a-z][a-z0-9-]{0,62})@([1-9][0-9]{0,8})")
_MOST_FILES: Final = 100


def open_export(folder: Path) -> Opened:
    """The model in `folder`. Raises Refused for what is no export."""
    named = _FOLDER.fullmatch(folder.name)
    if named is None:
        raise Refused(f"{folder} is not called NAME@VERSION, as the folder of an exported model is here")
    try:
        paths = sorted(folder.iterdir())[: _MOST_FILES + 1]
        if len(paths) > _MOST_FILES or any(path.stat().st_size > MOST_BYTES for path in paths):
            raise Refused(f"{folder} holds more than a model's files")
        files = {path.name: path.read_bytes() for path in paths}
    except OSError as error:
        raise Refused(f"{folder} cannot be read: {error.strerror}") from error
    return opened_from(named[1], int(named[2]), files)


def opened_from(name: str, version: int, files: Mapping[str, bytes]) -> Opened:
    """A version's files as the service takes them. Raises Refused where one is missing."""
    if missing := sorted({SCORING_FILE, CONTRACT_FILE, PLAN_FILE} - files.keys()):
        raise Refused(f"{name}@{version} has no {missing[0]}, so nothing can be scored with it")
    return Opened(
        name=name,
        version=version,
        digest=digest_of({file: sha256_hex(data) for file, data in files.items()}),
        onnx=files[SCORING_FILE],
        contract=Contract.from_canonical(files[CONTRACT_FILE]),
        plan_digest=sha256_hex(files[PLAN_FILE]),
    )
