"""`covenant-agent personal`: models of this site's own, beside the shared ones."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from client.cli.options import HERE, ConfigFile, Json
from protos.files import write_new
from protos.shell import emit, people
from protos.site import load_site
from strategies.errors import Refused

if TYPE_CHECKING:  # the room loads torch, and a running agent must not load the room
    from client.personal.room import Room
    from client.personal.shelf import Card, PersonalModel
    from client.personal.verdict import Verdict

_PRIVATE_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_SHORT: Final = 16

app = typer.Typer(
    no_args_is_help=True,
    help="Models of this site's own, made beside the shared ones from its own rows. They stay here.",
)
Model = Annotated[str, typer.Argument(help="The plan, run or digest of the shared model.")]


class Kind(StrEnum):
    """Which of the three models scores."""

    PERSONAL = "personal"
    LOCAL = "local"
    GLOBAL = "global"


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.add_typer(app, name="personal")


@app.command("make")
def make(
    model: Annotated[
        str,
        typer.Argument(
            help="The plan, run or digest of a shared model that the agent has kept, or a folder that `covenant model export` wrote."
        ),
    ],
    config: ConfigFile = HERE,
    json: Json = False,
) -> None:
    """Make a personal model of a shared one. It is offered only if it is better on rows that had no part in making it, by more than chance."""
    room = _room(config)
    with people.status("reading rows") as status:
        card = room.make(model, status.update)
    if json:
        emit(_facts(card))
        return
    _show_card(card)


@app.command("compare")
def compare(model: Model, config: ConfigFile = HERE, json: Json = False) -> None:
    """Global, personal and purely local model on the held-out rows. Each look at them is counted."""
    found, verdict = _room(config).compare(model)
    if json:
        emit({"shared": found.card.shared, "offered": found.card.gate.offered, **verdict.facts()})
        return
    _show_verdict(found, verdict)


@app.command("list")
def list_models(config: ConfigFile = HERE, json: Json = False) -> None:
    """The personal models that are here."""
    cards = list(_room(config).shelf.cards())
    if json:
        emit({"personal": [_facts(each) for each in cards]})
        return
    table = Table("plan", "shared model", "made", "how", "offered")
    for each in cards:
        offered = "yes" if each.gate.offered else "no"
        table.add_row(each.plan, each.shared[:_SHORT], f"{each.made_at:%Y-%m-%d}", each.words, offered)
    people.print(table)


@app.command("show")
def show(model: Model, config: ConfigFile = HERE, json: Json = False) -> None:
    """How a personal model was made, and what the gate said."""
    shelf = _room(config).shelf
    card = shelf.load(shelf.find(model)).card
    if json:
        emit(_facts(card))
    else:
        _show_card(card)


@app.command("drop")
def drop(model: Model, config: ConfigFile = HERE) -> None:
    """Delete a personal model. What was told of it stays told, and looks at held-out rows stay counted."""
    shelf = _room(config).shelf
    shared = shelf.find(model)
    shelf.drop(shared)
    people.print(f"dropped the personal model of {shared[:_SHORT]}", highlight=False)


@app.command("score")
def score(
    model: Model,
    file: Annotated[Path, typer.Argument(help="Parquet or CSV with the contract's feature columns.")],
    out: Annotated[Path, typer.Option(help="A new CSV file for keys and scores, mode 0600.")],
    by: Annotated[Kind, typer.Option(help="Which of the three models.")] = Kind.PERSONAL,
    config: ConfigFile = HERE,
) -> None:
    """Score applications. The personal model scores only if it was offered."""
    from client.personal.blend import Blend
    from client.personal.scoring import read_applications, scored

    room = _room(config)
    found = room.shelf.load(room.shelf.find(model))
    if by is Kind.PERSONAL and not found.card.gate.offered:
        raise Refused(
            "the personal model was not shown to be better than the shared one, and does not score; use --by global, or make it again when there are more rows"
        )
    source = room.config.source_for(found.shared.contract.ref)
    keys, rows = read_applications(file, found.shared, {} if source is None else source.columns)
    blends = {
        Kind.PERSONAL: found.blend,
        Kind.LOCAL: Blend(shape=found.blend.shape, shared=found.blend.shared, own=found.local, alpha=1.0),
        Kind.GLOBAL: Blend(shape=found.blend.shape, shared=found.blend.shared, own=found.local, alpha=0.0),
    }
    write_new(out, scored(keys, rows, blends[by]), mode=_PRIVATE_MODE)
    people.print(f"wrote {len(keys)} scores of the {by} model to {out}", highlight=False)


@app.command("tell")
def tell(
    model: Model,
    out: Annotated[Path, typer.Option(help="A new file for `covenant model personal` at the centre.")],
    config: ConfigFile = HERE,
) -> None:
    """State, signed, that this site personalises a shared model, and nothing more. Nothing is sent: a person hands the file over."""
    from client.keystore import load_identity, load_root

    room = _room(config)
    identity, root = load_identity(room.config), load_root(room.config)
    said = room.state(model, identity, root.root.identity)
    write_new(out, said.canonical + b"\n", mode=_PUBLIC_MODE)
    people.print(
        f"wrote {out}: {said.site} personalises the model {said.model[:_SHORT]}, and nothing else. It is given for having asked, and is never taken back",
        highlight=False,
    )


def _room(config: Path) -> Room:
    from client.bootstrap import utc_now
    from client.personal.room import Room

    return Room(load_site(config), utc_now)


def _facts(card: Card) -> dict[str, Any]:
    return card.model_dump(mode="json", exclude_none=True)


def _show_card(card: Card) -> None:
    rows = card.rows
    people.print(
        f"personal model of {card.plan} ({card.shared[:_SHORT]}) at {card.site}: {card.words}\n"
        f"rows: {rows['train']} to train, {rows['tune']} to tune, {rows['gate']} for the gate, {rows['held-out']} held out and not looked at,"
        f" {rows['aside']} left aside",
        highlight=False,
        markup=False,
    )
    gate = card.gate
    figures = f"loss lower by {gate.loss.value:+.4f} ({gate.loss.low:+.4f} to {gate.loss.high:+.4f}), AUC changes by {gate.auc.value:+.4f} ({gate.auc.low:+.4f} to {gate.auc.high:+.4f})"
    if gate.offered:
        words = f"offered: better than the shared model on {rows['gate']} rows that had no part in making it: {figures}"
    else:
        words = f"not offered: {rows['gate']} rows do not show that it is better than the shared model, which stays: {figures}"
    people.print(f"{words}; look {gate.looks} at these rows", highlight=False, markup=False)


def _show_verdict(found: PersonalModel, verdict: Verdict) -> None:
    rate = verdict.positives / verdict.rows
    table = Table(
        "model", "AUC", verdict.loss_name, "mean score", "calibration error",
        title=f"{found.card.plan} at {found.card.site}: {verdict.rows} held-out rows, {rate:.2%} of them positive",
    )  # fmt: skip
    for name, each in verdict.comparison.measured.items():
        table.add_row(
            name,
            f"{each.auc.value:.4f} ± {each.auc.half:.4f}",
            f"{each.loss.value:.4f} ± {each.loss.half:.4f}",
            f"{each.mean_score:.2%}",
            f"{each.calibration_error:.4f}",
        )
    people.print(table)
    for sentence in verdict.sentences:
        people.print(sentence, highlight=False, markup=False, soft_wrap=True)
    if not found.card.gate.offered:
        people.print(
            "The gate did not offer this personal model; `covenant-agent personal show` says why.",
            highlight=False,
        )
