"""How a site says that it does not take part in what it was asked."""

from __future__ import annotations

from protos.frames import RefusalCode
from strategies.errors import Refused
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
