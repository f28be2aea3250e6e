"""One authenticated TLS connection to a SuperLink's fleet API, without the waiting of the stock SuperNode.

Three outcomes of a call matter to the agent, each an exception of its own: the SuperLink cannot be reached (`AwayError`), it does not
know this site's key (`UnknownSiteError`: an in-memory SuperLink that restarted, or a site not yet registered), or it has ended the run
that a message belongs to (`RunOverError`). What is wrong with this machine or its network (`LocalFault`) is told apart from those. Retrying is the agent's decision, never this module's.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_MIN_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.fleet.probe import look, read_authority, require_clock, require_usable
from protos.codec_fields import CodecError
from protos.frame_objects import message_of
from protos.frame_size import MAX_FRAME_BYTES
from strategies.errors import CovenantError, Unreachable

HEARTBEAT_INTERVAL_S = float(HEARTBEAT_MIN_INTERVAL)
"""How often this site promises to be heard of; a SuperLink gives a site up after twice as long."""

_MOST_OBJECTS = 1024
_SPARE_BYTES = 1 << 20
_OBJECT_POLL_S = 0.01
_OBJECT_WAIT_S = 30.0


class AwayError(Unreachable):
    """The SuperLink cannot be reached, or answers that it is not ready."""


class UnknownSiteError(CovenantError):
    """The SuperLink does not accept this site's key."""


class RunOverError(CovenantError):
    """A message that nobody waits for: its run has ended, or it is none that a run could have sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The FAB of a run, with the digest under which the run names it."""

    content: bytes
    named: str
    series: int


