"""`covenant model explain`: why a model scores as it does, over all held-out rows, and application by application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coordinator.bootstrap import Centre
from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Home, Json, centre_at
from coordinator.registry.explanations import (
    agreement_words,
    between,
    explained_version,
    facts_of,
    on_balance,
    ranks,
    sentences,
)
from coordinator.registry.versions import SCORING_FILE, ModelVersion, find_version
from protos.shell import as_written, emit, people, tell
from strategies.analytics.explanations import Attributed
from strategies.errors import UsageError

if TYPE_CHECKING:
    from coordinator.deploy.scoring.decisions import SiteKey
    from coordinator.deploy.scoring.serving import Opened
    from strategies.analytics.directions import FeatureDirection

Request = Annotated[
    Path | None,
    typer.Argument(
        help="An inference request in JSON, as the scoring service takes it, with the applications to explain. Without: the model over all held-out rows."
    ),
]
DecisionsKey = Annotated[
    Path | None,
    typer.Option(
        help="With REQUEST: the key of a decision log, to tell by which digest the line of each application is found there."
    ),
]
_BAR = 30


def register(app: typer.Typer) -> None:
    """Add it to `covenant model`."""
    app.command("explain")(explain_command)


def explain_command(
    model: ModelArgument,
    request: Request = None,
    decisions_key: DecisionsKey = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """How much each feature moves scores, from what the evaluation released; or, with REQUEST, what it adds to the score of each application.

    Without REQUEST it asks no site and costs no budget. With one, captum computes contributions apart from the scoring service, and how far that differs is told.
    """
    centre = centre_at(home)
    version = find_version(centre.engine, model)
    if request is None:
        if decisions_key is not None:
            raise UsageError("--decisions-key goes with REQUEST")
        _explain_model(centre, version, json=json)
    else:
        _explain_request(centre, version, (request, decisions_key), json=json)


def _explain_model(centre: Centre, version: ModelVersion, *, json: bool) -> None:
    from coordinator.deploy.scoring.directions import direction_facts, direction_words

    found, moved = explained_version(centre.engine, version), _directions(centre, version)
    if json:
        emit(
            {"model": version.ref, **facts_of(found), "directions": [direction_facts(each) for each in moved]}
        )
        return
    explanation = found.explanation
    if explanation is not None and explanation.features:
        people.print(_table(explanation.features))
    for each in sentences(found):
        tell(each)
    for other in found.rounds[:-1]:
        tell(agreement_words(other))
    for one in moved:
        tell(direction_words(one))


def _table(features: tuple[Attributed, ...]) -> Table:
    longest = max(each.absolute.value for each in features) or 1.0
    table = Table("rank", "feature", "logits a row", "", "95 %", "share", "95 %", "on balance", "95 %")
    for each in features:
        share = each.share
        table.add_row(
            ranks(each),
            as_written(each.feature),
            f"{each.absolute.value:.4g}",
            "█" * round(_BAR * each.absolute.value / longest),
            between(each.absolute),
            "" if share is None else f"{share.value:.1%}",
            between(share, percent=True),
            on_balance(each),
            between(each.signed),
        )
    return table


def _directions(centre: Centre, version: ModelVersion) -> tuple[FeatureDirection, ...]:
    """From the files, where there are any to score with."""
    from coordinator.deploy.scoring.directions import directions_of

    if SCORING_FILE not in version.artifacts:
        return ()
    opened = _opened(centre, version)
    return directions_of(opened.onnx, opened.contract, version.ref)


def _opened(centre: Centre, version: ModelVersion) -> Opened:
    from coordinator.deploy.scoring.exports import opened_from

    files = {name: centre.artifacts.get(digest) for name, digest in version.artifacts.items()}
    return opened_from(version.name, version.version, files)


def _explain_request(
    centre: Centre, version: ModelVersion, asked: tuple[Path, Path | None], *, json: bool
) -> None:
    from coordinator.deploy.scoring.offline import explain

    request, key = asked
    found = explain(_opened(centre, version), _body(request), None if key is None else _key(key))
    digests = found.digests or (None,) * len(found.reasons)
    if json:
        rows = zip(found.scores.tolist(), found.contributions.tolist(), found.reasons, digests, strict=True)
        emit(
            {
                "model": version.ref,
                "largest_difference": found.difference,
                "rows": [
                    {
                        "probability": score,
                        "contributions": dict(zip(found.features, added, strict=True)),
                        "reasons": list(reasons),
                        "digest": digest,
                    }
                    for score, added, reasons, digest in rows
                ],
            }
        )
        return
    table = Table(
        "row", "probability", "reasons, the strongest first", *(("digest",) if found.digests else ())
    )
    for row, (score, reasons) in enumerate(zip(found.scores.tolist(), found.reasons, strict=True)):
        shown = as_written("\n".join(reasons))
        table.add_row(str(row), f"{score:.4f}", shown, *((found.digests[row],) if found.digests else ()))
    people.print(table)
    people.print(f"the service's contributions differ by at most {found.difference:.2g}", highlight=False)


def _key(path: Path) -> SiteKey:
    """A key that is there: none is made for a log that somebody else writes."""
    from coordinator.deploy.scoring.decisions import SiteKey

    if not path.is_file():
        raise UsageError(f"{path} is no file; name the key of the decision log")
    return SiteKey.at(path)


def _body(request: Path) -> bytes:
    from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES

    try:
        with request.open("rb") as file:
            body = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{request} cannot be read: {error.strerror}") from error
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(f"{request} has more than {MAX_BODY_BYTES} bytes; explain fewer applications")
    return body
