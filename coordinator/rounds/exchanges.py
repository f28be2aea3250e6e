"""The exchanges of one attempt at secure aggregation: requests out, and what comes back handed to the protocol's states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from coordinator.rounds.asking import Asked, Asking, note_missing
from coordinator.rounds.progress import INPUT
from coordinator.rounds.roster import because
from protos.frame_size import APART_BYTES
from protos.frames import Body, SecureAnswer, SecureRequest, Stage
from protos.secure_codec import encode_secure_request
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import Digest, SiteName
from strategies.pieces import Bytes
from strategies.secagg import server as central
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import Advertisement, Confirmation, Envelopes, MaskedInput, Shares

B = TypeVar("B", Advertisement, Envelopes, MaskedInput, Confirmation, Shares)
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Expected(Generic[B]):
    """What answers are looked through for: one message of `kind` for `attempt`, which `take` may refuse."""

    attempt: Attempt
    kind: type[B]
    take: Callable[[B], None]

    def receive(self, site: SiteName, answer: SecureAnswer) -> str | None:
        """Hand over what `site` has said; why it says nothing of use, if so."""
        found = [f.body for f in answer.frames if f.attempt == self.attempt and isinstance(f.body, self.kind)]
        if len(found) != 1 or found[0].site != site:
            return f"sent no {self.kind.__name__} of its own"
        try:
            self.take(found[0])
        except Refused as refused:
            return str(refused)
        return None


_STEPS: Final[Mapping[type[object], str]] = {
    Advertisement: "keys",
    Envelopes: "shares",
    MaskedInput: INPUT,
    Confirmation: "confirmation",
    Shares: "opening",
}
"""What is asked for, as people read it."""
Said = (
    Expected[Advertisement]
    | Expected[Envelopes]
    | Expected[MaskedInput]
    | Expected[Confirmation]
    | Expected[Shares]
)


@dataclass(frozen=True, slots=True)
class Requests(Mapping[SiteName, SecureRequest]):
    """Requests to `sites`, each of which `made` makes when it is asked for: they carry a model each."""

    sites: Sequence[SiteName]
    made: Callable[[SiteName], SecureRequest]

    def __getitem__(self, site: SiteName) -> SecureRequest:
        return self.made(site)

    def __iter__(self) -> Iterator[SiteName]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)


class _Frames(Mapping[SiteName, Bytes]):
    """Requests as they travel, each made when it is sent: they are never in memory together."""

    def __init__(self, requests: Mapping[SiteName, SecureRequest]) -> None:
        self._requests = requests
        self._echoes: dict[SiteName, Digest] = {}
        self._last: tuple[SecureRequest, Bytes, Digest] | None = None

    def __getitem__(self, site: SiteName) -> Bytes:
        request, made = self._requests[site], self._last
        if made is None or made[0] is not request:
            frame = encode_secure_request(request)
            made = (request, frame, sha256_hex(frame))
            # A large frame is one site's, and goes when it is sent.
            self._last = made if len(frame) <= APART_BYTES else None
        _, frame, self._echoes[site] = made
        return frame

    def __iter__(self) -> Iterator[SiteName]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def echo(self, site: SiteName) -> Digest:
        """The digest of what `site` was sent."""
        return self._echoes[site]


@dataclass
class Exchanges:
    """The exchanges of one attempt, and why sites are missing from them. `heard` is told of every answer."""

    asking: Asking
    stage: Stage
    number: int
    heard: Callable[[SiteName, SecureAnswer], None]
    missing: dict[SiteName, str] = field(default_factory=dict)

    def ask(self, requests: Mapping[SiteName, SecureRequest], expected: Said, *riding: Said) -> None:
        """One exchange. A site whose answer holds nothing that is `expected` counts as missing; what rides on it is a favour."""
        frames = _Frames(requests)
        unfit: dict[SiteName, str] = {}

        def take(site: SiteName, body: Body) -> None:
            if not isinstance(body, SecureAnswer):
                unfit[site] = f"sent {type(body).__name__}"
                return
            self.heard(site, body)
            if (reason := expected.receive(site, body)) is None:
                self.missing.pop(site, None)
            else:
                unfit[site] = reason
            for rider in riding:
                rider.receive(site, body)

        asked = Asked(frames, frames.echo, _STEPS[expected.kind])
        missing = self.asking.ask(self.stage, self.number, asked, take) | unfit
        self.missing |= missing
        note_missing(self.stage, self.number, missing)

    def closed(self, close: Callable[[], C]) -> C:
        """The next state. Raises `TooFewSites` with what each missing site said."""
        try:
            return close()
        except central.TooFewSites as few:
            raise central.TooFewSites(f"{few}: {because(self.missing)}") from few
        except Refused as refused:
            raise central.TooFewSites(str(refused)) from refused
