"""Whose call this is: from the certificate of the connection to an officer on the newest member list, anew on every call.

1. TLS has shown that the caller holds the key of a certificate of the control authority. It says no more than which access request that was for.
2. That request was granted here, is for this very key, is signed with the officer's own key, and is not over.
3. The list is the newest that this process has seen. Who is taken off it, or gets another key, is nobody from the next call on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from coordinator.api.errors import Unauthenticated
from coordinator.bootstrap import Centre
from coordinator.control_tls import request_named
from coordinator.documents import read_members
from coordinator.office.accesses import granted
from coordinator.office.actors import Actor
from coordinator.settings import Settings
from protos.access import AccessRequest
from protos.membership import MemberList, Officer, Trusted
from protos.succession import Newest, newest_after
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

_log = structlog.get_logger(__name__)
_MOST_REMEMBERED = 1000


@dataclass
class CurrentMembers:
    """The member list in the coordinator's folder, verified again whenever a byte of it or of the root has changed."""

    settings: Settings
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read: tuple[bytes, bytes] | None = None
    _trusted: Trusted | None = None
    _newest: Newest | None = None

    def now(self) -> MemberList:
        """The newest list. Raises Refused for an older one than was seen before, or one that does not verify."""
        with self._lock:
            read = self._bytes()
            if self._trusted is None or read != self._read:
                _, trusted = read_members(self.settings)
                self._newest = newest_after(trusted, self._newest)
                self._read, self._trusted = read, trusted
            return self._trusted.members

    def _bytes(self) -> tuple[bytes, bytes]:
        try:
            return self.settings.members_file.read_bytes(), self.settings.root_file.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{error.filename} cannot be read: {error.strerror}; without a member list nobody is known"
            ) from error


@dataclass
class Identity:
    """Recognises callers."""

    centre: Centre
    members: CurrentMembers
    _requests: dict[Digest, AccessRequest] = field(default_factory=dict)
    """Accesses that were granted; one that was granted stays."""

    def actor_of(self, context: grpc.ServicerContext) -> Actor:
        """Who calls. Raises Unauthenticated, and says why to the process log too."""
        try:
            return Actor(self._officer(_certificate(context)))
        except (Refused, UsageError) as error:
            _log.warning("a caller was turned away", peer=context.peer(), reason=str(error))
            raise Unauthenticated(str(error)) from error

    def _officer(self, certificate: x509.Certificate) -> Officer:
        request = self._request(request_named(certificate))
        if _public_pem(certificate) != request.tls_key:
            raise Refused("this certificate is for another key than its access request")
        return request.judge(self.members.now(), self.centre.clock())

    def _request(self, digest: Digest) -> AccessRequest:
        found = self._requests.get(digest) or granted(self.centre.engine, digest)
        if found is None:
            raise Refused(
                "no access was granted here on the request that this certificate names; have `covenant access grant` run at the coordinator"
            )
        if len(self._requests) < _MOST_REMEMBERED:
            self._requests[digest] = found
        return found


def _certificate(context: grpc.ServicerContext) -> x509.Certificate:
    # The stubs have the values of this mapping as bytes; they are sequences of bytes.
    found = cast("Sequence[bytes]", context.auth_context().get("x509_pem_cert", ()))
    if len(found) != 1:
        raise Refused("a call without a certificate")
    try:
        return x509.load_pem_x509_certificate(found[0])
    except ValueError as error:
        raise Refused("a certificate that cannot be read") from error


def _public_pem(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
