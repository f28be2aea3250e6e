"""Looks at a server's TLS without believing this machine's clock: who certified it, for which names, until when, and what time it has.

1. A certificate counts as the federation's if the pinned authority has issued it, or the handshake verifies; dates are judged apart.
2. A server's `Date` counts only if the server proved itself so. The handshake shows that it holds the certificate's key, whatever the dates say.
3. Nothing is sent but a `HEAD` of no page. What comes back is read up to 8 KiB, within ten seconds.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from client.fleet.reach import WITHIN_S, connected
from protos.names import address_parts
from strategies.errors import CovenantError, Unreachable, UsageError

_MOST_BYTES: Final = 8192
_WRONG_NAME: Final = frozenset(
    {62, 64}
)  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL
BEHIND_S: Final = 300.0
AHEAD_S: Final = 5.0
"""How far a site's clock may be off, before the SuperLink refuses what it signs (flwr's bounds)."""
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a server at `address` showed at `at`, by this machine's clock."""

    address: str
    at: datetime
    leaf: x509.Certificate
    is_pinned: bool
    """Whether the pinned authority certified it, whatever the dates say."""
    has_name: bool
    date: datetime | None
    """The server's clock, where the server proved itself."""

    @property
    def issuer(self) -> str:
        """Who issued the certificate, for people."""
        names = [each.value for each in self.leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organisations = self.leaf.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(
            names[0]
            if names
            else organisations[0].value
            if organisations
            else self.leaf.issuer.rfc4514_string()
        )

    @property
    def skew_s(self) -> float | None:
        """By how many seconds this machine's clock is ahead of the server's."""
        return None if self.date is None else (self.at - self.date).total_seconds()

    @property
    def is_in_date(self) -> bool:
        """Whether the certificate is good by the server's own clock, or by this machine's where that is not known."""
        now = self.date or self.at
        return self.leaf.not_valid_before_utc <= now <= self.leaf.not_valid_after_utc


class LocalFault(CovenantError):  # noqa: N818  (names where the fault is)
    """This machine or its network is at fault: trying again does not help, somebody here must do something."""


class ClockOff(LocalFault):
    """This machine's clock is so far off that nobody accepts what it signs."""


class Intercepted(LocalFault):
    """Somebody else than the federation answers at its address."""


def look(address: str, ca: bytes, *, proxy: str | None = None, clock: Callable[[], datetime]) -> Seen:
    """What the server at `address` (host:port) shows, against the authority `ca` (PEM). Raises Unreachable, naming the step that failed."""
    host, port = address_parts(address)
    authority = authority_of(ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=_pem(authority))
    with connected(host, port, proxy) as raw:
        try:
            with context.wrap_socket(raw, server_hostname=host) as tls:
                leaf, date = _leaf(tls), _date(tls, host)
                return Seen(address=address, at=clock(), leaf=leaf, is_pinned=True, has_name=True, date=date)
        except ssl.SSLCertVerificationError as error:
            code = error.verify_code
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"{address} does not speak TLS ({error}); is another service on this port, or does a firewall end the connection?"
            ) from error
    return _unverified(address, host, port, proxy, authority, code, clock)


def _unverified(
    address: str,
    host: str,
    port: int,
    proxy: str | None,
    authority: x509.Certificate,
    code: int,
    clock: Callable[[], datetime],
) -> Seen:
    """What a server shows whose certificate does not verify, for the reason `code`."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    # OpenSSL looks at names before it looks at signatures, so a wrong name alone does not show who certified it.
    if code in _WRONG_NAME:
        bare.load_verify_locations(cadata=_pem(authority))
    else:
        bare.verify_mode = ssl.CERT_NONE
    try:
        with connected(host, port, proxy) as raw, bare.wrap_socket(raw, server_hostname=host) as tls:
            leaf, date = _leaf(tls), _date(tls, host)
    except ssl.SSLCertVerificationError as error:
        return _unverified(address, host, port, proxy, authority, error.verify_code, clock)
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"{address} ended the connection while its certificate was read: {error}"
        ) from error
    pinned = code in _WRONG_NAME or _issued(leaf, authority)
    return Seen(
        address=address,
        at=clock(),
        leaf=leaf,
        is_pinned=pinned,
        has_name=_names(leaf, host),
        date=date if pinned else None,
    )


def _leaf(tls: ssl.SSLSocket) -> x509.Certificate:
    return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


def authority_of(ca: bytes) -> x509.Certificate:
    """The pinned authority's certificate. Raises UsageError."""
    try:
        return x509.load_pem_x509_certificate(ca)
    except ValueError as error:
        raise UsageError(
            "`federation.ca` holds no certificate in PEM; ask the centre for tls/ca.crt"
        ) from error


