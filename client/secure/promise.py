"""What a site has promised with its confirmation, in a form that its journal keeps: the shares that it will give, for whom, and on what condition.

A survivor that dies between confirming and giving its shares would otherwise take the sum with it, and nobody who has given shares gives them
for another attempt. The shares alone open nothing: a threshold of sites must give theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from protos.identities import Identities
from strategies.encoding import canonical_json
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.client import Confirmed
from strategies.secagg.labels import Attempt
from strategies.secagg.messages import Bound


def promise_bytes(state: Confirmed, keys: Mapping[SiteName, str]) -> bytes:
    """`state` as canonical JSON, with the identity keys, in base64, of the survivors whose confirmations it will want to see."""
    attempt = state.bound.attempt
    return canonical_json(
        {
            "site": state.site,
            "attempt": [
                attempt.suite, attempt.plan, attempt.run, attempt.stage, attempt.round, attempt.attempt,
            ],
            "cohort": state.bound.cohort,
            "statement": state.bound.statement,
            "roster": list(state.roster),
            "survivors": list(state.survivors),
            "held": {site: share.hex() for site, share in state.held.items()},
            "needed": state.needed,
            "recognised": sorted(state.recognised),
            "keys": {site: keys[site] for site in state.survivors},
        }
    )  # fmt: skip


def promised(data: bytes) -> Confirmed:
    """The state that `promise_bytes` wrote; the journal has checked that these are the bytes."""
    kept: dict[str, Any] = json.loads(data)
    suite, plan, run, stage, number, attempt = kept["attempt"]
    made_for = Attempt(
        suite=suite, plan=Digest(plan), run=RunId(run), stage=stage, round=number, attempt=attempt
    )
    return Confirmed(
        site=SiteName(kept["site"]),
        bound=Bound(made_for, Digest(kept["cohort"]), Digest(kept["statement"])),
        roster=tuple(kept["roster"]),
        survivors=tuple(kept["survivors"]),
        held={SiteName(site): bytes.fromhex(share) for site, share in kept["held"].items()},
        needed=kept["needed"],
        recognised=frozenset(kept["recognised"]),
        verify=Identities({SiteName(site): key for site, key in kept["keys"].items()}).verify,
    )
