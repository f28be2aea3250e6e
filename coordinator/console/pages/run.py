"""One run as it goes on, with what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine
from starlette.responses import Response

from coordinator.console.pages import run_tables as tables
from coordinator.console.pages.run_charts import charts_of
from coordinator.console.reads import progress
from coordinator.console.reads import runs as reads
from coordinator.console.reads.runs import RunRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Table
from coordinator.console.visit import Visit
from coordinator.db.engine import reading
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import FINAL_STATES, RunState
from coordinator.ledger.run_costs import run_costs
from coordinator.runs import load_documents
from protos import control_pb2 as control
from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.ids import RunId, run_id

GET: Final = "covenant.control.v1.Runs/GetRun"
STOP: Final = "covenant.control.v1.Runs/StopRun"
RESUME: Final = "covenant.control.v1.Runs/ResumeRun"
_ACCOUNTS: Final = "covenant.governance.v1.Ledger/ListAccounts"
_PLAN: Final = "covenant.governance.v1.Plans/GetPlan"
_MODELS: Final = "covenant.control.v1.Models/ListModels"
_RESUMABLE: Final = frozenset({RunState.FAILED, RunState.STOPPED})
_NOTHING_NEW: Final = 204
_MOST_EXCHANGES: Final = 20_000
_LONGEST_NUMBER: Final = 9


def show(visit: Visit) -> Response:
    """One run."""
    found = _Found.of(visit)
    engine, run = visit.centre.engine, found.row.run
    if (which := visit.query.get("format")) == "csv":
        return visit.table(_file(visit, run))
    if which:
        raise UsageError("tables are handed out as format=csv only")
    return visit.page(
        "run.html",
        found=found,
        facts=_facts(visit, found),
        models=progress.models_of(engine, run) if visit.may(_MODELS) else (),
        privacy=_privacy(visit, run),
        **_now(found),
        **_course(visit, run),
    )


def show_now(visit: Visit) -> Response:
    """Where the run stands: the part of its page that fetches itself again."""
    found = _Found.of(visit)
    if visit.query.get("shown") == found.mark:
        return Response(status_code=_NOTHING_NEW)
    return visit.page("run_now.html", found=found, **_now(found))


def show_course(visit: Visit) -> Response:
    """What came of its rounds: the part that fetches itself when something was committed."""
    found = _Found.of(visit)
    return visit.page("run_course.html", found=found, **_course(visit, found.row.run))


def show_actions(visit: Visit) -> Response:
    """What can be done about it now."""
    return visit.page("run_actions.html", found=_Found.of(visit))


def stop(visit: Visit) -> Response:
    """Stop a run that goes. One that has ended meanwhile is shown as it ended."""
    found = _Found.of(visit)
    run = found.row.run
    if visit.form.get("confirmed") != "stop":
        raise UsageError("nothing is stopped: tick the box in the form to confirm it")
    if not found.going:
        return visit.go(f"/runs/{run}", _meanwhile(found, "stopped"))
    visit.ask(STOP, control.ChangeRunRequest(request_id=visit.form.get("request_id", ""), run=run))
    return visit.go(f"/runs/{run}", f"{run} is stopped; what it committed stays")


def resume(visit: Visit) -> Response:
    """Go on with a run as it was shown. One that is otherwise by now is shown as it is."""
    found = _Found.of(visit)
    run = found.row.run
    if visit.form.get("shown") != found.stands:
        return visit.go(f"/runs/{run}", _meanwhile(found, "resumed"))
    visit.ask(RESUME, control.ChangeRunRequest(request_id=visit.form.get("request_id", ""), run=run))
    return visit.go(f"/runs/{run}", f"{run} goes on after round {found.row.committed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A run, and what was noted of it last."""

    row: RunRow
    stage: Sequence[SiteExchange]

    @classmethod
    def of(cls, visit: Visit) -> _Found:
        """The run that the path names. Raises UsageError where there is none."""
        run = run_id(visit.path["run"])
        rows = reads.of_runs(visit.centre.engine, [run])
        if not rows:
            raise UsageError(f"there is no run {run}; the list of runs has those there are")
        return cls(row=rows[0], stage=progress.latest_stage(visit.centre.engine, run))

    @property
    def going(self) -> bool:
        return self.row.state not in FINAL_STATES

    @property
    def resumable(self) -> bool:
        return self.row.state in _RESUMABLE

    @property
    def path(self) -> str:
        return f"/runs/{self.row.run}"

    @property
    def stands(self) -> str:
        """What a form that resumes it says that its page showed."""
        return f"{self.row.state} {self.row.committed}"

    @property
    def mark(self) -> str:
        """What a part of a page says that it has shown: another one by the next change."""
        changed = max((row.changed_at.isoformat() for row in self.stage), default="")
        return sha256_hex(f"{self.row.state} {self.row.committed} {changed}".encode())[:16]

    @property
    def where(self) -> str:
        """The stage that something was noted of last, in words."""
        if not self.stage:
            return "Waiting for the first exchange with its sites" if self.going else ""
        first = self.stage[0]
        stage = tables.STAGES.get(first.stage, first.stage)
        round_ = f" round {first.round}" if first.round else ""
        waiting = sum(row.waiting for row in self.stage) if self.going else 0
        step = next((row.step for row in self.stage if row.waiting), "")
        asked = (
            f": waiting for {waiting} of {len(self.stage)} sites, asked {tables.STEPS.get(step, step)}"
            if waiting
            else ""
        )
        return f"{stage}{round_}{asked}"


