"""The sequence of models of a run at a site: computed from the aggregates, the same everywhere, and of nobody's choosing.

At the chain itself first, with real identity keys; then at the doors of four sites that train.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from client.refusal import TaskRefused
from client.secure import model_chain
from client.secure.model_chain import ModelChain, Witnesses
from protos import frames
from protos.frames import (
    Checkpoint,
    RefusalCode,
    SecureAnswer,
    SecureRequest,
    Stage,
    Statement,
    Upload,
)
from protos.identities import Identities
from protos.keys import SigningKey
from protos.plan_aggregation import OpenedGate, SecureAggregation
from protos.plan_training import FedAvgOptimiser
from strategies.encoding import Vector, digest_of, sha256_hex, vector_digest
from strategies.ids import RunId, SiteName
from strategies.models import DenseModel
from strategies.secagg import server as central
from strategies.secagg.identities import Peers
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import UPLOAD, Bound, MaskedInput
from strategies.secagg.payloads import Integers, WeightedUpdates
from strategies.server_optimizers import OptimizerState
from strategies.update_gate import l2_norm
from tests.client.loans_for_tests import CONTRACT
from tests.client.secure_for_tests import (
    OTHERS,
    RUN,
    SITES,
    VICTIM,
    SecureBank,
    Sum,
    Told,
    begun,
    secure_bank,
    secure_plan,
)

Guard = pytest.MonkeyPatch
PLAN = secure_plan()
SHAPE: DenseModel = PLAN.dense_model(CONTRACT.feature_spec(PLAN.features).width)
KEYS = {site: SigningKey.generate() for site in SITES}
COHORT = digest_of("the keys of the attempt")


@dataclass(frozen=True)
class Course:
    """The coordinator's own sequence: `points[n]` is the model and state after round n, `aggregates[n]` leads to it."""

    points: list[tuple[Vector, OptimizerState]]
    aggregates: list[Vector | None]

    def said(self, number: int, stage: Stage = Stage.TRAIN, **changed: object) -> Statement:
        """What sites are told in a round, but for what a test changes."""
        model, optimizer = self.points[number - 1 if stage is Stage.TRAIN else number]
        said = Statement(
            plan_digest=PLAN.digest,
            contract_digest=CONTRACT.digest,
            members_digest=digest_of("members"),
            run=RUN,
            stage=stage,
            round=number,
            attempt=1,
            roster=SITES,
            component=PLAN.training.component,
            model_digest=vector_digest(model),
            optimizer_digest=optimizer.digest,
        )
        return replace(said, **changed)

    def checkpoint(self, number: int, signers: Iterable[SiteName] = SITES, **changed: object) -> Checkpoint:
        """The state before round `number`, and the inputs that `signers` have signed under what they were told in it."""
        told = self.said(number, **changed)
        model, optimizer = self.points[number - 1]
        return Checkpoint(model=model, optimizer=optimizer, testimony=signed(told, signers))


def course(rounds: int = 4) -> Course:
    source, optimiser = np.random.default_rng(1), PLAN.server_optimizer()
    points = [(SHAPE.initial(PLAN.training.seed), optimiser.initial(SHAPE.size))]
    aggregates: list[Vector | None] = [None]
    for _ in range(rounds):
        aggregates.append(source.normal(size=SHAPE.size) * 0.1)
        points.append(optimiser.step(points[-1][0], aggregates[-1], points[-1][1]))
    return Course(points, aggregates)


COURSE = course()


def signed(told: Statement, signers: Iterable[SiteName], cohort: str = COHORT) -> frames.Testimony:
    """Masked inputs of some sites under `told`, of which a testimony holds the digests."""
    bound = Bound(attempt_of(told), COHORT, told.digest)
    uploads = {}
    for site in signers:
        packed = sha256_hex(f"the masked input of {site}".encode())
        message = MaskedInput.signed_digest(bound, site, packed)
        uploads[site] = Upload(packed, KEYS[site].sign_raw(UPLOAD, message))
    return frames.Testimony(statement=told, cohort=cohort, uploads=uploads)


