"""Signing in at an OpenID provider: a real one over TLS, tokens that do not count, and providers that misbehave."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from coordinator.console import oidc
from coordinator.console.console import Console
from coordinator.console.identities import Identities
from coordinator.console.oidc import Provider, UnknownKey, judge_id_token
from coordinator.console.vault import Vault
from coordinator.control_tls import ControlFiles, control_files
from coordinator.settings import OidcSection
from protos.passphrases import PassphraseSource
from simulation.deployment import free_port
from strategies.errors import Refused, Unreachable
from tests.coordinator.console_for_tests import Browser, Pages, Ticking, copied, pages
from tests.coordinator.oidc_for_tests import Answers, answering, provider

SUBJECT = "jana@bank.example"
SECRET = "the client's own secret"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console")):
        home = bank.centre.settings.home
        files = control_files(bank.centre.settings, bank.centre.clock())
        (home / "client.secret").write_text(SECRET)
        (home / "client.secret").chmod(0o600)
        bank.centre = replace(bank.centre, monotonic=Ticking())
        with provider(files, free_port()) as issuer:
            section = (
                f", oidc: {{issuer: '{issuer}', client_id: covenant, ca: control/control-ca.crt,"
                f" client_secret: {{file: '{home / 'client.secret'}'}}, label: Sign in at the bank}}"
            )
            with pages(bank, section) as found:
                Identities(bank.centre.engine, Vault(bank.centre.settings.console_key_file)).tie(
                    issuer, SUBJECT, "privacy-1", bank.centre.clock()
                )
                yield found


def to_provider(served: Pages, browser: Browser, next_path: str = "/account") -> httpx.URL:
    """Where the console leads a browser."""
    answered = browser.client.get("/signin/provider", params={"next": next_path}, follow_redirects=False)
    assert answered.status_code == 303, answered.text
    return httpx.URL(answered.headers["location"])


def at_provider(served: Pages, address: httpx.URL, subject: str = SUBJECT, action: str = "authorize") -> str:
    """What the provider sends a browser back to, once somebody has signed in there."""
    files = control_files(served.centre.settings, served.centre.clock())
    with httpx.Client(verify=ssl.create_default_context(cafile=files.ca), trust_env=False) as there:
        answered = there.post(address, data={"sub": subject, "action": action})
    assert answered.status_code == 302, answered.text
    return str(answered.headers["location"])


def test_whoever_the_provider_vouches_for_signs_in(served: Pages) -> None:
    browser = served.browser()
    assert "Sign in at the bank" in browser.get("/signin").text
    address = to_provider(served, browser)
    asked = parse_qs(address.query.decode())
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    assert {"state", "nonce", "code_challenge", "redirect_uri"} <= asked.keys()
    back = browser.get(at_provider(served, address))
    assert back.url.path == "/account"
    assert "privacy-1" in back.text
    assert "at the bank" in back.text


def test_a_sign_in_is_finished_once(served: Pages) -> None:
    browser = served.browser()
    back = at_provider(served, to_provider(served, browser))
    cookies = dict(browser.client.cookies)
    assert browser.get(back).url.path == "/account"
    again = served.browser()
    for name, value in cookies.items():
        again.client.cookies.set(name, value, domain="127.0.0.1", path="/")
    assert "finished already" in again.get(back).text


def test_a_sign_in_of_another_browser_signs_nobody_in(served: Pages) -> None:
    """Somebody who begins one, and has another's browser finish it, does not sign that other in as themselves."""
    attacker, victim = served.browser(), served.browser()
    back = at_provider(served, to_provider(served, attacker))
    assert victim.get(back).status_code == 409
    assert victim.get("/account").url.path == "/signin"
    other = served.browser()
    to_provider(served, other)
    back = at_provider(served, to_provider(served, attacker))
    assert other.get(back).status_code == 409


def test_a_coordinator_that_starts_anew_meanwhile_says_to_sign_in_again(served: Pages) -> None:
    """Sign-ins under way are in its memory alone."""
    console = Console.of(served.centre)
    before = served.browser()
    back = at_provider(served, to_provider(served, before))
    assert console.provider is not None  # as another process has it, over the same database
    told = dict(parse_qsl(urlsplit(back).query))
    with pytest.raises(Refused, match=r"started anew since; sign in again"):
        console.provider.finish(told, before.client.cookies[oidc.COOKIE])
    assert before.get(back).url.path == "/account"  # the one that has it
    page = before.get(back)
    assert (page.status_code, 'href="/signin"' in page.text) == (409, True)


