"""A federation under secure aggregation in this process: real participants with their journals, a real store, a wire that can be cut.

The wire keeps everything that was asked and answered, so that a test can say what left the coordinator, when, and to whom.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy import Engine, select
from sqlalchemy.orm import undefer

from client.bootstrap import open_participant
from client.data import table_from
from client.participant import Participant
from client.training import TrainingSession
from coordinator.bootstrap import Centre
from coordinator.db.engine import open_database, reading
from coordinator.db.schema import Attempt as AttemptRow
from coordinator.db.schema import Round
from coordinator.governance.log import TransparencyLog, open_log
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.champions import champion_of
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.record import Committed
from coordinator.rounds.store import RoundStore
from coordinator.runs import record
from coordinator.settings import load_settings
from protos.contract import Contract
from protos.documents import read_document
from protos.frames import SecureAnswer, SecureRequest, Stage, WitnessRequest
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.secure_codec import decode_answer, decode_asked, encode_secure_reply
from simulation.world.clock import VirtualClock
from simulation.world.layout import Layout, lay_out
from simulation.world.link import MemoryLink
from simulation.world.world import World
from strategies.analytics.moments import scaling_from
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import RunId, SiteName, run_id, site_name
from strategies.secagg.cohort import checked_cohort
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Body,
    Bound,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    Frame,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.parameters import sharing_an_honest_site

RUN = run_id("run-0123456789abcdef")
FOUR = tuple(map(site_name, ("east", "north", "south", "west")))
SEVEN = tuple(map(site_name, ("central", "coast", "east", "north", "ridge", "south", "west")))
EAST, NORTH, SOUTH, WEST = FOUR

ASKED_BY: Mapping[type[Body], type[Body]] = {
    Advertisement: AdvertiseRequest,
    Envelopes: ShareRequest,
    MaskedInput: MaskRequest,
    Confirmation: ConfirmRequest,
    Shares: UnmaskRequest,
}
"""Which request each step of a site answers."""

_ROWS = 40
_CONTRACT = """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: EUR, range: [0, 1000]}
  income: {type: number, unit: EUR, range: [0, 100], missing: indicator}
  term: {type: category, vocabulary: [short, long]}
"""
_PLAN = """\
covenant: plan/v1
name: secure
purpose: credit-risk
contract: loans@1
features: FEATURES
sites: {members: demo@1, invite: INVITE, minimum: MINIMUM, join_within: 2m, weights: WEIGHTS}
model: {kind: logistic}
training:
  component: tabular/1
  algorithm: fedavg
  server_optimiser: {kind: fedadam, learning_rate: 0.1}
  rounds: ROUNDS
  batch_size: 8
  learning_rate: 0.3
  round_deadline: 60s
  seed: 1