def attempt_of(told: Statement) -> Attempt:
    return Attempt(
        suite=secure().suite,
        plan=told.plan_digest,
        run=told.run,
        stage=told.stage.name,
        round=told.round,
        attempt=told.attempt,
    )


def secure() -> SecureAggregation:
    assert isinstance(PLAN.aggregation, SecureAggregation)
    return PLAN.aggregation


@dataclass
class West:
    """The chain of one site, asked as `SecureRounds` asks it."""

    chain: ModelChain = field(default_factory=lambda: ModelChain.begin(PLAN, SHAPE))
    recognised: frozenset[SiteName] = frozenset(OTHERS)

    def follow(
        self, said: Statement, aggregate: Vector | None = None, checkpoint: Checkpoint | None = None
    ) -> Vector:
        witnesses = Witnesses(
            VICTIM,
            secure().suite,
            PLAN.secure_parameters(secure()),
            Peers(recognised=self.recognised, at_least=2),
            Identities({site: key.public for site, key in KEYS.items()}).verify,
        )
        return self.chain.follow(said, aggregate, checkpoint, witnesses)

    def refuses(self, words: str, *asked: object) -> None:
        """A refusal in these words, after which the chain is where it was."""
        before = (self.chain.number, self.chain.digest)
        with pytest.raises(TaskRefused, match=words) as refused:
            self.follow(*asked)
        assert refused.value.code is RefusalCode.PROTOCOL
        assert (self.chain.number, self.chain.digest) == before


# From aggregate to aggregate.


def test_every_aggregate_leads_to_the_model_that_the_coordinator_has() -> None:
    west = West()
    for number in range(1, 5):
        trained = west.follow(COURSE.said(number), COURSE.aggregates[number - 1])
        assert np.array_equal(trained, COURSE.points[number - 1][0])
        west.follow(COURSE.said(number, Stage.EVALUATE), COURSE.aggregates[number])
        assert (west.chain.number, west.chain.digest) == (number, vector_digest(COURSE.points[number][0]))


def test_a_model_that_the_site_has_already_takes_no_aggregate() -> None:
    west = West()
    west.follow(COURSE.said(2), COURSE.aggregates[1])
    retried = west.follow(COURSE.said(2, attempt=2), COURSE.aggregates[1])
    assert np.array_equal(retried, COURSE.points[1][0])


@pytest.mark.parametrize("named", ["model_digest", "optimizer_digest"])
def test_a_model_or_an_optimiser_state_that_the_site_has_not_computed(named: str) -> None:
    west = West()
    other = COURSE.said(2, **{named: digest_of("another")})
    west.refuses("the model of round 1 is not the one", other, COURSE.aggregates[1])
    west.follow(COURSE.said(2), COURSE.aggregates[1])
    west.refuses("the model of round 1 is not the one", other)


def test_an_aggregate_that_does_not_lead_to_the_named_model_leaves_the_chain_where_it_was() -> None:
    west, right = West(), COURSE.aggregates[1]
    assert right is not None
    west.refuses("the model of round 1 is not the one", COURSE.said(2), right + 1e-9)
    assert np.array_equal(west.follow(COURSE.said(2), right), COURSE.points[1][0])
    west.refuses("the model of round 2 is not the one", COURSE.said(3), right)
    assert np.array_equal(west.follow(COURSE.said(3), COURSE.aggregates[2]), COURSE.points[2][0])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda right: right[:-1], f"an aggregate of {SHAPE.size - 1} values; the model has {SHAPE.size}"),
        (lambda right: np.append(right, 0.0), f"an aggregate of {SHAPE.size + 1} values"),
        (lambda right: right[:0], "an aggregate of 0 values"),
        (lambda right: np.where(right == right[0], np.nan, right), "holds NaN or an infinity"),
        (lambda right: np.where(right == right[0], np.inf, right), "holds NaN or an infinity"),
        (lambda right: np.where(right == right[0], 1e200, right), "left the finite numbers"),
    ],
    ids=["short", "long", "empty", "nan", "infinity", "diverging"],
)
def test_an_aggregate_that_gives_no_model(spoil: Callable[[Vector], Vector], words: str) -> None:
    west, right = West(), COURSE.aggregates[1]
    assert right is not None
    west.refuses(words, COURSE.said(2), spoil(right))
    west.follow(COURSE.said(2), right)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (COURSE.said(2), "has the model of round 0, not that of 1"),
        (COURSE.said(1, Stage.EVALUATE), "has the model of round 0, not that of 1"),
        (COURSE.said(4), "has the model of round 0, not that of 3"),
    ],
)
def test_a_model_that_nothing_leads_to(said: Statement, words: str) -> None:
    West().refuses(words, said)


