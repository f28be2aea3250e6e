"""No value of a row leaves a site, nor stands in anything that the site writes, when all goes well and when much goes wrong."""

from __future__ import annotations

import contextlib
import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.cli import app as commands
from coordinator.cli.runs import watch
from coordinator.runs import launch
from protos.shell import people
from simulation.deployment import Deployment, free_port
from strategies.errors import Refused
from strategies.ids import site_name
from tests.canaries_for_tests import CONTRACT, Canaries, files_under, leaks, write_rows

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TAP = Path(__file__).parent / "canary_tap"
SITES = ("east", "north", "third-class", "west", "wrong-type")
GOOD = ("east", "north", "west")
PLAN = """\
covenant: plan/v1
name: {name}
purpose: credit-risk
contract: loans@1
features: [amount, income, purpose]
sites: {{members: demo@1, invite: [{invite}], minimum: 3, join_within: 60s}}
model: {{kind: logistic}}
training:
  component: tabular/1
  algorithm: fedavg
  rounds: 2
  batch_size: 16
  learning_rate: 0.1
  round_deadline: 60s
  seed: 1
aggregation: {{mode: {mode}}}
privacy: {{mode: none}}
evaluation: {{every: 1, score_bins: 50, holdout: {{by: loan_id, share: 0.3, salt: "1"}}}}
"""


class Played:
    """What is left of a run in which two of five sites cannot use their data."""

    def __init__(self, deployment: Deployment, taps: Path, pages: dict[str, str]) -> None:
        self.deployment, self.taps, self.pages = deployment, taps, pages
        self.canaries = {site: Canaries(site) for site in SITES}

    @property
    def needles(self) -> dict[bytes, str]:
        return {data: words for each in self.canaries.values() for data, words in each.needles().items()}


def agent(deployment: Deployment, site: str, *arguments: str) -> str:
    """What a command of the site's operator prints, to both of its outputs."""
    config, out = str(deployment.site_folder(site) / "site.yaml"), io.StringIO()
    refused = ""
    with people.capture() as shown, contextlib.redirect_stdout(out):
        try:
            commands([*arguments, "--config", config], standalone_mode=False)
        except Refused as error:  # rows that break their contract
            refused = str(error)
    return (out.getvalue() or shown.get()) + refused


def _damage(deployment: Deployment, canaries: dict[str, Canaries]) -> None:
    """Make the rows of two sites such as the contract refuses, each with canaries in what is wrong."""
    for site, rows in canaries.items():
        file = deployment.site_folder(site) / "data" / "rows.parquet"
        words = list(rows.words)
        match site:
            case "third-class":
                write_rows(rows.table(status=words), file)
            case "wrong-type":
                write_rows(rows.table(amount=words), file)
            case _:
                write_rows(rows.table(), file)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("canaries")
    taps = folder / "taps"
    taps.mkdir()
    (folder / "loans.yaml").write_text(CONTRACT)
    plans = {"masked": GOOD, "open": SITES}
    for name, invited in plans.items():
        mode = {"masked": "secure", "open": "plain"}[name]
        (folder / f"{name}.yaml").write_text(PLAN.format(name=name, invite=", ".join(invited), mode=mode))
    deployment = Deployment(folder / "federation")
    played = Played(deployment, taps, {})
    tables = {site_name(site): rows.table() for site, rows in played.canaries.items()}
    deployment.lay_out(tables, folder / "loans.yaml", purpose="credit-risk", allow_plain=True)
    _damage(deployment, played.canaries)
    port = free_port()
    config = deployment.site_folder("east") / "site.yaml"
    config.write_text(
        config.read_text() + f'monitoring: {{metrics: "127.0.0.1:{port}"}}\nlogging: {{level: debug}}\n'
    )
    for name in plans:
        deployment.approve(folder / f"{name}.yaml")
    with pytest.MonkeyPatch.context() as patch, deployment:
        patch.setenv("PYTHONPATH", str(TAP))
        patch.setenv("COVENANT_CANARY_TAP", str(taps))
        deployment.start_coordinator()
        for site in SITES:
            deployment.start_agent(site)
        deployment.wait_until_ready()
        for name in plans:
            run = launch(deployment.centre(), folder / f"{name}.yaml")
            with people.capture():
                watch(deployment.centre(), run)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            played.pages["metrics"] = answer.read().decode()
        for site in SITES:
            for command in (
                ("status",),
                ("history",),
                ("budget",),
                ("doctor",),
                ("witness",),
                ("data", "check"),
            ):
                for form in ((), ("--json",)):
                    played.pages[f"{site} {command} {form}"] = agent(deployment, site, *command, *form)
        yield played


def test_the_run_went_wrong_where_it_should_and_completed(played: Played) -> None:
    for site in ("third-class", "wrong-type"):
        assert '"code": "CONTRACT"' in played.deployment.log_of(site).read_text()
        kept = json.loads(agent(played.deployment, site, "history", "--json"))
        assert [each["code"] for each in kept["runs"][0]["refusals"]] == ["contract"]
        assert "1 runs were refused this week (contract)" in played.pages[f"{site} ('doctor',) ('--json',)"]
        assert '"accepted": false' in played.pages[f"{site} ('data', 'check') ('--json',)"]
    assert json.loads(agent(played.deployment, "west", "history", "--json"))["runs"][1]["trained"] == 2


def test_the_search_finds_what_it_looks_for(played: Played) -> None:
    """In the data themselves, in which every canary is; and the tap has what was sent."""
    rows = files_under(played.deployment.site_folder("west") / "data")
    needles = played.canaries["west"].needles()
    found = leaks(rows, needles)
    assert len([each for each in found if "a number, <d" in each and "base64" not in each]) == 2 * 48
    assert len([each for each in found if "as text" in each]) >= 48
    sent = b"".join(content for _, content in files_under(played.taps))
    assert b"PullMessages" in sent or b"pull" in sent.lower()
    assert b"west" in sent
    assert len(sent) > 50_000


def test_no_canary_is_anywhere_but_in_the_data(played: Played) -> None:
    places = [
        *files_under(played.deployment.folder, but=["data"]),
        *files_under(played.taps),
        *((name, text.encode()) for name, text in played.pages.items()),
    ]
    assert {"agent.json", "journal.db", "log.db"} <= {Path(name).name for name, _ in places}
    assert leaks(places, played.needles) == []


def test_metrics_say_what_happened_and_count_no_rows(played: Played) -> None:
    page = played.pages["metrics"]
    assert "covenant_agent_connected 1.0" in page
    assert 'covenant_agent_requests_total{outcome="answered",stage="train",step="unmask"} 2.0' in page
    assert "covenant_agent_disk_free_bytes" in page
    assert "rows" not in page
