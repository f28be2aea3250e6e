"""The control API's certificates: an authority that is kept, a server's certificate that is renewed in time, and officers' ones that say on what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.control_tls import control_files, fingerprint_of, issue, request_named
from coordinator.settings import Settings, load_settings
from protos.access import AccessRequest
from protos.keys import create_node_key
from strategies.errors import Refused
from tests.trust_for_tests import key_of

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "covenant.yaml").write_text(
        "covenant: coordinator/v1\nfederation: demo\ncontrol: {host: 127.0.0.1, port: 9093}\n"
    )
    return load_settings(tmp_path)


def test_an_older_home_gets_its_authority_on_first_need_and_keeps_it(settings: Settings) -> None:
    files = control_files(settings, NOW)
    before = fingerprint_of(files.ca), fingerprint_of(files.certificate)
    assert (fingerprint_of(control_files(settings, NOW).ca), fingerprint_of(files.certificate)) == before
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in (files.ca_key, files.key)} == {0o600}


def test_the_servers_certificate_is_made_anew_a_month_before_it_ends(settings: Settings) -> None:
    files = control_files(settings, NOW)
    authority, server = fingerprint_of(files.ca), fingerprint_of(files.certificate)
    control_files(settings, NOW + timedelta(days=397 - 31))
    assert fingerprint_of(files.certificate) == server
    control_files(settings, NOW + timedelta(days=397 - 29))
    assert fingerprint_of(files.certificate) != server
    assert fingerprint_of(files.ca) == authority


def test_a_further_name_is_added_and_stays(settings: Settings) -> None:
    files = control_files(settings, NOW, ["fl.example"])
    once = fingerprint_of(files.certificate)
    control_files(settings, NOW)
    assert fingerprint_of(files.certificate) == once
    control_files(settings, NOW, ["other.example"])
    names = x509.load_pem_x509_certificate(files.certificate.read_bytes()).extensions
    found = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"fl.example", "other.example", "localhost"} <= set(found.get_values_for_type(x509.DNSName))


def test_a_certificate_that_was_not_written_is_made_again(settings: Settings) -> None:
    files = control_files(settings, NOW)
    files.certificate.unlink()
    control_files(settings, NOW)
    assert files.certificate.exists()


def test_an_officers_certificate_says_on_which_request(settings: Settings, tmp_path: Path) -> None:
    files = control_files(settings, NOW)
    public = create_node_key(tmp_path / "tls.key")
    until = NOW + timedelta(days=3)
    request = AccessRequest.create("demo", "author-1", public, key_of("author-1"), until=until)
    certificate = x509.load_pem_x509_certificate(issue(files, request, NOW, until))
    assert request_named(certificate) == request.digest
    assert certificate.not_valid_after_utc == until
    with pytest.raises(Refused, match="on no access request"):
        request_named(x509.load_pem_x509_certificate(files.certificate.read_bytes()))
    with pytest.raises(Refused, match="on no access request"):
        request_named(x509.load_pem_x509_certificate(files.ca.read_bytes()))
