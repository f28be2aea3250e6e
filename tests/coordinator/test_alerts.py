"""Alerts: signed to a webhook over TLS, by mail through a real SMTP server, kept in the outbox until they are delivered."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from coordinator.deploy.monitoring.alerts import outbox
from coordinator.deploy.monitoring.alerts.channels import Alerts, Mail, Webhook
from coordinator.deploy.monitoring.alerts.outbox import MOST_TRIES, alerts, deliver
from coordinator.deploy.monitoring.receiving import receive
from coordinator.office.monitoring import try_alert_again
from protos.documents import DocumentError, read_document
from protos.log_monitor import DriftAlarm
from protos.passphrases import PassphraseSource
from strategies.errors import DiskError, UsageError
from tests.coordinator.alerts_for_tests import (
    ALERT,
    SECRET,
    hooked,
    later,
    mailed,
    put,
    secret,
    tls,
    with_channels,
)
from tests.coordinator.monitor_for_tests import Population, Watch, made, numbers, tilted, watched
from tests.coordinator.test_drift_windows import events

__all__ = ["made", "secret", "tls", "watched"]


def test_a_webhook_gets_signed_json_and_nothing_goes_through_a_proxy(
    watched: Watch, tls: Path, secret: PassphraseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with hooked(tls) as hook:
        channels = Alerts(webhooks=(Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),))
        centre = with_channels(watched.works.centre, channels)
        put(centre)
        assert (deliver(centre), deliver(centre)) == (1, 0)
    ((headers, body),) = hook.got
    moment, mac = (each.partition("=")[2] for each in headers["Covenant-Signature"].split(","))
    assert mac == hmac.new(SECRET.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert int(moment) == int(centre.clock().timestamp())
    told = json.loads(body)
    assert headers["Covenant-Alert"] == told["id"] == f"{ALERT.about}.desk"
    assert (told["facts"], told["lines"], told["federation"]) == ({"moved": ["score"]}, ["It moved."], "demo")


def test_a_mail_goes_encrypted_and_signed_in_to_a_server_that_is_proved(
    watched: Watch, tls: Path, secret: PassphraseSource
) -> None:
    with mailed(tls) as box:
        mail = Mail(
            host="localhost",
            port=box.port,
            sender="covenant@bank.example",
            to=("risk@bank.example", "models@bank.example"),
            user="covenant",
            password=secret,
            ca=tls / "ca.crt",
        )
        centre = with_channels(watched.works.centre, Alerts(mail=mail))
        put(centre)
        assert (deliver(centre), deliver(centre)) == (1, 0)
        ((sender, to, message),) = box.got
        assert (sender, to) == ("covenant@bank.example", ("risk@bank.example", "models@bank.example"))
        assert message["Message-ID"] == f"<{ALERT.about}.mail@demo>"
        assert message["Subject"] == "Drift of a model at a place"
        assert message.get_content().strip() == "It moved."
        stranger = with_channels(watched.works.centre, Alerts(mail=mail.model_copy(update={"ca": None})))
        put(stranger, replace(ALERT, about="alarm-" + "cd" * 8))
        assert deliver(stranger) == 0
        assert len(box.got) == 1
    (waiting,) = alerts(centre, waiting=True)
    assert waiting["trouble"].endswith("its certificate does not prove it; see `ca`")


def test_a_mail_server_without_starttls_gets_nothing(watched: Watch, tls: Path) -> None:
    with mailed(None) as box:
        mail = Mail(
            host="localhost",
            port=box.port,
            sender="a@bank.example",
            to=("b@bank.example",),
            ca=tls / "ca.crt",
        )
        centre = with_channels(watched.works.centre, Alerts(mail=mail))
        put(centre)
        assert deliver(centre) == 0
    assert box.got == []
    assert "does not offer what covenant.yaml asks for" in alerts(centre, waiting=True)[0]["trouble"]


def test_what_fails_is_tried_again_later_and_later_until_it_is_given_up_and_shown(
    watched: Watch, tls: Path, secret: PassphraseSource
) -> None:
    with hooked(tls) as hook:
        hook.answers = [500, 302] + [503] * (MOST_TRIES - 2)
        channels = Alerts(webhooks=(Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),))
        centre = with_channels(watched.works.centre, channels)
        start = centre.clock()
        put(centre)
        waits = []
        for _ in range(MOST_TRIES):
            assert deliver(centre) == 0
            assert deliver(centre) == 0  # not before its time
            (row,) = alerts(centre, waiting=True)
            due = datetime.fromisoformat(row["due_at"])
            waits.append((due - centre.clock()).total_seconds())
            centre = replace(centre, clock=lambda due=due: due)
        assert len(hook.got) == MOST_TRIES
        assert waits[:4] == [30.0, 60.0, 120.0, 240.0]
        assert max(waits) == 6 * 3600.0
        assert (row["tries"], row["trouble"]) == (MOST_TRIES, "the webhook desk answers 503")
        assert row["given_up_at"] is not None
        assert deliver(later(centre, 1000)) == 0
        assert try_alert_again(centre, ALERT.about) == 1
        assert deliver(centre) == 1
        ids = {headers["Covenant-Alert"] for headers, _ in hook.got}
        assert ids == {f"{ALERT.about}.desk"}
    assert alerts(centre, waiting=True) == []
    assert centre.clock() > start
    with pytest.raises(UsageError, match="was given up"):
        try_alert_again(centre, ALERT.about)


def test_a_crash_between_delivery_and_its_record_sends_the_same_id_again(
    watched: Watch, tls: Path, secret: PassphraseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise DiskError("the power failed")

    with hooked(tls) as hook:
        channels = Alerts(webhooks=(Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),))
        centre = with_channels(watched.works.centre, channels)
        put(centre)
        with monkeypatch.context() as patched:
            patched.setattr(outbox, "_record", dies)
            with pytest.raises(DiskError):
                deliver(centre)
        assert deliver(centre) == 1
        assert deliver(centre) == 0
    first, second = (headers["Covenant-Alert"] for headers, _ in hook.got)
    assert first == second


def test_one_channel_that_fails_keeps_nothing_from_the_other(
    watched: Watch, tls: Path, secret: PassphraseSource
) -> None:
    with hooked(tls) as hook, mailed(tls) as box:
        box.refuses = ["451 later"]
        mail = Mail(
            host="localhost",
            port=box.port,
            sender="a@bank.example",
            to=("b@bank.example",),
            user="covenant",
            password=secret,
            ca=tls / "ca.crt",
        )
        hooks = (Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),)
        centre = with_channels(watched.works.centre, Alerts(webhooks=hooks, mail=mail))
        put(centre)
        assert deliver(centre) == 1
        assert "answers 451" in alerts(centre, waiting=True)[0]["trouble"]
        assert deliver(later(centre)) == 1
    assert (len(hook.got), len(box.got)) == (1, 1)


def test_an_alarm_says_to_channels_what_it_says_to_the_log_and_no_more(
    watched: Watch, tls: Path, secret: PassphraseSource
) -> None:
    drifted = Population.usual()
    drifted.inputs[numbers()[0]] = tilted(drifted.inputs[numbers()[0]], 0.6)
    with hooked(tls) as hook:
        channels = Alerts(webhooks=(Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),))
        centre = with_channels(watched.works.centre, channels)
        assert receive(centre, watched.place().decisions(drifted)).alarm is not None
        assert deliver(centre) == 1
    told = json.loads(hook.got[0][1])
    (alarm,) = [each for each in events(watched) if isinstance(each, DriftAlarm)]
    assert told["facts"] == alarm.model_dump(mode="json")
    assert told["lines"][0] == alarm.words


def test_secrets_stand_in_files_of_their_own_that_nobody_else_can_read(
    watched: Watch, tls: Path, secret: PassphraseSource
) -> None:
    assert secret.file is not None
    secret.file.chmod(0o644)
    with hooked(tls) as hook:
        hooks = (Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),)
        centre = with_channels(watched.works.centre, Alerts(webhooks=hooks))
        put(centre)
        assert deliver(centre) == 0
        assert hook.got == []
    (row,) = alerts(centre, waiting=True)
    assert "can be read by others; run chmod 600" in row["trouble"]
    assert SECRET not in repr(centre.settings) + json.dumps(row)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "webhooks: [{name: a, url: 'http://bank.example/x', secret: {file: s}}]",
            "an https URL, or http on loopback",
        ),
        ("webhooks: [{name: a, url: 'https://bank.example/x', secret: swordfish}]", "never written here"),
        (
            "mail: {host: mail.bank.example, security: none, sender: a@b.example, to: [c@b.example]}",
            "encrypted",
        ),
        (
            "mail: {host: mail.bank.example, sender: a@b.example, to: [c@b.example], user: covenant}",
            "user and password go together",
        ),
        ("mail: {host: mail.bank.example, sender: a@b.example, to: []}", "to"),
        (
            "{webhooks: [{name: mail, url: 'https://b.example', secret: {file: s}}], mail: {host: m.b.example, sender: a@b.example, to: [c@b.example]}}",
            "two channels have one name",
        ),
    ],
)
def test_channels_that_would_tell_strangers_are_refused(section: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said) as refused:
        read_document(section, Alerts, "alerts")
    assert "swordfish" not in str(refused.value)
