"""Stock Flower's simulation engine, which runs a Ray task a client: clients a second for the work of `covenant bench simulation`.

A process of its own, which Ray's are children of: `python -m simulation.bench.stock_simulation CLIENTS ROUNDS` prints one marked line of JSON. Before the rounds that are
timed there is one that is not: Flower's workers are started and have read what they train with.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from simulation.bench.children import MARK
from simulation.ray.cluster import ray_for

INPUTS, HIDDEN, ROWS, BATCH, RATE = 30, 64, 640, 64, 0.1


def network() -> torch.nn.Module:
    """30-64-1 with ReLU."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))


def take_steps(model: torch.nn.Module, client: int) -> None:
    """Ten SGD steps, on rows made for this client."""
    rows = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(client))
    labels = (rows[:, :1] > 0).to(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    for first in range(0, ROWS, BATCH):
        optimizer.zero_grad()
        logits = model(rows[first : first + BATCH])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[first : first + BATCH])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def trained(message: Message, context: Context) -> Message:
    """A client's answer."""
    torch.set_num_threads(1)
    model = network()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    take_steps(model, int(context.node_config["partition-id"]))
    content = RecordDict(
        {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": ROWS})}
    )
    return Message(content=content, reply_to=message)


def _main(clients: int, rounds: int) -> None:
    client_app, server_app = ClientApp(), ServerApp()
    client_app.train()(trained)

    def play(grid: Grid, number: int) -> None:
        strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=clients)
        strategy.start(grid=grid, initial_arrays=ArrayRecord(network().state_dict()), num_rounds=number)

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 (Flower's signature)
        play(grid, 1)
        began = time.perf_counter()
        play(grid, rounds)
        rate = clients * rounds / (time.perf_counter() - began)
        sys.stdout.write("\n" + MARK + json.dumps({"clients_per_s": rate}) + "\n")
        sys.stdout.flush()

    with ray_for(None, clients):  # Flower would start one on the machine's outward address, for everybody
        run_simulation(
            server_app,
            client_app,
            clients,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0}},
        )


if __name__ == "__main__":
    _main(*(int(argument) for argument in sys.argv[1:]))
