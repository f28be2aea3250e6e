"""How a site says that it does not take part in what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from protos.frames import RefusalCode
from strategies.errors import CovenantError, Refused
from strategies.ids import SiteName


class TaskRefused(Refused):
    """A task that this site does not take part in. The reason does not depend on data, so the centre may hear it; `local` is for the site's own log."""

    def __init__(
        self,
        code: RefusalCode,
        reason: str,
        *,
        accused: SiteName | None = None,
        evidence: bytes = b"",
        local: str = "",
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.accused = accused
        self.evidence = evidence
        self.local = local or reason


@contextmanager
def refusing(code: RefusalCode, *kinds: type[CovenantError]) -> Iterator[None]:
    """What this block refuses (`Refused`, or other `kinds` as well) is a `TaskRefused` with `code`; one that is a `TaskRefused` already stays as it is."""
    caught: tuple[type[CovenantError], ...] = (Refused, *kinds)
    try:
        yield
    except TaskRefused:
        raise
    except caught as refused:
        raise TaskRefused(code, str(refused)) from refused
