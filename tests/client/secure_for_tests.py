"""Four small banks under a plan that aggregates securely, and a coordinator that asks for whatever a test tells it to.

Real keys, journals and rows; every request and reply travels as bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from client.bootstrap import open_participant
from client.data import read_source
from client.keystore import make_keys
from client.participant import Participant
from client.secure.rounds import State
from client.training import TrainingSession
from protos.documents import read_document
from protos.frames import (
    Checkpoint,
    Refusal,
    RefusalCode,
    Reply,
    SecureAnswer,
    SecureRequest,
    Stage,
    Statement,
    Task,
    scaling_digest,
)
from protos.identities import Identities
from protos.membership import MemberList, Membership
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.secure_codec import decode_answer, encode_secure_request
from protos.site import load_site
from simulation.world.folders import memory_folder
from strategies.encoding import Vector, sha256_hex, vector_digest
from strategies.features import Scaling
from strategies.ids import RunId, SiteName, site_name
from strategies.secagg import server as central
from strategies.secagg.client import Advertised, Confirmed, Masked, Shared
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import AdvertiseRequest, Body, Frame
from strategies.secagg.payloads import Counts, Integers, Moments, WeightedUpdates, dither_seed
from strategies.secagg.secrets import SECRET_BYTES
from strategies.secagg.shamir import SHARE_BYTES, Entropy
from strategies.secagg.suites import PrivateKey
from strategies.server_optimizers import OptimizerState
from tests.client import loans_for_tests as loans
from tests.trust_for_tests import officers
from tests.witness_for_tests import LOG_SERVICE, KeptLog, vouched

RUN = RunId("run-0123456789abcdef")
SITES = tuple(map(site_name, ("east", "north", "south", "west")))
VICTIM = SITES[-1]
OTHERS = SITES[:-1]
SCALING = Scaling(mean=(0.5, 0.5), std=(0.3, 0.3))
_ROWS = 48

_PLAN = """\
covenant: plan/v1
name: default
purpose: credit-risk
contract: loans@1
features: [amount, income, term]
sites: {members: demo@1, invite: [east, north, south, west], minimum: 3, join_within: 2m}
model: {kind: logistic}
training:
  component: tabular/1
  algorithm: fedavg
  server_optimiser: {kind: fedadam, learning_rate: 0.1}
  rounds: 4
  batch_size: 16
  learning_rate: 0.1
  round_deadline: 5m
  seed: 1
aggregation: {mode: secure}
privacy: {mode: none}
evaluation: {every: 1, score_bins: 20, holdout: {by: loan_id, share: 0.3, salt: "1"}}
approvals: {privacy_officer: 0, model_risk: 0}
"""

_SITE = """\
covenant: site/v1
site: {site}
federation: {{name: demo, superlink: "127.0.0.1:1", ca: ca.crt, root: ../root.json}}
identity: {{key: site.key, node_key: node.key}}
peers: {{recognise: [{peers}], at_least: 2}}
data:
  loans: {{contract: loans@1, contract_file: loans.yaml, file: rows.parquet}}
policy:
  accept:
    - purpose: credit-risk
      contracts: [loans@1]
      components: [tabular/1, tabular/2]
      privacy: {{modes: [none]}}
      aggregation: {{modes: [secure, plain], adversaries: [active, semi-honest]}}
      approvals: {{privacy_officer: 0, model_risk: 0}}