def test_a_subject_that_nobody_is_gets_no_session(served: Pages) -> None:
    browser = served.browser()
    answered = browser.get(at_provider(served, to_provider(served, browser), "<b>stranger</b>"))
    assert answered.status_code == 409
    assert "covenant console tie OFFICER" in answered.text
    assert "&lt;b&gt;stranger" in answered.text
    assert browser.get("/account").url.path == "/signin"


def test_a_no_at_the_provider_and_forged_answers_are_refused(served: Pages) -> None:
    browser = served.browser()
    back = at_provider(served, to_provider(served, browser), action="deny")
    denied = browser.get(back)
    assert denied.status_code == 409
    assert "did not sign you in" in denied.text or "not begun in this browser" in denied.text
    for forged in ("", "?code=x", "?code=x&state=y", "?state=y&error=<script>"):
        answered = browser.get(f"/signin/provider/back{forged}")
        assert answered.status_code == 409
        assert "<script>" not in answered.text
    state = parse_qs(to_provider(served, browser).query.decode())["state"][0]
    answered = browser.get(f"/signin/provider/back?code=x&state={state}&iss=https://elsewhere.example")
    assert "another provider" in answered.text


def test_a_code_of_another_sign_in_does_not_count(served: Pages) -> None:
    """The nonce in the ID token is that of the sign-in which asked for it."""
    browser, other = served.browser(), served.browser()
    code = parse_qs(urlsplit(at_provider(served, to_provider(served, other))).query)["code"][0]
    state = parse_qs(to_provider(served, browser).query.decode())["state"][0]
    answered = browser.get(f"/signin/provider/back?code={code}&state={state}")
    assert (answered.status_code, browser.get("/account").url.path) == (409, "/signin")


def test_the_way_to_the_provider_leads_back_inside_only(served: Pages) -> None:
    browser = served.browser()
    for path in ("https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example"):
        back = at_provider(served, to_provider(served, browser, path))
        answered = browser.client.get(back, follow_redirects=False)
        assert answered.headers["location"] == "/"


def test_cookies_of_a_sign_in_are_for_this_host_and_no_script(served: Pages) -> None:
    browser = served.browser()
    answered = browser.client.get("/signin/provider", follow_redirects=False)
    cookie = answered.headers["set-cookie"].lower()
    assert cookie.startswith(f"{oidc.COOKIE.lower()}=")
    assert all(each in cookie for each in ("; secure", "; httponly", "; path=/", "; samesite=lax"))
    assert "domain" not in cookie


# --- tokens --------------------------------------------------------------------------------------------------------------

SECTION = OidcSection(
    issuer="https://id.bank.example",
    client_id="covenant",
    client_secret=PassphraseSource(credential="covenant-oidc"),
)
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
KEYS = KeySet(
    [RSA, ECKey.generate_key("P-256", {"kid": "ec"}), OKPKey.generate_key("Ed25519", {"kid": "ed"})]
)
NOW = 1_780_000_000
CLAIMS = {
    "iss": "https://id.bank.example",
    "aud": "covenant",
    "sub": SUBJECT,
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "n",
}


def token(alg: str = "RS256", kid: str = "rsa", **changed: object) -> str:
    claims = {key: value for key, value in {**CLAIMS, **changed}.items() if value is not None}
    return jwt.encode({"alg": alg, "kid": kid}, claims, KEYS.get_by_kid(kid), algorithms=[alg])


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    ("alg", "kid"), [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed"), ("Ed25519", "ed")]
)
def test_a_token_of_the_provider_names_its_subject(alg: str, kid: str) -> None:
    assert judge_id_token(token(alg, kid), KEYS, SECTION, "n", NOW) == SUBJECT
    assert (
        judge_id_token(token(alg, kid, aud=["covenant", "b"], azp="covenant"), KEYS, SECTION, "n", NOW)
        == SUBJECT
    )