def _now(found: _Found) -> dict[str, Any]:
    return {"now": tables.now_table(found.stage, going=found.going)}


def _course(visit: Visit, run: RunId) -> dict[str, Any]:
    engine = visit.centre.engine
    return {
        "rounds": _rounds(visit, run, progress.MOST_ROUNDS, "#rounds"),
        "charts": charts_of(progress.course(engine, run), progress.slowest(engine, run)),
        "sites": tables.sites_table(progress.by_site(engine, run)),
        "refusals": tables.troubles_table(progress.troubles(engine, run)),
    }


def _rounds(visit: Visit, run: RunId, limit: int, suffix: str) -> Table:
    """The attempts of a page, or a file, of rounds; the addresses of others end with `suffix`."""
    below = _below(visit)
    attempts = progress.attempts(visit.centre.engine, run, below=below, limit=limit)
    last = min((each.number for each in attempts), default=1)
    return tables.rounds_table(
        attempts,
        older=f"/runs/{run}?below={last}{suffix}" if last > 1 else None,
        newer=None if below is None else f"/runs/{run}#rounds",
    )


def _below(visit: Visit) -> int | None:
    """The round below which rounds are listed. Raises UsageError."""
    below = visit.query.get("below", "")
    if below and not (below.isascii() and below.isdecimal() and len(below) <= _LONGEST_NUMBER):
        raise UsageError("rounds are listed below a number, such as below=50")
    return int(below) if below else None


def _file(visit: Visit, run: RunId) -> Table:
    """One of the tables of a run's page. Raises UsageError for a table that it has not."""
    engine, which = visit.centre.engine, visit.query.get("table", "")
    match which:
        case "stage":
            found = _Found.of(visit)
            return tables.now_table(found.stage, going=found.going, most=progress.MOST_SITES)
        case "rounds":
            return _rounds(visit, run, progress.MOST_POINTS, "&format=csv&table=rounds")
        case "sites":
            return tables.sites_table(progress.by_site(engine, run), progress.MOST_SITES)
        case "refusals":
            return tables.troubles_table(
                progress.troubles(engine, run, limit=progress.MOST_POINTS), most=progress.MOST_POINTS
            )
        case "exchanges":
            rows, below = progress.exchanges(engine, run, below=_below(visit), limit=_MOST_EXCHANGES)
            return tables.exchanges_table(
                rows, older=None if below is None else visit.with_query(below=str(below))
            )
        case "privacy":
            table = _privacy(visit, run, progress.MOST_SITES)
        case _:
            table = _figures(engine, run, which)
    if table is not None:
        return table
    raise UsageError(f"a run's page has no table {which!r} for you")


def _figures(engine: Engine, run: RunId, name: str) -> Table | None:
    """What a chart of the page draws."""
    charts = charts_of(progress.course(engine, run), progress.slowest(engine, run))
    return next((each.table for each in charts if each.table.name == name), None)


def _privacy(visit: Visit, run: RunId, most: int = tables.SHOWN_SITES) -> Table | None:
    """What the run spends, for whoever may read accounts."""
    if not visit.may(_ACCOUNTS):
        return None
    with reading(visit.centre.engine, f"reading what {run} spends") as session:
        return tables.privacy_table(run_costs(session, run), most)


def _facts(visit: Visit, found: _Found) -> Sequence[tuple[str, Cell]]:
    row = found.row
    plan = load_documents(visit.centre.engine, row.run).plan
    return (
        ("Plan", Cell(row.plan, href=f"/plans/{row.plan_digest}" if visit.may(_PLAN) else None)),
        ("Plan's digest", Cell(row.plan_digest, text=row.plan_digest[:12], code=True)),
        ("Purpose", Cell(plan.purpose)),
        ("Aggregation", Cell(plan.aggregation.mode)),
        ("Privacy", Cell(plan.privacy.mode)),
        (
            "Sites invited",
            Cell(len(plan.sites.invite), text=f"{len(plan.sites.invite)}, at least {plan.sites.minimum}"),
        ),
        ("Submitted", Cell(row.submitted_at)),
        ("Started", Cell(row.started_at)),
        ("Ended", Cell(row.finished_at)),
    )


def _meanwhile(found: _Found, word: str) -> str:
    why = f" ({found.row.reason})" if found.row.reason else ""
    return (
        f"nothing was {word}: since this page was shown, {found.row.run} is {found.row.state}{why}, with"
        f" {found.row.committed} of {found.row.rounds} rounds committed"
    )


ROUTES: Final = (
    Route("/runs/{run}", show, GET),
    Route("/runs/{run}/now", show_now, GET),
    Route("/runs/{run}/course", show_course, GET),
    Route("/runs/{run}/actions", show_actions, GET),
    Route("/runs/{run}/stop", stop, STOP, "POST", form="/runs/{run}"),
    Route("/runs/{run}/resume", resume, RESUME, "POST", form="/runs/{run}"),
)
