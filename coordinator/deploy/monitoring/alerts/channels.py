"""Where alerts go: the section `alerts` of covenant.yaml.

Secrets stand in files with mode 0600 or come from the service manager, never here. Messages go out encrypted, to servers whose certificate is verified;
only on this machine may they go in the clear.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from protos.documents import FieldError, FilePath, Part
from protos.names import Name, is_loopback, matching
from protos.passphrases import PassphraseSource

MailAddress = Annotated[
    str,
    matching(
        r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?",
        "an address such as risk@bank.example",
    ),
]
Url = Annotated[
    str,
    matching(
        r"(https://[A-Za-z0-9.-]{1,253}|http://(127\.0\.0\.1|localhost|\[::1\]))(:[0-9]{1,5})?(/[!-~]{0,500})?",
        "an https URL, or http on loopback",
    ),
]


class Webhook(Part):
    """A server that takes signed JSON. `secret` is shared with it and signs each message; `ca` proves a server with a certificate of the bank's own."""

    name: Name
    url: Url
    secret: PassphraseSource
    ca: FilePath | None = None


class Mail(Part):
    """A mail server that relays for this coordinator. `security` is STARTTLS, TLS from the start, or none, which only loopback may have."""

    name: Name = "mail"
    host: Annotated[str, matching(r"[A-Za-z0-9.:-]{1,253}", "a host name or address")]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: MailAddress
    to: Annotated[tuple[MailAddress, ...], Field(min_length=1, max_length=20)]
    user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    password: PassphraseSource | None = None
    ca: FilePath | None = None

    @model_validator(mode="after")
    def _is_kept_secret(self) -> Self:
        if self.security == "none" and not is_loopback(self.host):
            raise FieldError("security", f"alerts go to {self.host} encrypted; use starttls or tls")
        if (self.user is None) != (self.password is None):
            raise FieldError("password", "user and password go together; set both, or neither")
        if self.user is not None and self.security == "none":
            raise FieldError("security", "a password is sent encrypted only; use starttls or tls")
        return self


class Alerts(Part):
    """The channels; none if the section is left out."""

    webhooks: Annotated[tuple[Webhook, ...], Field(max_length=10)] = ()
    mail: Mail | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [each.name for each in self.channels]
        if len(set(names)) != len(names):
            raise FieldError("webhooks", "two channels have one name; name each once")
        return self

    @property
    def channels(self) -> tuple[Webhook | Mail, ...]:
        """All of them."""
        return (*self.webhooks, *(() if self.mail is None else (self.mail,)))
