"""The certificate authority of the control API: it proves the API to officers, and officers to the API.

1. It is not the transport's authority: no certificate of one opens the other.
2. An officer's certificate names the access request that it was issued on. That request decides, on every call; the certificate only says which.
3. The server's certificate is made anew a month before it ends, or when the API is to be reached by a further name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.settings import Settings
from coordinator.tls import certificate_builder, host_name, key_usage, private_pem
from protos.access import AccessRequest
from protos.files import replace_file
from protos.key_files import read_private
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, digest

_CA_DAYS, _SERVER_DAYS, _RENEW_DAYS = 3650, 397, 30
_REQUEST_URN: Final = "urn:covenant:access-request:"
_PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlFiles:
    """The files in the folder `control` of a coordinator."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate, which officers pin."""
        return self.folder / "control-ca.crt"

    @property
    def ca_key(self) -> Path:
        """Its private key, mode 0600."""
        return self.folder / "control-ca.key"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.folder / "control.crt"

    @property
    def key(self) -> Path:
        """Its private key, mode 0600."""
        return self.folder / "control.key"


def control_files(settings: Settings, now: dt.datetime, names: Sequence[str] = ()) -> ControlFiles:
    """The authority and the server's certificate of a coordinator, made where they are missing; `names` are further names of the server's."""
    files = ControlFiles(folder=settings.control_tls)
    files.folder.mkdir(parents=True, exist_ok=True)
    files.folder.chmod(0o700)
    if not files.ca.exists():
        _make_authority(files, settings.config.federation, now)
    known = _names_of(files.certificate) or _names_of(settings.superlink.certificate_file)
    section = settings.config.control
    hosts = list(
        dict.fromkeys(
            [*known, "localhost", "127.0.0.1", *([] if section is None else [section.host]), *names]
        )
    )
    if not files.certificate.exists() or set(hosts) > set(known) or _is_due(files.certificate, now):
        _make_server(files, settings.config.federation, hosts, now)
    return files


def issue(files: ControlFiles, request: AccessRequest, now: dt.datetime, until: dt.datetime) -> bytes:
    """A certificate in PEM for the TLS key of `request`, which the caller has judged, good until `until`."""
    ca, ca_key = _authority(files)
    key = serialization.load_pem_public_key(request.tls_key.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):  # as `NodeKey` has checked
        raise Refused("the TLS key of an access request is an elliptic curve key")
    urn = x509.UniformResourceIdentifier(f"{_REQUEST_URN}{request.digest}")
    return _signed(
        ca,
        ca_key,
        name=request.officer,
        key=key,
        alternatives=[urn],
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        now=now,
        until=until,
    )


def request_named(certificate: x509.Certificate) -> Digest:
    """The digest of the access request that an officer's certificate was issued on. Raises Refused for another certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise Refused("this certificate was issued on no access request") from error
    urns = [
        each
        for each in names.get_values_for_type(x509.UniformResourceIdentifier)
        if each.startswith(_REQUEST_URN)
    ]
    if len(urns) != 1:
        raise Refused("this certificate was issued on no access request")
    try:
        return digest(urns[0].removeprefix(_REQUEST_URN))
    except UsageError as error:
        raise Refused("this certificate was issued on no access request") from error


def fingerprint_of(certificate: Path) -> str:
    """SHA-256 of a certificate, in hexadecimal: what people compare before they pin it. Raises UsageError."""
    return _load(certificate).fingerprint(hashes.SHA256()).hex()


def facts_of_certificate(certificate: Path) -> dict[str, str]:
    """Whose certificate it is, until when, and the access request that it was issued on. Raises UsageError."""
    found = _load(certificate)
    (name,) = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return {
        "officer": str(name.value),
        "until": found.not_valid_after_utc.isoformat(),
        "request": request_named(found),
    }


def _load(certificate: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as error:
        raise UsageError(f"{certificate} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{certificate} holds no certificate") from error


def _make_authority(files: ControlFiles, federation: str, now: dt.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Covenant control CA of {federation}")
    ca = (
        certificate_builder(name, name, key.public_key(), now, now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    replace_file(files.ca_key, private_pem(key), mode=0o600)
    files.ca.write_bytes(ca.public_bytes(_PEM))


def _make_server(files: ControlFiles, federation: str, hosts: Sequence[str], now: dt.datetime) -> None:
    ca, ca_key = _authority(files)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(
        ca,
        ca_key,
        name=f"Control API of {federation}",
        key=key.public_key(),
        alternatives=[host_name(host) for host in hosts],
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        now=now,
        until=now + dt.timedelta(days=_SERVER_DAYS),
    )
    files.certificate.unlink(
        missing_ok=True
    )  # killed in between, it is made again, and never beside another key
    replace_file(files.key, private_pem(key), mode=0o600)
    files.certificate.write_bytes(certificate)


def _signed(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    *,
    name: str,
    key: ec.EllipticCurvePublicKey,
    alternatives: Sequence[x509.GeneralName],
    usage: x509.ObjectIdentifier,
    now: dt.datetime,
    until: dt.datetime,
) -> bytes:
    certificate = (
        certificate_builder(_name(name), ca.subject, key, now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(_PEM)


def _authority(files: ControlFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = read_private(files.ca_key)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError(f"{files.ca_key} holds another kind of private key than this version made")
    return _load(files.ca), key


def _names_of(certificate: Path) -> list[str]:
    """The names that a server's certificate has; none where there is no certificate."""
    if not certificate.exists():
        return []
    found = _load(certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [
        *names.get_values_for_type(x509.DNSName),
        *(str(each) for each in names.get_values_for_type(x509.IPAddress)),
    ]


def _is_due(certificate: Path, now: dt.datetime) -> bool:
    found = _load(certificate)
    return found.not_valid_after_utc < now + dt.timedelta(days=_RENEW_DAYS)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
