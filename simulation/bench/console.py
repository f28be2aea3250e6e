"""`covenant bench console`: the server time of every page with a long year in the database, over real TLS, and what a first load transfers.

1. Every GET route of the console is asked, in a signed-in officer's session, again and again; names in its path are filled from the data
   (`console_data`). Where what a page shows grows with the sites of a plan, it is asked for the plan and the run with the most as well. A route whose
   names nothing fills is counted as left out.
2. A time is from the first byte of the request to the last of the answer, on loopback, over one connection: what the browser adds is not in it.
3. A load is a page and all that it names, as a browser that takes gzip gets them without a cache.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import httpx

from coordinator.console.links import PATH, make_link
from coordinator.console.routes import all_routes
from coordinator.console.server import ConsoleServer
from coordinator.console.vault import Vault
from coordinator.control_tls import control_files
from protos.shell import tell
from simulation.bench.console_data import fill
from simulation.bench.console_events import DRAFT, RETRAINING, target
from simulation.bench.console_year import OFFICER, LongYear, Scale
from simulation.bench.report import BenchResult
from strategies.errors import CovenantError

NO_PAGES: Final[Mapping[str, str]] = {
    "/log/export": "a download of the whole log",
    "/account/qr.svg": "the picture of a secret, while one is being set up",
    "/models/{model}/windows": "is of a version that is watched, and these have released no profile",
    "/signin/provider": "leads to a provider of identities, and there is none",
    "/signin/provider/back": "comes from a provider of identities, and there is none",
}
"""GET routes that are not timed, and why."""
_BUSY: Final = 429
_OK: Final = 200
_PATIENCE_S: Final = 1.0
_NAME: Final = re.compile(r"\{(\w+)\}")
_ASSET: Final = re.compile(r'(?:src|href)="(/static/[^"]+)"')


def measure(*, scale: Scale, times: int, database: str | None, folder: Path | None) -> BenchResult:
    """Fill a database and time every page `times` times. Raises CovenantError where a page does not answer."""
    with TemporaryDirectory(prefix="covenant-bench-", dir=folder) as name:
        began = time.perf_counter()
        year = LongYear.begun(Path(name) / "home", scale, database, datetime.now(UTC))
        try:
            fill(year)
            filled = time.perf_counter() - began
            with _visitor(year) as visitor:
                pages, left_out = _pages(year)
                found = {name: visitor.timed(page, times) for name, page in pages.items()}
                loads = {name: visitor.load(page) for name, page in pages.items()}
        finally:
            year.centre.engine.dispose()
    for each in left_out:
        tell(f"left out, because nothing fills it: {each}")
    return BenchResult(bench="console", ours=_figures(found, loads, len(left_out), filled) | _scale(scale))


def _figures(
    found: Mapping[str, Sequence[float]], loads: Mapping[str, int], left_out: int, filled: float
) -> dict[str, float]:
    figures: dict[str, float] = {}
    for page, seconds in found.items():
        figures[f"{page} median_ms"] = median(seconds) * 1000
        figures[f"{page} worst_ms"] = max(seconds) * 1000
    return figures | {
        "slowest_page_ms": max(map(median, found.values())) * 1000,
        "worst_ms": max(map(max, found.values())) * 1000,
        "pages": float(len(found)),
        "left_out": float(left_out),
        "first_load_kb": loads["/"] / 1000,
        "heaviest_load_kb": max(loads.values()) / 1000,
        "fill_s": filled,
    }


def _scale(scale: Scale) -> dict[str, float]:
    return {
        "runs": float(scale.runs),
        "entries": float(scale.entries),
        "sites": float(scale.sites),
        "models": float(scale.models),
    }


@dataclass
class _Visitor:
    """A signed-in officer's browser without a screen."""

    client: httpx.Client
    _weights: dict[str, int] = field(default_factory=dict)
    """Bytes of assets."""

    def get(self, path: str) -> httpx.Response:
        """A page; when the console says that this is too often, a little later. Raises CovenantError for any other answer."""
        while True:
            answered = self.client.get(path)
            if answered.status_code == _OK:
                return answered
            if answered.status_code != _BUSY:
                raise CovenantError(f"{path} answered {answered.status_code}: nothing is measured")
            time.sleep(_PATIENCE_S)

    def timed(self, path: str, times: int) -> list[float]:
        """Seconds of each of `times` answers, after one that warms up."""
        self.get(path)
        seconds: list[float] = []
        while len(seconds) < times:
            began = time.perf_counter()
            answered = self.client.get(path)
            took = time.perf_counter() - began
            if answered.status_code == _OK:
                seconds.append(took)
            elif answered.status_code == _BUSY:
                time.sleep(_PATIENCE_S)  # and no other request, which would take the next one that is allowed
            else:
                raise CovenantError(f"{path} answered {answered.status_code}: nothing is measured")
        return seconds

    def load(self, path: str) -> int:
        """Bytes of a page with its scripts, styles and pictures, bodies as they travel."""
        answered = self.get(path)
        total = answered.num_bytes_downloaded
        for asset in set(_ASSET.findall(answered.text)):
            if asset not in self._weights:
                self._weights[asset] = self.get(asset).num_bytes_downloaded
            total += self._weights[asset]
        return total