def read_authority(file: Path) -> bytes:
    """The pinned authority's file, in PEM. Raises UsageError where it cannot be read, or holds none."""
    try:
        ca = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file}, which `federation.ca` names, cannot be read ({error.strerror}); the centre's `covenant init` made it as tls/ca.crt"
        ) from error
    authority_of(ca)
    return ca


def _pem(authority: x509.Certificate) -> str:
    return authority.public_bytes(Encoding.PEM).decode("ascii")


def require_usable(seen: Seen) -> None:
    """Check that an agent can work with what was seen. Raises `Intercepted`, `ClockOff` and CovenantError, each with the fix."""
    if not seen.is_pinned:
        raise Intercepted(
            f"{seen.address} shows a certificate of {seen.issuer!r}, and not of the pinned authority: a TLS-inspecting proxy or firewall answers in"
            " the federation's place. Ask the network team to exempt this address from TLS inspection. If the centre has a new authority, it says so, and sends ca.crt"
        )
    if seen.date is not None:
        require_clock(seen.address, seen.at, seen.date)
    if not seen.is_in_date:
        raise CovenantError(
            f"the certificate of {seen.address} is good from {seen.leaf.not_valid_before_utc:%Y-%m-%d} until {seen.leaf.not_valid_after_utc:%Y-%m-%d}, and it"
            f" is {seen.date or seen.at:%Y-%m-%d}; the centre must renew it"
        )
    if not seen.has_name:
        raise CovenantError(
            f"the certificate of {seen.address} is the federation's, and for other names: use one of those as `federation.superlink`, or have"
            " the centre add this one with `covenant init --name`"
        )


def require_clock(address: str, here: datetime, there: datetime) -> None:
    """Check that this machine's clock is near enough to the SuperLink's. Raises `ClockOff`."""
    if not -BEHIND_S < (here - there).total_seconds() < AHEAD_S:
        raise ClockOff(off_words(address, here, there))


def clock_words(seen: Seen) -> str:
    """In which way this machine's clock is off, and what to do."""
    return off_words(seen.address, seen.at, seen.date or seen.at)


def off_words(address: str, here: datetime, there: datetime) -> str:
    """The same, by the two clocks."""
    skew = (here - there).total_seconds()
    return (
        f"this machine's clock is {duration_words(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the one of {address}: here it is"
        f" {here:%Y-%m-%d %H:%M:%S} UTC, there {there:%Y-%m-%d %H:%M:%S} UTC. The SuperLink refuses what is signed more than {AHEAD_S:.0f} s ahead or"
        f" {BEHIND_S / _MINUTE:.0f} min behind. Set the clock right, and keep it so (`timedatectl set-ntp true`, or ask for an NTP server); the agent's time zone does not matter"
    )


def duration_words(seconds: float) -> str:
    """A duration as people say it."""
    for unit, name in ((365.25 * _DAY, "years"), (_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit * (2 if unit >= _DAY else 1):
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def _date(tls: ssl.SSLSocket, host: str) -> datetime | None:
    until = time.monotonic() + WITHIN_S
    with suppress(OSError, ValueError, TypeError):
        tls.sendall(f"HEAD /covenant-clock HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < _MOST_BYTES:
            tls.settimeout(max(until - time.monotonic(), 0.001))  # of all that comes, not of each piece
            if not (more := tls.recv(_MOST_BYTES)):
                break
            answer += more
        for line in answer.split(b"\r\n"):
            if line.lower().startswith(b"date:"):
                return parsedate_to_datetime(line[5:].strip().decode("ascii")).astimezone(UTC)
    return None


def _issued(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(leaf: x509.Certificate, host: str) -> bool:
    with suppress(x509.ExtensionNotFound):
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        with suppress(ValueError):
            return ip_address(host) in names.get_values_for_type(x509.IPAddress)
        return host.lower() in (each.lower() for each in names.get_values_for_type(x509.DNSName))
    return False
