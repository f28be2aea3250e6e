"""The certificate authority of a federation's transport, made by `covenant init` and kept beside the coordinator.

It proves the SuperLink to the sites. It is not the federation's root, which certifies the sites to each other and belongs to the
officers.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos.files import replace_file

_CA_DAYS, _SERVER_DAYS = 3650, 397


def make_transport_certificates(
    folder: Path, *, federation: str, hosts: Sequence[str], now: dt.datetime
) -> None:
    """Write ca.crt, ca.key, superlink.crt and superlink.key (keys 0600); the server certificate is good for `hosts`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Covenant transport CA of {federation}")])
    ca = (
        certificate_builder(ca_name, ca_name, ca_key.public_key(), now, now + dt.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"SuperLink of {federation}")])
    server = (
        certificate_builder(
            server_name, ca_name, server_key.public_key(), now, now + dt.timedelta(days=_SERVER_DAYS)
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([host_name(host) for host in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    replace_file(folder / "ca.key", private_pem(ca_key), mode=0o600)
    replace_file(folder / "superlink.key", private_pem(server_key), mode=0o600)
    (folder / "ca.crt").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "superlink.crt").write_bytes(server.public_bytes(serialization.Encoding.PEM))


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    """What all our certificates have: names, key, a random number, good from five minutes before `now` until `until`."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(until)
    )


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """For an authority that `signs_certificates`, or for whoever proves itself in TLS."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(host: str) -> x509.GeneralName:
    """An address or a name that a server is reached by."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PKCS8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
