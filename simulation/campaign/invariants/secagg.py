"""What secure aggregation promises: a mask is used once, shares are given for one partition, and nothing leaves in the clear."""

from __future__ import annotations

from protos.frames import Refusal, SecureAnswer, WitnessAnswer
from protos.plan_aggregation import SecureAggregation
from protos.secure_codec import decode_answer
from simulation.campaign.invariants.base import Invariant, register
from strategies.ids import SiteName
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import Advertisement, Confirmation, Frame, MaskedInput, Shares


class _Listens(Invariant):
    """Hears each step of the protocol that leaves a site."""

    part = "secagg"

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """See `Invariant.frame`."""
        if direction != "reply":
            return
        body = decode_answer(frame).body
        if isinstance(body, SecureAnswer):
            for each in body.frames:
                self.said(site, each)

    def said(self, site: SiteName, frame: Frame) -> None:
        """One step of a site."""


@register
class NothingLeavesUnmasked(Invariant):
    """Looks at the kind of each answer."""

    name = "nothing-leaves-unmasked"
    part = "secagg"
    says = "Under a plan that aggregates securely a site sends steps of the protocol, statements about the log, and refusals, whatever it is asked."

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """See `Invariant.frame`."""
        if direction == "reply" and isinstance(self.scene.stage.plan.aggregation, SecureAggregation):
            body = decode_answer(frame).body
            self.require(
                isinstance(body, SecureAnswer | Refusal | WitnessAnswer),
                f"{site} sends {type(body).__name__} in the clear",
            )


@register
class EachMaskOnce(_Listens):
    """Keeps every masked input, and every public key with the attempt that it was made for."""

    name = "each-mask-once"
    says = "A site masks one input with the keys of an attempt, and no key serves two attempts, whatever it is asked and however it dies."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._inputs: dict[tuple[SiteName, Attempt], MaskedInput] = {}
        self._keys: dict[bytes, tuple[SiteName, Attempt]] = {}

    def said(self, site: SiteName, frame: Frame) -> None:
        """See `_Listens.said`."""
        match frame.body:
            case MaskedInput() as sent:
                first = self._inputs.setdefault((site, frame.attempt), sent)
                self.require(first == sent, f"{site} has masked two inputs for {_words(frame.attempt)}")
            case Advertisement() as made:
                for key in (made.mask_key, made.envelope_key):
                    owner = self._keys.setdefault(key, (site, frame.attempt))
                    self.require(
                        owner == (site, frame.attempt), f"{site} uses a key of {_words(owner[1])} again"
                    )


@register
class OnePartitionARound(_Listens):
    """Keeps whose shares were given, by kind."""

    name = "one-partition-a-round"
    says = "A site gives shares for one partition of one attempt at a stage of a round, and nobody's shares are given in both kinds."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._given: dict[tuple[SiteName, str, str, int], tuple[Attempt, Shares]] = {}
        self._kinds: dict[tuple[Attempt, SiteName], str] = {}
        self._confirmed: dict[tuple[SiteName, Attempt], Confirmation] = {}

    def said(self, site: SiteName, frame: Frame) -> None:
        """See `_Listens.said`."""
        attempt = frame.attempt
        if isinstance(frame.body, Confirmation):
            first = self._confirmed.setdefault((site, attempt), frame.body)
            self.require(first == frame.body, f"{site} has confirmed two lists for {_words(attempt)}")
        if not isinstance(frame.body, Shares):
            return
        shares = frame.body
        round_of = (site, attempt.run, attempt.stage, attempt.round)
        self.require(
            self._given.setdefault(round_of, (attempt, shares)) == (attempt, shares),
            f"{site} has given shares twice for round {attempt.round}",
        )
        for kind, owners in (("own seed", shares.own_seeds), ("mask key", shares.mask_keys)):
            for owner in owners:
                known = self._kinds.setdefault((attempt, owner), kind)
                self.require(
                    known == kind, f"shares of both kinds of {owner} were given for {_words(attempt)}"
                )


def _words(attempt: Attempt) -> str:
    return f"attempt {attempt.attempt} at the {attempt.stage.lower()} stage of round {attempt.round}"
