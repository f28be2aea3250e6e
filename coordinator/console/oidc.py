"""Signing in with an OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0; RFC 7636, RFC 9207, RFC 9700).

1. A sign-in is begun here, kept in memory for some minutes (a coordinator that starts anew has none, and says to sign in again), bound to the browser by a cookie, and finished once: state, nonce and verifier of another one do not fit.
2. Only the configured issuer counts, over TLS that `ca` proves, at https addresses, without redirects and without the environment's proxies. Answers are bounded in size and time.
3. An ID token counts if a key of the issuer signed it with RS256, ES256 or EdDSA, for this client, for this sign-in, and it is not over.
4. Nothing of the provider is kept but the subject. Access tokens are thrown away unread.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.client import OAuth2Client
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from coordinator.settings import OidcSection
from strategies.encoding import sha256_hex
from strategies.errors import Refused, Unreachable

COOKIE: Final = "__Host-covenant-oidc"
GOOD_FOR_S: Final = 600.0
"""How long somebody may take at the provider."""
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA", "Ed25519")
_LEEWAY_S: Final = 60
_MOST_PENDING: Final = 1000
_MOST_BYTES: Final = 1 << 20
_TIMEOUT_S: Final = 10.0
_KEPT_S: Final = 3600.0
"""How long the provider's addresses and keys are believed without looking again."""
_KEYS_AGAIN_S: Final = 60.0
_MOST_TEXT: Final = 255
_ERROR: Final = re.compile(r"[a-z_]{1,60}")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A sign-in that is under way at the provider. Its fields are secrets of this console but `path`, where it leads."""

    browser: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect: str
    path: str
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where the browser goes, and what its cookie holds."""

    address: str
    cookie: str = field(repr=False)


