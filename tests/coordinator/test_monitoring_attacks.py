"""Monitoring against places that lie, channels that are broken and registries that were changed."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from coordinator.db.engine import writing
from coordinator.db.monitor_schema import WindowRow
from coordinator.db.schema import Model
from coordinator.deploy.monitoring import collecting, views
from coordinator.deploy.monitoring.alerts.channels import Alerts, Mail, Webhook
from coordinator.deploy.monitoring.alerts.outbox import alerts, deliver
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.retraining.drafting import draft as draft_of
from coordinator.governance.log import append
from coordinator.office import retraining as office
from coordinator.office.actors import here
from coordinator.office.monitoring import acknowledge, watch
from coordinator.registry.publish import publish
from protos.documents import DocumentError, read_document
from protos.drift import DriftRules
from protos.log_audit import Audit, AuditRefused, audit
from protos.log_monitor import DriftAlarm
from protos.passphrases import PassphraseSource
from protos.windows import Counted, Monitor
from strategies.errors import Refused
from tests.coordinator.alerts_for_tests import hooked, put, secret, tls, with_channels
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.loop_for_tests import loop_events, shifted
from tests.coordinator.monitor_for_tests import Population, Watch, made, watched
from tests.coordinator.private_for_tests import Make, Private, make, templates
from tests.coordinator.test_drift_windows import events
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.coordinator.test_loop_status import covenant, works
from tests.coordinator.test_retraining_launches import (
    certified,
)

__all__ = ["covenant", "made", "make", "secret", "templates", "tls", "watched", "works"]


# --- windows --------------------------------------------------------------------------------------------------------------


def test_a_window_that_is_told_again_after_a_restore_raises_no_second_alarm_and_stops_none_after_it(
    watched: Watch,
) -> None:
    """The log brings alarms back, and places tell the windows again."""
    centre, place = watched.works.centre, watched.place()
    window = place.decisions(shifted())
    alarm = receive(centre, window).alarm
    assert alarm is not None
    acknowledge(centre, here(), alarm, "seen")
    with writing(centre.engine, "losing the windows") as session:
        session.execute(delete(WindowRow))
    again = receive(centre, window)
    assert (again.new, again.alarm) == (True, None)
    assert receive(centre, place.decisions(shifted())).alarm not in {None, alarm}
    assert [each.alarm for each in events(watched) if isinstance(each, DriftAlarm)].count(alarm) == 1


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "span",
    [
        (timedelta(seconds=1), timedelta()),
        (timedelta(seconds=1), timedelta(seconds=1)),
        (DAY, 2 * DAY),
        (timedelta(hours=1), timedelta(hours=-22)),
    ],
)
def test_a_span_that_overlaps_a_window_is_not_one_more(
    watched: Watch, span: tuple[timedelta, timedelta]
) -> None:
    """Two noises for one window, or a window of seconds, would be told under other bounds."""
    centre, place = watched.works.centre, watched.place()
    window = place.decisions(Population.usual())
    receive(centre, window)
    begins, ends = window.begins + span[0], window.ends + span[1]
    with pytest.raises(Refused, match="which is no window of its monitor"):
        receive(centre, place.decisions(Population.usual(), begins=begins, ends=ends))


def test_windows_with_less_noise_or_more_spending_than_the_monitor_says_are_refused(watched: Watch) -> None:
    centre, place = watched.works.centre, watched.place()
    fair = place.decisions(Population.usual())
    assert fair.counted is not None
    for noise in (0.0, 3.9):  # the monitor's 2, over a score and three features
        counted = Counted(noise_std=noise, scores=fair.counted.scores, profile=fair.counted.profile)
        with pytest.raises(Refused, match="and its monitor asks for 4"):
            receive(centre, place.decisions(Population.usual(), counted=counted))
    with pytest.raises(Refused, match="above its monitor's limit of 40"):
        receive(centre, place.decisions(Population.usual(), spent=40.1))
    assert receive(centre, place.decisions(Population.usual(), spent=41.0, counted=None)).new


def test_windows_that_a_place_keeps_back_are_named(watched: Watch) -> None:
    centre, place = watched.works.centre, watched.place()
    told = [place.decisions(Population.usual()) for _ in range(7)]
    for each in (told[1], told[4], told[6]):
        receive(centre, each)
    assert views.windows(centre.engine, NAME, 1)["missing"] == {"branch": [[1, 1], [3, 4], [6, 6]]}
    for each in told:
        receive(centre, each)
    assert views.windows(centre.engine, NAME, 1)["missing"] == {}


def test_a_rate_that_would_never_wake_anybody_is_no_rule() -> None:
    with pytest.raises(DocumentError, match="false_alarm_rate"):
        read_document("covenant: drift-rules/v1\nfalse_alarm_rate: 1e-300\n", DriftRules, "rules")


# --- alerts ---------------------------------------------------------------------------------------------------------------


def test_a_channel_that_cannot_be_used_at_all_keeps_nothing_from_the_others(
    watched: Watch, tls: Path, secret: PassphraseSource, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_bytes(b"\xff\xfe of another encoding")
    password.chmod(0o600)
    mail = Mail(
        name="a-mail",
        host="localhost",
        port=1,
        sender="a@bank.example",
        to=("b@bank.example",),
        user="covenant",
        password=PassphraseSource(file=password),
    )
    with hooked(tls) as hook:
        hooks = (
            Webhook(name="wrong", url="https://0300.0.0.1/", secret=secret),
            Webhook(name="worse", url="https://xn--/", secret=secret),
            Webhook(name="desk", url=hook.url, secret=secret, ca=tls / "ca.crt"),
        )
        centre = with_channels(watched.works.centre, Alerts(webhooks=hooks, mail=mail))
        put(centre)
        assert deliver(centre) == 1
        assert len(hook.got) == 1
    told = {each["channel"]: each["trouble"] for each in alerts(centre, waiting=True)}
    assert set(told) == {"wrong", "worse", "a-mail"}
    assert all("cannot be used as it is set" in each for each in told.values())
    assert "another encoding" not in str(told)


@contextmanager
def endless() -> Iterator[tuple[int, threading.Event]]:
    """A mail server that greets byte by byte, and never ends: its port, and whether anybody has come."""
    came, ends = threading.Event(), threading.Event()

    class Greets(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            came.set()
            while not ends.wait(0.05):
                self.request.sendall(b"2")

    with socketserver.TCPServer(("127.0.0.1", 0), Greets) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], came
        finally:
            ends.set()
            server.shutdown()
            thread.join()


def test_a_mail_server_that_never_ends_its_greeting_keeps_no_window_from_being_judged(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_LONGEST_END_S", 0.0)
    with endless() as (port, came), watched.works.serving("branch", known=True) as service:
        mail = Mail(host="127.0.0.1", port=port, security="none", sender="a@b.example", to=("c@b.example",))
        centre = with_channels(watched.works.centre, Alerts(mail=mail))
        put(centre)
        with collecting.Collecting(centre, every_s=0.05, deliver_s=0.05) as at_work:
            assert came.wait(20.0)
            service.windows = [watched.place().decisions(shifted())]
            for _ in range(1000):
                if views.alarms(centre.engine):
                    break
                time.sleep(0.02)
            assert len(views.alarms(centre.engine)) == 1
            delivering = at_work._threads[-1]
        assert at_work.failed is None
    delivering.join()


# --- a whole log ------------------------------------------------------------------------------------------------------------

PROFILED = {'salt: "1"}}': 'salt: "1"}, profile: {bins: 4}}'}


def _registered(make: Make) -> Private:
    federation = make(PROFILED)
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    certified(federation)
    return federation


def _monitor(federation: Private) -> Monitor:
    return read_document(
        f"covenant: monitor/v1\nmodel: {federation.plan.name}\nwindow: 1d\nprofile_bins: 4\nscore_bins: 4\nscore_scale: logit\n"
        "privacy: {noise: 2, limit: {epsilon: 40, delta: 1e-6}, period: 30d}\n",
        Monitor,
        "monitor",
    )


def _judged(federation: Private) -> Audit:
    return audit([each.body for each in log_of(federation).entries()], pinned_by(federation))


@pytest.mark.slow
def test_a_registry_that_was_changed_before_a_version_is_watched_is_seen_in_the_log(make: Make) -> None:
    federation = _registered(make)
    centre = replace(federation.centre, clock=federation.clock.wall)
    name = federation.plan.name
    assert (name, 1) not in _judged(federation).monitors.watched
    with writing(centre.engine, "tampering") as session:
        row = session.get_one(Model, (name, 1))
        row.metrics = {**row.metrics, "panels": {**row.metrics["panels"], "noise_std": 1000.0}}
    watch(centre, here(), name, 1, _monitor(federation), DriftRules(), "as it was made")
    with pytest.raises(AuditRefused, match=r"is watched by reference [0-9a-f]{12}"):
        _judged(federation)


@pytest.mark.slow
def test_a_draft_that_is_for_somebody_else_than_an_author_is_not_believed(make: Make) -> None:
    federation = _registered(make)
    centre = replace(federation.centre, clock=federation.clock.wall)
    draft = draft_of(centre, federation.plan.name, by="author-1")
    office.dismiss(centre, here(), draft, "no")
    _judged(federation)
    (said, _) = loop_events(centre)
    story = _judged(federation)
    authors = {story.runs[each.run].approved.author for each in story.models}
    with writing(centre.engine, "lying") as session:
        lie = said.model_copy(update={"draft": "draft-" + "ab" * 8, "author": "risk-1"})
        append(session, centre.clock(), [lie])
    assert "risk-1" not in authors
    with pytest.raises(AuditRefused, match="is for risk-1, who is the author of no plan"):
        _judged(federation)