@pytest.mark.parametrize(
    "defect",
    [
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": ["covenant", "another"]},
        {"aud": ["covenant", "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": NOW - 61},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": NOW + 61},
        {"iat": None},
        {"nbf": NOW + 61},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"sub": "a\x00b"},
    ],
    ids=str,
)
def test_a_token_with_a_claim_that_does_not_fit_does_not_count(defect: dict[str, object]) -> None:
    with pytest.raises(Refused):
        judge_id_token(token(**defect), KEYS, SECTION, "n", NOW)


def test_a_token_of_another_kind_of_signature_does_not_count() -> None:
    """Among them the public key taken for a shared secret, and none at all."""
    public = RSA.as_pem(private=False)
    part = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode()
        for each in ({"alg": "none"}, CLAIMS, {"alg": "HS256", "kid": "rsa"})
    ]
    signed = f"{part[2]}.{part[1]}"
    mac = hmac.digest(public, signed.encode(), "sha256")
    shared = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    other = jwt.encode({"alg": "RS256", "kid": "rsa"}, CLAIMS, RSAKey.generate_key(2048, {"kid": "rsa"}))
    for each in (
        shared,
        f"{part[0]}.{part[1]}.",
        other,
        token("RS512"),
        token("PS256"),
        "",
        "a.b.c",
        token()[:-8],
    ):
        with pytest.raises(Refused):
            judge_id_token(each, KEYS, SECTION, "n", NOW)


def test_a_token_of_a_key_that_is_not_known_yet_says_so() -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "new"})
    made = jwt.encode({"alg": "RS256", "kid": "new"}, CLAIMS, stranger)
    with pytest.raises(UnknownKey):
        judge_id_token(made, KEYS, SECTION, "n", NOW)


# --- providers that misbehave --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(served: Pages) -> ControlFiles:
    return control_files(served.centre.settings, served.centre.clock())


@pytest.fixture
def answers(files: ControlFiles) -> Iterator[Answers]:
    with answering(files) as found:
        found.metadata()
        found.given["/keys"] = 200, KEYS.as_dict(private=False)
        yield found


def client_of(
    answers: Answers, files: ControlFiles, tmp_path: Path, monotonic: Ticking | None = None
) -> Provider:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    section = OidcSection(
        issuer=answers.issuer,
        client_id="covenant",
        client_secret=PassphraseSource(file=tmp_path / "secret"),
        ca=str(files.ca),
    )
    return Provider(section, tmp_path, lambda: datetime.fromtimestamp(NOW, UTC), monotonic or Ticking())


def finished(client: Provider, answers: Answers, **claims: object) -> tuple[str, str]:
    begun = client.begin("https://127.0.0.1:9095/signin/provider/back", "/runs")
    asked = parse_qs(urlsplit(begun.address).query)
    told = token(iss=answers.issuer, nonce=asked["nonce"][0], **claims)
    answers.given["/token"] = 200, {"id_token": told, "access_token": "not looked at"}
    return client.finish({"state": asked["state"][0], "code": "c"}, begun.cookie)


def test_the_code_goes_to_the_provider_with_the_verifier_and_the_clients_secret(
    answers: Answers, files: ControlFiles, tmp_path: Path
) -> None:
    assert finished(client_of(answers, files, tmp_path), answers) == (SUBJECT, "/runs")
    _, headers, body = next(each for each in answers.asked if each[0] == "/token")
    sent = parse_qs(body.decode())
    assert (sent["code"], sent["grant_type"]) == (["c"], ["authorization_code"])
    assert len(sent["code_verifier"][0]) >= 43
    assert base64.b64decode(headers["Authorization"].split()[1]).decode().startswith("covenant:")
    assert SECRET not in body.decode()


def test_keys_that_were_replaced_are_fetched_again(
    answers: Answers, files: ControlFiles, tmp_path: Path
) -> None:
    client, monotonic = client_of(answers, files, tmp_path), Ticking()
    client.monotonic = monotonic
    answers.given["/keys"] = 200, KeySet([RSAKey.generate_key(2048, {"kid": "old"})]).as_dict(private=False)
    with pytest.raises(UnknownKey):
        finished(client, answers)
    answers.given["/keys"] = 200, KEYS.as_dict(private=False)
    monotonic.at += 61
    assert finished(client, answers)[0] == SUBJECT