"""


def secure_plan(**training: object) -> Plan:
    """The plan of these tests, with some training settings changed."""
    base = read_document(_PLAN, Plan, "plan.yaml")
    return base.model_copy(update={"training": base.training.model_copy(update=training)})


@dataclass
class SecureBank:
    """The sites on disk, those of them that run, and the coordinator's view of the run."""

    folder: Path
    members: Membership
    plan: Plan
    _running: dict[SiteName, Participant] = field(default_factory=dict)
    evidence: bytes = b""
    log: KeptLog = field(default_factory=KeptLog)
    _witnessed: dict[tuple[RunId, Task], bytes] = field(default_factory=dict)

    @property
    def secure(self) -> SecureAggregation:
        assert isinstance(self.plan.aggregation, SecureAggregation)
        return self.plan.aggregation

    @property
    def task(self) -> Task:
        return self.task_of(RUN)

    @property
    def bare_task(self) -> Task:
        """The documents alone: nobody has witnessed a run of them."""
        return Task(
            plan=self.plan.canonical,
            contract=loans.CONTRACT.canonical,
            members=self.members.canonical,
            evidence=self.evidence,
        )

    def task_of(self, run: RunId) -> Task:
        """The same, of a run that was witnessed."""
        return self.witnessed(self.bare_task, run)

    def witnessed(self, task: Task, run: RunId = RUN) -> Task:
        """The documents of a run that all sites have witnessed that would take part in it."""
        bundle = self._witnessed.get((run, task))
        if bundle is None:
            with ExitStack() as stack:
                sites = {site: partial(self._awake, site, stack) for site in sorted(self.plan.sites.invite)}
                signed, refused = self.log.witness(run, task, sites)
            bundle = self.log.bundle(signed).canonical
            if not refused:
                self._witnessed[run, task] = bundle
        return replace(task, witness=bundle)

    def _awake(self, site: SiteName, stack: ExitStack) -> Participant:
        """The site's process, or one for the moment."""
        if site in self._running:
            return self._running[site]
        return stack.enter_context(closing(open_participant(self.folder / site / "site.yaml")))

    @property
    def identities(self) -> Identities:
        return Identities({each.site: each.identity_key for each in self.members.signed.list.members})

    def participant(self, site: SiteName) -> Participant:
        if site not in self._running:
            self.start(site)
        return self._running[site]

    def start(self, site: SiteName, *, entropy: Entropy = os.urandom) -> Participant:
        """Start a site's process, ending the one that runs."""
        self._end(site)
        started = open_participant(self.folder / site / "site.yaml", entropy=entropy)
        self._running[site] = vouched(started, self.plan.sites.invite)
        return self._running[site]

    def crash(self, site: SiteName, *, entropy: Entropy = os.urandom) -> Participant:
        """Kill a site's process without warning and start it again: it has what was on disk at that moment, and nothing else."""
        files = [self.folder / site / f"journal.db{suffix}" for suffix in ("", "-wal")]
        left = {path: path.read_bytes() for path in files if path.exists()}
        self._end(site)  # which tidies the files up, as a kill does not
        for path in files:
            path.unlink(missing_ok=True)
        for path, content in left.items():
            path.write_bytes(content)
        return self.start(site, entropy=entropy)

    def edit(self, site: SiteName, old: str, new: str) -> None:
        """Change a site's configuration, which it reads when it is started."""
        path = self.folder / site / "site.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def rewrite_rows(self, site: SiteName, *, seed: int) -> None:
        """Other rows, as a nightly load brings them."""
        pq.write_table(loans.loans(_ROWS, seed=seed), self.folder / site / "rows.parquet")

    def session(self, site: SiteName) -> TrainingSession:
        """What the site computes, with no federation around it."""
        config = load_site(self.folder / site / "site.yaml")
        source = config.source_for(loans.CONTRACT.ref)
        assert source is not None
        reading = read_source(source, loans.CONTRACT, today=loans.TODAY, spool=None)
        return TrainingSession(self.plan, loans.CONTRACT, reading.accepted(), site=config.site)

    def said(self, site: SiteName, request: SecureRequest) -> Reply:
        """One request and its reply, as bytes in between. Every reply says to which request it is, and whose."""
        frame = encode_secure_request(request)
        reply = decode_answer(self.participant(site).answer(frame))
        assert (reply.statement_digest, reply.site) == (sha256_hex(frame), site)
        return reply

    def steps(self, site: SiteName, request: SecureRequest) -> tuple[Frame, ...]:
        """The steps that a site takes; fails where it refuses."""
        body = self.said(site, request).body
        assert isinstance(body, SecureAnswer), f"{site}: {body}"
        return body.frames

    def step(self, site: SiteName, request: SecureRequest) -> Body:
        """The first of them."""
        return self.steps(site, request)[0].body

    def refusal(self, site: SiteName, request: SecureRequest) -> Refusal:
        """Why a site refuses; fails where it does not."""
        body = self.said(site, request).body
        assert isinstance(body, Refusal), f"{site}: {body}"
        return body

    def refuses(self, site: SiteName, request: SecureRequest, words: str) -> None:
        """A refusal by the protocol's rules, in these words."""
        refusal = self.refusal(site, request)
        assert refusal.code is RefusalCode.PROTOCOL
        assert words in refusal.reason

    def recorded(self, site: SiteName) -> int:
        """How many answers the site's journal holds."""
        return len(list(self.participant(site).answers.journal.entries("answered")))

    def close(self) -> None:
        for site in tuple(self._running):
            self._end(site)

    def _end(self, site: SiteName) -> None:
        if site in self._running:
            self._running.pop(site).close()


