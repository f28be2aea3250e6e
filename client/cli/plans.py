"""`covenant-agent plan`: what this site says of a plan, and what people here say of it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from client.admission.consent import SHOWN, kind_of
from client.admission.findings import Finding, Outcome, found
from client.admission.trial import contract_of, try_plan
from client.bootstrap import consents_of, open_accounts, utc_now
from client.cli.findings import show_findings
from client.cli.options import HERE, ConfigFile, Json
from client.consents import ConsentBook
from client.keystore import load_identity
from protos.consent import Verdict, consent
from protos.documents import load_document
from protos.frames import RefusalCode
from protos.plan import Plan
from protos.plan_releases import releases_of
from protos.quantities import parse_duration
from protos.shell import emit, people
from protos.site import SiteConfig, load_site
from strategies.dp.budget import Account, BudgetRefused
from strategies.errors import Refused, UsageError

app = typer.Typer(no_args_is_help=True, help="What this site says of a plan, and who here has allowed it.")

_REFUSED: Final = Refused.exit_code

PlanFile = Annotated[str, typer.Argument(help="A plan's file.", metavar="PLAN")]
PlanNamed = Annotated[
    str,
    typer.Argument(
        help="A plan's file, or the first digits of its digest, as `plan pending` shows them.", metavar="PLAN"
    ),
]
By = Annotated[
    str | None,
    typer.Option(help="Who says so: `policy.owner` where the policy names one, or else whoever types this."),
]
Reason = Annotated[str | None, typer.Option(help="Why, in at most 500 characters; it stays at this site.")]


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.add_typer(app, name="plan")


@app.command("test")
def try_out(plan: PlanFile, config: ConfigFile = HERE, json: Json = False) -> None:
    """What this site would say of a plan, rule by rule, and why. Leaves with 3 where it would not take part now."""
    site, tried = load_site(config), load_document(Path(plan), Plan)
    with _book(site) as book:
        findings = [*try_plan(tried, site, book.given(), utc_now()), *_room(tried, site)]
    passes = not any(each.outcome in {Outcome.REFUSES, Outcome.AWAITS} for each in findings)
    if json:
        emit({"site": site.site, "plan": tried.digest, "name": tried.name, "takes_part": passes, "findings": [each.facts() for each in findings]})  # fmt: skip
    else:
        show_findings(tried, site, findings)
    if not passes:
        raise typer.Exit(_REFUSED)


@app.command("allow")
def allow(
    plan: PlanNamed,
    good_for: Annotated[
        str | None,
        typer.Option(
            "--for", help="How long, such as 7d; as long as `policy.consent_for` admits, if left out."
        ),
    ] = None,
    by: By = None,
    reason: Reason = None,
    config: ConfigFile = HERE,
) -> None:
    """Record that a person at this site consents to a plan: signed with the site's key, and good from the agent's next request on."""
    _say(plan, "allow", load_site(config), by, reason, good_for)


@app.command("deny")
def deny(plan: PlanNamed, by: By = None, reason: Reason = None, config: ConfigFile = HERE) -> None:
    """Record that a person at this site does not consent to a plan, or no longer: the agent refuses it from its next request on."""
    _say(plan, "deny", load_site(config), by, reason, None)


@app.command("pending")
def pending(config: ConfigFile = HERE, json: Json = False) -> None:
    """The plans that wait for somebody at this site to allow them."""
    site = load_site(config)
    with _book(site) as book:
        waiting = [each for each in book.waiting() if _still_waits(each.plan, site, book)]
    if json:
        plans = [
            {"plan": each.plan.digest, "name": each.plan.name, "purpose": each.plan.purpose, "at": each.at.isoformat()}
            for each in waiting
        ]  # fmt: skip
        emit({"site": site.site, "pending": plans})
        return
    table = Table("plan", "name", "purpose", "privacy", "features", "asked at (UTC)")
    for each in waiting:
        plan, at = each.plan, f"{each.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            plan.digest[:SHOWN], plan.name, plan.purpose, plan.privacy.mode, ", ".join(plan.columns), at
        )
    people.print(table, markup=False)
    if waiting:
        people.print(
            f"allow one with: covenant-agent plan allow {waiting[0].plan.digest[:SHOWN]}", highlight=False
        )


def _room(plan: Plan, site: SiteConfig) -> Iterator[Finding]:
    """Whether the site's account has room for all of the plan, as the agent asks when a run begins."""
    contract, source = contract_of(plan, site), site.source_for(plan.contract)
    if contract is None or source is None or source.account is None or plan.privacy.mode == "none":
        return
    planned, population, reason = releases_of(plan, contract), site.population_of(source), ""
    asked = {} if planned is None else planned.planned()
    try:
        if site.accounts.exists():
            with closing(open_accounts(site)) as book:
                book.require(population, source.account, asked)
        else:  # the agent begins it, and not whoever asks
            Account(name=f"{site.site}/{population}", ceiling=source.account.ceiling).require(asked)
    except BudgetRefused as refused:
        reason = str(refused)
    yield found(
        "account",
        not reason,
        "room for all of it",
        f"{source.account.ceiling.words}, less what `covenant-agent budget` shows",
        reason,
        "ask for a cheaper plan: the ceiling is the privacy officer's",
        code=RefusalCode.BUDGET,
    )


def _still_waits(plan: Plan, site: SiteConfig, book: ConsentBook) -> bool:
    """Whether it would be refused for want of consent today: an earlier consent to its kind may be enough by now."""
    findings = try_plan(plan, site, book.given(), utc_now())
    return any(each.outcome is Outcome.AWAITS and each.rule != "run.window" for each in findings)


def _say(
    named: str, verdict: Verdict, site: SiteConfig, by: str | None, reason: str | None, good_for: str | None
) -> None:
    who, now = _person(site, by), utc_now()
    with _book(site) as book:
        plan = load_document(Path(named), Plan) if Path(named).exists() else book.find(named)
        contract = contract_of(plan, site)
        if contract is None:
            raise Refused(
                f"{site.site} has no data under contract {plan.contract}, so there is nothing to consent to"
            )
        said = consent(
            federation=book.federation,
            site=site.site,
            plan=plan.digest,
            name=plan.name,
            kind=kind_of(plan, contract),
            verdict=verdict,
            by=who,
            reason=reason,
            at=now,
            expires=_until(site, now, good_for) if verdict == "allow" else None,
            signer=load_identity(site),
        )
        book.say(said)
    people.print(f"{said.words} ({plan.digest[:SHOWN]})", highlight=False, markup=False)


def _person(site: SiteConfig, by: str | None) -> str:
    owner = site.policy.owner
    if owner is not None and by not in {None, owner}:
        raise Refused(
            f"`policy.owner` of {site.site} is {owner}, who alone consents to plans here; {by} is somebody else"
        )
    return owner or by or getpass.getuser()


def _until(site: SiteConfig, now: datetime, good_for: str | None) -> datetime:
    most = site.policy.consent_for
    try:
        wanted = most if good_for is None else parse_duration(good_for)
    except ValueError as error:
        raise UsageError(f"--for is {good_for!r}: it {error}") from error
    if wanted > most:
        raise Refused(
            f"--for {good_for} is longer than `policy.consent_for` admits, {most / 86400:g} days; use that or less"
        )
    return now + timedelta(seconds=wanted)


@contextmanager
def _book(site: SiteConfig) -> Iterator[ConsentBook]:
    book = consents_of(site, load_identity(site))
    try:
        yield book
    finally:
        book.close()
