"""`covenant ledger ceiling`: a decision on an account, drafted at the centre, signed by officers wherever they are, carried out at the centre."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.cli.options import Access, Home, Json, desk_at
from coordinator.cli.signing import (
    PUBLIC_MODE,
    OfficerKey,
    OfficerName,
    PassphraseFile,
    Yes,
    confirm,
    open_key,
    read_signed_root,
)
from coordinator.ledger.ceilings import Proposal
from coordinator.ledger.units import UNIT_HELP, parse_unit
from protos.ceilings import CeilingDecision, SignedCeiling
from protos.documents import load_document
from protos.files import replace_file, write_new
from protos.keys import grouped
from protos.shell import emit, tell
from strategies.errors import UsageError
from strategies.ids import site_name

app = typer.Typer(
    no_args_is_help=True,
    help="Ceilings of accounts: decided by privacy officers, in a file that goes from one to the next.",
)

DecisionFile = Annotated[Path, typer.Argument(help="The decision, as `ceiling draft` wrote it.")]


@app.command("draft")
def draft(
    site: Annotated[str, typer.Argument(help="The site.")],
    population: Annotated[
        str, typer.Argument(help="The population's name at the site: its key under `data` in site.yaml.")
    ],
    *,
    unit: Annotated[str, typer.Option(help=UNIT_HELP)],
    epsilon: Annotated[float, typer.Option(help="The most epsilon that one unit may ever lose, at --delta.")],
    delta: Annotated[float, typer.Option(help="Above 0 and below 1, such as 1e-6.")],
    reason: Annotated[str, typer.Option(help="Why; kept for good.")],
    out: Annotated[Path, typer.Option(help="The draft to write, such as north.ceiling.json.")],
    alert_at: Annotated[
        list[float] | None,
        typer.Option(
            help="Fraction of the ceiling to alert at, such as 0.8; repeatable. Without it, as before."
        ),
    ] = None,
    overlap: Annotated[
        list[str] | None,
        typer.Option(help="Site at which the same persons may be; repeatable. Without it, as before."),
    ] = None,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="No site has the same persons any more.")
    ] = False,
    order: Annotated[
        int | None,
        typer.Option(
            help="Order of the Rényi filter, at the first ceiling only; without it, the one that suits it."
        ),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Draft the ceiling of an account, or the first one, which opens it. It says all that will hold, and changes nothing yet.

    One privacy officer may open an account or lower its ceiling; raising it takes two. A ceiling below what is spent is refused.
    """
    if no_overlap and overlap:
        raise UsageError("--overlap and --no-overlap contradict each other; give one of them")
    proposal = Proposal(
        epsilon=epsilon,
        delta=delta,
        unit=parse_unit(unit),
        reason=reason,
        alert_at=alert_at or None,
        overlaps=[] if no_overlap else overlap or None,
        order=order,
    )
    drafted = desk_at(home, access).ledger.draft_ceiling(site_name(site), population, proposal)
    write_new(out, SignedCeiling(decision=drafted.decision).canonical + b"\n", mode=PUBLIC_MODE)
    if json:
        emit({**_facts(SignedCeiling(decision=drafted.decision)), "officers_needed": drafted.officers})
        return
    tell(words(drafted.decision))
    because = f", because of {drafted.loosens}" if drafted.loosens else ""
    tell(
        f"a draft: it takes {drafted.officers} privacy officer{'s' * (drafted.officers > 1)}{because}: {out}"
    )


@app.command("sign")
def sign(
    decision: DecisionFile,
    officer: OfficerName,
    key: OfficerKey,
    root: Annotated[
        Path, typer.Option("--root", help="The federation's root, in any version that you trust.")
    ],
    passphrase_file: PassphraseFile = None,
    *,
    yes: Yes = False,
) -> None:
    """Sign a decision as a privacy officer, after reading what it says."""
    signed, trusted = load_document(decision, SignedCeiling), read_signed_root(root)
    if signed.decision.federation != trusted.identity:
        raise UsageError(
            f"{decision} is for the federation with root {grouped(signed.decision.federation)}, and {root} is of the one with root"
            f" {grouped(trusted.identity)}"
        )
    tell(words(signed.decision))
    confirm("Sign this decision?", yes=yes)
    signed = signed.signed_with(officer, open_key(key, passphrase_file))
    replace_file(decision, signed.canonical + b"\n", mode=PUBLIC_MODE)
    tell(f"signed by {', '.join(each.officer for each in signed.statements)}: {decision}")


@app.command("show")
def show(decision: DecisionFile, json: Json = False) -> None:
    """What a decision says, and who has signed it. Whether they may is judged when it is carried out."""
    signed = load_document(decision, SignedCeiling)
    if json:
        emit(_facts(signed))
        return
    tell(words(signed.decision))
    tell(f"signed by {', '.join(each.officer for each in signed.statements) or 'nobody'}")


@app.command("apply")
def apply(decision: DecisionFile, home: Home = None, access: Access = None, json: Json = False) -> None:
    """Carry out a decision that enough privacy officers have signed, and put it into the log."""
    signed = load_document(decision, SignedCeiling)
    done = desk_at(home, access).ledger.apply_ceiling(signed)
    if json:
        emit({**done.account, "alerts_reached_now": list(done.alerts)})
        return
    said = signed.decision
    tell(f"{said.site}/{said.population}: the ceiling is {done.account['ceiling']['words']}")
    for each in done.alerts:
        tell(f"alert: {each['fraction']:.0%} of it is spent already")


def words(decision: CeilingDecision) -> str:
    """What officers decide, for whoever signs it."""
    alerts = ", ".join(f"{each!r}" for each in decision.alert_at) or "none"
    return "\n".join(
        (
            f"{decision.words}, digest {decision.digest}",
            f"   the ceiling is {decision.terms.words}, by a filter of order {decision.terms.order}",
            f"   alerts at {alerts}; the same persons may be at {', '.join(decision.overlaps) or 'no other site'}",
            f"   because: {decision.reason}",
            f"   drafted {decision.at:%Y-%m-%d %H:%M} UTC, in the federation with root {grouped(decision.federation)}",
        )
    )


def _facts(signed: SignedCeiling) -> dict[str, Any]:
    facts = signed.decision.model_dump(mode="json")
    return {
        **facts,
        "digest": signed.decision.digest,
        "signed_by": [each.officer for each in signed.statements],
    }
