"""The way to the SuperLink: name, port, proxy, TLS and its interception, and the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from client.fleet.probe import (
    AHEAD_S,
    BEHIND_S,
    ClockOff,
    Intercepted,
    Seen,
    authority_of,
    clock_words,
    look,
    read_authority,
    require_usable,
)
from strategies.errors import CovenantError, Unreachable

_SOON: Final = timedelta(days=30)


def _look(patient: Patient) -> Iterator[Finding]:
    link = patient.config.federation
    ca = read_authority(link.ca)
    authority = authority_of(ca)
    try:
        seen = look(link.superlink, ca, proxy=link.proxy_url, clock=patient.clock)
    except Unreachable as away:
        yield wrong(
            "superlink",
            str(away),
            evidence=f"{link.superlink}, proxy {link.proxy}",
            then="once the network lets this machine through, run this again",
        )
        return
    yield fine("superlink", f"{link.superlink} answers", f"proxy {link.proxy}")
    yield from _tls(seen)
    yield _clock(seen)
    if patient.clock() > authority.not_valid_after_utc - _SOON and seen.is_pinned:
        yield doubtful(
            "tls",
            f"the pinned authority ends on {authority.not_valid_after_utc:%Y-%m-%d}",
            evidence=str(link.ca),
            then="ask the centre for its next ca.crt",
        )


def _tls(seen: Seen) -> Iterator[Finding]:
    evidence = (
        f"issuer {seen.issuer}, good from {seen.leaf.not_valid_before_utc:%Y-%m-%d} until {seen.leaf.not_valid_after_utc:%Y-%m-%d}, serial"
        f" {seen.leaf.serial_number:x}"
    )
    try:
        require_usable(seen)
    except Intercepted as caught:
        yield wrong(
            "tls",
            str(caught),
            evidence=evidence,
            then=f"ask the network team: exempt {seen.address} from TLS inspection; then run this again",
        )
    except ClockOff:
        yield fine("tls", f"{seen.address} proves itself with the pinned authority", evidence)
    except CovenantError as error:
        yield wrong("tls", str(error), evidence=evidence, then="tell the centre; then run this again")
    else:
        yield fine("tls", f"{seen.address} proves itself with the pinned authority", evidence)


def _clock(seen: Seen) -> Finding:
    skew = seen.skew_s
    if skew is None:
        return doubtful(
            "clock",
            f"nothing that can be believed says what time it is; here it is {seen.at:%Y-%m-%d %H:%M:%S} UTC",
            then="compare it with another clock; `timedatectl` shows whether it is synchronised",
        )
    evidence = f"{skew:+.0f} s against {seen.address}; from {-BEHIND_S:.0f} s to {AHEAD_S:+.0f} s is accepted"
    if -BEHIND_S < skew < AHEAD_S:
        return fine("clock", "this machine's clock and the centre's agree", evidence)
    return wrong("clock", clock_words(seen), evidence=evidence, then="timedatectl set-ntp true")


CHECKS: Final[Sequence[Check]] = (Check("superlink", _look),)
