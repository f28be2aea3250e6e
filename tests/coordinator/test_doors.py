"""Who gets in: the control token, the transport's certificates, and the files that hold secrets."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.flower.superlink import write_secret
from coordinator.flower.superlink_process import SuperLinkSettings, TokenAuthn, serve
from coordinator.tls import make_transport_certificates
from strategies.errors import CovenantError

TOKEN = b"t" * 48


@pytest.mark.parametrize(
    ("token", "given", "admitted"),
    [
        (TOKEN, TOKEN.decode(), True),
        (TOKEN, TOKEN, True),
        (TOKEN, "t" * 47, False),
        (TOKEN, "u" * 48, False),
        (TOKEN, "", False),
        (b"", "", False),
        (b"short", "short", False),
    ],
)
def test_only_the_holder_of_a_long_token_is_admitted(
    token: bytes, given: str | bytes, admitted: bool
) -> None:
    accepted, account = TokenAuthn(token).validate_tokens_in_metadata([("access-token", given)])
    assert accepted is admitted
    assert (account is not None) is admitted


def test_no_token_no_account() -> None:
    assert TokenAuthn(TOKEN).validate_tokens_in_metadata([]) == (False, None)
    assert TokenAuthn().validate_tokens_in_metadata([("x", "")]) == (False, None)
    assert TokenAuthn(TOKEN).refresh_tokens([("access-token", TOKEN)]) == (None, None)


def test_a_superlink_with_a_short_secret_does_not_start(tmp_path: Path) -> None:
    make_transport_certificates(tmp_path, federation="demo", hosts=["127.0.0.1"], now=dt.datetime.now(dt.UTC))
    write_secret(tmp_path / "short", b"short")
    settings = SuperLinkSettings(
        host="127.0.0.1",
        port=1,
        ca_file=tmp_path / "ca.crt",
        certificate_file=tmp_path / "superlink.crt",
        key_file=tmp_path / "superlink.key",
        control_token_file=tmp_path / "short",
        executor_secret_file=tmp_path / "short",
        traffic_file=tmp_path / "traffic",
        parent_pid=1,
    )
    with pytest.raises(CovenantError, match="holds 5 bytes; a secret needs at least 32"):
        serve(settings)


def test_the_certificate_names_its_hosts_and_the_authority_signs_nothing_else(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    make_transport_certificates(tmp_path, federation="demo", hosts=["127.0.0.1", "fl.example"], now=now)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / "superlink.crt").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    server.verify_directly_issued_by(ca)
    assert server.not_valid_before_utc < now < server.not_valid_after_utc < now + dt.timedelta(days=398)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "superlink.crt", tmp_path / "superlink.key")
    for key in ("ca.key", "superlink.key"):
        assert (tmp_path / key).stat().st_mode & 0o777 == 0o600


def test_a_secret_is_written_for_its_owner_alone_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "token"
    write_secret(path, b"first")
    path.chmod(0o666)
    write_secret(path, b"second")
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