def gated(norm: float) -> West:
    """A site whose plan has a gate."""
    gate = secure().model_copy(update={"gate": OpenedGate(update_norm=norm)})
    return West(ModelChain.begin(PLAN.model_copy(update={"aggregation": gate}), SHAPE))


def test_no_model_follows_from_an_aggregate_above_the_gate() -> None:
    """Also not the one that the statement names and the coordinator has computed: the gate is not its alone."""
    right = COURSE.aggregates[1]
    assert right is not None
    norm = l2_norm(right)
    below = math.nextafter(norm, 0.0)
    gated(below).refuses(
        "the mean update of round 1 has L2 norm .* no model follows from it", COURSE.said(2), right
    )
    assert np.array_equal(gated(norm).follow(COURSE.said(2), right), COURSE.points[1][0])


def test_a_site_does_not_go_back() -> None:
    west = West()
    west.follow(COURSE.said(2), COURSE.aggregates[1])
    west.refuses("has the model of round 1, not that of 0", COURSE.said(1))
    west.follow(COURSE.said(3), COURSE.aggregates[2])
    west.refuses("has the model of round 2, not that of 1", COURSE.said(2), COURSE.aggregates[1])


# A site that has missed rounds.


@pytest.mark.parametrize("signers", [SITES, OTHERS, SITES[1:]])
def test_a_late_site_believes_what_a_quorum_of_recognised_sites_has_signed(
    signers: tuple[SiteName, ...],
) -> None:
    west = West()
    model = west.follow(COURSE.said(4), COURSE.aggregates[3], COURSE.checkpoint(3, signers))
    assert np.array_equal(model, COURSE.points[3][0])
    west.follow(COURSE.said(4, Stage.EVALUATE), COURSE.aggregates[4])


def test_a_late_site_also_comes_in_where_models_are_scored() -> None:
    west = West()
    west.follow(COURSE.said(3, Stage.EVALUATE), COURSE.aggregates[3], COURSE.checkpoint(3))
    assert west.chain.number == 3


def forged(kept: Checkpoint, **uploads: Upload) -> Checkpoint:
    changed = {**kept.testimony.uploads, **{SiteName(site): upload for site, upload in uploads.items()}}
    return replace(kept, testimony=replace(kept.testimony, uploads=changed))


def _by(site: SiteName, kept: Checkpoint) -> Upload:
    return kept.testimony.uploads[site]


def under_another_statement() -> Checkpoint:
    """Signatures that are right, under what the sites were told in truth, beside a statement that names another component."""
    kept = COURSE.checkpoint(3)
    told = replace(kept.testimony.statement, component="tabular/2")
    return replace(kept, testimony=replace(kept.testimony, statement=told))


def of_another_attempt() -> Checkpoint:
    kept = COURSE.checkpoint(3)
    told = replace(kept.testimony.statement, attempt=2)
    return replace(kept, testimony=replace(kept.testimony, statement=told))


def of_a_model_of_another_size() -> Checkpoint:
    """All sites have signed it, as if the run were another one: it does not fit this plan's model."""
    model, state = np.zeros(SHAPE.size + 1), PLAN.server_optimizer().initial(SHAPE.size + 1)
    told = COURSE.said(3, model_digest=vector_digest(model), optimizer_digest=state.digest)
    return Checkpoint(model=model, optimizer=state, testimony=signed(told, SITES))


