"""`covenant bench`: what this machine does, as ratios where there is something to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import Json
from protos.shell import emit, people
from simulation.cli.options import interrupt_on_terminate

if TYPE_CHECKING:
    from simulation.bench.report import BenchResult

bench = typer.Typer(no_args_is_help=True, help="Measure this machine, beside stock Flower in the same run.")


def _report(result: BenchResult, *, json: bool, **more: object) -> None:
    """Show a result to people, or print it as one JSON object in which `more` stands too."""
    from simulation.bench.report import show

    if json:
        emit({**result.facts(), **more})
    else:
        show(result)


@bench.command("agents")
def bench_agents(
    agents: Annotated[int, typer.Option(min=1, max=1000, help="Sites, each an agent of its own.")] = 100,
    rounds: Annotated[int, typer.Option(min=3, max=1000, help="Rounds of each run.")] = 10,
    parameters: Annotated[int, typer.Option(min=100, max=50_000_000, help="Size of the model.")] = 10_000,
    json: Json = False,
) -> None:
    """Requests, processor time, memory and seconds of rounds with many real agents on one real SuperLink."""
    from simulation.bench.agents import measure

    interrupt_on_terminate()
    result = measure(sites=agents, rounds=rounds, parameters=parameters)
    _report(result, json=json)


@bench.command("capacity")
def bench_capacity(
    sites: Annotated[
        list[int] | None,
        typer.Option(min=1, max=1000, help="A number of sites, once for each; 4, 8, 16, 32 and 64 if none."),
    ] = None,
    parameters: Annotated[
        list[int] | None,
        typer.Option(
            min=100, max=50_000_000, help="A size of the model, once for each; 10,000 to 1,000,000 if none."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, max=1000, help="Rounds of each run.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="A new file for the fit, which `covenant plan capacity --fit` reads.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure federations of several sizes, fit the capacity model to them, and tell how far off it is on measurements that were held out."""
    from simulation.bench.capacity import MeasurementSizes, measure, result_of
    from simulation.cli.report_files import new_file

    sizes = MeasurementSizes.of(sites, parameters, rounds)
    interrupt_on_terminate()
    with new_file(out, "fit", "--out") as write:
        fit = measure(sizes)
        _report(result_of(fit), json=json, fit=fit.model_dump(mode="json"))
        write(fit.model_dump_json(indent=1) + "\n")


@bench.command("console")
def bench_console(
    runs: Annotated[int, typer.Option(min=60, max=1_000_000, help="Runs, each with its rounds.")] = 10_000,
    entries: Annotated[int, typer.Option(min=600, max=100_000_000, help="Entries of the log.")] = 1_000_000,
    sites: Annotated[int, typer.Option(min=8, max=10_000, help="Sites with accounts.")] = 200,
    models: Annotated[int, typer.Option(min=1, max=10_000, help="Registered versions.")] = 100,
    times: Annotated[int, typer.Option(min=1, max=1_000, help="How often each page is asked.")] = 10,
    database: Annotated[
        str | None, typer.Option(help="URL of an empty database to measure in; else a fresh SQLite file.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where that file lies: on the disk to measure.")] = None,
    json: Json = False,
) -> None:
    """Server time of every page of the web console, but that of a version's windows, after a long year, over real TLS, and what a first load transfers."""
    from simulation.bench.console import measure
    from simulation.bench.console_year import Scale

    interrupt_on_terminate()
    scale = Scale(runs=runs, entries=entries, sites=sites, models=models)
    with people.status(f"{runs} runs, {entries} entries, {sites} sites"):
        result = measure(scale=scale, times=times, database=database, folder=folder)
    _report(result, json=json)


@bench.command("dpsgd")
def bench_dpsgd(
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows of a step.")] = 256,
    inputs: Annotated[int, typer.Option(min=1, max=100_000, help="Encoded features.")] = 30,
    hidden: Annotated[
        list[int] | None,
        typer.Option(min=1, max=10_000, help="Width of a hidden layer, once for each; 64 and 32 if none."),
    ] = None,
    json: Json = False,
) -> None:
    """Seconds of one training step with clipped gradients, beside Opacus and a step without privacy; no noise on any side."""
    from simulation.bench.dpsgd import measure

    interrupt_on_terminate()
    with people.status(f"{rows} rows"):
        result = measure(rows=rows, inputs=inputs, hidden=hidden or (64, 32))
    _report(result, json=json)


@bench.command("drift")
def bench_drift(
    months: Annotated[
        int, typer.Option(min=12, max=100_000, help="Windows without drift, and with one.")
    ] = 204,
    series: Annotated[int, typer.Option(min=1, max=10_000, help="Forecasts in each of four courses.")] = 50,
    rows: Annotated[int, typer.Option(min=100, max=10_000_000, help="Decisions of a window.")] = 2500,
    noise: Annotated[
        float, typer.Option(min=0, max=1e6, help="Standard deviation of a count's noise.")
    ] = 8.0,
    streams: Annotated[int, typer.Option(min=1, max=1000, help="Inputs and scores of a window.")] = 11,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 1,
    json: Json = False,
) -> None:
    """How often windows without drift raise an alarm, whether a shift of 0.2 PSI is found within two, and what forecasts' intervals cover."""
    from simulation.bench.drift import measure

    interrupt_on_terminate()
    with people.status(f"{months} months, {series} forecasts in each course"):
        result = measure(months=months, series=series, rows=rows, noise=noise, streams=streams, seed=seed)
    _report(result, json=json)


