"""`covenant-agent personal`: exit codes, what is printed, and what a file that leaves says."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from client import cli
from client.keystore import load_identity, make_keys
from protos.documents import load_document
from protos.membership import MemberList
from protos.personal import PersonalStatement, require_personal
from protos.root import SignedRoot
from protos.shell import run_command
from protos.site import load_site
from tests.client.personal_for_tests import Site, alike, make_site, odd, shared_of
from tests.trust_for_tests import officers

ROWS = 2000


def left(site: Site, *arguments: str) -> int:
    """The exit code of the command line."""
    words = ["personal", *arguments, "--config", str(site.config_file)]
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: cli.app(words, standalone_mode=False))
    return int(str(caught.value.code or 0))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    officers().save(tmp_path)
    return make_site(tmp_path, odd(ROWS))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with a personal model that was offered."""
    folder = tmp_path_factory.mktemp("template")
    officers().save(folder)
    site = make_site(folder, odd(ROWS))
    make_keys(load_site(site.config_file))
    site.room.make("default", lambda _: None)
    return site


@pytest.fixture
def made(template: Site, tmp_path: Path) -> Site:
    shutil.copytree(template.folder, tmp_path / "made")
    return Site(tmp_path / "made")


def test_make_show_compare_list_and_drop(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert left(site, "make", "default") == 0
    made = said(capsys)
    assert "offered: better than the shared model" in made
    assert left(site, "show", "default") == 0
    assert said(capsys) == made
    assert left(site, "compare", "default") == 0
    told = said(capsys)
    assert "The personal model is better than the global one" in told
    assert "held-out rows, 39.87% of them positive" in told
    assert left(site, "list", "--json") == 0
    (card,) = json.loads(capsys.readouterr().out)["personal"]
    assert card["shared"] == shared_of().digest
    assert left(site, "drop", "default") == 0
    assert left(site, "show", "default") == 2
    assert left(site, "drop", "default") == 2


def test_a_closed_gate_is_said_and_closes_scoring(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.has(alike(1500))
    assert left(site, "make", "default") == 0
    assert "not offered" in said(capsys)
    out = site.folder / "scores.csv"
    assert left(site, "score", "default", str(site.folder / "rows.parquet"), "--out", str(out)) == 3
    assert "was not shown to be better" in said(capsys)
    assert not out.exists()


def test_too_few_rows_are_a_refusal(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.has(odd(200))
    assert left(site, "make", "default") == 3
    assert "Nothing can be said" in said(capsys)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_scores_are_those_of_the_model_and_of_nobody_elses_business(suffix: str, made: Site) -> None:
    table = odd(50, seed=9).drop_columns(["status"])
    file, out = made.folder / f"new.{suffix}", made.folder / "scores.csv"
    (pq.write_table if suffix == "parquet" else pyarrow.csv.write_csv)(table, file)
    found = made.room.shelf.load(shared_of().digest)
    columns = {
        "amount": table["amount"].to_numpy(),
        "income": table["income"].to_numpy(),
        "term": np.array(table["term"].to_pylist(), dtype=object),
    }
    x = found.shared.features.encode(columns, found.shared.scaling)
    shape, shared = found.shared.shape, found.shared.vector
    expected = {
        "personal": found.blend.scores(x),
        "local": shape.probabilities(found.local, x),
        "global": shape.probabilities(shared, x),
    }
    for by, scores in expected.items():
        assert left(made, "score", "default", str(file), "--out", str(out), "--by", by) == 0
        rows = pyarrow.csv.read_csv(out)
        assert rows["key"].to_pylist() == list(range(50))
        np.testing.assert_allclose(rows["score"].to_numpy(), scores, atol=1e-9)
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert (
            left(made, "score", "default", str(file), "--out", str(out), "--by", by) == 2
        )  # never overwritten
        out.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop_columns(["amount"]), "has no column 'amount'"),
        (lambda t: t.set_column(1, "amount", pa.array(["much"] * len(t))), "which is no double"),
        (lambda t: t.set_column(1, "amount", pa.array([np.inf] * len(t))), "infinite values"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change, words: str, made: Site, capsys) -> None:  # type: ignore[no-untyped-def]
    file = made.folder / "new.parquet"
    pq.write_table(change(odd(50, seed=9)), file)
    assert left(made, "score", "default", str(file), "--out", str(made.folder / "scores.csv")) == 3
    assert words in said(capsys)


# --- what may be told -----------------------------------------------------------------------------------------------------


def _told(site: Site, name: str) -> PersonalStatement:
    out = site.folder / name
    assert left(site, "tell", "default", "--out", str(out)) == 0
    return PersonalStatement.from_canonical(out.read_bytes().strip())


def test_what_is_told_is_the_same_whatever_came_of_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A personal model that helps, one that does not, rows that are too few, and one that was dropped."""
    member = make_keys(load_site(site.config_file)).verify()
    statements = []
    for name, rows, code in (("a", odd(ROWS), 0), ("b", alike(1500), 0), ("c", odd(200), 3)):
        site.has(rows)
        assert left(site, "make", "default") == code
        statements.append(_told(site, name))
    site.has(odd(ROWS))
    assert left(site, "make", "default") == 0
    assert left(site, "drop", "default") == 0
    statements.append(_told(site, "d"))
    assert len({each.model_copy(update={"at": None, "signature": ""}) for each in statements}) == 1
    (first, *_) = statements
    assert set(json.loads(first.canonical)) == {"covenant", "federation", "site", "model", "at", "signature"}
    assert (first.at.hour, first.at.minute, first.at.second) == (0, 0, 0)
    root = load_document(site.folder / "root.json", SignedRoot)
    require_personal(first, MemberList(name="demo", version=1, members=(member,)), root.root.identity)


def test_a_site_that_does_not_tell_writes_nothing(made: Site, capsys: pytest.CaptureFixture[str]) -> None:
    made.config_file.write_text(
        made.config_file.read_text().replace("{tell_registry: true}", "{folder: personal}")
    )
    out = made.folder / "told.json"
    assert left(made, "tell", "default", "--out", str(out)) == 3
    assert "`personal.tell_registry` is not set" in said(capsys)
    assert not out.exists()


def test_what_was_never_asked_for_is_not_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    make_keys(load_site(site.config_file))
    assert left(site, "tell", "default", "--out", str(site.folder / "told.json")) == 2
    assert "no personal model was asked for" in said(capsys)
    assert load_identity(load_site(site.config_file))