aggregation: {mode: secure, adversary: ADVERSARY}
privacy: {mode: none}
evaluation: {every: EVERY, score_bins: 20, holdout: {by: loan_id, share: 0.3, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""
CONTRACT = read_document(_CONTRACT, Contract, "loans.yaml")
B = TypeVar("B", bound=Body)


class DiesError(Exception):
    """The driver's process ends here. Nothing of the product catches it."""


def secure_plan(
    sites: Collection[SiteName] = FOUR,
    *,
    minimum: int = 3,
    rounds: int = 1,
    every: int = 10,
    adversary: str = "active",
    weights: Mapping[SiteName, int] | None = None,
    features: str = "[amount, income, term]",
) -> Plan:
    """A plan that aggregates securely over `sites`, at least three of them."""
    weighted = ", ".join(f"{site}: {weight}" for site, weight in (weights or {}).items())
    text = _PLAN
    for word, value in (
        ("FEATURES", features),
        ("INVITE", f"[{', '.join(sorted(sites))}]"),
        ("MINIMUM", str(minimum)),
        ("WEIGHTS", f"{{{weighted}}}"),
        ("ROUNDS", str(rounds)),
        ("ADVERSARY", adversary),
        ("EVERY", str(every)),
    ):
        text = text.replace(word, value)
    return read_document(text, Plan, "plan.yaml")


@dataclass
class Ask:
    """One call of `Exchange.ask`: what each site was sent, and what it said."""

    stage: Stage
    number: int
    frames: dict[SiteName, bytes]
    requests: dict[SiteName, SecureRequest]
    replies: dict[SiteName, bytes] = field(default_factory=dict)

    @property
    def attempt(self) -> Attempt:
        """The attempt that the exchange is about."""
        (found,) = {request.frames[0].attempt for request in self.requests.values()}
        return found

    @property
    def asks(self) -> type[Body]:
        """The step that everybody is asked for; what rides on it is not counted."""
        (found,) = {type(request.frames[0].body) for request in self.requests.values()}
        return found

    def said(self, kind: type[B]) -> list[tuple[SiteName, Attempt, B]]:
        """Every step of one kind in the replies, also those that ride on others."""
        return [
            (site, each.attempt, each.body)
            for site, body in self.answers.items()
            for each in body.frames
            if isinstance(each.body, kind)
        ]

    @property
    def answers(self) -> dict[SiteName, SecureAnswer]:
        """The replies that are no refusals."""
        bodies = {site: decode_answer(reply).body for site, reply in self.replies.items()}
        return {site: body for site, body in bodies.items() if isinstance(body, SecureAnswer)}


Loses = Callable[[SiteName, Ask], bool]
Meddles = Callable[[SiteName, Ask, bytes], Outcome]


@dataclass
class Wire:
    """An `Exchange` over participants. Requests and replies can be lost, and replies changed, on the way; `absent` sites are offline."""

    participants: dict[SiteName, Participant]
    asks: list[Ask] = field(default_factory=list)
    witnessed: list[SiteName] = field(default_factory=list)
    """Who was asked to witness the run, in order."""
    absent: Callable[[], Collection[SiteName]] = field(default=lambda: ())
    before: Callable[[Ask], None] = field(default=lambda _: None)
    """Sees an exchange before anybody is sent anything."""
    after: Callable[[Ask], None] = field(default=lambda _: None)
    """Sees an exchange when all sites have answered, before the driver does."""
    request_lost: Loses = field(default=lambda _, __: False)
    reply_lost: Loses = field(default=lambda _, __: False)
    meddle: Meddles = field(default=lambda _, __, reply: Answered(reply))

    def online(self) -> Collection[SiteName]:
        """See `Exchange.online`."""
        return self.participants.keys() - set(self.absent())

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        """See `Exchange.ask`."""
        assert deadline_s > 0
        frames = dict(frames)  # each is sent once
        if any(isinstance(decode_asked(frame), WitnessRequest) for frame in frames.values()):
            yield from self._witnessed(frames)
            return
        asked = Ask(stage, round_number, frames, {s: _secure(frame) for s, frame in frames.items()})
        self.before(asked)
        self.asks.append(asked)
        outcomes: dict[SiteName, Outcome] = {
            site: Unanswered("did not answer before the deadline") for site in frames
        }
        for site, frame in frames.items():
            if not self.request_lost(site, asked):
                asked.replies[site] = self.participants[site].answer(frame)
        for site, reply in asked.replies.items():
            if not self.reply_lost(site, asked):
                outcomes[site] = self.meddle(site, asked, reply)
        self.after(asked)
        yield from outcomes.items()

    def _witnessed(self, frames: Mapping[SiteName, bytes]) -> Iterator[tuple[SiteName, Outcome]]:
        """What sites sign about the log comes through, and is no step of an attempt."""
        for site, frame in frames.items():
            asked = decode_asked(frame)
            assert isinstance(asked, WitnessRequest)
            if not asked.starts and not asked.vouchers:
                self.witnessed.append(site)
            yield site, Answered(self.participants[site].answer(frame))

    def exchanges(self) -> list[tuple[str, int, int]]:
        """How many exchanges each stage of a round took, in the order in which they began."""
        counted: dict[tuple[str, int], int] = {}
        for each in self.asks:
            key = (each.stage.name, each.number)
            counted[key] = counted.get(key, 0) + 1
        return [(*key, count) for key, count in counted.items()]

    def of(self, stage: Stage, number: int, attempt: int = 1) -> list[Ask]:
        """The exchanges of one attempt."""
        return [
            each
            for each in self.asks
            if (each.stage, each.number, each.attempt.attempt) == (stage, number, attempt)
        ]

    def kinds(self, stage: Stage, number: int, attempt: int = 1) -> list[type[Body]]:
        """What was asked in them."""
        return [each.asks for each in self.of(stage, number, attempt)]

    def opening_asks(self) -> list[Ask]:
        """The exchanges in which anybody was asked for shares, in whichever frame of its request."""
        return [each for each in self.asks if any(map(asks_to_open, each.requests.values()))]

    def advertised(self) -> list[Advertisement]:
        """All keys that ever left a site."""
        return [body for each in self.asks for _, _, body in each.said(Advertisement)]


def _secure(frame: bytes) -> SecureRequest:
    request = decode_asked(frame)
    assert isinstance(request, SecureRequest), "a secure plan asks for nothing in the clear"
    return request


def asks_to_open(request: SecureRequest) -> bool:
    """Whether a request asks for shares."""
    return any(isinstance(each.body, UnmaskRequest) for each in request.frames)


@dataclass
class Secured:
    """A federation and its run. `drive` begins a new driver each time, as a supervisor would."""

    layout: Layout
    plan: Plan
    tables: Mapping[SiteName, pa.Table]
    clock: VirtualClock = field(default_factory=VirtualClock)
    drivers: int = 0
    run: RunId = RUN
    prepare: Callable[[Centre], None] = lambda _: None
    """What is done at the centre before the run is recorded, such as registering a champion."""

    def __post_init__(self) -> None:
        settings = load_settings(self.layout.home)
        self.engine: Engine = open_database(settings.database_url)
        self.artifacts = ArtifactStore(settings.artifacts)
        self.documents = RunDocuments(
            run=self.run, plan=self.plan, contract=CONTRACT, members=settings.members_file.read_bytes()
        )
        self.centre = Centre(
            settings=settings,
            engine=self.engine,
            artifacts=self.artifacts,
            clock=self.clock.wall,
            monotonic=self.clock.monotonic,
            sleep=self.clock.sleep,
            new_run_id=lambda: self.run,
            entropy=os.urandom,
            transport=MemoryLink(World(), {}),
        )
        self.prepare(self.centre)
        champion = champion_of(self.engine, self.artifacts, self.plan)
        self.documents = replace(self.documents, champion=champion)
        record(self.centre, self.documents)
        self.wire = Wire({site: self._participant(site) for site in sorted(self.tables)})
        self.store = self._started()

    @property
    def sites(self) -> tuple[SiteName, ...]:
        return tuple(sorted(self.tables))

    def drive(self) -> Finished:
        """A new driver goes on where the store stands."""
        self.store = self._started()
        return self.driver().drive()

    def driver(self) -> Driver:
        """One that goes on where the store stands."""
        return Driver(
            self.documents,
            self.wire,
            self.store,
            self.log,
            self.clock.monotonic,
            self.clock.sleep,
            os.urandom,
        )

    @property
    def log(self) -> TransparencyLog:
        """The coordinator's transparency log."""
        return open_log(self.engine, self.centre.settings, self.clock.wall)

    def replaced(self) -> None:
        """Another driver takes the run over."""
        self._started()

    def _started(self) -> RoundStore:
        self.drivers += 1
        store = RoundStore(self.engine, self.artifacts, self.run, self.clock.wall)
        store.start(self.drivers)
        return store

    def restart(self, site: SiteName) -> None:
        """The site's process ends, and begins again with what is on its disk."""
        self.wire.participants[site].close()
        self.wire.participants[site] = self._participant(site)

    def _participant(self, site: SiteName) -> Participant:
        return open_participant(self.layout.site_file(site))

    def close(self) -> None:
        for each in self.wire.participants.values():
            each.close()
        self.engine.dispose()

    # --- what the store has

    def rounds(self) -> list[Round]:
        with reading(self.engine, "looking") as session:
            return list(
                session.scalars(
                    select(Round).options(undefer(Round.opening)).order_by(Round.number, Round.attempt)
                )
            )

    def attempts(self) -> list[AttemptRow]:
        with reading(self.engine, "looking") as session:
            return list(
                session.scalars(
                    select(AttemptRow).options(undefer(AttemptRow.opening)).order_by(AttemptRow.asked_at)
                )
            )

    def committed(self) -> Committed:
        found = self.store.last_committed()
        assert found is not None
        return found

    def scaling(self) -> Scaling:
        found = self.store.scaling()
        assert found is not None
        return found

    def begin(self) -> None:
        """Have round 0 done: the next driver's first attempt is at round 1, and its keys are fresh."""
        model = self.plan.dense_model(self.documents.features.width)
        attempt = self.store.next_attempt(Stage.PREPARE, 0, self.sites)
        scaling = scaling_from(self.moments(self.sites))
        state = self.plan.server_optimizer().initial(model.size)
        initial = model.initial(self.plan.training.seed)
        self.store.begin(scaling, initial, state, attempt=attempt, survivors=self.sites)

    # --- what honest sites compute, with no federation around them

    @cached_property
    def _sessions(self) -> dict[SiteName, TrainingSession]:
        return {
            site: TrainingSession(
                self.plan, CONTRACT, table_from(rows, CONTRACT, renamed={}, named=site), site=site
            )
            for site, rows in self.tables.items()
        }

    def moments(self, sites: Iterable[SiteName]) -> Vector:
        return np.asarray(np.sum([self._sessions[site].moments() for site in sites], axis=0))

    def update(self, site: SiteName, number: int) -> Vector:
        """What `site` would send in the clear in committed round `number`."""
        return self._sessions[site].train(self.store.step(number).before.model, self.scaling(), number)

    def mean(self, number: int, sites: Collection[SiteName]) -> Vector:
        """The weighted mean over `sites`, as a spreadsheet would have it."""
        weights = [self.plan.weight_of(site) for site in sites]
        return np.average([self.update(site, number) for site in sites], axis=0, weights=weights)

    def counts(self, sites: Iterable[SiteName]) -> npt.NDArray[np.int64]:
        """Scores of the committed model by the held-out rows of `sites`, (2, bins)."""
        model, scaling = self.committed().model, self.scaling()
        return np.asarray(
            np.sum([self._sessions[site].score_counts(model, scaling) for site in sites], axis=0)
        )

    def grid_error(self, roster: Collection[SiteName], survivors: Collection[SiteName]) -> float:
        """How far the opened mean may be from the exact one, in a coordinate.

        24 bits hold the sum of a small roster's inputs, so a step is the range over 2^23 - 1 shared by all of them; each input moves
        by less than one step, and the mean divides by what the survivors weigh against the heaviest site.
        """
        assert isinstance(self.plan.aggregation, SecureAggregation)
        step = self.plan.aggregation.update_range / ((2**23 - 1) // len(roster))
        heaviest = max(self.plan.weight_of(site) for site in roster)
        return step * len(survivors) * heaviest / sum(self.plan.weight_of(site) for site in survivors)

    # --- what a site could sign, if it wanted to

    def bound(self, attempt: Attempt) -> Bound:
        """What the inputs of an attempt are bound to, from the keys and the statement that were sent."""
        asked = [each for ask in self.wire.asks for r in ask.requests.values() for each in r.frames]
        (keys,) = {
            each.body for each in asked if each.attempt == attempt and isinstance(each.body, ShareRequest)
        }
        (statement,) = {
            each.body.statement
            for each in asked
            if each.attempt == attempt and isinstance(each.body, MaskRequest)
        }
        assert isinstance(self.plan.aggregation, SecureAggregation)
        parameters = self.plan.secure_parameters(self.plan.aggregation)
        verify = self.documents.identities.verify
        return Bound(attempt, checked_cohort(attempt, parameters, keys.cohort, verify).digest, statement)


class Template:
    """The folders of a federation, laid out once and copied for each test, whose plan may invite fewer of its sites."""

    def __init__(self, folder: Path, sites: tuple[SiteName, ...]) -> None:
        self.tables = {site: _loans(index) for index, site in enumerate(sites)}
        plan = secure_plan(sites, minimum=sharing_an_honest_site(len(sites), 1))
        self.template = lay_out(folder / "template", plan, CONTRACT, self.tables, seed=0)

    def copy(self, folder: Path, plan: Plan, **facts: Any) -> Secured:
        shutil.copytree(self.template.folder, folder)
        return Secured(Layout(folder), plan, {site: self.tables[site] for site in plan.sites.invite}, **facts)


def _loans(index: int) -> pa.Table:
    source = np.random.default_rng(index)
    amount, income = source.uniform(0, 1000, _ROWS), source.uniform(1, 100, _ROWS)
    bad = source.uniform(size=_ROWS) < 1 / (1 + np.exp(-(amount - 600) / 150 + (income - 50) / 30))
    bad[0], bad[-1] = True, False
    return pa.table(
        {
            "loan_id": np.arange(_ROWS) + 1000 * index,
            "amount": amount,
            "income": income,
            "term": np.where(source.uniform(size=_ROWS) < 0.2 * index, "short", "long").tolist(),
            "status": np.where(bad, "bad", "good").tolist(),
        }
    )


def changed(
    reply: bytes, change: Callable[[Body], Body], *, kind: type[Body], name: SiteName | None = None
) -> bytes:
    """A site's reply with its steps of one `kind` changed, and said in another's `name`."""
    said = decode_answer(reply)
    assert isinstance(said.body, SecureAnswer)
    frames = tuple(
        Frame(each.attempt, change(each.body)) if isinstance(each.body, kind) else each
        for each in said.body.frames
    )
    return encode_secure_reply(said.statement_digest, name or said.site, replace(said.body, frames=frames))
