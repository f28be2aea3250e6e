"""Rounds over an exchange in memory: real participants, a real store, and sites that misbehave."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from client.data import table_from
from client.training import TrainingSession
from client.training.champion import champion_of
from coordinator.db import migrate, open_database, writing
from coordinator.db.schema import Round, Run, RunState
from coordinator.governance.launches import launched
from coordinator.governance.log import TransparencyLog, append
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.asking import TooFewSurvivors
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.store import RoundStore
from protos.codec import decode_reply, encode_reply
from protos.frames import Refusal, RefusalCode, Reply, ScoreCounts, Stage, Update, WitnessRequest
from protos.keys import public_bytes
from protos.log_entries import LogEntry
from protos.log_run_events import SiteRefused
from protos.plan import Plan
from protos.secure_codec import decode_asked
from strategies.analytics.histograms import metrics_from
from strategies.encoding import vector_digest
from strategies.errors import CovenantError, Refused, Unreachable
from strategies.ids import SiteName, site_name
from strategies.pieces import Pieces, joined
from strategies.transparency.notes import NoteKey
from tests.bank_for_tests import RUN, SITES, Bank, make_bank
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.client.test_champion_scores import PART, SENT
from tests.coordinator.conftest import Clock
from tests.trust_for_tests import key_of, officers

SOUTH, WEST = SITES
Meddle = Callable[[Stage, int, Outcome], Outcome]


@dataclass
class Memory:
    """An exchange with real participants; `meddle` changes what comes back from a site."""

    bank: Bank
    meddle: dict[SiteName, Meddle] = field(default_factory=dict)
    away: set[SiteName] = field(default_factory=set)
    asked: list[tuple[Stage, int, tuple[SiteName, ...]]] = field(default_factory=list)
    witnessed: list[SiteName] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.participants = {site: self.bank.participant(site) for site in SITES}

    def online(self) -> Collection[SiteName]:
        return set(SITES) - self.away

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        assert deadline_s > 0
        if any(isinstance(decode_asked(frame), WitnessRequest) for frame in frames.values()):
            for site, frame in frames.items():
                self.witnessed.append(site)
                yield site, Answered(self.participants[site].answer(frame))
            return
        self.asked.append((stage, round_number, tuple(frames)))
        for site, frame in frames.items():
            outcome: Outcome = Answered(self.participants[site].answer(frame))
            meddle = self.meddle.get(site, lambda _stage, _number, given: given)
            yield site, meddle(stage, round_number, outcome)


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return make_bank(tmp_path)


@pytest.fixture
def store(tmp_path: Path, sqlite_url: str, clock: Clock) -> RoundStore:
    engine = open_database(sqlite_url)
    migrate(engine)
    with writing(engine, "making the run") as session:
        session.add(
            Run(
                id=RUN, plan_name="default", plan_digest="ab" * 32, plan="{}", contract="{}", members="{}",
                state=RunState.SUBMITTED, submitted_at=clock(),
            )
        )  # fmt: skip
    store = RoundStore(engine, ArtifactStore(tmp_path / "artifacts"), RUN, clock)
    store.start(1)
    return store


def minimum(of: int, base: Plan) -> Plan:
    return base.model_copy(
        update={"sites": base.sites.model_copy(update={"minimum": of, "join_within": 0.2})}
    )


def drive(bank: Bank, exchange: Memory, store: RoundStore, chosen: Plan) -> Finished:
    documents = documents_of(bank, chosen)
    log = logged(documents, store)
    sleep = lambda _: None  # noqa: E731 (nobody waits)
    return Driver(
        documents, exchange, store, log, monotonic=time.monotonic, sleep=sleep, entropy=os.urandom
    ).drive()


def documents_of(bank: Bank, chosen: Plan) -> RunDocuments:
    return RunDocuments(run=RUN, plan=chosen, contract=CONTRACT, members=bank.members.canonical)


def logged(documents: RunDocuments, store: RoundStore) -> TransparencyLog:
    """The log, in which the run was launched."""
    signer = key_of("log")
    key = NoteKey("demo/log", public_bytes(signer.public))
    log = TransparencyLog(store._engine, key, signer.sign_note, store._clock)
    if not log.size():
        with writing(store._engine, "launching") as session:
            at = store._clock()
            append(session, at, launched(session, documents, (), officers().pinned, at))
    return log


def rows(store: RoundStore) -> list[Round]:
    with Session(store._engine) as session:
        return list(session.scalars(select(Round).order_by(Round.number, Round.attempt)))


def test_a_run_commits_its_rounds_and_its_metrics(bank: Bank, store: RoundStore) -> None:
    exchange = Memory(bank)
    finished = drive(bank, exchange, store, plan())
    assert [row.number for row in rows(store)] == [1, 2, 3]
    assert all(row.state == "committed" and row.survivors == list(SITES) for row in rows(store))
    assert store.metrics(3) == finished.metrics
    assert finished.metrics.auc > 0.6
    assert exchange.asked[0] == (Stage.PREPARE, 0, SITES)


@dataclass
class Watching(Memory):
    """Looks, when the next answer is fetched, whether anybody holds the one before."""

    held: list[bool] = field(default_factory=list)

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        for site, outcome in super().ask(stage, frames, round_number=round_number, deadline_s=deadline_s):
            assert isinstance(outcome, Answered)
            lies = np.frombuffer(joined(outcome.frame), dtype=np.uint8).copy()
            seen, answered = weakref.ref(lies), Answered(Pieces((lies.data,)))
            del lies
            yield site, answered
            del answered
            self.held.append(seen() is not None)


def test_an_answer_is_gone_before_the_next_one_is_fetched(bank: Bank, store: RoundStore) -> None:
    exchange = Watching(bank)
    drive(bank, exchange, store, plan())
    assert len(exchange.held) > 2 * len(exchange.asked)
    assert not any(exchange.held)


def test_a_driver_started_again_goes_on_and_ends_with_the_same_model(
    bank: Bank, store: RoundStore, tmp_path: Path, clock: Clock
) -> None:
    undisturbed = drive(bank, Memory(bank), store, plan(rounds=5))

    engine = open_database(f"sqlite:///{tmp_path / 'second.db'}")
    migrate(engine)
    with Session(store._engine) as session, writing(engine, "copying the run") as target:
        row = session.get_one(Run, RUN)
        target.add(Run(**{c.key: getattr(row, c.key) for c in Run.__table__.columns if c.key != "scaling"}))
    second = RoundStore(engine, ArtifactStore(tmp_path / "second"), RUN, clock)
    second.start(2)
    (tmp_path / "second-bank").mkdir()
    bank = make_bank(
        tmp_path / "second-bank"
    )  # the sites of the first run have answered these rounds already

    class DiesError(Exception):
        pass

    def die(stage: Stage, number: int, outcome: Outcome) -> Outcome:
        if stage is Stage.TRAIN and number == 4:
            raise DiesError
        return outcome

    with pytest.raises(DiesError):
        drive(bank, Memory(bank, meddle={WEST: die}), second, plan(rounds=5))
    last = second.last_committed()
    assert last is not None
    assert last.number == 3
    second.start(3)
    resumed = drive(bank, Memory(bank), second, plan(rounds=5))
    assert vector_digest(resumed.model) == vector_digest(undisturbed.model)


def another_statement(_: Stage, __: int, outcome: Outcome) -> Outcome:
    assert isinstance(outcome, Answered)
    return Answered(encode_reply(replace(decode_reply(outcome.frame), statement_digest="0" * 64)))


def another_name(_: Stage, __: int, outcome: Outcome) -> Outcome:
    assert isinstance(outcome, Answered)
    return Answered(encode_reply(replace(decode_reply(outcome.frame), site=SOUTH)))


def with_update(values: np.ndarray) -> Meddle:
    def change(stage: Stage, _: int, outcome: Outcome) -> Outcome:
        assert isinstance(outcome, Answered)
        if stage is not Stage.TRAIN:
            return outcome
        reply = decode_reply(outcome.frame)
        return Answered(
            encode_reply(Reply(statement_digest=reply.statement_digest, site=reply.site, body=Update(values)))
        )

    return change


@pytest.mark.parametrize(
    ("meddle", "why"),
    [
        (another_statement, "answered another statement"),
        (another_name, "answered in the name of south"),
        (lambda *_: Answered(b"\xff\xff\xff"), "not a frame"),
        (lambda *_: Answered(b""), "statement_digest"),
        (lambda *_: Unanswered("did not answer before the deadline"), "did not answer before the deadline"),
    ],
)
def test_a_reply_that_is_not_the_sites_own_to_this_statement_is_not_counted(
    bank: Bank, store: RoundStore, meddle: Meddle, why: str
) -> None:
    with pytest.raises(CovenantError, match=why):
        drive(bank, Memory(bank, meddle={WEST: meddle}), store, plan())
    assert store.last_committed() is None


@pytest.mark.parametrize("values", [np.zeros(3), np.full(7, np.nan), np.full(7, np.inf)])
def test_an_update_of_another_size_or_not_finite_voids_the_round_and_nothing_of_it_is_used(
    bank: Bank, store: RoundStore, values: np.ndarray
) -> None:
    with pytest.raises(
        TooFewSurvivors, match="1 of at least 2 sites answered the train stage of round 1: west"
    ):
        drive(bank, Memory(bank, meddle={WEST: with_update(values)}), store, plan())
    assert [row.state for row in rows(store)] == ["voided"] * 3
    last = store.last_committed()
    assert last is not None
    assert last.number == 0


def test_above_the_minimum_the_round_goes_on_with_the_survivors(bank: Bank, store: RoundStore) -> None:
    exchange = Memory(bank, meddle={WEST: with_update(np.zeros(3))})
    drive(bank, exchange, store, minimum(1, plan()))
    assert all(row.survivors == ["south"] for row in rows(store))


def test_a_site_that_refuses_is_not_asked_again_and_its_reason_is_told(bank: Bank, store: RoundStore) -> None:
    bank.edit("west", "purpose: credit-risk", "purpose: another")
    exchange = Memory(bank)
    drive(bank, exchange, store, minimum(1, plan()))
    assert [site for _, _, roster in exchange.asked for site in roster if site == WEST] == []
    assert exchange.witnessed == [*SITES]  # both were asked what they have seen, once
    log = logged(documents_of(bank, plan()), store)
    (refused,) = [LogEntry.from_canonical(each.body).what for each in log.entries(kind="refused")]
    assert isinstance(refused, SiteRefused)
    assert (refused.site, refused.code) == (WEST, "policy")
    assert refused.reason.startswith("`policy.accept` at this site admits purpose another")


def test_a_site_that_refuses_one_attempt_is_asked_the_next(bank: Bank, store: RoundStore) -> None:
    """A restored database would ask again what was answered already: the sites refuse that, and the next attempt goes on."""

    def refuse(stage: Stage, number: int, outcome: Outcome) -> Outcome:
        assert isinstance(outcome, Answered)
        if (stage, number) != (Stage.TRAIN, 1) or refused:
            return outcome
        refused.append(number)
        digest = decode_reply(outcome.frame).statement_digest
        body = Refusal(RefusalCode.PROTOCOL, "answered already")
        return Answered(encode_reply(Reply(statement_digest=digest, site=WEST, body=body)))

    refused: list[int] = []
    drive(bank, Memory(bank, meddle={WEST: refuse}), store, plan())
    assert [(row.number, row.attempt, row.state) for row in rows(store)][:2] == [
        (1, 1, "voided"),
        (1, 2, "committed"),
    ]


def test_an_evaluation_that_a_dead_driver_left_out_is_made_up_for(bank: Bank, store: RoundStore) -> None:
    class DiesError(Exception):
        pass

    def die(stage: Stage, _: int, outcome: Outcome) -> Outcome:
        if stage is Stage.EVALUATE:
            raise DiesError
        return outcome

    with pytest.raises(DiesError):
        drive(bank, Memory(bank, meddle={WEST: die}), store, plan())
    store.start(2)
    drive(bank, Memory(bank), store, plan())
    first = rows(store)[0].number
    assert store.metrics(first) is not None


def test_too_many_refusals_end_the_run_with_the_reasons(bank: Bank, store: RoundStore) -> None:
    bank.edit("west", "purpose: credit-risk", "purpose: another")
    with pytest.raises(Refused, match=r"`policy\.accept` at this site admits purpose another"):
        drive(bank, Memory(bank), store, plan())


def test_sites_that_do_not_come_are_named(bank: Bank, store: RoundStore) -> None:
    with pytest.raises(Unreachable, match=r"1 of at least 2 sites are online after 0\.2 s; waiting for west"):
        drive(bank, Memory(bank, away={site_name("west")}), store, minimum(2, plan()))


def compared() -> Plan:
    """The plan with a champion."""
    base = plan(rounds=1)
    evaluation = base.evaluation.model_copy(update={"champion": PART})
    return base.model_copy(update={"evaluation": evaluation})


def test_a_champion_is_scored_in_the_clear_as_well(bank: Bank, store: RoundStore) -> None:
    chosen = compared()
    documents = replace(documents_of(bank, chosen), champion=SENT)
    finished = Driver(
        documents, Memory(bank), store, logged(documents, store), monotonic=time.monotonic,
        sleep=lambda _: None, entropy=os.urandom,
    ).drive()  # fmt: skip
    scorer = champion_of(chosen, CONTRACT, Stage.EVALUATE, SENT)
    counts = np.sum(
        [
            TrainingSession(
                chosen,
                CONTRACT,
                table_from(loans(200, seed=place, first=1000 * place), CONTRACT, renamed={}, named=site),
                site=site,
            ).score_counts(finished.model, finished.scaling, scorer)
            for place, site in enumerate(SITES)
        ],
        axis=0,
    )
    assert finished.metrics == replace(metrics_from(counts[:2]), champion=metrics_from(counts[2:]))


def test_counts_of_one_model_are_no_answer_where_two_were_asked_for(bank: Bank, store: RoundStore) -> None:
    def halved(stage: Stage, _number: int, outcome: Outcome) -> Outcome:
        if stage is not Stage.EVALUATE or not isinstance(outcome, Answered):
            return outcome
        reply = decode_reply(outcome.frame)
        assert isinstance(reply.body, ScoreCounts)
        return Answered(encode_reply(replace(reply, body=ScoreCounts(reply.body.counts[:, :100]))))

    documents = replace(documents_of(bank, compared()), champion=SENT)
    exchange = Memory(bank, meddle={WEST: halved})
    driver = Driver(
        documents, exchange, store, logged(documents, store), monotonic=time.monotonic,
        sleep=lambda _: None, entropy=os.urandom,
    )  # fmt: skip
    with pytest.raises(
        TooFewSurvivors, match=r"sent an array of shape \(2, 100\); this stage takes \(2, 200\)"
    ):
        driver.drive()
