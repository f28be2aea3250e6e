"""What the pages for a site's IT quote is what this code says: sentences, metrics, and the command that makes a site."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from client.accounts.views import AccountView, views
from client.bootstrap import open_accounts
from client.keystore import load_identity
from client.operation.metrics import AccountMetrics, AgentMetrics
from protos.egress import child_environment
from protos.monitoring import new_registry
from protos.site import load_site
from tests.bank_for_tests import make_bank
from tests.client import loans_for_tests as loans
from tests.tls_for_tests import certificates
from tests.trust_for_tests import officers

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "site-it"
QUOTING = (
    PAGES / "first-hour.md",
    PAGES / "witness.md",
    ROOT / "docs" / "runbooks" / "agent-does-not-connect.md",
)
_SHORTEST = 8


def said_in_source() -> str:
    """The strings of the agent's modules and of the enrolment door, those that go over several lines as one."""
    code = "\n".join(each.read_text() for room in ("client", "protos", "coordinator/enrolment") for each in (ROOT / room).rglob("*.py"))  # fmt: skip
    return re.sub(r'"\s*\n\s*f?"', "", code).replace("`", "")


def quoted(page: Path) -> list[str]:
    """What the first column of a page's last table says is said: the parts of it that stand there word by word."""
    cells = [line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| ")]
    cells = cells[max(place for place, each in enumerate(cells) if re.search(r"\bsaid|it says|refuses with", each)) + 1 :]  # fmt: skip
    quotes = [quote for cell in cells for quote in (re.findall(r"`([^`]+)`", cell) or [cell.strip()])]
    parts = [part.strip(" :,.'") for quote in quotes for part in re.split(r"\.\.\.|\b[\d.]+ h ahead of\b|\b[\d.]+\b|\b[A-Z]+\b", quote)]  # fmt: skip
    return [each for each in parts if len(each) >= _SHORTEST]


@pytest.mark.parametrize("page", QUOTING, ids=lambda each: each.stem)
def test_sentences_that_a_page_quotes_are_said(page: Path) -> None:
    source, found = said_in_source(), quoted(page)
    assert len(found) >= 4
    assert [each for each in found if each not in source] == []


def test_metrics_of_the_page_are_those_that_are_served(tmp_path: Path) -> None:
    bank, registry = make_bank(tmp_path), new_registry()
    bank.edit("south", "file: rows.parquet}", "file: rows.parquet, account: {unit: {kind: record}, epsilon: 1.0, delta: 1.0e-5}}")  # fmt: skip
    config = bank.config("south")

    def accounts() -> list[AccountView]:
        with closing(open_accounts(config)) as book:
            return list(views(config, book))

    AgentMetrics(config, registry, now=lambda: 0.0, monotonic=lambda: 0.0)
    registry.register(AccountMetrics(accounts, lambda: 1))
    served = {each.name for each in registry.collect() if each.name.startswith("covenant_agent")}
    page = (PAGES / "operation.md").read_text()
    assert served == set(re.findall(r"`(covenant_agent_\w+?)(?:_total)?(?:\{[^`]*\})?`", page))


def test_the_command_of_the_index_makes_a_site(tmp_path: Path) -> None:
    """As it stands there, with the files that it names."""
    block = re.search(r"```\n(covenant-agent init.*?)```", (PAGES / "index.md").read_text(), re.DOTALL)
    assert block is not None
    certificates(tmp_path / "tls", datetime.now(UTC), federation="retail")
    shutil.copy(tmp_path / "tls" / "ca.crt", tmp_path)
    officers("retail").save(tmp_path)
    (tmp_path / "lending-club.yaml").write_bytes(loans.CONTRACT.canonical)
    pq.write_table(loans.loans(), tmp_path / "rows.parquet")
    (tmp_path / "north.passphrase").write_text("a passphrase of this test\n")
    (tmp_path / "north.passphrase").chmod(0o600)
    words = shlex.split(block[1].replace("\\\n", " "))
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", *words[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env=child_environment() | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    site = load_site(tmp_path / "north" / "site.yaml")
    assert (site.site, site.federation.name, site.federation.superlink) == ("north", "retail", "fl.example:9092")  # fmt: skip
    assert load_identity(site).public
    assert (tmp_path / "north" / "enrolment.json").exists()
