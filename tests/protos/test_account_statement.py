"""A site's account statement counts only as its site signed it, whole, canonical and consistent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from protos.account_statement import SignedStatement, StatedAccount, StatedEntry, sign
from protos.keys import SigningKey
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName

CUSTOMER = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4)
CEILING = Ceiling.fixed(epsilon=8.0, delta=1e-6, unit=CUSTOMER)
RELEASE = Release(
    what="gradient sum",
    mechanism=Mechanism.GAUSSIAN,
    unit=CUSTOMER,
    sampling_rate=0.01,
    steps=1,
    sensitivity=1.0,
    variance=4.0,
    shares=1,
    dimension=10,
)
RUN, PLAN = RunId("run-0123456789abcdef"), Digest("cd" * 32)
AT = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
NORTH = SiteName("north")


def entry(**changes: Any) -> StatedEntry:
    facts: dict[str, Any] = {
        "run": RUN,
        "stage": "train",
        "round": 1,
        "attempt": 1,
        "release": RELEASE.digest,
        "plan": PLAN,
        "at": AT,
    }
    return StatedEntry(**{**facts, **changes})


def account(*entries: StatedEntry, releases: tuple[Release, ...] = (RELEASE,)) -> StatedAccount:
    return StatedAccount.of("retail-loans", CEILING, releases, entries or (entry(), entry(round=2)))


@pytest.fixture(scope="module")
def identity() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def signed(identity: SigningKey) -> SignedStatement:
    return sign(NORTH, identity, AT, [account()])


def test_a_statement_comes_back_as_it_was_signed(signed: SignedStatement, identity: SigningKey) -> None:
    read = SignedStatement.read(signed.to_bytes())
    assert read.claimed_site == NORTH
    statement = read.verify(identity.public)
    (found,) = statement.accounts
    assert (statement.site, statement.made_at) == (NORTH, AT)
    assert found.filter_ceiling == CEILING
    assert found.charges() == {RELEASE: 2}
    assert [each.round for each in found.entries] == [1, 2]


@pytest.mark.parametrize("variance", [2.0**53, 7.4e16, 1e20, 1e21, 1e300])
def test_noise_of_any_size_comes_back_as_it_was_signed(identity: SigningKey, variance: float) -> None:
    """RFC 8785 writes floats of 2^53 up to 10^21 as digits, which parsers take for integers."""
    release = replace(RELEASE, variance=variance, sensitivity=1e150)
    stated = account(entry(release=release.digest), releases=(release,))
    signed = sign(NORTH, identity, AT, [stated])
    statement = SignedStatement.read(signed.to_bytes()).verify(identity.public)
    assert statement.accounts[0].charges() == {release: 1}
    assert statement.canonical == signed.document.encode()


def test_it_states_no_epsilon_but_the_ceilings(signed: SignedStatement) -> None:
    document = json.loads(signed.document)
    assert document["covenant"] == "account/v1"
    document["accounts"][0].pop("ceiling")
    assert "epsilon" not in json.dumps(document)


def test_another_key_is_refused(signed: SignedStatement) -> None:
    with pytest.raises(Refused, match="north is not signed with the identity key"):
        signed.verify(SigningKey.generate().public)


def test_every_change_of_the_text_is_refused(signed: SignedStatement, identity: SigningKey) -> None:
    for old, new in (('"round":1', '"round":3'), ("north", "south"), ("8", "9"), ('":', '": ')):
        changed = signed.document.replace(old, new, 1)
        assert changed != signed.document
        with pytest.raises(Refused, match="not signed"):
            SignedStatement(document=changed, signature=signed.signature).verify(identity.public)


def test_a_signature_for_another_purpose_is_refused(signed: SignedStatement, identity: SigningKey) -> None:
    other = identity.sign("covenant/members/v1", signed.document.encode())
    with pytest.raises(Refused, match="not signed"):
        SignedStatement(document=signed.document, signature=other).verify(identity.public)


def resigned(
    signed: SignedStatement, identity: SigningKey, change: Callable[[dict[str, Any]], None]
) -> SignedStatement:
    """What a site would sign that does not keep to the rules."""
    document = json.loads(signed.document)
    change(document)
    text = canonical_json(document)
    return SignedStatement(document=text.decode(), signature=identity.sign("covenant/account/v1", text))


def _set(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["accounts"][0]["entries"][0].update({key: value})


BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "unknown key": lambda document: document.update(more=1),
    "another format": lambda document: document.update(covenant="account/v2"),
    "another identity": lambda document: document.update(identity=SigningKey.generate().public),
    "no time zone": lambda document: document.update(made_at="2026-11-23T12:00:00"),
    "an account twice": lambda document: document["accounts"].append(document["accounts"][0]),
    "a ceiling that is none": lambda document: document["accounts"][0]["ceiling"].update(delta=2.0),
    "a release that is none": lambda document: document["accounts"][0]["releases"].update(
        {RELEASE.digest: {}}
    ),
    "a release under another digest": lambda document: document["accounts"][0]["releases"].update(
        {RELEASE.digest: replace(RELEASE, variance=9.0).facts()}
    ),
    "a release with more in it": lambda document: document["accounts"][0]["releases"][RELEASE.digest].update(
        x=1
    ),
    "a release nobody charged": lambda document: document["accounts"][0]["releases"].update(
        {(other := replace(RELEASE, variance=9.0)).digest: other.facts()}
    ),
    "no such stage": _set("stage", "deploy"),
    "no such run": _set("run", "run-1"),
    "a round below 0": _set("round", -1),
    "a round that is text": _set("round", "1"),
    "an unknown release": _set("release", "ef" * 32),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_a_signed_statement_that_contradicts_itself_is_refused(
    signed: SignedStatement, identity: SigningKey, defect: str
) -> None:
    with pytest.raises(Refused):
        resigned(signed, identity, BROKEN[defect]).verify(identity.public)
    resigned(signed, identity, lambda document: None).verify(identity.public)


def test_a_statement_in_another_form_than_the_canonical_one_is_refused(
    signed: SignedStatement, identity: SigningKey
) -> None:
    spaced = json.dumps(json.loads(signed.document))
    loose = SignedStatement(document=spaced, signature=identity.sign("covenant/account/v1", spaced.encode()))
    with pytest.raises(Refused, match="not in canonical form"):
        loose.verify(identity.public)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"document": 1, "signature": ""}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="no signed account statement"):
        SignedStatement.read(data)


@pytest.mark.parametrize("document", ["", "{}", "[]", '{"site": "North!"}', '{"site": 3}', "[" * 100_000])
def test_a_document_without_a_site_is_refused(document: str) -> None:
    with pytest.raises(Refused, match="names no site"):
        _ = SignedStatement(document=document, signature="").claimed_site


def test_a_statement_that_is_too_large_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protos.account_statement.MAX_STATEMENT_BYTES", 10)
    with pytest.raises(Refused, match="at most 10 are accepted"):
        SignedStatement.read(b"[" * 11)


def test_a_site_cannot_state_what_does_not_belong_together(identity: SigningKey) -> None:
    per_record = replace(RELEASE, unit=PrivacyUnit(kind=UnitKind.RECORD))
    for entries, releases in (
        ((entry(),), (RELEASE, replace(RELEASE, variance=9.0))),
        ((entry(release=per_record.digest),), (per_record,)),
    ):
        with pytest.raises(UsageError, match="the account of retail-loans cannot be stated"):
            StatedAccount.of("retail-loans", CEILING, releases, entries)
    with pytest.raises(UsageError, match="the accounts of north cannot be stated"):
        sign(NORTH, identity, AT, [account(), account()])


def test_an_attempt_may_be_charged_twice(identity: SigningKey) -> None:
    twice = sign(NORTH, identity, AT, [account(entry(), entry())])
    assert twice.verify(identity.public).accounts[0].charges() == {RELEASE: 2}


def test_times_are_kept_to_the_microsecond_in_utc(signed: SignedStatement, identity: SigningKey) -> None:
    found = signed.verify(identity.public).accounts[0].entries[0].at
    assert found == AT
    assert found.astimezone(UTC).isoformat() == "2026-11-23T11:00:00.250000+00:00"
