"""What becomes of a registered model, as the transparency log tells it: one kind of entry for each step; `log_registry` judges their order."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from protos.artifact_keys import ArtifactKey
from protos.documents import Part
from protos.model_approvals import ModelStatement, Version
from protos.model_stages import Stage
from protos.names import Name, Sha256, matching

LONGEST_WHY: Final = 500
LONGEST_BY: Final = 128

Why = Annotated[str, Field(min_length=1, max_length=LONGEST_WHY)]
By = Annotated[str, Field(min_length=1, max_length=LONGEST_BY)]
Alias = Annotated[
    str, matching(r"[a-z][a-z0-9-]{0,62}", "1 to 63 characters a-z, 0-9 and '-', beginning with a letter")
]


class ModelMoved(Part):
    """A version came from one stage to another. `digest` is the version's; `on` that of the document that the move rests on, such as a verdict."""

    kind: Literal["model-moved"] = "model-moved"
    name: Name
    version: Version
    digest: Sha256
    before: Stage
    to: Stage
    why: Why
    by: By
    on: Sha256 | None = None

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"


class ModelAliased(Part):
    """An alias of a model names `version` from now on, or nothing any more."""

    kind: Literal["model-aliased"] = "model-aliased"
    name: Name
    alias: Alias
    version: Version | None = None
    by: By


class ModelSigned(Part):
    """The files of a version were signed in the OpenSSF Model Signing format: `signature` is the digest of that file, `key` who signs models."""

    kind: Literal["model-signed"] = "model-signed"
    name: Name
    version: Version
    digest: Sha256
    signature: Sha256
    key: ArtifactKey


class ModelApproved(Part):
    """An officer approved a version."""

    kind: Literal["model-approved"] = "model-approved"
    statement: ModelStatement


RegistryEvent = ModelMoved | ModelAliased | ModelSigned | ModelApproved
"""What becomes of a version after it was registered."""