def test_a_sign_in_that_took_too_long_is_over(answers: Answers, files: ControlFiles, tmp_path: Path) -> None:
    monotonic = Ticking()
    client = client_of(answers, files, tmp_path, monotonic)
    begun = client.begin("https://127.0.0.1:9095/signin/provider/back", "/")
    monotonic.at += 601
    state = parse_qs(urlsplit(begun.address).query)["state"][0]
    with pytest.raises(Refused, match="took too long"):
        client.finish({"state": state, "code": "c"}, begun.cookie)


@pytest.mark.parametrize(
    ("path", "status", "told", "said"),
    [
        ("/.well-known/openid-configuration", 200, {"issuer": "https://elsewhere.example"}, "another issuer"),
        ("/.well-known/openid-configuration", 404, {}, "answered 404"),
        ("/.well-known/openid-configuration", 302, {}, "answered 302"),
        ("/.well-known/openid-configuration", 200, b"<html>", "something else than JSON"),
        ("/.well-known/openid-configuration", 200, b"[" * 100_000, "something else than JSON"),
        ("/.well-known/openid-configuration", 200, b"[]", "answered 200"),
        ("/.well-known/openid-configuration", 200, b" " * ((1 << 20) + 1), "too long"),
        ("/keys", 200, {"keys": []}, "keys cannot be read"),
        ("/keys", 200, {"keys": [{"kty": "RSA", "n": "?"}]}, "keys cannot be read"),
        ("/keys", 200, {"keys": "none"}, "keys cannot be read"),
    ],
)
def test_what_a_provider_answers_is_bounded_and_judged(
    answers: Answers, files: ControlFiles, tmp_path: Path, path: str, status: int, told: object, said: str
) -> None:
    answers.given[path] = status, told
    with pytest.raises(Refused, match=said):
        finished(client_of(answers, files, tmp_path), answers)


def test_addresses_without_tls_are_not_used(answers: Answers, files: ControlFiles, tmp_path: Path) -> None:
    answers.metadata(token_endpoint="http://127.0.0.1/token")
    with pytest.raises(Refused, match="no https address as token_endpoint"):
        client_of(answers, files, tmp_path).begin("https://127.0.0.1:9095/", "/")


def test_a_provider_that_the_configured_certificates_do_not_prove_is_not_believed(
    answers: Answers, files: ControlFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that the environment's proxy stands for."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    client = client_of(answers, files, tmp_path)
    client.section = client.section.model_copy(update={"ca": None})
    with pytest.raises(Unreachable, match="does not answer over TLS"):
        client.begin("https://127.0.0.1:9095/", "/")
    assert finished(client_of(answers, files, tmp_path), answers)[0] == SUBJECT


@pytest.mark.parametrize("held", [None, "no certificate"])
def test_who_has_not_signed_in_is_told_no_place_of_a_file(
    answers: Answers, files: ControlFiles, tmp_path: Path, held: str | None
) -> None:
    client = client_of(answers, files, tmp_path)
    client.section = client.section.model_copy(update={"ca": Path("bank-ca.pem")})
    if held is not None:
        (client.home / "bank-ca.pem").write_text(held)
    with pytest.raises(Unreachable, match="holds no certificates") as raised:
        client.begin("https://127.0.0.1:9095/", "/")
    assert str(client.home) not in str(raised.value)


def test_a_refusal_at_the_provider_repeats_no_secret(
    answers: Answers, files: ControlFiles, tmp_path: Path
) -> None:
    client = client_of(answers, files, tmp_path)
    begun = client.begin("https://127.0.0.1:9095/signin/provider/back", "/")
    asked = parse_qs(urlsplit(begun.address).query)
    answers.given["/token"] = 401, {"error": "invalid_client", "you_sent": SECRET}
    with pytest.raises(Refused) as error:
        client.finish({"state": asked["state"][0], "code": "a-code"}, begun.cookie)
    told = f"{error.value!r} {error.value.__cause__!r} {client!r} {begun!r}"
    assert not any(each in told for each in (SECRET, "a-code", begun.cookie))
