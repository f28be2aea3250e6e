"""What is wrong on the way to the SuperLink has a name and a fix, whatever this machine's clock says."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from client.fleet.connection import FleetConnection
from client.fleet.probe import ClockOff, Intercepted, duration_words, look, require_usable
from coordinator.tls import make_transport_certificates
from strategies.errors import CovenantError, Unreachable, UsageError
from tests.tls_for_tests import answering, certificates

TEN_YEARS = timedelta(days=3653)


def now() -> datetime:
    return datetime.now(UTC)


def seen_at(folder: Path, there: datetime, ca: bytes | None = None) -> None:
    with answering(folder, there) as address:
        require_usable(look(address, ca or (folder / "ca.crt").read_bytes(), clock=now))


def test_a_server_of_the_pinned_authority_with_the_same_clock_is_usable(tmp_path: Path) -> None:
    seen_at(certificates(tmp_path, now()), now())


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (timedelta(hours=2), "2.0 h behind"),
        (timedelta(hours=-2), "2.0 h ahead of"),
        (timedelta(seconds=-30), "3[0-9] s ahead of"),
    ],
)
def test_a_clock_that_the_superlink_rejects_is_told_with_the_fix(
    tmp_path: Path, off: timedelta, words: str
) -> None:
    with pytest.raises(ClockOff, match=words) as raised:
        seen_at(certificates(tmp_path, now() - timedelta(days=1)), now() + off)
    assert "timedatectl set-ntp true" in str(raised.value)


@pytest.mark.parametrize(("off", "words"), [(TEN_YEARS, "behind"), (-TEN_YEARS, "ahead of")])
def test_ten_years_off_no_certificate_verifies_and_the_clock_is_still_found(
    tmp_path: Path, off: timedelta, words: str
) -> None:
    """By this machine's clock the server's certificate begins in ten years, or ended nine years ago."""
    with pytest.raises(ClockOff, match=rf"10\.0 years {words}"):
        seen_at(certificates(tmp_path, now() + off), now() + off)


def test_a_clock_that_the_superlink_takes_is_let_be(tmp_path: Path) -> None:
    seen_at(certificates(tmp_path, now() - timedelta(days=1)), now() + timedelta(seconds=240))


def test_interception_names_who_answers_instead(tmp_path: Path) -> None:
    pinned = certificates(tmp_path / "ours", now())
    theirs = certificates(tmp_path / "theirs", now(), federation="inspection-proxy")
    with pytest.raises(Intercepted, match="Covenant transport CA of inspection-proxy") as raised:
        seen_at(theirs, now() + timedelta(days=900), (pinned / "ca.crt").read_bytes())
    assert "exempt this address from TLS inspection" in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_in_the_authoritys_name_that_it_has_not_signed_is_interception(
    tmp_path: Path, host: str
) -> None:
    """OpenSSL tells of a wrong name before it looks at the signature: what such a server says of the time is not believed."""
    pinned = certificates(tmp_path / "ours", now() - timedelta(days=1))
    theirs = tmp_path / "theirs"
    made_for = ("elsewhere.example",)
    make_transport_certificates(theirs, federation="demo", hosts=made_for, now=now() - timedelta(days=1))
    _with_key_id_of(pinned / "ca.crt", theirs)
    with answering(theirs, now() + timedelta(days=900)) as address:
        named = address.replace("127.0.0.1", host)
        found = look(named, (pinned / "ca.crt").read_bytes(), clock=now)
        assert found.date is None
        with pytest.raises(Intercepted):
            require_usable(found)


def test_another_name_under_the_pinned_authority_is_the_centres_to_add(tmp_path: Path) -> None:
    make_transport_certificates(
        tmp_path, federation="demo", hosts=("elsewhere.example",), now=now() - timedelta(days=1)
    )
    with pytest.raises(CovenantError, match="for other names"):
        seen_at(tmp_path, now())


def _with_key_id_of(ca: Path, folder: Path) -> None:
    """Sign the server's certificate in `folder` with a fresh key, in the name and with the key identifier of another authority."""
    authority = x509.load_pem_x509_certificate(ca.read_bytes())
    file = folder / "superlink.crt"
    leaf = x509.load_pem_x509_certificate(file.read_bytes())
    made = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(authority.subject)
        .public_key(leaf.public_key())
        .serial_number(7)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
    )
    for each in leaf.extensions:
        value = each.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]
        made = made.add_extension(value, each.critical)
    file.write_bytes(made.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM))


def test_a_certificate_that_ended_by_both_clocks_is_the_centres_to_renew(tmp_path: Path) -> None:
    with pytest.raises(CovenantError, match="the centre must renew it"):
        seen_at(certificates(tmp_path, now() - timedelta(days=500)), now())


def test_a_port_where_nobody_listens_and_one_without_tls_are_told_apart(tmp_path: Path) -> None:
    ca = (certificates(tmp_path, now()) / "ca.crt").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Unreachable, match="nothing listens at"):
        look(f"127.0.0.1:{port}", ca, clock=now)
    with pytest.raises(Unreachable, match="cannot be resolved"):
        look("no-such-host.invalid:9092", ca, clock=now)


def test_the_agent_says_so_instead_of_trying_for_ever(tmp_path: Path) -> None:
    folder = certificates(tmp_path, now())
    with answering(folder, now() + timedelta(hours=2), "401 Unauthorized") as address:
        connection = FleetConnection(
            address=address,
            ca_file=folder / "ca.crt",
            key=ec.generate_private_key(ec.SECP256R1()),
            node_file=tmp_path / "node-id",
        )
        with pytest.raises(ClockOff, match="Set the clock right"):
            connection.activate()
        connection.close()


def test_an_agent_behind_an_inspecting_proxy_says_so(tmp_path: Path) -> None:
    pinned = certificates(tmp_path / "ours", now())
    theirs = certificates(tmp_path / "theirs", now(), federation="inspection-proxy")
    with answering(theirs, now()) as address:
        connection = FleetConnection(
            address=address,
            ca_file=pinned / "ca.crt",
            key=ec.generate_private_key(ec.SECP256R1()),
            node_file=tmp_path / "node-id",
        )
        with pytest.raises(Intercepted, match="inspection-proxy"):
            connection.activate()
        connection.close()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read .No such file"), (b"no PEM", "no certificate in PEM")]
)
def test_an_agent_without_the_authority_is_told_which_file_is_missing(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(UsageError, match=rf"federation\.ca.*{words}"):
        FleetConnection(
            address="127.0.0.1:1",
            ca_file=tmp_path / "ca.crt",
            key=ec.generate_private_key(ec.SECP256R1()),
            node_file=tmp_path / "node-id",
        )


def test_durations_are_said_as_people_do() -> None:
    assert [duration_words(each) for each in (7, 90, 7200, 200_000, 3.2e8)] == [
        "7 s",
        "1.5 min",
        "2.0 h",
        "2.3 days",
        "10.1 years",
    ]