class FleetConnection:
    """Calls of one site's agent to one SuperLink. Not connected until `activate` returns."""

    def __init__(
        self,
        *,
        address: str,
        ca_file: Path,
        key: ec.EllipticCurvePrivateKey,
        node_file: Path,
        proxy: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare the TLS client; `address` is host:port, `ca_file` the PEM that alone is trusted, `key` the node key.

        `node_file` remembers Flower's id of this site from one start to the next. `proxy` and `clock` are for finding out why there is no connection.
        Raises UsageError for a `ca_file` that cannot be used.
        """
        self._address = address
        self._ca = read_authority(ca_file)
        self._proxy, self._clock = proxy, clock
        self._node_file = node_file
        self._public_key = public_key_to_bytes(key.public_key())
        self._client = FleetHttpClient.from_server_address(
            address,
            insecure=False,
            root_certificates=self._ca,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )
        self._node = Node()

    @property
    def node_id(self) -> int:
        """Flower's id of this site at this SuperLink; 0 before `activate`."""
        return self._node.node_id

    def activate(self) -> None:
        """Go online; raises `UnknownSiteError` while the centre has not registered this site's key."""
        self._end_earlier_session()
        with self._outcomes():
            answer = self._client.ActivateNode(
                ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=HEARTBEAT_INTERVAL_S)
            )
        self._node = Node(node_id=answer.node_id)
        self._node_file.parent.mkdir(parents=True, exist_ok=True)
        self._node_file.write_text(str(answer.node_id))

    def _end_earlier_session(self) -> None:
        """Say goodbye for a process of this site that died: a site that still counts as online cannot go online."""
        with suppress(OSError, ValueError, UnknownSiteError, RunOverError):
            earlier = int(self._node_file.read_text())
            with self._outcomes():
                self._client.DeactivateNode(DeactivateNodeRequest(node_id=earlier))

    def deactivate(self) -> None:
        """Go offline, if that can still be said."""
        with self._outcomes():
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self._node.node_id))

    def heartbeat(self) -> None:
        """Say that this site is alive."""
        with self._outcomes():
            answer = self._client.SendNodeHeartbeat(
                SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_INTERVAL_S)
            )
        if not answer.success:
            raise UnknownSiteError("the SuperLink does not know this site any more")

    def bundle(self, run: int) -> Bundle:
        """Fetch the FAB of Flower run `run`."""
        with self._outcomes():
            info = self._client.GetRun(GetRunRequest(node=self._node, run_id=run)).run
            fab = self._client.GetFab(GetFabRequest(node=self._node, hash_str=info.fab_hash, run_id=run)).fab
        return Bundle(content=fab.content, named=info.fab_hash, series=info.series_id)

    def pull(self) -> Message | None:
        """The next message for this site with all its objects, or None. A pulled message is never delivered again."""
        with self._outcomes():
            answer = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not answer.messages_list:
                return None
            head = message_from_proto(answer.messages_list[0])
            run, tree = head.metadata.run_id, answer.message_object_trees[0]
            contents = self._objects(run, tree)
        message = _inflate(tree.object_id, contents)
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def confirm(self, message: Message) -> None:
        """Let the SuperLink forget a message that was pulled; best said after the reply, which somebody waits for."""
        metadata = message.metadata
        with self._outcomes():
            self._client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self._node, run_id=metadata.run_id, message_object_id=metadata.message_id
                )
            )

    def push(self, reply: Message) -> None:
        """Send a reply with all its objects. How long it took to compute is not told: that is a function of rows, and of a secret sample."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        run = reply.metadata.run_id
        with no_object_id_recompute(), self._outcomes():
            objects = get_all_nested_objects(reply)
            answer = self._client.PushMessages(self._announce(reply, get_object_tree(reply)))
            for object_id in answer.objects_to_push:
                self._client.PushObject(
                    PushObjectRequest(
                        node=self._node,
                        run_id=run,
                        session_id=answer.session_id,
                        object_id=object_id,
                        object_content=objects[object_id].deflate(),
                    )
                )

    def close(self) -> None:
        """Close the sockets."""
        self._client.close()

    def _announce(self, reply: Message, tree: ObjectTree) -> PushMessagesRequest:
        bare = remove_content_from_message(reply) if reply.has_content() else reply
        return PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(bare)],
            message_object_trees=[tree],
            clientapp_runtime_list=[0.0],
        )

    def _objects(self, run: int, tree: ObjectTree) -> dict[str, bytes]:
        """All objects of a message, within bounds: a SuperLink must not fill this machine's memory."""
        contents: dict[str, bytes] = {}
        size = 0
        for part in iterate_object_tree(tree):
            contents[part.object_id] = self._object(run, part.object_id)
            size += len(contents[part.object_id])
            if len(contents) > _MOST_OBJECTS or size > MAX_FRAME_BYTES + _SPARE_BYTES:
                raise RunOverError(
                    f"a message of more than {_MOST_OBJECTS} objects or {MAX_FRAME_BYTES} bytes"
                )
        return contents

    def _object(self, run: int, object_id: str) -> bytes:
        """One object of a message; it may arrive at the SuperLink a little after the message that names it."""
        deadline = time.monotonic() + _OBJECT_WAIT_S
        while True:
            answer = self._client.PullObject(
                PullObjectRequest(node=self._node, run_id=run, object_id=object_id)
            )
            if answer.object_available:
                return answer.object_content
            if not answer.object_found:
                raise RunOverError(f"object {object_id} of Flower run {run} is gone")
            if time.monotonic() > deadline:
                raise AwayError(
                    f"object {object_id} of Flower run {run} did not arrive within {_OBJECT_WAIT_S:.0f} s"
                )
            time.sleep(_OBJECT_POLL_S)

    def _require_clock(self, response: httpx.Response) -> None:
        """Raise `ClockOff` if that is why the SuperLink does not believe a signature: it came over TLS that was verified, so its clock counts."""
        with suppress(ValueError, TypeError):
            there = parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
            require_clock(self._address, self._clock(), there)

    @contextmanager
    def _outcomes(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == httpx.codes.UNAUTHORIZED:
                self._require_clock(error.response)
            if status == httpx.codes.FORBIDDEN:
                raise RunOverError("the run has ended") from error
            if error.response.is_client_error:
                raise UnknownSiteError(
                    f"the SuperLink at {self._address} refused this site's key or request: HTTP {status}"
                ) from error
            raise AwayError(f"the SuperLink at {self._address} answered HTTP {status}") from error
        except (httpx.TransportError, ssl.SSLError) as error:
            if _UNVERIFIED in str(error):
                require_usable(look(self._address, self._ca, proxy=self._proxy, clock=self._clock))
            raise AwayError(f"the SuperLink at {self._address} cannot be reached: {error}") from error


_UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"


def _inflate(object_id: str, contents: dict[str, bytes]) -> Message:
    """The message that the objects make; raises `RunOverError` for bytes that make none."""
    try:
        return message_of(object_id, contents)
    except CodecError as error:
        raise RunOverError(f"the SuperLink delivered {error}") from error


Connect = Callable[[], FleetConnection]
