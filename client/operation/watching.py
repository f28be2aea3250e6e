"""What an agent tells of itself while it works, to whoever watches: what it was asked and what became of that, never what is in it."""

from __future__ import annotations

from dataclasses import dataclass

from protos.frames import Request, SecureRequest, WitnessRequest
from strategies.ids import RunId
from strategies.secagg.messages import (
    AdvertiseRequest,
    ConfirmRequest,
    MaskRequest,
    ShareRequest,
    UnmaskRequest,
)

Asked = Request | SecureRequest | WitnessRequest
_STEPS: dict[type, str] = {
    AdvertiseRequest: "keys",
    ShareRequest: "envelopes",
    MaskRequest: "mask",
    ConfirmRequest: "confirm",
    UnmaskRequest: "unmask",
}
ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that this site was asked: at which `stage` and `step`, and its `outcome`, which is `answered` or the code of a refusal."""

    run: RunId
    stage: str
    step: str
    round: int
    attempt: int
    outcome: str


class Watcher:
    """Told of what happens. Does nothing by itself; raises nothing, whatever becomes of what it writes."""

    def connected(self) -> None:
        """The SuperLink has let this site in."""

    def contact(self) -> None:
        """The SuperLink has answered."""

    def away(self, reason: str) -> None:
        """The SuperLink cannot be reached, or does not know this site."""

    def began(self) -> None:
        """A message has come, and is being answered."""

    def occurred(self, what: Occurrence) -> None:
        """A request was answered, or refused."""

    def draining(self) -> None:
        """The agent was told to finish and leave."""

    def ended(self, reason: str) -> None:
        """The agent leaves."""


def occurrence(asked: Asked, outcome: str) -> Occurrence:
    """What became of a request."""
    match asked:
        case SecureRequest():
            made, step = asked.frames[0].attempt, _STEPS[type(asked.frames[0].body)]
            place = (made.run, made.stage.lower(), step, made.round, made.attempt)
        case WitnessRequest():
            place = (asked.run, "witness", "witness", 0, 0)
        case Request():
            said = asked.statement
            place = (said.run, said.stage.name.lower(), "answer", said.round, said.attempt)
    run, stage, step, number, attempt = place
    return Occurrence(run=run, stage=stage, step=step, round=number, attempt=attempt, outcome=outcome)
