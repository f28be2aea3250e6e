"""Misfortunes as data: what strikes whom, and when. A schedule follows from its seed, and can be shrunk because it is data.

"When" is counted in steps, commits or messages of the party that is struck, so that taking one misfortune away moves the others
as little as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random

from simulation.campaign.stage import SITES
from simulation.world.world import COORDINATOR, SERVER
from strategies.ids import SiteName

TEN_YEARS_S = 10 * 365.25 * 86_400
_MOST_LOSS, _MOST_DUPLICATION = 0.4, 0.6
_MOST_MISFORTUNES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Requests and replies that never arrive."""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplication:
    """Requests that arrive twice, and replies that do."""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Messages that take up to `most_s` seconds, so that later ones overtake them."""

    most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Instead of a message, an older one to or from the same site arrives."""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbling:
    """A byte of a request is changed on its way. (Replies travel under TLS alone until sites sign what they send.)"""

    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """`party` is killed at its `step`-th step and is down for a while; `whole` takes coordinator and SuperLink along."""

    party: str
    step: int
    down_s: float
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TornWrite:
    """`site` is killed in its `commit`-th commit, when `share` of the record is on disk."""

    site: SiteName
    commit: int
    share: float
    down_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushFails:
    """The `commit`-th commit of `party` fails with an I/O error; `written` says whether the bytes are on disk all the same."""

    party: str
    commit: int
    written: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFull:
    """`party` finds its disk full at `times` commits or file writes from the `commit`-th on."""

    party: str
    commit: int
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rot:
    """At step `at` of the whole simulation `site` is killed, and a byte of its journal (`place`, 0 to 1) is another one afterwards."""

    site: SiteName
    at: int
    place: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`site` is set back, at step `back` of the whole simulation, to how its journal was at step `taken`."""

    site: SiteName
    taken: int
    back: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """A second process of `site` is started on the same folder, at step `at` of the whole simulation."""

    site: SiteName
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """The coordinator's wall clock is `seconds` ahead from step `since` of the whole simulation on."""

    seconds: float
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LyingSite:
    """`site` sends, with `rate`, a reply that no honest site would: `kind` says which."""

    site: SiteName
    kind: str
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LyingCoordinator:
    """`site` is asked, for the same attempts, also about another model, or behind another step: before or after the honest question."""

    site: SiteName
    rate: float
    first: bool


Misfortune = (
    Loss | Duplication | Delay | Replay | Garbling | Death | TornWrite | FlushFails | DiskFull | Rot | Snapshot | Twin
    | Skew | LyingSite | LyingCoordinator
)  # fmt: skip

LIES = ("garbage", "another-name", "another-statement", "short", "not-a-number", "stale")


def schedule(seed: int) -> tuple[Misfortune, ...]:
    """The misfortunes of a seed: one to six of them."""
    source = Random(f"schedule {seed}")  # noqa: S311 (chance, not secrecy)
    makers = source.choices(
        _MAKERS, [weight for _, weight in _WEIGHTED], k=source.randint(1, _MOST_MISFORTUNES)
    )
    return tuple(_compatible([make(source) for make in makers]))


def words(misfortune: Misfortune) -> str:
    """A misfortune on one line."""
    values = ", ".join(
        f"{field.name} {_word(getattr(misfortune, field.name))}" for field in fields(misfortune)
    )
    return f"{type(misfortune).__name__}: {values}"


def _word(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _compatible(chosen: Sequence[Misfortune]) -> list[Misfortune]:
    """At most one site lies or loses its journal, and none is both set back and lied to.

    With two of four sites lost to the rounds none has three survivors. A site that was set back does not know what it answered, and a
    coordinator that lies can then have a second answer for one attempt: only the memory of its peers tells the site, which is a
    later part's (co-signed rounds). Each alone must do no harm.
    """
    lost = {each.site for each in chosen if isinstance(each, LyingSite | Rot)}
    allowed = {min(lost)} if lost else set()
    lied_to = {each.site for each in chosen if isinstance(each, LyingCoordinator)}
    return [
        each
        for each in chosen
        if not (isinstance(each, LyingSite | Rot) and each.site not in allowed)
        and not (isinstance(each, Snapshot) and each.site in lied_to)
    ]


def _site(source: Random) -> SiteName:
    return source.choice(SITES)


def _party(source: Random) -> str:
    return source.choice([SERVER, SERVER, COORDINATOR, *SITES])


def _down_s(source: Random) -> float:
    return round(10 ** source.uniform(-1, 2), 2)


def _death(source: Random) -> Death:
    party = _party(source)
    most = {SERVER: 160, COORDINATOR: 8}.get(party, 50)
    whole = party == SERVER and source.random() < 0.3  # noqa: PLR2004 (a share)
    return Death(party=party, step=source.randint(1, most), down_s=_down_s(source), whole=whole)


def _torn(source: Random) -> TornWrite:
    return TornWrite(
        site=_site(source), commit=source.randint(1, 9), share=source.random(), down_s=_down_s(source)
    )


def _flush(source: Random) -> FlushFails:
    party = _party(source)
    return FlushFails(
        party=party,
        commit=source.randint(1, 40 if party == SERVER else 6),
        written=source.random() < 0.5,  # noqa: PLR2004
    )


def _full(source: Random) -> DiskFull:
    party = _party(source)
    return DiskFull(
        party=party, commit=source.randint(1, 40 if party == SERVER else 6), times=source.randint(1, 3)
    )


def _snapshot(source: Random) -> Snapshot:
    taken = source.randint(1, 300)
    return Snapshot(site=_site(source), taken=taken, back=taken + source.randint(1, 300))


def _skew(source: Random) -> Skew:
    seconds = source.choice([-TEN_YEARS_S, TEN_YEARS_S, source.uniform(-9, 9)])
    return Skew(seconds=seconds, since=source.randint(0, 300))


def _lie(source: Random) -> LyingSite:
    return LyingSite(site=_site(source), kind=source.choice(LIES), rate=round(source.uniform(0.2, 1.0), 2))


def _lying_coordinator(source: Random) -> LyingCoordinator:
    return LyingCoordinator(
        site=_site(source),
        rate=round(source.uniform(0.1, 0.6), 2),
        first=source.random() < 0.5,  # noqa: PLR2004
    )


_WEIGHTED = (
    (lambda s: Loss(rate=round(s.uniform(0.02, _MOST_LOSS), 2)), 3),
    (lambda s: Duplication(rate=round(s.uniform(0.05, _MOST_DUPLICATION), 2)), 3),
    (lambda s: Delay(most_s=round(10 ** s.uniform(-2, 1.9), 2)), 3),
    (lambda s: Replay(rate=round(s.uniform(0.02, 0.3), 2)), 2),
    (lambda s: Garbling(rate=round(s.uniform(0.02, 0.2), 2)), 1),
    (_death, 8),
    (_torn, 3),
    (_flush, 3),
    (_full, 2),
    (_snapshot, 2),
    (lambda s: Rot(site=_site(s), at=s.randint(1, 300), place=s.random()), 1),
    (lambda s: Twin(site=_site(s), at=s.randint(1, 300)), 1),
    (_skew, 2),
    (_lie, 2),
    (_lying_coordinator, 2),
)
_MAKERS = tuple(make for make, _ in _WEIGHTED)
