"""Stock Flower's SecAgg+ without a transport: its own workflow against its own client mod, both sides timed apart.

A process of its own, so that its memory is its own: `python -m simulation.bench.stock_secagg CLIENTS PARAMETERS` prints one marked line of JSON.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
from collections.abc import Iterable

import numpy as np
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import Context, Message, NDArrays, RecordDict, Scalar, ndarrays_to_parameters
from flwr.common.serde import recorddict_to_proto
from flwr.server import Grid, LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulation.bench.children import MARK
from simulation.bench.memory import peak_memory
from simulation.bench.repeat import repeated

_THRESHOLD = 0.67  # above two thirds, as this project's


class Constant(NumPyClient):
    """Sends the same array whatever it is asked."""

    def __init__(self, parameters: int) -> None:
        self.parameters = parameters

    def fit(
        self,
        parameters: object,  # noqa: ARG002 (Flower's signature)
        config: object,  # noqa: ARG002
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """One constant a coordinate."""
        return [np.full(self.parameters, 0.001, np.float32)], 1, {}


class Direct(Grid):
    """Hands messages to the ClientApp in this process. `client_s` and `copy_s` are kept out of the server's time."""

    def __init__(self, app: ClientApp, clients: int) -> None:
        self.app = app
        self.client_s = self.copy_s = 0.0
        self.up = self.down = self.exchanges = 0
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in range(1, clients + 1)
        }

    def set_run(self, run: object) -> None:
        """Nothing to set."""

    @property
    def run(self) -> Run:
        """An empty run."""
        return Run.create_empty(1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,  # noqa: ARG002 (Flower's signature)
    ) -> Message:
        """A message to one client."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All clients."""
        return list(self.contexts)

    def push_messages(self, messages: object) -> list[str]:
        """Not used by the workflow."""
        raise NotImplementedError

    def pull_messages(self, message_ids: object) -> list[Message]:
        """Not used by the workflow."""
        raise NotImplementedError

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 (Flower's signature)
    ) -> list[Message]:
        """One exchange with every client; copies stand for the transport, and are in neither side's time."""
        self.exchanges += 1
        return [self._one(message) for message in messages]

    def _one(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = f"{self.exchanges}-{node}"
        began = time.perf_counter()
        received = copy.deepcopy(message)
        copied = time.perf_counter()
        reply = self.app(received, self.contexts[node])
        answered = time.perf_counter()
        self.down += recorddict_to_proto(received.content).ByteSize()
        self.up += recorddict_to_proto(reply.content).ByteSize()
        self.client_s += answered - copied
        self.copy_s += copied - began + time.perf_counter() - answered
        return reply


def measure(clients: int, parameters: int) -> dict[str, float]:
    """One round in which every client survives."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1
    app = ClientApp(client_fn=lambda _: Constant(parameters).to_client(), mods=[secaggplus_mod])
    grid = Direct(app, clients)
    strategy = FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=ndarrays_to_parameters([np.zeros(parameters, np.float32)]),
    )
    own = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(context=own, config=ServerConfig(num_rounds=1), strategy=strategy)
    workflow = SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=_THRESHOLD, max_weight=1.0)
    began = time.perf_counter()
    with peak_memory() as peak:
        DefaultWorkflow(fit_workflow=workflow)(grid, context)
    total = time.perf_counter() - began
    return {
        "client_s": grid.client_s / clients,
        "server_s": total - grid.client_s - grid.copy_s,
        "upload_bytes": grid.up / clients,
        "download_bytes": grid.down / clients,
        "peak_memory_mib": peak.mib,
    }


if __name__ == "__main__":
    figures = repeated(lambda: measure(int(sys.argv[1]), int(sys.argv[2])))
    sys.stdout.write("\n" + MARK + json.dumps(figures) + "\n")
