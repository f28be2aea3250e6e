"""Rows of a long year, as the coordinator writes them, for `covenant bench console`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import numpy as np

from protos.witness import Position, SignedWitness, WitnessStatement, key_part, view_digest
from simulation.bench.console_year import FEDERATION, OFFICER, Launch, LongYear
from strategies.analytics.histograms import metrics_from
from strategies.ids import Digest, RunId
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
    """Plans that were proposed, the ones for many sites last."""
    for number, plan in enumerate((*year.plans, *year.wide_plans)):
        yield {
            "digest": plan.digest,
            "contract_digest": year.contract.digest,
            "name": plan.name,
            "plan": plan.canonical.decode(),
            "contract": year.contract.canonical.decode(),
            "evidence": '{"covenant":"plan-evidence/v1","statements":[]}',
            "proposed_by": OFFICER,
            "proposed_at": year.began + timedelta(seconds=number),
        }


def runs(year: LongYear) -> Rows:
    """Runs."""
    contract, members = year.contract.canonical.decode(), year.listed.membership.canonical.decode()
    texts = {each.digest: each.canonical.decode() for each in (*year.plans, *year.wide_plans)}
    for each in year.launches():
        yield {
            "id": each.run,
            "plan_name": each.plan.name,
            "plan_digest": (digest := each.plan.digest),
            "plan": texts[digest],
            "contract": contract,
            "members": members,
            "evidence": None,
            "state": "running" if each.going else "completed",
            "reason": None,
            "flower_run_id": None,
            "idle_starts": 0,
            "scaling": {"mean": [0.0], "std": [1.0]},
            "submitted_at": each.at,
            "started_at": each.at,
            "finished_at": None if each.going else each.at + timedelta(minutes=30),
        }


def rounds(year: LongYear) -> Rows:
    """Rounds of all runs; a site has dropped out of every tenth of the run with many."""
    for each, number, at in _all_rounds(year):
        sites = list(each.sites)
        yield {
            "run_id": each.run,
            "number": number,
            "attempt": 1,
            "state": "committed",
            "roster": sites,
            "survivors": sites[1:] if each.run == year.wide.run and number % 10 == 0 else sites,
            "statement_digest": digest_at(each.run, number, "statement"),
            "aggregate_digest": digest_at(each.run, number, "aggregate"),
            "model_digest": digest_at(each.run, number, "model"),
            "optimizer_digest": digest_at(each.run, number, "optimizer"),
            "testimony": None,
            "opening": None,
            "exchange_s": 4.0,
            "seconds": 5.0,
            "metrics": METRICS if number == each.rounds else None,
            "reason": None,
            "opened_at": at,
            "closed_at": at + timedelta(seconds=5),
        }


def attempts(year: LongYear) -> Rows:
    """One attempt at preparing and one at evaluating a run."""
    for each in year.launches():
        sites, number = list(each.sites), each.rounds
        fact = {"run_id": each.run, "attempt": 1, "roster": sites, "survivors": sites, "opening": None}
        at = each.at + timedelta(seconds=10 * number)
        yield fact | {"stage": "prepare", "round": 0, "asked_at": at}
        yield fact | {"stage": "evaluate", "round": number, "asked_at": at}


def checkpoints(year: LongYear) -> Rows:
    """One a round."""
    for each, number, _ in _all_rounds(year):
        yield {
            "run_id": each.run,
            "round": number,
            "model_artifact": digest_at(each.run, number, "model"),
            "optimizer_artifact": digest_at(each.run, number, "optimizer"),
        }


def exchanges(year: LongYear) -> Rows:
    """What was noted of the run with many sites, and of the one that goes on."""
    last = year.scale.runs - 1
    going = Launch(run=year.run(last), plan=year.plan_of(last), at=year.at(last), going=True)
    for each in (year.wide, going):
        stages = [("prepare", 0), *(("train", number) for number in range(1, each.rounds + 1))]
        for stage, number in (*stages, ("evaluate", each.rounds)):
            for place, site in enumerate(each.sites):
                dropped = stage == "train" and number % 10 == 0 and place == 0
                yield {
                    "run_id": each.run,
                    "stage": stage,
                    "round": number,
                    "site": site,
                    "step": "opening",
                    "asked": 4,
                    "answered": 3 if dropped else 4,
                    "sent": 9_000 + 10 * place,
                    "received": 7_000 + 10 * number,
                    "waiting": each.going and number == each.rounds and place % 3 == 0,
                    "seconds": 1.0 + place / 100 + number % 7 / 10,
                    "trouble": "no answer within 300 s" if dropped else None,
                    "changed_at": each.at + timedelta(seconds=10 * number),
                }


def heard(year: LongYear) -> Rows:
    """What was heard of each site last."""
    for site in year.keys:
        fact = {"site": site, "answered_at": year.wide.at, "answered_run": year.wide.run}
        told = {"contract_at": year.wide.at, "contract": year.contract.ref, "fits": True}
        nothing = dict.fromkeys(("trouble_at", "trouble_run", "trouble", "version_at", "version"))
        yield fact | told | nothing


def _all_rounds(year: LongYear) -> Iterator[tuple[Launch, int, datetime]]:
    for each in year.launches():
        for number in range(1, each.rounds + 1):
            yield each, number, each.at + timedelta(seconds=10 * number)


def charges(year: LongYear, releases: Mapping[Digest, str], accounts: Mapping[str, int]) -> Rows:
    """What the newest runs of each plan reserved and opened; `releases` are training's, by plan."""
    first = max(0, year.scale.runs - _CHARGED_RUNS * len(year.plans))
    for each in islice(year.launches(), first, None):
        fact = {
            "run_id": each.run,
            "stage": "train",
            "release_digest": releases[each.plan.digest],
            "reason": None,
            "at": each.at,
        }
        for site in each.sites:
            mine = fact | {"account_id": accounts[site]}
            yield mine | {
                "outcome": "reserved",
                "times": each.rounds,
                "round": None,
                "attempt": None,
            }
            for number in range(1, each.rounds + 1):
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
