"""Nobody is answered by default: tokens, certificates, or loopback in so many words; and each caller has a share."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from coordinator.deploy.scoring.access import ANYBODY, Buckets, Door, Limits, add_caller, read_callers
from coordinator.deploy.scoring.columns import ProtocolError
from coordinator.deploy.scoring.server import Listening, Tls, is_loopback
from coordinator.deploy.scoring.serving import ServingState, write_state
from coordinator.tls import certificate_builder, make_transport_certificates, private_pem
from protos import inference_pb2 as pb
from protos.key_files import read_private
from simulation.deployment import free_port
from strategies.errors import UsageError
from tests.coordinator.cli_for_tests import Command, commands_in
from tests.coordinator.scoring_for_tests import INFER, package, question
from tests.coordinator.test_scoring_grpc import Service, typed, wait_until

TLS = Tls(certificate=Path("c"), key=Path("k"))
MUTUAL = Tls(certificate=Path("c"), key=Path("k"), client_ca=Path("ca"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "nobody is named who may ask"),
        ({"host": "0.0.0.0", "no_auth_on_loopback": True, "tls": TLS}, "nobody is named who may ask"),
        ({"host": "example.test", "no_auth_on_loopback": True}, "nobody is named who may ask"),
        ({"tls": TLS}, "nobody is named who may ask"),
        ({"host": "0.0.0.0", "callers": Path("callers")}, "0.0.0.0 can be reached from elsewhere"),
        ({"callers": Path("callers"), "no_auth_on_loopback": True}, "contradicts"),
        ({"tls": MUTUAL, "no_auth_on_loopback": True}, "contradicts"),
    ],
)  # fmt: skip
def test_a_service_that_would_answer_anybody_does_not_start(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Listening(**settings).check()


def test_what_may_start() -> None:
    for settings in (
        {"no_auth_on_loopback": True},
        {"host": "::1", "no_auth_on_loopback": True},
        {"callers": Path("callers")},
        {"host": "0.0.0.0", "callers": Path("callers"), "tls": TLS},
        {"host": "0.0.0.0", "tls": MUTUAL},
    ):
        Listening(**settings).check()  # type: ignore[arg-type]
    assert [is_loopback(host) for host in ("127.9.9.9", "localhost", "::1", "0.0.0.0", "example.test")] == [
        True
    ] * 3 + [False] * 2


def test_a_token_is_known_by_its_digest_until_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "callers"
    first, desk = add_caller(path, "loan-desk"), add_caller(path, "batch")
    assert path.stat().st_mode & 0o777 == 0o600
    assert first not in path.read_text()
    door = Door(path, Buckets(Limits(), Clock()), certificates=False)
    assert door.admit(f"Bearer {first}", None) == "loan-desk"
    assert door.admit(f"bearer {desk}", "ignored") == "batch"
    second = add_caller(path, "loan-desk")
    door.refresh()
    assert door.admit(f"Bearer {second}", None) == "loan-desk"
    digest = read_callers(path)["loan-desk"]
    for wrong in (
        None,
        "",
        first,
        f"Bearer {first}",
        f"Bearer {digest}",
        f"Basic {second}",
        f"Bearer {second} x",
    ):
        with pytest.raises(ProtocolError, match="a token that it knows") as refused:
            door.admit(wrong, None)
        assert refused.value.status == 401
        assert str(second) not in str(refused.value)


def test_a_broken_file_of_callers_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "callers"
    token = add_caller(path, "loan-desk")
    door = Door(path, Buckets(Limits(), Clock()), certificates=False)
    for text in ("loan-desk not-a-digest\n", "", "a " + "0" * 64 + "\na " + "1" * 64 + "\n"):
        path.write_text(text)
        door.refresh()
        assert door.admit(f"Bearer {token}", None) == "loan-desk"
        with pytest.raises(UsageError, match="callers"):
            Door(path, Buckets(Limits(), Clock()), certificates=False)
    for name in ("Loan Desk", "", "x" * 64, "a\nb"):
        with pytest.raises(UsageError, match="is not a caller's name"):
            add_caller(tmp_path / "others", name)


def test_rows_are_rationed_for_each_caller(tmp_path: Path) -> None:
    clock = Clock()
    buckets = Buckets(Limits(rows_per_second=10.0, burst_rows=100.0), clock)
    buckets.take("one", 100)
    for rows in (1, 50):
        with pytest.raises(ProtocolError, match="more than 10 rows a second") as refused:
            buckets.take("one", rows)
        assert refused.value.status == 429
    buckets.take("two", 100)
    clock.now = 2.0
    buckets.take("one", 20)
    with pytest.raises(ProtocolError):
        buckets.take("one", 1)
    clock.now = 1000.0
    buckets.take("one", 100)
    with pytest.raises(ProtocolError):
        buckets.take("one", 1)
    for number in range(5000):
        buckets.take(f"other-{number}", 1)
    assert len(buckets._left) == 1000


def test_with_certificates_the_name_is_the_caller_and_without_one_nobody_is() -> None:
    buckets = Buckets(Limits(), Clock())
    assert Door(None, buckets, certificates=True).admit(None, "loan-desk") == "loan-desk"
    for nameless in (None, ""):
        with pytest.raises(ProtocolError, match="a client certificate"):
            Door(None, buckets, certificates=True).admit("Bearer x", nameless)
    assert Door.open_to_anybody(buckets).admit(None, None) == ANYBODY


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "name one MODEL, or a state folder"),
        (["m", "--state", "s"], "name one MODEL, or a state folder"),
        (["--state", "s"], "nobody is named who may ask"),
        (["--state", "s", "--client-ca", "x"], "--client-ca needs --tls-certificate"),
        (["--state", "s", "--tls-key", "x"], "go together"),
        (["--state", "s", "--tls-key", "x", "--tls-certificate", "y"], "y does not exist"),
        (["--state", "s", "--no-auth-on-loopback", "--decline-at", "0.5"], "leave --decline-at out"),
        (["--state", "s", "--no-auth-on-loopback"], "--state needs --root and --target"),
        (["m", "--host", "0.0.0.0", "--no-auth-on-loopback"], "nobody is named who may ask"),
    ],
)  # fmt: skip
def test_the_command_refuses_what_the_service_would(
    options: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    covenant: Command = commands_in(tmp_path, monkeypatch, capsys)
    code, _, told = covenant("score", "serve", *options)
    assert code == 2
    assert sentence in " ".join(told.split())


def client_certificate(folder: Path, name: str) -> None:
    """A certificate for a caller, of the authority in `folder`."""
    key, authority = ec.generate_private_key(ec.SECP256R1()), read_private(folder / "ca.key")
    ca = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = certificate_builder(subject, ca.subject, key.public_key(), now, now + dt.timedelta(days=1))
    made = made.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()),
        critical=False,  # type: ignore[arg-type]
    )
    signed = made.sign(authority, hashes.SHA256())  # type: ignore[arg-type]
    from cryptography.hazmat.primitives.serialization import Encoding

    (folder / "client.crt").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "client.key").write_bytes(private_pem(key))


def test_mutual_tls_lets_in_who_has_a_certificate_on_both_transports(tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    make_transport_certificates(tls, federation="test", hosts=["localhost"], now=dt.datetime.now(dt.UTC))
    client_certificate(tls, "loan-desk")
    now = dt.datetime.now(dt.UTC)
    write_state(tmp_path, ServingState(revision=1, stable=package(tmp_path, 3, at=now)))
    options = (
        *("--tls-certificate", str(tls / "superlink.crt"), "--tls-key", str(tls / "superlink.key")),
        *("--client-ca", str(tls / "ca.crt")),
    )
    service = Service(tmp_path, now, *options, port=free_port(), grpc_port=free_port())
    context = ssl.create_default_context(cafile=str(tls / "ca.crt"))
    context.load_cert_chain(tls / "client.crt", tls / "client.key")
    base = f"https://localhost:{service.port}"
    ca = (tls / "ca.crt").read_bytes()
    known = grpc.ssl_channel_credentials(
        ca, (tls / "client.key").read_bytes(), (tls / "client.crt").read_bytes()
    )
    direct = [("grpc.enable_http_proxy", 0)]
    try:
        with httpx.Client(base_url=base, verify=context, trust_env=False) as client:
            wait_until(lambda: client.get("/v2/health/ready").is_success, service)
            assert client.post(INFER, json=question()).status_code == 200
        with grpc.secure_channel(f"localhost:{service.grpc_port}", known, options=direct) as channel:
            assert service.call("ModelInfer", typed(), pb.ModelInferResponse, channel).model_version == "3"
        stranger = ssl.create_default_context(cafile=str(tls / "ca.crt"))
        with (
            httpx.Client(base_url=base, verify=stranger, trust_env=False) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.get("/v2/health/ready")
        nobody = grpc.ssl_channel_credentials(ca)
        with grpc.secure_channel(f"localhost:{service.grpc_port}", nobody, options=direct) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                service.call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse, channel)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert service.end() == 0
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
    logged = "".join(path.read_text() for path in (tmp_path / "decisions").glob("*.jsonl"))
    assert logged.count('"caller":"loan-desk"') == 2
