"""The exchanges of one attempt at secure aggregation: requests out, and what comes back handed to the protocol's states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from coordinator.rounds.asking import Asked, Asking, note_missing
from coordinator.rounds.roster import because
from protos.frames import SecureAnswer, SecureRequest, Stage
from protos.secure_codec import encode_secure_request
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import server as central
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import Advertisement, Confirmation, Envelopes, MaskedInput, Shares

B = TypeVar("B", Advertisement, Envelopes, MaskedInput, Confirmation, Shares)
C = TypeVar("C")


@dataclass
class Exchanges:
    """The exchanges of one attempt: what came last, and why sites are missing. `heard` is told of every answer."""

    asking: Asking
    stage: Stage
    number: int
    heard: Callable[[SiteName, SecureAnswer], None]
    answers: Mapping[SiteName, SecureAnswer] = field(default_factory=dict)
    missing: dict[SiteName, str] = field(default_factory=dict)

    def ask(self, requests: Mapping[SiteName, SecureRequest]) -> None:
        """One exchange."""
        asked: dict[SiteName, Asked] = {}
        sealed: dict[int, Asked] = {}
        for site, request in requests.items():
            if id(request) not in sealed:
                frame = encode_secure_request(request)
                sealed[id(request)] = Asked(frame, sha256_hex(frame))
            asked[site] = sealed[id(request)]
        bodies, missing = self.asking.ask(self.stage, self.number, asked)
        self.answers = {site: body for site, body in bodies.items() if isinstance(body, SecureAnswer)}
        self.missing |= missing | {
            site: f"sent {type(body).__name__}" for site, body in bodies.items() if site not in self.answers
        }
        note_missing(self.stage, self.number, missing)
        for site, answer in self.answers.items():
            self.heard(site, answer)

    def receive(self, attempt: Attempt, kind: type[B], take: Callable[[B], None]) -> None:
        """Hand what came of one kind for `attempt` to a step; whatever it refuses counts as missing."""
        for site, answer in self.answers.items():
            found = [f.body for f in answer.frames if f.attempt == attempt and isinstance(f.body, kind)]
            if len(found) != 1 or found[0].site != site:
                self.missing[site] = f"sent no {kind.__name__} of its own"
                continue
            try:
                take(found[0])
            except Refused as refused:
                self.missing[site] = str(refused)

    def closed(self, close: Callable[[], C]) -> C:
        """The next state. Raises `TooFewSites` with what each missing site said."""
        try:
            return close()
        except central.TooFewSites as few:
            raise central.TooFewSites(f"{few}: {because(self.missing)}") from few
        except Refused as refused:
            raise central.TooFewSites(str(refused)) from refused
