"""The coordinator's calls to a SuperLink: register sites, start and stop runs, and claim the runs' server processes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

import httpx
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest, StopRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.interceptors.http.superexec_auth import SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient

from coordinator.flower.manifest import RUN_KEY, Bundle
from coordinator.settings import SuperLinkAddress
from strategies.errors import CovenantError, Unreachable
from strategies.ids import RunId, SiteName

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """Whether a node is online. It counts as that until `heard_until`, unless it is heard of again; None for one that was never heard of."""

    online: bool
    heard_until: datetime | None


class _Bearer:
    """Adds the control token to each request."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header and go on."""
        context.request.headers["authorization"] = f"Bearer {self._token}"
        return call_next(context)


class Control:
    """The control API of the SuperLink at `address`, with the token that its files hold now."""

    def __init__(self, address: SuperLinkAddress) -> None:
        """No connection is made yet."""
        self._address = address
        try:
            token, ca = address.control_token_file.read_text(), address.ca_file.read_bytes()
        except OSError as error:
            raise Unreachable(
                f"no running coordinator: {error.filename} cannot be read ({error.strerror}). Start it with `covenant up`"
            ) from error
        self._client = ControlHttpClient.from_server_address(
            f"{address.host}:{address.port}",
            insecure=False,
            root_certificates=ca,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="covenant"), _Bearer(token)],
        )

    def register(self, node_keys: Mapping[SiteName, bytes]) -> list[SiteName]:
        """Let the sites with these public node keys (PEM) in; returns those who were not in before."""
        known = self.registered()
        missing = [site for site, key in node_keys.items() if key not in known]
        for site in missing:
            with outcomes(self._address):
                self._client.RegisterNode(RegisterNodeRequest(public_key=node_keys[site], name=site))
        return missing

    def registered(self) -> frozenset[bytes]:
        """The public node keys (PEM) that the SuperLink lets in."""
        with outcomes(self._address):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return frozenset(bytes(node.public_key) for node in nodes)

    def online(self) -> frozenset[bytes]:
        """The public node keys (PEM) of the sites that the SuperLink has heard of lately."""
        return frozenset(key for key, node in self.nodes().items() if node.online)

    def nodes(self) -> Mapping[bytes, NodeSeen]:
        """How the SuperLink sees every node that it lets in, by public key (PEM)."""
        with outcomes(self._address):
            nodes = self._client.ListNodes(ListNodesRequest()).nodes_info
        return {
            bytes(node.public_key): NodeSeen(
                online=node.status == NodeStatus.ONLINE,
                heard_until=datetime.fromtimestamp(node.online_until, UTC) if node.online_until else None,
            )
            for node in nodes
        }

    def start_run(self, bundle: Bundle, run: RunId) -> int:
        """Start the Flower run that carries `run`; returns Flower's id of it."""
        with outcomes(self._address):
            answer = self._client.StartRun(
                StartRunRequest(
                    fab=fab_to_proto(Fab(bundle.digest, bundle.content, {})),
                    override_config=user_config_to_proto({RUN_KEY: run}),
                )
            )
        if not answer.HasField("run_id"):
            raise CovenantError(f"the SuperLink did not start {run}; its log says why")
        return answer.run_id

    def stop_run(self, flower_run: int) -> None:
        """Stop a Flower run; its server process ends. One that has ended by itself meanwhile is stopped."""
        with outcomes(self._address):
            try:
                self._client.StopRun(StopRunRequest(run_id=flower_run))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                    raise

    def __enter__(self) -> Self:
        """Nothing is opened yet."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the sockets."""
        self._client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run's server process to start, and the token that opens the run to it."""

    flower_run: int
    token: str = field(repr=False)


class TaskDesk:
    """Where a SuperLink hands out the server processes of its runs, to the holder of the executor's secret."""

    def __init__(self, address: SuperLinkAddress) -> None:
        """No connection is made yet."""
        self._address = address
        self._client = RuntimeHttpClient.from_server_address(
            f"{address.host}:{address.port}",
            insecure=False,
            root_certificates=address.ca_file.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=address.executor_secret_file.read_bytes(), protected_methods={_ACQUIRE}
                ),
            ],
        )

    def claim(self) -> Claim | None:
        """A server process that waits to be started, or None. What is claimed is never handed out again."""
        with outcomes(self._address):
            answer = self._client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))
        if not (answer.HasField("task") and answer.token):
            return None
        return Claim(flower_run=answer.task.run_id, token=answer.token)

    def close(self) -> None:
        """Close the sockets."""
        self._client.close()


@contextmanager
def outcomes(address: SuperLinkAddress) -> Iterator[None]:
    """Turn what httpx raises into one sentence."""
    where = f"the SuperLink at {address.host}:{address.port}"
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise CovenantError(
            f"{where} answered HTTP {error.response.status_code}: {error.response.text[:300]}"
        ) from error
    except (httpx.TransportError, ssl.SSLError) as error:
        raise Unreachable(f"{where} cannot be reached ({error}); is `covenant up` running?") from error