@dataclass
class Provider:
    """The provider of `section`, whose certificates are in `home`."""

    section: OidcSection
    home: Path
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    _pending: OrderedDict[str, Pending] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict, repr=False)

    def begin(self, redirect: str, path: str) -> Begun:
        """Begin a sign-in that comes back to `redirect`, and leads to `path` in the end. Raises Unreachable, Refused."""
        told = self._metadata()
        cookie, state = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        pending = Pending(
            browser=sha256_hex(cookie.encode()),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect=redirect,
            path=path,
            began=self.monotonic(),
        )
        client = OAuth2Client(
            None,
            client_id=self.section.client_id,
            scope="openid",
            redirect_uri=redirect,
            code_challenge_method="S256",
        )
        address, _ = client.create_authorization_url(
            told["authorization_endpoint"], state=state, code_verifier=pending.verifier, nonce=pending.nonce
        )
        with self._lock:
            self._pending[sha256_hex(state.encode())] = pending
            while len(self._pending) > _MOST_PENDING:
                self._pending.popitem(last=False)
        return Begun(address=address, cookie=cookie)

    def finish(self, answer: Mapping[str, str], cookie: str) -> tuple[str, str]:
        """The subject that the provider vouches for, and where the sign-in leads. Raises Refused, Unreachable."""
        pending = self._take(answer.get("state", ""), cookie)
        if answer.get("iss", self.section.issuer) != self.section.issuer:
            raise Refused("another provider than the one in covenant.yaml answered; sign in again")
        if "error" in answer:
            said = answer["error"] if _ERROR.fullmatch(answer["error"]) else "an error"
            raise Refused(f"the provider did not sign you in ({said}); sign in again, or ask whoever runs it")
        code = answer.get("code", "")
        if not code:
            raise Refused("the provider's answer has no code; sign in again")
        token = self._exchange(code, pending)
        return self._judged(token, pending.nonce), pending.path

    def _take(self, state: str, cookie: str) -> Pending:
        """The sign-in of that state, which is used up whoever asks. Raises Refused."""
        with self._lock:
            found = self._pending.pop(sha256_hex(state.encode()), None)
        if (
            found is None
            or not secrets.compare_digest(found.browser, sha256_hex(cookie.encode()))
            or self.monotonic() - found.began > GOOD_FOR_S
        ):
            raise Refused(
                "this sign-in was not begun in this browser, was finished already, took too long, or the coordinator was started anew since; sign in again"
            )
        return found

    def _exchange(self, code: str, pending: Pending) -> str:
        """The ID token for a code. Raises Refused, Unreachable."""
        told = self._metadata()
        methods = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        method = (
            "client_secret_post"
            if "client_secret_basic" not in methods and "client_secret_post" in methods
            else "client_secret_basic"
        )
        body = prepare_token_request(
            "authorization_code", redirect_uri=pending.redirect, code=code, code_verifier=pending.verifier
        )
        secret = self.section.client_secret.read().reveal().decode()
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        address, headers, body = ClientAuth(self.section.client_id, secret, method).prepare(
            "POST", told["token_endpoint"], headers, body
        )
        token = self._ask("POST", address, headers=headers, body=body).get("id_token")
        if not isinstance(token, str):
            raise Refused("the provider's answer has no ID token; the client's scope must include openid")
        return token

    def _judged(self, token: str, nonce: str) -> str:
        keys = self._keys(again=False)
        now = int(self.clock().timestamp())
        try:
            return judge_id_token(token, keys, self.section, nonce, now)
        except UnknownKey:
            return judge_id_token(token, self._keys(again=True), self.section, nonce, now)

    def _metadata(self) -> Mapping[str, Any]:
        """What the provider says of itself. Raises Unreachable, Refused."""
        address = f"{self.section.issuer.rstrip('/')}/.well-known/openid-configuration"
        told = self._remembered(address, _KEPT_S)
        if told.get("issuer") != self.section.issuer:
            raise Refused(
                "the provider's metadata name another issuer than covenant.yaml; correct console.oidc.issuer, to the letter"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            place = told.get(name)
            if not isinstance(place, str) or urlsplit(place).scheme != "https":
                raise Refused(f"the provider's metadata have no https address as {name}")
        return told

    def _keys(self, *, again: bool) -> KeySet:
        told = self._remembered(self._metadata()["jwks_uri"], _KEYS_AGAIN_S if again else _KEPT_S)
        try:
            return KeySet.import_key_set(cast("Any", told))
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused("the provider's keys cannot be read") from error

    def _remembered(self, address: str, longest_s: float) -> Mapping[str, Any]:
        with self._lock:
            known = self._read.get(address)
        if known is not None and self.monotonic() - known[0] < longest_s:
            return known[1]
        told = self._ask("GET", address, headers={"Accept": "application/json"})
        with self._lock:
            self._read[address] = self.monotonic(), told
        return told

    def _ask(
        self, method: str, address: str, *, headers: Mapping[str, str], body: str | None = None
    ) -> Mapping[str, Any]:
        """A JSON object from the provider. Raises Unreachable, Refused; neither repeats what was sent or came."""
        until = self.monotonic() + _TIMEOUT_S
        told = bytearray()
        try:
            with (
                httpx.Client(
                    verify=self._authority(),
                    trust_env=False,
                    proxy=self.section.proxy,
                    timeout=_TIMEOUT_S,
                    follow_redirects=False,
                ) as client,
                client.stream(method, address, headers=dict(headers), content=body) as answer,
            ):
                for chunk in answer.iter_bytes():
                    told += chunk
                    if len(told) > _MOST_BYTES or self.monotonic() > until:
                        raise Refused("the provider's answer is too long, or comes too slowly")
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            _log.warning("the provider does not answer", trouble=type(error).__name__)
            raise Unreachable(
                f"{urlsplit(self.section.issuer).netloc} does not answer over TLS that console.oidc.ca proves; sign in another way, and tell whoever runs the"
                " coordinator"
            ) from error
        return _object(bytes(told), status)

    def _authority(self) -> ssl.SSLContext:
        if self.section.ca is None:
            return ssl.create_default_context()
        place = self.home / self.section.ca
        try:
            return ssl.create_default_context(cafile=str(place))
        except (OSError, ssl.SSLError) as error:
            _log.error("console.oidc.ca holds no certificates in PEM", file=str(place))
            raise Unreachable(  # whoever reads this has not signed in
                "the provider cannot be asked: console.oidc.ca holds no certificates in PEM; sign in another way, and tell whoever runs the coordinator"
            ) from error


class UnknownKey(Refused):
    """A token that a key has signed which the provider's keys do not have, or not yet."""


def judge_id_token(token: str, keys: KeySet, section: OidcSection, nonce: str, now: int) -> str:
    """The subject of an ID token, for the sign-in with `nonce`, at `now` in seconds since 1970. Raises Refused. OpenID Connect Core 1.0, 3.1.3.7."""
    try:
        claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        jwt.JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": section.issuer},
            aud={"essential": True, "value": section.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(claims)
    except InvalidKeyIdError as error:
        raise UnknownKey("the provider signed with a key that it does not publish; sign in again") from error
    except (JoseError, ValueError, TypeError) as error:
        raise Refused(
            f"the provider's ID token does not count ({type(error).__name__}); sign in again"
        ) from error
    audience = claims["aud"]
    presented = claims.get("azp", section.client_id)
    if presented != section.client_id or (
        isinstance(audience, list) and len(audience) > 1 and "azp" not in claims
    ):
        raise Refused("the provider's ID token was made for another client; sign in again")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_TEXT or not subject.isprintable():
        raise Refused(f"the provider's subject is no text of 1 to {_MOST_TEXT} characters")
    return subject


def _object(data: bytes, status: int) -> Mapping[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the provider answered {status} with something else than JSON") from error
    if status != httpx.codes.OK or not isinstance(told, dict):
        raise Refused(f"the provider answered {status}; sign in again, or ask whoever runs it")
    return told