@contextmanager
def secure_bank(plan: Plan | None = None) -> Iterator[SecureBank]:
    """A bank of its own, in memory where there is a folder in memory: its journals flush all the time."""
    with TemporaryDirectory(prefix="covenant-bank-", dir=memory_folder()) as name:
        bank = _make(Path(name), plan or secure_plan())
        try:
            yield bank
        finally:
            bank.close()


def _make(folder: Path, plan: Plan) -> SecureBank:
    people, requests = officers(), []
    people.save(folder)
    for index, site in enumerate(sorted(plan.sites.invite)):
        own = folder / site
        own.mkdir()
        (own / "loans.yaml").write_bytes(loans.CONTRACT.canonical)  # JSON is YAML
        pq.write_table(loans.loans(_ROWS, seed=index, first=1000 * index), own / "rows.parquet")
        peers = ", ".join(each for each in sorted(plan.sites.invite) if each != site)
        (own / "site.yaml").write_text(_SITE.format(site=site, peers=peers))
        requests.append(make_keys(load_site(own / "site.yaml")))
    members = MemberList(
        name="demo", version=1, members=tuple(each.verify() for each in requests), services=(LOG_SERVICE,)
    )
    return SecureBank(folder, people.sign(members), plan)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the coordinator says of the models: none of it in the prepare stage."""

    model: Vector | None = None
    optimizer: OptimizerState | None = None
    scaling: Scaling | None = None
    aggregate: Vector | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Sum:
    """One attempt at a sum over `roster`. Requests are there to be changed before they are sent."""

    bank: SecureBank
    stage: Stage = Stage.PREPARE
    number: int = 0
    attempt_number: int = 1
    roster: tuple[SiteName, ...] = SITES
    told: Told = field(default_factory=Told)
    run: RunId = RUN

    @property
    def attempt(self) -> Attempt:
        return Attempt(
            suite=self.bank.secure.suite,
            plan=self.bank.plan.digest,
            run=self.run,
            stage=self.stage.name,
            round=self.number,
            attempt=self.attempt_number,
        )

    @property
    def statement(self) -> Statement:
        plan, told = self.bank.plan, self.told
        return Statement(
            plan_digest=plan.digest,
            contract_digest=loans.CONTRACT.digest,
            members_digest=sha256_hex(self.bank.members.canonical),
            run=self.run,
            stage=self.stage,
            round=self.number,
            attempt=self.attempt_number,
            roster=self.roster,
            component=plan.training.component,
            model_digest=None if told.model is None else vector_digest(told.model),
            scaling_digest=None if told.scaling is None else scaling_digest(told.scaling),
            optimizer_digest=None if told.optimizer is None else told.optimizer.digest,
        )

    @property
    def payload(self) -> Moments | WeightedUpdates | Counts:
        match self.stage:
            case Stage.PREPARE:
                return Moments(len(self.roster))
            case Stage.TRAIN:
                return WeightedUpdates(self.bank.secure.update_range, dict.fromkeys(self.roster, 1))
            case Stage.EVALUATE:
                return Counts(len(self.roster))

    def plain(self, site: SiteName) -> Integers:
        """What the site adds to the sum, as it would be without a mask."""
        session, told, payload = self.bank.session(site), self.told, self.payload
        if isinstance(payload, Moments):
            return payload.embed(session.moments())
        assert told.model is not None
        assert told.scaling is not None
        if isinstance(payload, Counts):
            return payload.embed(session.evaluate(told.model, told.scaling))
        training = self.bank.plan.training
        names = (training.component, str(training.seed), site, str(self.number))
        return payload.embed(site, session.train(told.model, told.scaling, self.number), dither_seed(*names))

    def request(self, body: Body, *riders: Frame) -> SecureRequest:
        """A request for a step, and what rides on it."""
        return SecureRequest(frames=(Frame(self.attempt, body), *riders))

    def advertise_request(self) -> SecureRequest:
        return SecureRequest(
            frames=(Frame(self.attempt, AdvertiseRequest()),), task=self.bank.task_of(self.run)
        )

    def mask_request(
        self, step: central.Collecting, site: SiteName, statement: Statement | None = None
    ) -> SecureRequest:
        """`statement` instead of this sum's own, with the masks bound to it."""
        said, ask = statement or self.statement, step.request_for(site)
        return SecureRequest(
            frames=(Frame(self.attempt, replace(ask, statement=said.digest)),),
            statement=said,
            scaling=self.told.scaling,
            aggregate=self.told.aggregate,
            checkpoint=self.told.checkpoint,
        )

    @property
    def server(self) -> central.Server:
        parameters = self.bank.plan.secure_parameters(self.bank.secure)
        return central.Server(attempt=self.attempt, parameters=parameters, verify=self.bank.identities.verify)

    def keys(self) -> central.Sharing:
        step = central.Advertising(self.server)
        for site in self.roster:
            step.receive(self.bank.step(site, self.advertise_request()))
        return step.close()

    def share(self, step: central.Sharing) -> central.Collecting:
        for site in step.cohort.sites:
            step.receive(self.bank.step(site, self.request(step.request)))
        return self.collecting(step)

    def collecting(self, step: central.Sharing) -> central.Collecting:
        return step.close().ask(self.statement.digest, self.payload.ring, self._dimension)

    def set_up(self) -> central.Collecting:
        """All that comes before inputs are asked for."""
        return self.share(self.keys())

    def mask(self, step: central.Collecting, sites: Iterable[SiteName] | None = None) -> central.Confirming:
        for site in self.roster if sites is None else sites:
            step.receive(self.bank.step(site, self.mask_request(step, site)))
        return step.close()

    def confirm(self, step: central.Confirming) -> central.Unmasking:
        if self.bank.secure.adversary == "active":
            for site in step.survivors:
                step.receive(self.bank.step(site, self.request(step.request)))
        return step.close()

    def unmask(self, step: central.Unmasking) -> Integers:
        for site in step.waiting_for:
            step.receive(self.bank.step(site, self.request(step.request)))
        return step.open().total

    def confirmed(self) -> central.Unmasking:
        """All that comes before shares are asked for."""
        return self.confirm(self.mask(self.set_up()))

    def opened(self) -> Integers:
        """The sum."""
        return self.unmask(self.confirmed())

    @property
    def _dimension(self) -> int:
        plan = self.bank.plan
        match self.stage:
            case Stage.PREPARE:
                return 3 * len(loans.CONTRACT.feature_spec(plan.features).numeric)
            case Stage.TRAIN:
                return 0 if self.told.model is None else self.told.model.size
            case Stage.EVALUATE:
                return 2 * plan.evaluation.score_bins


