"""How a target is reached: the document that `covenant deploy targets add` reads, one kind each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from protos.documents import Document, FieldError
from protos.keys import PublicKey
from protos.names import matching
from strategies.errors import Refused

Folder = Annotated[str, Field(min_length=1, max_length=4096)]
Days = Annotated[int, Field(ge=1, le=3650)]
Threshold = Annotated[float, Field(ge=0.0, le=1.0)]
_DIGEST_IMAGE = r"[a-z0-9][a-z0-9._:/-]{0,199}@sha256:[0-9a-f]{64}"
_QUANTITY = r"[1-9][0-9]{0,5}(m|Ki|Mi|Gi)?"


class LocalSettings(Document):
    """A scoring service on this machine: its `state` folder and the address at which it tells its status.

    Scores at or above `decline_at` decline, and get reasons; without it a threshold that the service has stays as it is.
    """

    kind: Literal["local"] = "local"
    state: Folder
    url: Annotated[
        str, matching(r"https?://(127\.0\.0\.1|localhost|\[::1\]):[0-9]{1,5}", "a loopback address")
    ]
    token_file: Folder | None = None
    ca_file: Folder | None = None
    decline_at: Threshold | None = None
    lifetime_days: Days = 90


class KServeSettings(Document):
    """An InferenceService of KServe: rendered into a GitOps `folder`; `image` is the scoring service's, pinned by digest.

    `storage` is where packages are kept for the cluster; whoever publishes copies `packages` there. `callers_secret` has the file `callers` of who may
    ask. Scores at or above `decline_at` decline, and get reasons. `state_claim` is a PersistentVolumeClaim that many pods may write: without it each pod
    forgets at its end which releases it has accepted, and its decision log is gone.
    """

    kind: Literal["kserve"] = "kserve"
    folder: Folder
    packages: Folder
    storage: Annotated[
        str, matching(r"(s3|gs|pvc|https)://[A-Za-z0-9._/-]{1,200}", "an s3, gs, pvc or https URI")
    ]
    namespace: Annotated[str, matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a namespace of Kubernetes")]
    image: Annotated[
        str, matching(_DIGEST_IMAGE, "an image by its digest, NAME@sha256:...; a tag can be moved")
    ]
    root_config_map: Annotated[
        str,
        matching(
            r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "the ConfigMap that holds the federation's root.json"
        ),
    ]
    callers_secret: Annotated[
        str, matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "the Secret that holds the service's callers")
    ]
    state_claim: (
        Annotated[
            str, matching(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "the name of a PersistentVolumeClaim")
        ]
        | None
    ) = None
    decline_at: Threshold | None = None
    cpu: Annotated[str, matching(_QUANTITY, "a quantity such as 500m")] = "500m"
    memory: Annotated[str, matching(_QUANTITY, "a quantity such as 512Mi")] = "512Mi"
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 3
    lifetime_days: Days = 90

    @model_validator(mode="after")
    def _replicas_rise(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise FieldError("max_replicas", f"it is below min_replicas, {self.min_replicas}")
        return self


class EdgeSettings(Document):
    """A branch server without a connection: bundles are carried from `outbox`, its acknowledgements to `inbox`; `key` is its own."""

    kind: Literal["edge"] = "edge"
    outbox: Folder
    inbox: Folder
    key: PublicKey
    lifetime_days: Days = 30


_PATHS: Final = frozenset({"state", "token_file", "ca_file", "folder", "packages", "outbox", "inbox"})
TargetSettings = LocalSettings | KServeSettings | EdgeSettings
_ANY: TypeAdapter[TargetSettings] = TypeAdapter(Annotated[TargetSettings, Field(discriminator="kind")])


def settings_from(data: bytes) -> TargetSettings:
    """The settings as they were kept. Raises Refused."""
    try:
        found = _ANY.validate_json(data, strict=True)
    except ValueError as error:
        raise Refused(f"these are no settings of a target: {error}") from error
    return found


def require_within(settings: TargetSettings, folder: Path) -> None:
    """Check that every path of a target lies in `folder`, links followed: who is not at the coordinator's machine chooses none of its files.

    Raises Refused.
    """
    for name in sorted(_PATHS & set(type(settings).model_fields)):
        path = getattr(settings, name)
        if path is not None and not _lies_in(path, folder):
            raise Refused(
                f"{name} of the target is {path[:200]!r}, outside of the coordinator's folder for targets; name an absolute path in that folder"
                " (`targets` in covenant.yaml), or add the target at the coordinator itself"
            )


def _lies_in(path: str, folder: Path) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return False
