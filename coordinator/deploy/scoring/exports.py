"""A registered version as the scoring service takes it, from the registry's own files: to try a model on loopback, and to explain it.

Nobody's approval is looked at here. What is served to others comes from packages alone, which `package.open_package` judges.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.deploy.scoring.serving import Opened
from coordinator.registry.versions import SCORING_FILE
from protos.contract import Contract
from protos.log_made import CONTRACT_FILE, PLAN_FILE
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import Refused


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
