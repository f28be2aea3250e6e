"""Texts of the console can be in another language, and all of them are found."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from coordinator.console import templates
from coordinator.console.catalogue import POT, catalogue, main, texts_of_python
from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.templates import language_of
from coordinator.console.texts import drawn, translated, translated_words, words
from tests.coordinator.console_for_tests import Pages, copied, pages


def strange(text: str) -> str:
    """Every letter with a ring, but places for values as they were: what is not marked stays readable."""
    parts = re.split(r"(\{[^}]*\}|%\([a-z_]+\)s|<[^>]+>)", text)
    return "".join(
        each if at % 2 else re.sub(r"([A-Za-z])", "\\1\u030a", each) for at, each in enumerate(parts)
    )


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pseudo-language of everything in console.pot."""
    folder = tmp_path_factory.mktemp("locales")
    with POT.open("rb") as file:
        told = read_po(file)
    made = Catalog(locale="eo", domain="console")
    for each in told:
        if each.id:
            made.add(each.id, strange(str(each.id)))
    place = folder / "eo" / "LC_MESSAGES"
    place.mkdir(parents=True)
    with (place / "console.mo").open("wb") as file:
        write_mo(file, made)
    return folder


@pytest.fixture
def pseudo(locales: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(templates, "LOCALES", locales)
    yield from fresh()


def fresh() -> Iterator[None]:
    """Nothing remembered of languages, before and after."""
    cached = (templates.languages, templates.translations, templates.environment)
    for each in cached:
        each.cache_clear()
    yield
    for each in cached:
        each.cache_clear()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console")):
        with pages(bank) as found:
            yield found


NOTHING = (
    "Nothing is halted, and nothing ever was. The form above halts everything, a run that goes, or a site."
)


@pytest.mark.usefixtures("pseudo")
def test_pages_are_in_the_language_that_the_browser_asks_for(served: Pages) -> None:
    browser = served.browser("privacy-1")
    browser.client.headers["Accept-Language"] = "eo, en;q=0.5"
    page = browser.get("/halt").text
    assert '<html lang="eo">' in page
    for text in ("What to halt", NOTHING, "Halts", "Overview", "Live"):
        assert strange(text) in page, text
        assert f">{text}<" not in page, text
    done = browser.post("/halt", {"scope": "site west", "reason": "Halts", "confirmed": "halt"})
    assert strange("{what} is halted").format(what="site west") in done.text
    assert ">Halts</td>" in done.text  # what somebody wrote is nobody's to translate
    assert strange("There is no such page") in browser.get("/nowhere").text


@pytest.mark.usefixtures("pseudo")
def test_a_language_that_there_is_not_is_answered_in_english(served: Pages) -> None:
    browser = served.browser("privacy-1")
    browser.client.headers["Accept-Language"] = "tlh, de;q=0.9"
    assert '<html lang="en">' in browser.get("/account").text


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de-AT, en", "de"),
        ("fr, pt-BR", "pt-BR"),
        ("DE", "de"),
        ("", "en"),
        (";;,,", "en"),
        ("x" * 9999, "en"),
        ("../de", "en"),
    ],
)
def test_languages_are_taken_in_the_browsers_order(accepted: str, language: str) -> None:
    assert language_of(accepted, ("en", "de", "pt-BR")) == language


@pytest.mark.usefixtures("pseudo")
def test_charts_are_in_the_language_too_but_not_what_they_are_about() -> None:
    into = templates.translations("eo")
    series = [Series(name="Halts", points=[]), Series(name=words("{what} is halted", what="west"), points=[])]
    chart = Chart(
        name="c", title="Halts", x="Plan", y="Rounds", series=series, bounds=[Bound(name="State", at=1.0)]
    )
    told = drawn(chart, into)
    assert (told["title"], told["x"], told["y"]) == (strange("Halts"), strange("Plan"), strange("Rounds"))
    assert told["series"][0]["name"] == "Halts"
    assert told["series"][1]["name"] == strange("{what} is halted").format(what="west")
    assert told["bounds"][0]["name"] == strange("State")


def test_a_catalogue_that_is_wrong_shows_english(tmp_path: Path) -> None:
    class Wrong(type(templates.translations("en"))):  # type: ignore[misc]
        def gettext(self, message: str) -> str:
            return "{nothing.of.this} {0} {"

    assert translated(words("{run} failed", run="r1"), Wrong()) == "r1 failed"
    assert translated("", Wrong()) == ""
    assert translated_words("Halts", Wrong()) == "Halts"


def test_the_catalogue_has_every_text_and_is_up_to_date() -> None:
    assert POT.read_bytes() == catalogue(), "run python -m coordinator.console.catalogue"
    assert main(["--check"]) == 0


def test_texts_in_python_are_found_where_they_stand() -> None:
    source = """
Table(name="n", caption="A" if x else "B", columns=[Column("C"), Column(label="D")], rows=[[Cell("data")]], empty="E")
Chart(name="n", title="F", x="G", y="H", series=[Series(name="data")], empty=found or "I"); Bound(name="J", at=1)
visit.go("/path", "K"); visit.go("/path", notice=words("{what} L", what="data")); _("M"); Column(f"data {x}")
"""
    assert sorted(texts_of_python(source)) == [*"ABCDEFGHIJKM", "{what} L"]


def test_a_stale_catalogue_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from coordinator.console import catalogue as module

    copy = tmp_path / "console.pot"
    shutil.copy(POT, copy)
    copy.write_text(copy.read_text().replace('msgid "Halt now"', 'msgid "Halt later"'))
    monkeypatch.setattr(module, "POT", copy)
    assert main(["--check"]) == 1
    assert "stale" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
