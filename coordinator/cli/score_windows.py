"""`covenant score serve --monitor`, `windows` and `outcomes`: what a place counts of its decisions, what it has told, and outcomes that arrive late."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from coordinator.cli.options import Json
from coordinator.cli.signing import PassphraseFile, now, open_key
from protos.documents import load_document
from protos.shell import as_written, emit, people
from protos.windows import Monitor, Window
from strategies.errors import UsageError

if TYPE_CHECKING:
    from coordinator.deploy.scoring.windows.standing import Standing
    from coordinator.deploy.scoring.windows.watch import Watch

_MODE: Final = 0o644
_MOST_WINDOWS: Final = 1000
_SPAN: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")

StateFolder = Annotated[Path, typer.Option("--state", help="The state folder of the service.")]


def windows(
    state: StateFolder,
    export: Annotated[
        Path | None, typer.Option(help="Write the windows after --after into this file, to be carried.")
    ] = None,
    after: Annotated[int, typer.Option(help="The last sequence that was carried before.", min=0)] = 0,
    key: Annotated[
        Path | None,
        typer.Option(help="With --export: this machine's own private key, which signs what is carried."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """What this place has told of its decisions, and what its account has left."""
    from coordinator.deploy.scoring.windows.standing import standing_of
    from coordinator.deploy.scoring.windows.store import Store

    found = standing_of(Store.of(state), now().timestamp(), after)
    if export is None and key is not None:
        raise UsageError("--key signs what is exported; name a file with --export")
    if export is not None:
        _export(found, export, key, passphrase_file)
    if json:
        emit(found.facts())
        return
    people.print(_table(found.windows.windows))
    for each in found.words:
        people.print(as_written(each))
    if export is not None:
        people.print(
            as_written(f"carry {export} to the centre, and take it in with `covenant monitor import`")
        )


def outcomes(
    file: Annotated[
        Path, typer.Argument(help="CSV or Parquet with request, outcome, and row or protected attributes.")
    ],
    state: StateFolder,
    windows: Annotated[
        str,
        typer.Option(
            "--windows",
            help="Which windows the file is about, by number, such as 12 or 10-12. Each is told and charged, whatever has arrived.",
        ),
    ],
    decisions: Annotated[
        Path | None, typer.Option(help="Folder of the decision log; else `decisions` in the state folder.")
    ] = None,
    decisions_key: Annotated[
        Path | None, typer.Option("--decisions-key", help="Its key; else beside the log's folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Join outcomes that have arrived with the decisions that they are of, and tell counts of them with noise. Each counts once."""
    from coordinator.deploy.scoring.decisions import KEY_FILE, SiteKey
    from coordinator.deploy.scoring.windows.outcomes import REASONS, Bringing
    from coordinator.deploy.scoring.windows.store import Store
    from coordinator.deploy.scoring.windows.telling import Place

    log = decisions or state / "decisions"
    secret = decisions_key or log.parent / KEY_FILE
    for path in (log, secret):
        if not path.exists():
            raise UsageError(
                f"{path} does not exist; name the decision log that the service writes, and its key"
            )
    store = Store.of(state)
    place = Place.of(store, secrets.token_bytes)
    told = Bringing(place, SiteKey.at(secret), log).bring(file, _numbers(windows), now().timestamp())
    if json:
        emit(
            {
                "rows": told.rows,
                "counted": told.counted,
                "apart": dict(told.apart),
                "windows": [_facts(each) for each in told.windows],
            }
        )
        return
    people.print(
        f"{told.counted} of {told.rows} outcomes counted, in {len(told.windows)} windows", highlight=False
    )
    for reason, count in sorted(told.apart.items()):
        people.print(as_written(f"{count} {REASONS[reason]}"))


def _numbers(text: str) -> range:
    """The windows of `10-12`. Raises UsageError."""
    found = _SPAN.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last < first + _MOST_WINDOWS:
        raise UsageError(
            f"{text[:50]!r} names no windows; use a number, or two with a dash between, of at most {_MOST_WINDOWS} windows"
        )
    return range(first, last + 1)


def begin_watch(
    folder: Path, monitor: Path, place: str, decisions: Path | None, judged_by: tuple[list[Path], Path | None]
) -> Watch:
    """Watch the service with that state folder. Raises UsageError for a monitor that can tell nothing, Refused, DiskError."""
    from coordinator.deploy.scoring.windows.account import windows_that_fit
    from coordinator.deploy.scoring.windows.verdicts import Judge
    from coordinator.deploy.scoring.windows.watch import Watch

    agreed = load_document(monitor, Monitor)
    fits, period = windows_that_fit(agreed)
    if not fits:
        raise UsageError(
            f"{monitor}: not one window fits its limit of epsilon {agreed.privacy.limit.epsilon:g}; raise `noise` or the limit"
        )
    if fits < period:
        people.print(
            as_written(
                f"the limit bears {fits} of a period's {period} windows; of later ones nothing leaves this place"
            )
        )
    return Watch.begun(
        folder.absolute(),
        agreed,
        place,
        decisions or folder / "decisions",
        clock=lambda: datetime.now(UTC),
        entropy=secrets.token_bytes,
        judge=Judge.reading(agreed, *judged_by),
    )


def _export(found: Standing, path: Path, key: Path | None, passphrase_file: Path | None) -> None:
    from protos.files import replace_file

    told = found.windows if key is None else found.windows.signed(open_key(key, passphrase_file))
    replace_file(path, told.canonical + b"\n", mode=_MODE)


def _table(told: Sequence[Window]) -> Table:
    table = Table("sequence", "window", "from", "to", "model", "what", "decisions", "epsilon spent")
    for each in told:
        facts = _facts(each)
        rows = "" if facts["decisions"] is None else f"{facts['decisions']} ± {facts['std']:.0f}"
        table.add_row(
            str(each.sequence),
            str(each.number),
            f"{each.begins:%Y-%m-%d %H:%M:%S}",
            f"{each.ends:%Y-%m-%d %H:%M:%S}",
            as_written(each.model),
            facts["what"],
            rows,
            f"{each.spent:.3f}",
        )
    return table


def _facts(each: Window) -> dict[str, Any]:
    """A window without its bins: how many decisions it tells of, with the noise's standard deviation."""
    what, rows, std = "budget spent", None, None
    if each.counted is not None:
        what, rows = "inputs and scores", sum(each.counted.scores)
        std = each.counted.noise_std * len(each.counted.scores) ** 0.5
    if each.outcomes is not None:
        what, rows = "outcomes", sum(map(sum, each.outcomes.counts))
        std = each.outcomes.noise_std * (2 * len(each.outcomes.counts[0])) ** 0.5
    return {
        "sequence": each.sequence,
        "number": each.number,
        "begins": each.begins.isoformat(),
        "ends": each.ends.isoformat(),
        "model": each.model,
        "what": what,
        "decisions": rows,
        "std": std,
        "spent": each.spent,
    }