def begun(bank: SecureBank, *, scaling: Scaling = SCALING) -> Told:
    """What the coordinator says before the first round: the model and state that follow from the plan."""
    shape = bank.session(VICTIM).model
    return Told(
        model=shape.initial(bank.plan.training.seed),
        optimizer=bank.plan.server_optimizer().initial(shape.size),
        scaling=scaling,
    )


def state_of(asked: Sum, site: SiteName) -> State:
    """What a site has in memory for an attempt. For a test's eyes only: the coordinator never sees it."""
    return asked.bank.participant(site)._secure._attempts[asked.attempt].state


def secrets_of(state: State) -> list[bytes]:
    """Everything in a state that nobody else may learn before the protocol says so."""
    match state:
        case Advertised() | Shared():
            keys = state.keys
            found = [keys.mask_seed.reveal(), keys.own_seed.reveal()]
            found += [_private_bytes(key) for key in (keys.mask, keys.envelope)]
            if isinstance(state, Shared):
                found += [*_halves(state.kept), *(each.reveal() for each in state.agreed.values())]
            return found
        case Masked() | Confirmed():
            return [half for pair in state.held.values() for half in _halves(pair)]


def _private_bytes(key: PrivateKey) -> bytes:
    own = key._key
    if isinstance(own, X25519PrivateKey):
        return own.private_bytes_raw()
    return own.private_numbers().private_value.to_bytes(SECRET_BYTES, "big")


def _halves(pair: bytes) -> tuple[bytes, bytes]:
    """The two shares that one site holds of another's secrets: of its mask key, and of its own seed."""
    return pair[:SHARE_BYTES], pair[SHARE_BYTES:]