@contextmanager
def _visitor(year: LongYear) -> Iterator[_Visitor]:
    centre = year.centre
    section = centre.settings.config.console
    if section is None:
        raise CovenantError("the coordinator to measure has no console")
    address = f"https://{section.host}:{section.port}"
    with ConsoleServer(centre):
        trusted = ssl.create_default_context(cafile=control_files(centre.settings, centre.clock()).ca)
        with httpx.Client(
            base_url=address, verify=trusted, follow_redirects=True, timeout=120, trust_env=False
        ) as client:
            vault = Vault(centre.settings.console_key_file)
            secret = make_link(centre.engine, vault, OFFICER, centre.clock())
            answered = client.post(PATH, data={"link": secret}, headers={"Origin": address})
            if answered.status_code != _OK:
                raise CovenantError(f"signing in answered {answered.status_code}")
            yield _Visitor(client)


def _pages(year: LongYear) -> tuple[Mapping[str, str], Sequence[str]]:
    """The addresses to time, by how they are called, and the routes that are left out."""
    names = _names(year)
    found: dict[str, str] = {}
    left_out: list[str] = []
    for route in all_routes():
        if route.method != "GET" or route.path in NO_PAGES:
            continue
        page = _filled(route.path, names)
        if page is None:
            left_out.append(route.path)
        else:
            found[route.path] = page + _query(route.path, names)
    return found | _searches(year) | _wide(year), left_out


def _query(path: str, names: Mapping[str, str]) -> str:
    """What a page asks for after its path."""
    match path:
        case "/log/consistency":
            return f"?old={names['seq']}&new={int(names['seq']) + 1}"
        case "/models/compare":
            return f"?first={names['ref']}&second={names['wide']}"
        case _:
            return ""


def _filled(path: str, names: Mapping[str, str]) -> str | None:
    """A route's address; a name is looked up under the first part of the path, then alone."""
    first = path.split("/")[1]
    for name in _NAME.findall(path):
        value = names.get(f"{first} {name}", names.get(name))
        if value is None:
            return None
        path = path.replace(f"{{{name}}}", value)
    return path


def _names(year: LongYear) -> Mapping[str, str]:
    """What stands in paths."""
    middle = year.scale.runs // 2
    plan, model = year.plan_of(middle), year.plan_of(year.scale.runs - 2)
    site = plan.sites.invite[0]
    return {
        "run": year.run(middle),
        "site": site,
        "population": year.population,
        "unit": "record",
        "seq": str(year.scale.entries // 2),
        "digest": plan.digest,
        "plan": plan.digest,
        "contract": year.contract.digest,
        "number": "1",
        "model": model.name,
        "version": "1",
        "ref": f"{model.name}@1",
        "models model": f"{model.name}@1",
        "models name": model.name,
        "sites name": site,
        "plans name": plan.name,
        "runs number": "1",
        "wide": f"{year.wide.plan.name}@1",
        "target": target(1),
        "draft": DRAFT,
        "loop draft": RETRAINING,
    }


def _wide(year: LongYear) -> dict[str, str]:
    """Pages about a run with many sites, its model and its plan, and about the newest plan of that name; and what grows otherwise."""
    run, plan, newest = year.wide.run, year.wide.plan.digest, year.wide_plans[-1].digest
    pages = {
        "/runs/{run}": f"/runs/{run}",
        "/runs/{run}/now": f"/runs/{run}/now",
        "/runs/{run}/course": f"/runs/{run}/course",
        "/runs/{run}/diagnosis": f"/runs/{run}/diagnosis",
        "/plans/{digest}": f"/plans/{plan}",
        "/plans/{digest}, the newest": f"/plans/{newest}",
        "/budgets/what-if": f"/budgets/what-if?plan={newest}",
        "/models/{model}": f"/models/{year.wide.plan.name}@1",
        "/models/from/run/{run}": f"/models/from/run/{run}",
        "/models/from/plan/{plan}": f"/models/from/plan/{plan}",
    }
    return {f"{name}, many sites": page for name, page in pages.items()} | {
        "/runs/{run}, going": f"/runs/{year.run(year.scale.runs - 1)}",
        "/budgets/what-if, a plan": f"/budgets/what-if?plan={year.plans[0].digest}",
        "/deployments/{target}, on trial": f"/deployments/{target(0)}",
        "/deployments/{target}/live, on trial": f"/deployments/{target(0)}/live",
    }


def _searches(year: LongYear) -> dict[str, str]:
    """Searches of the log in every way, and pages far from its end."""
    middle = year.scale.runs // 2
    since = year.at(middle).replace(microsecond=0, tzinfo=None)
    week = f"since={since.isoformat()}&until={(since + timedelta(days=7)).isoformat()}"
    far = year.scale.entries // 2
    return {
        "/log, a run": f"/log?about={year.run(middle)}",
        "/log, a site": f"/log?about={year.plan_of(middle).sites.invite[0]}",
        "/log, a plan": f"/log?about={year.plan_of(middle).digest}",
        "/log, none of an officer's": f"/log?about=officer/{OFFICER}&kind=launch",
        "/log, a frequent kind": "/log?kind=round",
        "/log, a rare kind": "/log?kind=ceiling",
        "/log, a plan's launches": f"/log?about={year.plan_of(middle).digest}&kind=launch",
        "/log, launches of a week": f"/log?kind=launch&{week}",
        "/log, a week": f"/log?{week}",
        "/log, back from the middle": f"/log?above={far}",
    }