def of_another_optimiser() -> Checkpoint:
    model, state = COURSE.points[2][0], OptimizerState(2, ())
    told = COURSE.said(3, optimizer_digest=state.digest)
    return Checkpoint(model=model, optimizer=state, testimony=signed(told, SITES))


def with_bytes(**changed: object) -> Checkpoint:
    return replace(COURSE.checkpoint(3), **changed)


TOO_FEW = "{} of the peers that this site recognises have signed the checkpoint of round 2; 3 must have"
WRONG = {
    "signed by two": (COURSE.checkpoint(3, SITES[:2]), TOO_FEW.format(2)),
    "signed by one and itself": (COURSE.checkpoint(3, SITES[2:]), TOO_FEW.format(2)),
    "signed by nobody": (COURSE.checkpoint(3, ()), TOO_FEW.format(0)),
    "with a signature of zeros": (
        forged(COURSE.checkpoint(3, SITES[:2]), south=Upload(COHORT, bytes(64))),
        TOO_FEW.format(2),
    ),
    "with another's signature": (
        forged(COURSE.checkpoint(3, SITES[:2]), south=_by(SITES[0], COURSE.checkpoint(3))),
        TOO_FEW.format(2),
    ),
    "signed by a roster of one": (COURSE.checkpoint(3, SITES[:1], roster=SITES[:1]), TOO_FEW.format(1)),
    "signed by a roster of two": (COURSE.checkpoint(3, SITES[:2], roster=SITES[:2]), TOO_FEW.format(2)),
    "signed by sites that were not asked": (
        COURSE.checkpoint(3, SITES, roster=(*SITES[:2], SiteName("zenith"))),
        TOO_FEW.format(2),
    ),
    "signed under another statement": (under_another_statement(), TOO_FEW.format(0)),
    "signed in another attempt": (of_another_attempt(), TOO_FEW.format(0)),
    "signed in another cohort": (
        replace(COURSE.checkpoint(3), testimony=signed(COURSE.said(3), SITES, digest_of("other keys"))),
        TOO_FEW.format(0),
    ),
    "of another run": (COURSE.checkpoint(3, run=RunId("run-00000000000000ff")), "of another run or round"),
    "of another plan": (COURSE.checkpoint(3, plan_digest=digest_of("another")), "of another run or round"),
    "of an earlier round": (COURSE.checkpoint(2), "of another run or round"),
    "of a later round": (COURSE.checkpoint(4), "of another run or round"),
    "of another stage": (COURSE.checkpoint(3, stage=Stage.EVALUATE), "of another run or round"),
    "with another model": (
        with_bytes(model=COURSE.points[1][0]),
        "is not the state that its statement names",
    ),
    "with another optimiser state": (
        with_bytes(optimizer=COURSE.points[1][1]),
        "is not the state that its statement names",
    ),
    "of a model of another size": (of_a_model_of_another_size(), "does not fit the plan's model"),
    "of another optimiser": (of_another_optimiser(), "does not fit the plan's model"),
}


@pytest.mark.parametrize("defect", list(WRONG))
def test_a_checkpoint_that_is_not_believed(defect: str) -> None:
    west, (kept, words) = West(), WRONG[defect]
    west.refuses(words, COURSE.said(4), COURSE.aggregates[3], kept)
    west.follow(COURSE.said(4), COURSE.aggregates[3], COURSE.checkpoint(3))


def test_a_checkpoint_signed_by_strangers() -> None:
    """All four have signed, and this site recognises one of them."""
    west = West(recognised=frozenset(SITES[:1]))
    west.refuses(TOO_FEW.format(2), COURSE.said(4), COURSE.aggregates[3], COURSE.checkpoint(3))


def test_a_believed_checkpoint_whose_aggregate_leads_elsewhere_leaves_the_chain_where_it_was() -> None:
    west = West()
    words = "the model of round 3 is not the one"
    west.refuses(words, COURSE.said(4), COURSE.aggregates[1], COURSE.checkpoint(3))
    west.refuses("has the model of round 0, not that of 3", COURSE.said(4), None, COURSE.checkpoint(3))
    west.follow(COURSE.said(4), COURSE.aggregates[3], COURSE.checkpoint(3))


