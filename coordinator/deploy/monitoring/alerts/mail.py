"""One e-mail through the bank's relay, as plain text: encrypted, to a server that its certificate proves."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from coordinator.deploy.monitoring.alerts.channels import Mail
from strategies.errors import Unreachable, UsageError

TIMEOUT_S: Final = 20.0


def send_mail(channel: Mail, id_: str, title: str, lines: Sequence[str], made_at: datetime) -> None:
    """Hand one message over. Raises Unreachable where the server did not take it, UsageError where password or certificate cannot be read.

    `id_` is the message's own: mail systems that have seen it drop it.
    """
    message = EmailMessage()
    message["From"], message["To"] = channel.sender, ", ".join(channel.to)
    message["Subject"] = "".join(each if each.isprintable() else " " for each in title)
    message["Message-ID"], message["Date"] = f"<{id_}>", format_datetime(made_at)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join(lines) + "\n")
    try:
        _hand_over(channel, message)
    except (OSError, smtplib.SMTPException) as error:
        raise Unreachable(_words(channel, error)) from error


def _hand_over(channel: Mail, message: EmailMessage) -> None:
    context = _authority(channel)
    password = None if channel.password is None else channel.password.read().reveal().decode()
    if channel.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            channel.host, channel.port, timeout=TIMEOUT_S, context=context
        )
    else:
        server = smtplib.SMTP(channel.host, channel.port, timeout=TIMEOUT_S)
    with server:
        if channel.security == "starttls":
            server.starttls(context=context)
        if channel.user is not None and password is not None:
            server.login(channel.user, password)
        refused = server.send_message(message)
    if refused:
        raise Unreachable(
            f"the mail server {channel.host} refused {len(refused)} of {len(channel.to)} addresses"
        )


def _authority(channel: Mail) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if channel.ca is None else str(channel.ca))
    except OSError as error:
        raise UsageError(f"{channel.ca} cannot be read as a certificate") from error


def _words(channel: Mail, error: Exception) -> str:
    """What went wrong, without what the server wrote."""
    match error:
        case ssl.SSLCertVerificationError():
            why = "its certificate does not prove it; see `ca`"
        case smtplib.SMTPNotSupportedError():
            why = "it does not offer what covenant.yaml asks for, such as STARTTLS"
        case smtplib.SMTPResponseException():
            why = f"it answers {error.smtp_code}"
        case _:
            why = type(error).__name__
    return f"the mail server {channel.host}:{channel.port} took no message: {why}"
