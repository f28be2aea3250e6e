"""`policy` and `run` of site.yaml: what they may say, and one clear sentence with its line where they say something else."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.documents import DocumentError, read_document
from protos.site import SiteConfig
from protos.site_run import Window
from tests.protos.documents_for_tests import SITE, changed


def read(text: str) -> SiteConfig:
    return read_document(text, SiteConfig, "site.yaml")


def window(**said: str) -> Window:
    return Window.model_validate({"from": "20:00", "to": "06:00", "zone": "Europe/Oslo", **said})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_policy_of_the_shape_that_the_docs_show():
    policy = read(
        changed(
            SITE,
            "policy:\n",
            "policy:\n  owner: dpo-north\n  forbid_features: [nationality, postcode]\n  minimum_cohort: 3\n  consent_for: 7d\n",
        )
    ).policy
    assert (policy.owner, policy.forbid_features) == ("dpo-north", ("nationality", "postcode"))
    assert (policy.minimum_cohort, policy.consent_for) == (3, 7 * 86400.0)
    assert policy.accept[0].confirm == "never"


def test_hours_and_limits():
    hours = "{days: mon-fri, from: '20:00', to: '06:00', zone: Europe/Oslo}"
    run = read(changed(SITE, "run: {", f"run: {{window: {hours}, memory: 2 GiB, priority: 10, ")).run
    assert run.window is not None
    assert run.window.words == "mon-fri 20:00 to 06:00, Europe/Oslo"
    assert (run.memory, run.priority) == (2 << 30, 10)
    assert read(SITE).run.window is None


HOURS = "run: {window: {from: '20:00', to: '06:00', zone: UTC}, "
BAD = {
    "a rule's typo": ("purpose:", "purpos:", "line 14: unknown key `policy.accept[0].purpos`; did you mean `purpose`?"),
    "a typo in privacy": ("{modes: [none]}", "{mode: [none]}", "line 17: unknown key `policy.accept[0].privacy.mode`; did you mean `modes`?"),
    "a typo in the policy": ("policy:\n", "policy:\n  forbid_feature: [x]\n", "line 13: unknown key `policy.forbid_feature`; did you mean `forbid_features`?"),
    "a typo in aggregation": ("modes: [plain]", "modes: [plain], adversary: [active]", "did you mean `adversaries`?"),
    "a typo in packages": ("fab_sha256: []", "package: {}", "unknown key `allow.package`; did you mean `packages`?"),
    "a key of earlier versions": ("policy:\n", "policy:\n  privacy_modes: [none]\n", "line 13: unknown key `policy.privacy_modes`"),
    "a rule without a mode": ("{modes: [none]}", "{modes: []}", "`policy.accept[0].privacy.modes`"),
    "no contract": ("      contracts: [lending-club@1]\n", "", "`policy.accept[0].contracts` is missing; add it"),
    "an unknown consent": ("modes: [plain]}", "modes: [plain]}\n      confirm: sometimes", "`policy.accept[0].confirm` is \"sometimes\""),
    "a version that is none": ("fab_sha256: []", "packages: {torch: newest}", "use versions such as >=2.9,<3"),
    "a typo in the window": ("run: {", HOURS.replace("from:", "form:"), "unknown key `run.window.form`; did you mean `from`?"),
    "a zone that is none": ("run: {", HOURS.replace("UTC", "Europe/Osla"), "use a zone of the zone database, such as Europe/Oslo"),
    "a day that is none": ("run: {", HOURS.replace("{from", "{days: mon-fry, from"), "'mon-fry' is none of mon, tue"),
    "a window without length": ("run: {", HOURS.replace("06:00", "20:00"), "`run.window.to`: 20:00 is when the window opens"),
    "a time without quotes": ("run: {", HOURS.replace("'20:00'", "20"), "`run.window.from` is 20"),
    "memory without a unit": ("run: {", "run: {memory: 2, ", "number with a unit, such as 2 GiB"),
    "hardly any memory": ("run: {", "run: {memory: 1 MiB, ", "use 256 MiB or more"),
    "a priority that takes": ("run: {", "run: {priority: -5, ", "`run.priority` is -5"),
}  # fmt: skip


@pytest.mark.parametrize("defect", BAD)
def test_bad_policies_and_limits_are_refused_with_line_and_nearest_key(defect: str):
    old, new, sentence = BAD[defect]
    with pytest.raises(DocumentError) as caught:
        read(changed(SITE, old, new))
    assert sentence in str(caught.value)


# --- hours


@pytest.mark.parametrize(
    ("now", "is_open"),
    [
        ("2026-11-26T18:59:59", False),  # Thursday, 19:59:59 in Oslo
        ("2026-11-26T19:00:00", True),
        ("2026-11-27T04:59:59", True),  # over midnight
        ("2026-11-27T05:00:00", False),
        ("2026-11-28T03:00:00", True),  # Saturday morning still belongs to Friday
        ("2026-11-28T20:00:00", False),  # Saturday night
        ("2026-07-01T18:00:00", True),  # in summer the same wall clock is an hour earlier
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens(now: str, is_open: bool):
    assert window(days="mon-fri").is_open(utc(now)) is is_open


def test_the_next_opening_is_told_across_a_weekend():
    opening = window(days="mon-fri").opening(utc("2026-11-28T12:00:00"))
    assert (opening.begins, opening.ends) == (utc("2026-11-30T19:00:00"), utc("2026-12-01T05:00:00"))


def test_the_night_in_which_clocks_are_set_forward_is_an_hour_shorter():
    opening = window(days="sat").opening(utc("2026-03-28T21:00:00"))
    assert opening.ends - opening.begins == timedelta(hours=9)


def test_the_night_in_which_clocks_are_set_back_is_an_hour_longer():
    opening = window(days="sat").opening(utc("2026-10-24T20:00:00"))
    assert opening.ends - opening.begins == timedelta(hours=11)


def test_a_time_that_does_not_come_is_as_much_later_and_one_that_comes_twice_is_the_first():
    missing = Window.model_validate({"from": "02:30", "to": "04:00", "zone": "Europe/Oslo"})
    assert missing.opening(utc("2026-03-29T00:00:00")).begins == utc(
        "2026-03-29T01:30:00"
    )  # 03:30 in summer time
    twice = missing.opening(utc("2026-10-25T00:00:00"))
    assert twice.begins == utc("2026-10-25T00:30:00")


def test_an_hour_that_does_not_come_opens_nothing():
    gone = Window.model_validate({"from": "02:15", "to": "03:15", "zone": "Europe/Oslo", "days": "sun"})
    assert gone.opening(utc("2026-03-28T12:00:00")).begins == utc("2026-04-05T00:15:00")


def test_a_whole_day_is_open_to_its_end():
    day = Window.model_validate({"from": "00:00", "to": "24:00", "zone": "UTC", "days": "mon"})
    opening = day.opening(utc("2026-11-30T12:00:00"))
    assert (opening.begins, opening.ends) == (utc("2026-11-30T00:00:00"), utc("2026-12-01T00:00:00"))


@given(
    now=st.integers(0, 15 * 366 * 86400).map(lambda after: utc("2020-01-01T00:00:00") + timedelta(seconds=after)),
    opens=st.times(), closes=st.times(),
    zone=st.sampled_from(["UTC", "Europe/Oslo", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
    days=st.sampled_from(["daily", "mon-fri", "sat,sun", "fri-mon", "wed"]),
)  # fmt: skip
def test_the_opening_is_ahead_or_now_and_is_the_same_until_it_ends(now, opens, closes, zone, days):
    if f"{opens:%H:%M}" == f"{closes:%H:%M}":
        return
    hours = window(**{"from": f"{opens:%H:%M}", "to": f"{closes:%H:%M}", "zone": zone, "days": days})
    found = hours.opening(now)
    assert now < found.ends
    assert found.begins < found.ends
    assert hours.opening(found.begins) == found
    assert hours.is_open(found.begins)
    assert hours.is_open(now) is (found.begins <= now)
