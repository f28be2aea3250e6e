"""What a user of stock Flower would write: FedAvg over one array, each client adding a constant."""

import json
import time
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client_app = ClientApp()
server_app = ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:  # noqa: ARG001 (Flower's signature)
    """Add a constant to the model."""
    model = message.content.array_records["arrays"]
    content = RecordDict()
    content["arrays"] = ArrayRecord([array + 0.01 for array in model.to_numpy_ndarrays()])
    content["metrics"] = MetricRecord({"num-examples": 1})
    return Message(content, reply_to=message)


class Timed(FedAvg):
    """FedAvg that notes when each round was aggregated."""

    moments: list[float]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate, then note the time."""
        result = super().aggregate_train(server_round, replies)
        self.moments.append(time.perf_counter())
        return result


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds and print how long each took."""
    sites, rounds, parameters = (int(context.run_config[name]) for name in ("sites", "rounds", "parameters"))
    strategy = Timed(
        fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites
    )
    strategy.moments = [time.perf_counter()]
    initial = ArrayRecord([np.zeros(parameters, np.float32)])
    strategy.start(grid=grid, initial_arrays=initial, num_rounds=rounds)
    seconds = [after - before for before, after in pairwise(strategy.moments)]
    print("STOCK " + json.dumps(seconds), flush=True)  # noqa: T201 (Flower hands results out in its log)
