"""What the site has on record: its journal, what it has refused of late, its accounts, and what it knows as a witness of the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

from client.bootstrap import open_accounts, open_halts, open_standing, standing_file
from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from client.journal.answers import REFUSED
from client.journal.entries import Entry, JournalBroken
from client.journal.reading import read_journal
from client.transparency.memory import SET_BACK
from client.transparency.report import report
from protos.frames import RefusalCode

_LATELY: Final = timedelta(days=7)
_ASK: Final = {
    RefusalCode.CONTRACT: "data check",
    RefusalCode.SIGNATURE: "witness",
    RefusalCode.BUDGET: "budget",
    RefusalCode.POLICY: "history",
    RefusalCode.HALTED: "halts",
}
"""Where a refusal comes from, and the command that says more."""


def _journal(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    if not config.journal.exists():
        yield fine("journal", "this site has not run yet", str(config.journal))
        return
    try:
        facts = report(config)  # walks the whole chain
        entries = read_journal(config.journal)
    except JournalBroken as broken:
        if " is damaged: " not in str(broken):
            raise  # the disk is to be mended, and the journal may be whole
        yield wrong(
            "journal",
            str(broken),
            evidence=str(config.journal),
            then=f"covenant-agent reenrol --reason damaged --config {patient.file}",
        )
        return
    if facts["forks"]:
        yield wrong(
            "witness",
            "this site was shown two different heads of one size of the log, and takes part in nothing",
            evidence=f"{len(facts['forks'])} splits",
            then=f"covenant-agent witness --config {patient.file}, then the runbook on a forked log",
        )
    place = facts["position"]
    seen = f"{facts['entries']} entries of the log witnessed"
    where = "" if place is None else f", last at entry {place['sequence']} of journal {place['epoch'][:8]}"
    yield fine("journal", "the journal is whole, and this site's own", seen + where)
    yield from _refusals(patient, entries)


def _refusals(patient: Patient, entries: Iterable[Entry]) -> Iterator[Finding]:
    """The newest refusal of each kind, if it is of this week; and for good, that this journal is an older copy."""
    since = (patient.clock() - _LATELY).isoformat()
    refused = [each.body for each in entries if each.kind == REFUSED]
    for body in refused:
        if body["reason"].startswith(SET_BACK):
            yield wrong(
                "set back",
                body["reason"],
                evidence=_said(body),
                then=f"put the newest journal back, or: covenant-agent reenrol --reason 'set back' --config {patient.file}",
            )
            return
    for code, command in _ASK.items():
        found = [each for each in refused if each["code"] == code.name and each["at"] >= since]
        if found:
            yield doubtful(
                "refusals",
                f"{len(found)} runs were refused this week ({code.name.lower()}); the last: {found[-1]['reason']}",
                evidence=_said(found[-1]),
                then=f"covenant-agent {command} --config {patient.file}",
            )


def _said(body: Mapping[str, Any]) -> str:
    return f"{body['run']}, at {body['at'][:19]}"


def _accounts(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    if not config.accounts.exists():  # it would be begun
        return
    with closing(open_accounts(config)) as book:
        for source in config.data.values():
            if source.account is None:
                continue
            population = config.population_of(source)
            account = book.account(population, source.account)
            spent = account.ceiling.fraction(account.cost)
            evidence = f"{account.guarantee().words} of {account.ceiling.words}"
            if spent >= 1.0:
                yield wrong(
                    "accounts",
                    f"the account of {population} is used up: no private plan is taken part in",
                    evidence=evidence,
                    then="the privacy officer decides about the ceiling; see docs/site-it/accounts.md",
                )
            else:
                yield fine("accounts", f"{population}: {spent:.0%} of the account is spent", evidence)


def _halts(patient: Patient) -> Iterator[Finding]:
    if not patient.config.halts.exists():
        return
    with closing(open_halts(patient.config)) as book:
        for order in book.standing():
            yield doubtful(
                "halts",
                f"people here have halted {order.what}",
                evidence=f"{order.at:%Y-%m-%d %H:%M}: {order.reason}",
                then=f"covenant-agent resume --config {patient.file}, if that is over",
            )


def _standing(patient: Patient) -> Iterator[Finding]:
    if not standing_file(patient.config).exists():
        return
    with closing(open_standing(patient.config)) as book:
        if book.state != "taking part":
            yield doubtful(
                "standing",
                f"people here have said that this site is {book.state}: every request is refused",
                evidence=book.reason or "",
                then=f"covenant-agent return --config {patient.file}, if that is over",
            )


CHECKS: Final[Sequence[Check]] = (
    Check("journal", _journal),
    Check("accounts", _accounts),
    Check("halts", _halts),
    Check("standing", _standing),
)
