"""Rows of a long year, as the coordinator writes them, for `covenant bench console`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np

from protos.witness import Position, SignedWitness, WitnessStatement, key_part, view_digest
from simulation.bench.console_year import FEDERATION, OFFICER, LongYear
from strategies.analytics.histograms import metrics_from
from strategies.ids import Digest, RunId, SiteName
from strategies.transparency.notes import Checkpoint as LogHead

_CHARGED_RUNS: Final = 50
"""Of each plan."""
_STATEMENTS: Final = 20
"""Of each site."""
METRICS: Final[Mapping[str, Any]] = asdict(
    metrics_from(np.array([[900, 1200, 800, 500, 200], [40, 80, 100, 100, 80]], dtype=np.int64))
)
"""As the evaluation of a run gives them."""
Rows = Iterator[dict[str, Any]]


def digest_at(run: RunId, number: int, what: str) -> Digest:
    """Of something that nobody has made."""
    return Digest(hashlib.sha256(f"{run} {number} {what}".encode()).hexdigest())


def sites(year: LongYear) -> Rows:
    """Sites that are enrolled."""
    for each in year.listed.trusted.members.members:
        yield {
            "name": each.site,
            "identity_key": each.identity_key,
            "node_key": each.node_key,
            "node_id": None,
            "members_ref": year.listed.trusted.members.ref,
            "enrolled_at": year.began,
        }


def proposed(year: LongYear) -> Rows:
    """Plans that were proposed."""
    for plan in year.plans:
        yield {
            "digest": plan.digest,
            "contract_digest": year.contract.digest,
            "name": plan.name,
            "plan": plan.canonical.decode(),
            "contract": year.contract.canonical.decode(),
            "evidence": '{"covenant":"plan-evidence/v1","statements":[]}',
            "proposed_by": OFFICER,
            "proposed_at": year.began,
        }


def runs(year: LongYear) -> Rows:
    """Runs, of which the last goes on."""
    contract, members = year.contract.canonical.decode(), year.listed.membership.canonical.decode()
    plans = [(each, each.canonical.decode(), each.digest) for each in year.plans]
    for number in range(year.scale.runs):
        plan, text, digest = plans[number % len(plans)]
        at, going = year.at(number), number == year.scale.runs - 1
        yield {
            "id": year.run(number),
            "plan_name": plan.name,
            "plan_digest": digest,
            "plan": text,
            "contract": contract,
            "members": members,
            "evidence": None,
            "state": "running" if going else "completed",
            "reason": None,
            "flower_run_id": None,
            "idle_starts": 0,
            "scaling": {"mean": [0.0], "std": [1.0]},
            "submitted_at": at,
            "started_at": at,
            "finished_at": None if going else at + timedelta(minutes=30),
        }


def rounds(year: LongYear) -> Rows:
    """Rounds of all runs."""
    for run, number, at, sites in _all_rounds(year):
        yield {
            "run_id": run,
            "number": number,
            "attempt": 1,
            "state": "committed",
            "roster": sites,
            "survivors": sites,
            "statement_digest": digest_at(run, number, "statement"),
            "aggregate_digest": digest_at(run, number, "aggregate"),
            "model_digest": digest_at(run, number, "model"),
            "optimizer_digest": digest_at(run, number, "optimizer"),
            "testimony": None,
            "opening": None,
            "exchange_s": 4.0,
            "seconds": 5.0,
            "metrics": METRICS if number == year.scale.rounds else None,
            "reason": None,
            "opened_at": at,
            "closed_at": at + timedelta(seconds=5),
        }


def attempts(year: LongYear) -> Rows:
    """One attempt at preparing and one at evaluating a run."""
    for run, number, at, sites in _all_rounds(year):
        if number == year.scale.rounds:
            fact = {"run_id": run, "attempt": 1, "roster": sites, "survivors": sites, "opening": None}
            yield fact | {"stage": "prepare", "round": 0, "asked_at": at}
            yield fact | {"stage": "evaluate", "round": number, "asked_at": at}


def checkpoints(year: LongYear) -> Rows:
    """One a round."""
    for run, number, _, _ in _all_rounds(year):
        yield {
            "run_id": run,
            "round": number,
            "model_artifact": digest_at(run, number, "model"),
            "optimizer_artifact": digest_at(run, number, "optimizer"),
        }


def _all_rounds(year: LongYear) -> Iterator[tuple[RunId, int, datetime, list[SiteName]]]:
    for place in range(year.scale.runs):
        sites = sorted(year.plan_of(place).sites.invite)
        for number in range(1, year.scale.rounds + 1):
            yield year.run(place), number, year.at(place) + timedelta(seconds=10 * number), sites


def charges(year: LongYear, release: str, accounts: Mapping[str, int]) -> Rows:
    """What the newest runs of each plan reserved and opened."""
    first = max(0, year.scale.runs - _CHARGED_RUNS * len(year.plans))
    for place in range(first, year.scale.runs):
        fact = {
            "run_id": year.run(place),
            "stage": "train",
            "release_digest": release,
            "reason": None,
            "at": year.at(place),
        }
        for site in year.plan_of(place).sites.invite:
            mine = fact | {"account_id": accounts[site]}
            yield mine | {
                "outcome": "reserved",
                "times": year.scale.rounds,
                "round": None,
                "attempt": None,
            }
            for number in range(1, year.scale.rounds + 1):
                yield mine | {"outcome": "settled", "times": 1, "round": number, "attempt": 1}


def statements(year: LongYear, checkpoint: LogHead) -> Rows:
    """What each site signed of a head."""
    at, run, plan = year.at(year.scale.runs).replace(microsecond=0), year.run(0), year.plans[0].digest
    for sequence in range(1, _STATEMENTS + 1):
        for site, key in year.keys.items():
            epoch = key_part(key.public) * 2
            said = WitnessStatement(
                federation=FEDERATION,
                site=site,
                identity=key.public,
                run=run,
                launch=1,
                plan=plan,
                checkpoint=checkpoint.text,
                position=Position(epoch=epoch, sequence=sequence, head=plan),
                view=view_digest({}),
                at=at,
            )
            signed = SignedWitness.sign(said, key).canonical.decode()
            place = {
                "site": site,
                "epoch": epoch,
                "sequence": sequence,
                "run_id": run,
                "size": checkpoint.size,
            }
            yield place | {"statement": signed, "view": "{}", "received_at": at}