def invented() -> tuple[Statement, Vector, Checkpoint]:
    """A model of the coordinator's own making, as the one of round 3, with a state that leads to it, signed by a colluding site."""
    made, state = np.full(SHAPE.size, 7.0), PLAN.server_optimizer().initial(SHAPE.size)
    aggregate = np.zeros(SHAPE.size)
    model, optimizer = PLAN.server_optimizer().step(made, aggregate, state)
    told = COURSE.said(3, model_digest=vector_digest(made), optimizer_digest=state.digest)
    said = COURSE.said(4, model_digest=vector_digest(model), optimizer_digest=optimizer.digest)
    return said, aggregate, Checkpoint(model=made, optimizer=state, testimony=signed(told, SITES[:1]))


def test_a_model_of_the_coordinators_own_making() -> None:
    West().refuses(TOO_FEW.format(1), *invented())


def test_a_model_of_the_coordinators_own_making_is_taken_without_the_guard(monkeypatch: Guard) -> None:
    monkeypatch.setattr(model_chain, "_vouching", lambda *_: len(SITES))
    assert np.array_equal(West().follow(*invented()), np.full(SHAPE.size, 7.0))


# Four sites that train.


@pytest.fixture
def bank(request) -> Iterator[SecureBank]:
    """Four sites, under the plan of a test that asks for one of its own."""
    with secure_bank(getattr(request, "param", PLAN)) as made:
        yield made


def train(asked: Sum) -> tuple[Told, frames.Testimony]:
    """One round: what the coordinator says next, and who has signed what it has said in this one."""
    step, uploads = asked.set_up(), {}
    for site in asked.roster:
        sent = asked.bank.step(site, asked.mask_request(step, site))
        assert isinstance(sent, MaskedInput)
        step.receive(sent)
        uploads[site] = Upload(sha256_hex(sent.packed), sent.signature)
    testimony = frames.Testimony(statement=asked.statement, cohort=step.ready.cohort.digest, uploads=uploads)
    total = asked.unmask(asked.confirm(step.close()))
    return following(asked, total), testimony


def following(asked: Sum, total: Integers) -> Told:
    """What the coordinator makes of an opened sum of updates."""
    payload, told = asked.payload, asked.told
    assert isinstance(payload, WeightedUpdates)
    mean = payload.mean(total, asked.roster)
    model, optimizer = asked.bank.plan.server_optimizer().step(told.model, mean, told.optimizer)
    return replace(told, model=model, optimizer=optimizer, aggregate=mean)


def holds(asked: Sum, step: central.Collecting, site: SiteName) -> str | None:
    """The digest of the model that a site says it has, when it sends its input."""
    body = asked.bank.said(site, asked.mask_request(step, site)).body
    assert isinstance(body, SecureAnswer), body
    return body.holds


def test_training_leads_every_site_to_the_model_that_the_coordinator_has(bank: SecureBank) -> None:
    told = begun(bank)
    for number in (1, 2):
        told, _ = train(Sum(bank, Stage.TRAIN, number, told=told))
        scored = Sum(bank, Stage.EVALUATE, number, told=told)
        step = scored.set_up()
        assert told.model is not None
        assert {holds(scored, step, site) for site in SITES} == {vector_digest(told.model)}
    assert not np.array_equal(told.model, begun(bank).model)
    total = scored.unmask(scored.confirm(scored.mask(step)))
    assert np.array_equal(total, sum(scored.plain(site) for site in SITES))


def test_a_site_that_was_told_a_wrong_aggregate_takes_part_again_in_the_next_attempt(
    bank: SecureBank,
) -> None:
    told, _ = train(Sum(bank, Stage.TRAIN, 1, told=begun(bank)))
    assert told.aggregate is not None
    wrong = Sum(bank, Stage.TRAIN, 2, told=replace(told, aggregate=told.aggregate * 2))
    words = "the model of round 1 is not the one that this site has computed"
    bank.refuses(VICTIM, wrong.mask_request(wrong.set_up(), VICTIM), words)
    train(Sum(bank, Stage.TRAIN, 2, attempt_number=2, told=told))


