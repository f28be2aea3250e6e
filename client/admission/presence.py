"""Whether this site takes part now: its hours, and the people who are asked before a plan runs here.

1. Outside its hours a site begins nothing. What it has sent a masked input for it finishes, for as long as that may take: others' sums would be void otherwise.
2. A plan that must be allowed and is not yet waits where people find it. The centre hears what it hears outside the hours, and asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from client.admission.consent import judge_consent, judge_hours
from client.admission.documents import Accepted
from client.admission.findings import Finding, Outcome, require
from client.consents import ConsentBook
from protos.frames import SecureRequest
from protos.site_run import Window
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import ConfirmRequest, UnmaskRequest

_DEADLINES: Final = 2
"""An input is confirmed, and opened, within so many of its plan's round deadlines, or by nobody any more."""
_log = structlog.get_logger(__name__)


@dataclass
class Presence:
    """The hours and the consents of one site. `monotonic` tells seconds."""

    window: Window | None
    consents: ConsentBook
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    _owed: dict[Attempt, float] = field(default_factory=dict)
    """Attempts that an input was sent for, and until when somebody may ask for the rest of it."""

    @property
    def hours(self) -> Finding:
        """Whether this is an hour of this site."""
        return judge_hours(self.window, self.clock())

    @property
    def is_away(self) -> bool:
        """Whether this site has nothing to do with anybody now: its hours are over, and it owes nobody anything."""
        now = self.monotonic()
        self._owed = {attempt: until for attempt, until in self._owed.items() if now < until}
        return not self._owed and self.hours.outcome is Outcome.AWAITS

    def require_hours(self, request: object) -> None:
        """Raise `TaskRefused` for a request outside the hours, unless it finishes what this site has begun."""
        finishes = isinstance(request, SecureRequest) and isinstance(
            request.frames[0].body, ConfirmRequest | UnmaskRequest
        )
        if not finishes:
            require([self.hours])

    def require_consent(self, accepted: Accepted, began: datetime | None) -> None:
        """Raise `TaskRefused` for a plan that must be allowed and is not, or was denied."""
        plan = accepted.plan
        finding = judge_consent(
            accepted.rule, plan, accepted.contract, self.consents.given(), now=self.clock(), began=began
        )
        if finding.outcome is Outcome.AWAITS and not self.consents.note(plan):
            _log.warning("too many plans wait for consent; this one is not kept", plan=plan.digest)
        require([finding])

    def begun(self, attempt: Attempt, deadline_s: float) -> None:
        """This site has sent an input for `attempt`."""
        self._owed[attempt] = self.monotonic() + _DEADLINES * deadline_s

    def finished(self, attempt: Attempt) -> None:
        """This site has given its shares for `attempt`."""
        self._owed.pop(attempt, None)
