"""One signed message to a webhook.

The signature is HMAC-SHA256 over the moment, a dot and the body, under the secret that both sides have: `Covenant-Signature: t=SECONDS,v1=HEX`. The receiver
refuses a moment that is long past, and an id that it has seen, as `Covenant-Alert` names it. Redirects are not followed, and no proxy is taken from the
environment: a message goes where covenant.yaml says, or nowhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from datetime import datetime
from typing import Final

import httpx

from coordinator.deploy.monitoring.alerts.channels import Webhook
from strategies.errors import Unreachable, UsageError

TIMEOUT_S: Final = 10.0
_MOST_ANSWER_BYTES: Final = 64 * 1024


def signature_of(secret: bytes, body: bytes, at: datetime) -> str:
    """The header's value."""
    moment = str(int(at.timestamp()))
    mac = hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={mac}"


def post(channel: Webhook, id_: str, body: bytes, at: datetime) -> None:
    """Deliver `body`. Raises Unreachable where it was not taken, UsageError where secret or certificate cannot be read."""
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "Covenant-Alert": id_,
        "Covenant-Signature": signature_of(channel.secret.read().reveal(), body, at),
    }
    try:
        code = asyncio.run(_posted(channel.url, headers, body, _authority(channel)))
    except (httpx.HTTPError, TimeoutError) as error:
        raise Unreachable(f"the webhook {channel.name} does not answer ({type(error).__name__})") from error
    if not 200 <= code < 300:  # noqa: PLR2004
        raise Unreachable(f"the webhook {channel.name} answers {code}")


def _authority(channel: Webhook) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if channel.ca is None else str(channel.ca))
    except OSError as error:
        raise UsageError(f"{channel.ca} cannot be read as a certificate") from error


async def _posted(url: str, headers: dict[str, str], body: bytes, authority: ssl.SSLContext) -> int:
    """The code of the answer, within the time; its body is read no further than it takes to end the exchange."""
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=TIMEOUT_S, verify=authority
        ) as client,
        client.stream("POST", url, headers=headers, content=body) as answer,
    ):
        read = 0
        async for chunk in answer.aiter_raw():
            read += len(chunk)
            if read > _MOST_ANSWER_BYTES:
                break
        return answer.status_code
