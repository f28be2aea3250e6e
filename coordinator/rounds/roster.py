"""Who is asked next: the invited sites that are online and have not refused the plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog

from coordinator.rounds.exchange import Exchange
from protos.plan_sites import Sites
from strategies.errors import Refused, Unreachable
from strategies.ids import SiteName

_JOIN_POLL_S = 0.1
_ASK_AGAIN_S = 10.0
"""A site that does not take part at present is asked again after so long: a person there may have been asked, or an hour has struck."""
_log = structlog.get_logger(__name__)


@dataclass
class Roster:
    """The sites of one plan over an exchange. `refused` holds why a site takes no part.

    `accused` holds, by site, which others could not use the envelopes that it had sealed for them.
    """

    sites: Sites
    exchange: Exchange
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    refused: dict[SiteName, str] = field(default_factory=dict)
    accused: dict[SiteName, set[SiteName]] = field(default_factory=dict)
    halted: Callable[[], Collection[SiteName]] = frozenset
    """The sites that nobody may ask; raises what ends the run."""
    _later: dict[SiteName, float] = field(default_factory=dict)
    """When a site said last that it is to be asked later."""
    _later_since: float | None = None
    """When a site said so for the first time since enough were there."""

    def ask_later(self, site: SiteName) -> None:
        """Note that `site` does not take part at present, and has not refused the plan."""
        self._later[site] = self.monotonic()
        if self._later_since is None:
            self._later_since = self.monotonic()

    @property
    def waited_s(self) -> float | None:
        """How long ago a site said for the first time that it is to be asked later, while too few were there; None if none has."""
        return None if self._later_since is None else self.monotonic() - self._later_since

    def enough(self) -> None:
        """There were enough: who says later from now on is waited for anew."""
        self._later_since = None

    def _is_due(self, site: SiteName) -> bool:
        said = self._later.get(site)
        return said is None or self.monotonic() - said >= _ASK_AGAIN_S

    def ready(self, *, patience_s: float) -> tuple[SiteName, ...]:
        """The sites to ask, sorted, at least the plan's minimum; waits up to `join_within` for them.

        All of them are waited for `patience_s`: a site that is away holds nobody up for longer. Raises `Refused` and `Unreachable`.
        """
        began = self.monotonic()
        while True:
            willing = self._willing()
            ready = tuple(sorted(filter(self._is_due, willing & set(self.exchange.online()))))
            enough, waited = len(ready) >= self.sites.minimum, self.monotonic() - began
            if len(ready) == len(willing) or (enough and waited >= patience_s):
                return ready
            if waited > self.sites.join_within and not enough:
                raise self._missing(ready, willing)
            self.sleep(_JOIN_POLL_S)

    def return_of(self, sites: Collection[SiteName], *, until: float) -> bool:
        """Wait for one of those of `sites` that are away; False if none is away, or none is back at `until` by the monotonic clock."""
        away = set(sites) - set(self.exchange.online())
        while away and self.monotonic() < until:
            if away & set(self.exchange.online()):
                return True
            self.sleep(_JOIN_POLL_S)
        return False

    def _willing(self) -> set[SiteName]:
        """The invited sites that may be asked and have not refused. Raises `Refused` below the plan's minimum."""
        halted = set(self.sites.invite) & set(self.halted())
        willing = set(self.sites.invite) - self.refused.keys() - halted
        if len(willing) >= self.sites.minimum:
            return willing
        if halted:
            away = because({**self.refused, **dict.fromkeys(halted, "is halted")})
            raise Refused(
                f"{len(willing)} of at least {self.sites.minimum} sites may be asked: {away}. `covenant halt list` says why, and"
                " `covenant run resume` goes on once the halt is lifted"
            )
        raise Refused(f"too many sites refuse the plan: {because(self.refused)}")

    def accuse(self, site: SiteName, *, by: SiteName) -> None:
        """Note that `by` could not use what `site` had sealed for it."""
        self.accused.setdefault(site, set()).add(by)

    def leave_out_accused(self, *, more_than: int) -> None:
        """Ask a site no more that more than so many others accuse: so few may be lying themselves."""
        for site, accusers in self.accused.items():
            if len(accusers) > more_than and site not in self.refused:
                self.refused[site] = f"sealed envelopes that {', '.join(sorted(accusers))} could not open"
                _log.error("site left out", site=site, accused_by=sorted(accusers))

    def _missing(self, ready: tuple[SiteName, ...], willing: set[SiteName]) -> Unreachable:
        away = ", ".join(sorted(willing - set(ready)))
        return Unreachable(
            f"{len(ready)} of at least {self.sites.minimum} sites are online after {self.sites.join_within:g} s; "
            f"waiting for {away}. Start their agents with `covenant-agent run`"
        )


def because(reasons: Mapping[SiteName, str]) -> str:
    """What each site said, in one line."""
    return "; ".join(f"{site} {reason}" for site, reason in sorted(reasons.items())) or "nobody said why"
