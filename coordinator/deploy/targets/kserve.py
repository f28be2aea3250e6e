"""An InferenceService of KServe, rendered into a GitOps folder: the cluster takes it from there, and its status is written back beside it.

1. What is rendered is v1beta1 of `serving.kserve.io`, with the image and the package named by digest, resources bounded, and no right that
   scoring does not need. There is no tag that somebody could move.
2. KServe keeps the revision before, and sends it what is not the canary's: `canaryTrafficPercent` counts from 1 to 99, so a share is rounded to
   that. It has no shadow.
3. An order is in force when the cluster says so: `NAME.status.json` is the list that `kubectl get inferenceservices --field-selector
   metadata.name=NAME -o json` prints. Its item has the order's annotation and is Ready; after an order without a model there is no item.
4. Whoever publishes copies `packages` to `storage`; the folder's name has the release's digest.
5. The service listens on the pod's own loopback, where the queue proxy beside it reaches it, and answers callers with a token alone. It ends by itself
   when it cannot go on, so there is no probe of its life.
6. With a `state_claim` pods share what they have accepted and the key of decisions, and each has a log of its own, which outlives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from coordinator.deploy.package import Package, folder_name, write_package
from coordinator.deploy.pieces import read_ordinary
from coordinator.deploy.targets.base import Observed, Order
from coordinator.deploy.targets.settings import KServeSettings
from protos import yaml12
from protos.files import replace_file
from protos.rollouts import State
from strategies.errors import Refused, UsageError

API_VERSION: Final = "serving.kserve.io/v1beta1"
REVISION: Final = "covenant/order"
_DIGEST: Final = "covenant/model-digest"
_MODEL: Final = "covenant/model"
_PORT: Final = 8080
_PACKAGE: Final = "/mnt/models"
_STATE: Final = "/var/lib/covenant"
_ROOT: Final = "/etc/covenant"
_CALLERS: Final = "/etc/covenant-callers"
_USER: Final = 65532
_MODE: Final = 0o644
_HEADER: Final = re.compile(rf"# {REVISION}: ([0-9]{{1,9}})")


class KServeTarget:
    """See `Target`."""

    states = frozenset({State.CANARY, State.FULL})

    def __init__(self, name: str, settings: KServeSettings) -> None:
        self._name, self._settings = name, settings
        self._file = Path(settings.folder) / f"{name}.yaml"
        self._status_file = Path(settings.folder) / f"{name}.status.json"

    def give(self, order: Order) -> None:
        """See `Target.give`. Without a model there is nothing to render, and the cluster prunes what there was."""
        if order.mode == "shadow":
            raise Refused(f"{self._name} is KServe's, which has no shadow; start with --canary")
        before = self._written()
        if before > order.revision:
            raise Refused(
                f"{self._file} has order {before}; order {order.revision} is older, so another deployment came first"
            )
        try:
            for folder in (self._file.parent, Path(self._settings.packages)):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be used: {error.strerror}") from error
        for package in (order.stable, order.challenger, order.recall):
            if package is not None:
                write_package(Path(self._settings.packages), package)
        data = f"# {REVISION}: {order.revision}\n".encode()
        if order.stable is not None:
            data += rendered(self.manifest(order))
        if not self._file.exists() or self._file.read_bytes() != data:
            replace_file(self._file, data, mode=_MODE)

    def manifest(self, order: Order) -> dict[str, Any]:
        """The InferenceService of an order."""
        package = order.challenger or order.stable
        if package is None:
            raise Refused(
                f"order {order.revision} takes the model out of service, so there is nothing to render"
            )
        released = package.release.released
        return {
            "apiVersion": API_VERSION,
            "kind": "InferenceService",
            "metadata": {
                "name": self._name,
                "namespace": self._settings.namespace,
                "annotations": {
                    REVISION: str(order.revision),
                    _MODEL: released.ref,
                    _DIGEST: released.digest,
                },
            },
            "spec": {"predictor": self._predictor(order, package)},
        }

    def observe(self) -> Observed:
        """See `Target.observe`."""
        try:
            data = read_ordinary(self._status_file, yaml12.MAX_BYTES + 1)
        except FileNotFoundError:
            return Observed(revision=0)
        except OSError as error:
            raise UsageError(f"{self._status_file} cannot be read: {error.strerror}") from error
        if len(data) > yaml12.MAX_BYTES:
            raise Refused(f"{self._status_file} has more than {yaml12.MAX_BYTES} bytes")
        try:
            items = json.loads(data)["items"]
            if not items:
                gone = not self._has_manifest() and self._is_told_since()
                return Observed(revision=self._written() if gone else 0)
            (found,) = items
            revision = int(found["metadata"]["annotations"][REVISION])
            conditions = {each["type"]: each for each in found.get("status", {}).get("conditions", ())}
            ready = conditions.get("Ready", {})
            current = int(found["metadata"]["generation"]) == found.get("status", {}).get(
                "observedGeneration"
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(
                f"{self._status_file} is no list of one InferenceService as `kubectl get -o json` prints it"
            ) from error
        if current and ready.get("status") == "True":
            return Observed(revision=revision)
        if current and ready.get("status") == "False":
            return Observed(
                revision=0, refused=(revision, str(ready.get("message") or ready.get("reason"))[:500])
            )
        return Observed(revision=0)

    def _predictor(self, order: Order, package: Package) -> dict[str, Any]:
        predictor: dict[str, Any] = {
            "minReplicas": self._settings.min_replicas,
            "maxReplicas": self._settings.max_replicas,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
                # Only a new volume is given to the group: the keys in one that was used stay nobody else's to read.
                "fsGroup": _USER,
                "fsGroupChangePolicy": "OnRootMismatch",
            },
            "volumes": [
                {"name": "state", **self._kept()},
                {"name": "root", "configMap": {"name": self._settings.root_config_map}},
                {"name": "callers", "secret": {"secretName": self._settings.callers_secret}},
            ],
            "containers": [self._container(package)],
        }
        if order.mode == "canary":
            predictor["canaryTrafficPercent"] = min(99, max(1, round(order.share * 100)))
        return predictor

    def _kept(self) -> dict[str, Any]:
        """Where what was accepted, and the decision log, are kept: a claim outlives the pods, and an empty folder does not."""
        claim = self._settings.state_claim
        if claim is None:
            return {"emptyDir": {"sizeLimit": "512Mi"}}
        return {"persistentVolumeClaim": {"claimName": claim}}

    def _container(self, package: Package) -> dict[str, Any]:
        bounds = {"cpu": self._settings.cpu, "memory": self._settings.memory}
        return {
            "name": "kserve-container",
            "image": self._settings.image,
            "args": [*self._serves()],
            "env": [
                {"name": "STORAGE_URI", "value": f"{self._settings.storage}/{folder_name(package.release)}"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": _PORT}, "periodSeconds": 5},
            "resources": {"requests": dict(bounds), "limits": dict(bounds)},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": _USER,
            },
            "volumeMounts": [
                {"name": "state", "mountPath": _STATE},
                {"name": "root", "mountPath": _ROOT, "readOnly": True},
                {"name": "callers", "mountPath": _CALLERS, "readOnly": True},
            ],
        }

    def _serves(self) -> Iterator[str]:
        """What the container runs: one package, judged like every other."""
        yield from ("score", "serve", "--package", _PACKAGE, "--state", _STATE)
        yield from ("--root", f"{_ROOT}/root.json", "--target", self._name)
        yield from ("--callers", f"{_CALLERS}/callers", "--port", str(_PORT))
        # A decision log has one writer: pods on one claim keep one each, under one key.
        yield from ("--decisions", f"{_STATE}/decisions/$(POD)")
        if self._settings.decline_at is not None:
            yield from ("--decline-at", f"{self._settings.decline_at:g}")

    def _has_manifest(self) -> bool:
        """Whether what is there asks for a service; a comment alone asks for none."""
        lines = self._file.read_bytes().splitlines() if self._file.exists() else []
        return any(line and not line.startswith(b"#") for line in lines)

    def _is_told_since(self) -> bool:
        """Whether the status is from after the order: an empty list from before anything ran there confirms no recall."""
        return self._file.exists() and self._status_file.stat().st_mtime_ns >= self._file.stat().st_mtime_ns

    def _written(self) -> int:
        """The revision of what is there; 0 where nothing is. Raises Refused for what this coordinator did not write."""
        if not self._file.exists():
            return 0
        first = self._file.read_bytes().partition(b"\n")[0].decode(errors="replace")
        found = _HEADER.fullmatch(first)
        if found is None:
            raise Refused(
                f"{self._file} does not begin with an order, so this coordinator did not write it; move it away"
            )
        return int(found[1])


def rendered(manifest: dict[str, Any]) -> bytes:
    """A manifest as YAML, the same bytes for the same manifest."""
    writer = YAML()
    writer.default_flow_style, writer.width = False, 4096
    text = StringIO()
    writer.dump(manifest, text)
    data: bytes = text.getvalue().encode()
    return data
