"""What a scoring service is told to serve, and what it tells of itself: two documents between the service and whoever deploys to it.

1. `serving/v1` lies as `serving.json` in the service's state folder and is replaced as a whole. Its `revision` only rises, so a service knows
   an order from an older one, and whoever gave it can wait for `revision` in the status.
2. It names packages by folder and by the digest that they must have. What a folder holds is judged by an `Opener`, never by this document.
3. A state that cannot be put into force is told as `refused` in the status; what is served stays as it was, under its revision.
4. A state without `stable` takes the model out of service: a recall.
5. The status counts per arm since the model took that arm in this process; `started_at` tells a restart, after which counts begin again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from protos import yaml12
from protos.contract import Contract
from protos.documents import Document, FieldError, Part
from protos.files import replace_file
from protos.names import Name, Sha256
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

STATE_FILE: Final = "serving.json"
STATUS_PATH: Final = "/covenant/v1/status"
SCORE_BINS: Final = 20
"""Bins of equal width in the status' histogram of scores, from 0 to 1."""
LATENCY_BOUNDS_MS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Upper bounds of the status' histogram of latencies; a last count is above them all."""
_LATENCIES: Final = len(LATENCY_BOUNDS_MS) + 1

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class PackageRef(Part):
    """A package: its folder, absolute, and the registry digest of the model version that it must hold."""

    package: Annotated[str, Field(min_length=1, max_length=4096)]
    digest: Sha256

    @model_validator(mode="after")
    def _absolute(self) -> Self:
        if not Path(self.package).is_absolute():
            raise FieldError("package", "use the absolute path of the package's folder")
        return self


class ServingState(Document):
    """What to serve. A canary answers `share` of request keys from the challenger; a shadow scores all and answers none."""

    covenant: Literal["serving/v1"] = "serving/v1"
    revision: Annotated[int, Field(ge=1, lt=2**53)]
    stable: PackageRef | None = None
    challenger: PackageRef | None = None
    mode: Literal["none", "shadow", "canary"] = "none"
    share: Share = 0.0
    decline_at: Share | None = None
    """Scores at or above it decline, and get reasons; without it reasons are given on request."""

    @model_validator(mode="after")
    def _arms_fit_the_mode(self) -> Self:
        if (self.challenger is None) != (self.mode == "none"):
            raise FieldError("mode", "a challenger is there exactly for shadow or canary")
        if self.challenger is not None and self.stable is None:
            raise FieldError("stable", "a challenger needs a stable model beside it")
        if self.share > 0.0 and self.mode != "canary":
            raise FieldError("share", "only a canary has a share")
        return self


def read_state(folder: Path) -> ServingState | None:
    """The state in `folder`, None where there is none yet. Raises UsageError when it cannot be read, Refused for what is no such document."""
    path = folder / STATE_FILE
    try:
        with path.open("rb") as file:
            data = file.read(yaml12.MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return ServingState.from_canonical(data)


def write_state(folder: Path, state: ServingState) -> None:
    """Replace the state in `folder`, on disk when this returns. Raises Refused unless its revision is above the one there.

    Two writers must not run at once: whoever deploys holds its own lock.
    """
    before = read_state(folder)
    if before is not None and before.revision >= state.revision:
        raise Refused(
            f"{folder / STATE_FILE} has revision {before.revision}; {state.revision} is not above it, so another deployment came first"
        )
    replace_file(folder / STATE_FILE, state.canonical, mode=0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A package that an opener has verified. `digest` is the model version's in the registry; `onnx` are the bytes that were verified.

    After `expires`, in UTC, it is served no more; None never ends.
    """

    name: str
    version: int
    digest: Digest
    onnx: bytes
    contract: Contract
    plan_digest: Digest
    expires: datetime | None = None


Opener = Callable[[Path], Opened]
"""Verifies the package in a folder and reads it once. Raises Refused for one that is altered, unsigned, expired or not approved."""


class ArmStatus(Part):
    """One arm's model and its counts. `latencies` has a count for each of LATENCY_BOUNDS_MS and one above; `scores` SCORE_BINS counts.

    `errors` are requests that this arm failed to score, not requests that were refused as wrong.
    """

    name: Name
    version: Annotated[int, Field(ge=1)]
    digest: Sha256
    since: AwareDatetime
    requests: Count
    rows: Count
    declined: Count
    errors: Count
    latencies: Annotated[tuple[Count, ...], Field(min_length=_LATENCIES, max_length=_LATENCIES)]
    latency_sum_ms: Annotated[float, Field(ge=0.0)]
    scores: Annotated[tuple[Count, ...], Field(min_length=SCORE_BINS, max_length=SCORE_BINS)]


class RefusedState(Part):
    """A state that is not in force, and why."""

    revision: Count
    why: str


class ServiceStatus(Part):
    """The answer of `GET /covenant/v1/status`. `revision` is the state in force, 0 before the first; `ready` is what readiness says."""

    covenant: Literal["serving-status/v1"] = "serving-status/v1"
    started_at: AwareDatetime
    revision: Count
    ready: bool
    why_not: str | None = None
    mode: Literal["none", "shadow", "canary"] = "none"
    share: Share = 0.0
    decline_at: Share | None = None
    stable: ArmStatus | None = None
    challenger: ArmStatus | None = None
    refused: RefusedState | None = None
    refused_requests: Count = 0
    """Requests answered with a refusal (wrong, too large, unknown caller, over the limit), over all arms."""
    decisions: Count | None = None
    """Lines of the decision log, and the digest of the last: kept elsewhere, they show whether lines were cut off at its end."""
    decisions_head: Sha256 | None = None
    monitor: Sha256 | None = None
    """The monitor that its decisions are counted by, if any; and why they are counted no more."""
    unwatched: str | None = None