@bench.command("exchange")
def bench_exchange(
    sites: Annotated[int, typer.Option(min=1, max=64, help="Agents.")] = 4,
    parameters: Annotated[int, typer.Option(min=100, max=50_000_000, help="Size of the model.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=2, max=1000, help="Rounds to measure.")] = 20,
    peer: Annotated[bool, typer.Option("--peer", help="Measure stock Flower in the same run.")] = False,
    json: Json = False,
) -> None:
    """Seconds an exchange and a round take over a real SuperLink and real agents."""
    from simulation.bench.exchange import measure

    interrupt_on_terminate()
    with people.status(f"{sites} agents, {rounds} rounds in the clear and masked"):
        result = measure(sites=sites, parameters=parameters, rounds=rounds, with_peer=peer)
    _report(result, json=json)


@bench.command("log")
def bench_log(
    entries: Annotated[int, typer.Option(min=1, max=100_000_000, help="Entries to append.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Entries of one transaction.")] = 1_000,
    database: Annotated[
        str | None, typer.Option(help="URL of an empty database to measure in; else a fresh SQLite file.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Where that file lies: on the disk to measure.")] = None,
    json: Json = False,
) -> None:
    """Entries that the transparency log takes a second, each on disk, and what proofs over them cost."""
    from simulation.bench.log import measure

    interrupt_on_terminate()
    with people.status(f"{entries} entries"):
        result = measure(entries=entries, batch=batch, database=database, folder=folder)
    _report(result, json=json)


@bench.command("noise")
def bench_noise(
    variance: Annotated[float, typer.Option(help="Variance, 0.25 to 2^80.")] = 9_000_000.0,
    samples: Annotated[int, typer.Option(min=1, max=100_000_000, help="Size of the vector.")] = 10_000_000,
    peer: Annotated[bool, typer.Option("--peer", help="Measure OpenDP's sampler in the same run.")] = False,
    json: Json = False,
) -> None:
    """Samples of discrete Gaussian noise that one core draws a second."""
    from simulation.bench.noise import measure

    interrupt_on_terminate()
    with people.status(f"{samples} samples"):
        result = measure(variance=variance, samples=samples, with_peer=peer)
    _report(result, json=json)


@bench.command("recovery")
def bench_recovery(
    sites: Annotated[int, typer.Option(min=1, max=64, help="Agents.")] = 4,
    kills: Annotated[int, typer.Option(min=1, max=100, help="How often the ServerApp is killed.")] = 5,
    json: Json = False,
) -> None:
    """Seconds that a run stands still when its ServerApp is killed, over a real SuperLink and real agents."""
    from simulation.bench.recovery import measure

    interrupt_on_terminate()
    with people.status(f"{sites} agents, {kills} kills"):
        result = measure(sites=sites, kills=kills)
    _report(result, json=json)


@bench.command("scoring")
def bench_scoring(
    seconds: Annotated[
        float, typer.Option(min=0.5, max=600, help="How long throughput is measured on each side.")
    ] = 10.0,
    requests: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Single applications for the latencies.")
    ] = 2_000,
    reloads: Annotated[int, typer.Option(min=0, max=10_000, help="Reloads under load.")] = 100,
    json: Json = False,
) -> None:
    """Latency, throughput and reloads of a real scoring service, beside bare ONNX Runtime in the same run."""
    from simulation.bench.scoring import measure

    interrupt_on_terminate()
    result = measure(seconds=seconds, requests=requests, reloads=reloads)
    _report(result, json=json)


@bench.command("secagg")
def bench_secagg(
    clients: Annotated[int, typer.Option(min=3, max=10_000, help="Sites in the attempt.")] = 100,
    parameters: Annotated[int, typer.Option(min=1, max=200_000_000, help="Size of the vector.")] = 100_000,
    dropouts: Annotated[float, typer.Option(min=0.0, max=0.33, help="Share of sites that stop.")] = 0.0,
    peer: Annotated[bool, typer.Option("--peer", help="Measure Flower's SecAgg+ in the same run.")] = False,
    json: Json = False,
) -> None:
    """Seconds, bytes and memory of secure aggregation at a site and at the centre, without a transport."""
    from simulation.bench.secagg import measure

    interrupt_on_terminate()
    with people.status(f"{clients} sites, {parameters} parameters"):
        result = measure(clients=clients, parameters=parameters, dropouts=dropouts, with_peer=peer)
    _report(result, json=json)


@bench.command("simulation")
def bench_simulation(
    clients: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Clients of a round beside stock Flower.")
    ] = 100,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Rounds of them.")] = 3,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Threads.")] = 2,
    peer: Annotated[
        bool, typer.Option("--peer", help="Measure stock Flower's engine (Ray) in the same run.")
    ] = False,
    json: Json = False,
) -> None:
    """Simulated clients a second at ten SGD steps each, a round of 10,000 of them, and how flat the cost of one is."""
    from simulation.bench.simulation import measure

    interrupt_on_terminate()
    with people.status(f"{clients} clients, {rounds} rounds"):
        result = measure(clients=clients, rounds=rounds, workers=workers, with_peer=peer)
    _report(result, json=json)