def late(bank: SecureBank) -> Sum:
    """The third round for a west that was not asked in the second, and has died since it was in the first."""
    second, _ = train(Sum(bank, Stage.TRAIN, 1, told=begun(bank)))
    asked = Sum(bank, Stage.TRAIN, 2, roster=OTHERS, told=second)
    third, testimony = train(asked)
    bank.crash(VICTIM)
    kept = Checkpoint(model=second.model, optimizer=second.optimizer, testimony=testimony)
    return Sum(bank, Stage.TRAIN, 3, told=replace(third, checkpoint=kept))


def test_a_site_that_has_missed_a_round_and_died_comes_in_by_what_its_peers_have_signed(
    bank: SecureBank,
) -> None:
    asked = late(bank)
    step = asked.set_up()
    assert holds(asked, step, VICTIM) == vector_digest(asked.told.model)
    total = asked.unmask(asked.confirm(asked.mask(step)))
    assert np.array_equal(total, sum(asked.plain(site) for site in SITES))


def test_a_site_that_has_missed_a_round_does_not_come_in_by_what_too_few_have_signed(
    bank: SecureBank,
) -> None:
    asked = late(bank)
    kept = asked.told.checkpoint
    assert kept is not None
    fewer = {site: kept.testimony.uploads[site] for site in SITES[:2]}
    kept = replace(kept, testimony=replace(kept.testimony, uploads=fewer))
    short = replace(asked, told=replace(asked.told, checkpoint=kept))
    words = "2 of the peers that this site recognises have signed the checkpoint of round 1; 3 must have"
    bank.refuses(VICTIM, short.mask_request(short.set_up(), VICTIM), words)


# One site is told of another model than the others, under the statement that all are told.


ADDS_UP = pytest.mark.parametrize(
    "bank", [secure_plan(server_optimiser=FedAvgOptimiser(kind="fedavg"))], indirect=True, ids=["fedavg"]
)
"""The next model is the last one and the aggregate: whoever chooses the aggregate chooses the model."""


def led_astray(bank: SecureBank) -> tuple[Sum, central.Collecting, SecureRequest, Sum]:
    """In the second round west alone is given an aggregate that leads to a model of zeros and a seven.

    Returns the round and its set-up, the request to west, and the round as west would compute it.
    """
    told, _ = train(Sum(bank, Stage.TRAIN, 1, told=begun(bank)))
    asked = Sum(bank, Stage.TRAIN, 2, told=told)
    chosen = np.eye(1, SHAPE.size)[0] * 7.0
    first = begun(bank).model
    assert first is not None
    step = asked.set_up()
    request = replace(asked.mask_request(step, VICTIM), aggregate=chosen - first)
    return asked, step, request, replace(asked, told=replace(told, model=chosen))


@ADDS_UP
def test_another_model_for_one_site_under_the_statement_of_all(bank: SecureBank) -> None:
    _, _, request, _ = led_astray(bank)
    bank.refuses(VICTIM, request, "the model of round 1 is not the one that this site has computed")


@ADDS_UP
def test_another_model_for_one_site_under_the_statement_of_all_opens_its_answer_to_it_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    asked, step, request, astray = led_astray(bank)
    assert asked.told.model is not None
    named = vector_digest(asked.told.model)
    monkeypatch.setattr(model_chain, "vector_digest", lambda _: named)
    step.receive(bank.step(VICTIM, request))
    total = asked.unmask(asked.confirm(asked.mask(step, OTHERS)))
    theirs = sum(asked.plain(site) for site in OTHERS)
    assert np.array_equal(total - theirs, astray.plain(VICTIM))
    assert not np.array_equal(astray.plain(VICTIM), asked.plain(VICTIM))
