"""What a user of stock Flower would write: FedAvg over one array, each client adding a constant."""

import json
import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client_app, server_app = ClientApp(), ServerApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:  # noqa: ARG001 (Flower's signature)
    """Add a constant to the model."""
    arrays = [array + 0.01 for array in message.content["arrays"].to_numpy_ndarrays()]
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds and print how long each took."""
    config = context.run_config
    moments = [time.perf_counter()]

    class Timed(FedAvg):
        """FedAvg that notes when each round was aggregated."""

        def aggregate_train(self, *arguments: object) -> object:
            """Aggregate, then note the time."""
            result = super().aggregate_train(*arguments)
            moments.append(time.perf_counter())
            return result

    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=config["sites"], min_available_nodes=config["sites"])
    initial = ArrayRecord([np.zeros(config["parameters"], np.float32)])
    strategy.start(grid=grid, initial_arrays=initial, num_rounds=config["rounds"])
    rounds = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    print("STOCK " + json.dumps(rounds), flush=True)  # noqa: T201 (the log is how Flower hands results out)
