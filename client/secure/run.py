"""One run of secure aggregation as a site takes part in it: with whom, what it adds to each sum, and which model it is at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from client.accounts.book import ChargeReceipt
from client.admission.documents import Accepted
from client.refusal import TaskRefused
from client.secure.inputs import Inputs
from client.secure.model_chain import ModelChain, Witnesses
from client.training import Session
from client.training.pace import Pace, unhurried
from protos.frames import RefusalCode, SecureRequest, Stage, Statement
from protos.identities import Identities
from protos.plan_aggregation import SecureAggregation
from protos.site import SiteConfig
from strategies.dp.events import Release
from strategies.ids import SiteName
from strategies.secagg.client import Client
from strategies.secagg.identities import Peers, Sign
from strategies.secagg.labels import Attempt
from strategies.secagg.parameters import Parameters
from strategies.secagg.payloads import Integers
from strategies.secagg.rings import Ring
from strategies.secagg.shamir import Entropy


@dataclass(frozen=True, slots=True)
class Run:
    """What this site knows of a run; `begin` is its only maker.

    The survivors of a sum that are among the `peers`, this site with them, are at least the plan's minimum (`Client`), whoever else is in it: so
    many less those who may collude add the noise that was charged for.
    """

    site: SiteName
    accepted: Accepted
    secure: SecureAggregation
    peers: Peers
    inputs: Inputs
    identities: Identities
    chain: ModelChain

    @classmethod
    def begin(
        cls,
        accepted: Accepted,
        config: SiteConfig,
        session_of: Callable[[Accepted], Session],
        charge: Callable[[Release, Statement], ChargeReceipt],
        entropy: Entropy,
        pace: Callable[[Statement], Pace] = lambda _: unhurried,
    ) -> Self:
        """A run of the plan that was `accepted`, before its first round. Raises `TaskRefused`, and what `session_of` raises."""
        plan = accepted.plan
        if not isinstance(plan.aggregation, SecureAggregation):
            raise TaskRefused(RefusalCode.PROTOCOL, "the plan is not one for secure aggregation")
        peers = _peers(config)
        session = session_of(accepted)
        members = {member.site: member.identity_key for member in accepted.members.members}
        return cls(
            site=config.site,
            accepted=accepted,
            secure=plan.aggregation,
            peers=peers,
            inputs=Inputs(config.site, plan, accepted.contract, session, charge, entropy, pace),
            identities=Identities({site: members[site] for site in plan.sites.invite}),
            chain=ModelChain.begin(plan, session.model),
        )

    @property
    def _parameters(self) -> Parameters:
        return self.accepted.plan.secure_parameters(self.secure)

    def client(self, attempt: Attempt, sign: Sign) -> Client:
        """This site in one attempt."""
        return Client(
            site=self.site,
            attempt=attempt,
            parameters=self._parameters,
            peers=self.peers,
            sign=sign,
            verify=self.identities.verify,
        )

    def computed(self, said: Statement, asked: SecureRequest) -> tuple[Ring, Integers]:
        """What this site adds to the sum, before it is masked. Raises `TaskRefused`."""
        if said.stage is Stage.PREPARE:
            return self.inputs.compute(said, None, None, asked.champion)
        if asked.scaling is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"a request to {said.stage.name.lower()} without the scaling"
            )
        witnesses = Witnesses(
            self.site, self.secure.suite, self._parameters, self.peers, self.identities.verify
        )
        model = self.chain.follow(said, asked.aggregate, asked.checkpoint, witnesses)
        return self.inputs.compute(said, model, asked.scaling, asked.champion)


def _peers(config: SiteConfig) -> Peers:
    """Whom this site must be in a sum with. Raises `TaskRefused`."""
    peers = config.peers
    if peers is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            "`peers` is not configured at this site, so it recognises nobody to be in a sum with",
        )
    return Peers(recognised=frozenset(peers.recognise) - {config.site}, at_least=peers.at_least)
