"""The three reports say the same, are escaped against their readers, and are made again byte for byte."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.report.gates import judge, parse_gate
from simulation.report.html import html
from simulation.report.junit import junit_xml
from simulation.report.markdown import escape, markdown
from simulation.report.tables import (
    ROUNDS_SHOWN,
    SITES_SHOWN,
    lowest_sites,
    rounds_table,
    sites_table,
    thin_out,
)
from simulation.report.words import byte_unit, epsilon, printable
from simulation.result import SimulationResult
from strategies.ids import SiteName
from tests.simulation.results_for_tests import (
    SCORES,
    a_failed_result,
    a_private_result,
    a_result,
    a_round,
    a_site,
)

GATES = tuple(map(parse_gate, ("auc >= 0.70", "epsilon <= 4", "rounds == 10")))
MALICIOUS = '"><script>alert(1)</script><!-- | `x` \n# [a](http://evil.test/)'
UNPRINTABLE = "a\x00b\x1bc\ud800d\ufffee"
VOID = {"meta", "link", "br", "img", "hr", "input"}
FAILED_WITHOUT_PRIVACY = judge(a_result(), GATES)


def judged(report, result: SimulationResult, gates=GATES) -> str:
    return report(result, judge(result, gates))


class Page(HTMLParser):
    """Checks that elements nest, and collects what a reader and a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def values(self, name: str) -> list[str | None]:
        return [value for key, value in self.attributes if key == name]


# JUnit


def test_junit_has_a_case_for_the_run_and_one_a_gate():
    suite = ET.fromstring(judged(junit_xml, a_result())).find("testsuite")
    assert suite.get("name") == "covenant simulate: retail-default"
    assert [case.get("name") for case in suite.iter("testcase")] == ["the run completes", *map(str, GATES)]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "0")
    assert suite.get("time") == "12.500"


def test_a_failure_carries_its_sentence():
    failures = list(ET.fromstring(judged(junit_xml, a_result())).iter("failure"))
    assert [each.get("message") for each in failures] == [FAILED_WITHOUT_PRIVACY[1].sentence]
    assert failures[0].text == FAILED_WITHOUT_PRIVACY[1].sentence


def test_a_run_that_did_not_complete_is_a_failed_case_with_its_reason():
    root = ET.fromstring(judged(junit_xml, a_failed_result(), ()))
    (failure,) = root.iter("failure")
    assert failure.text == "3 of 10 rounds were committed: 2 of 4 sites survived; 3 are needed"


def test_junit_names_seed_and_digests():
    found = {
        each.get("name"): each.get("value")
        for each in ET.fromstring(judged(junit_xml, a_result())).iter("property")
    }
    assert found == {
        "seed": "7",
        "plan digest": "ab" * 32,
        "model digest": "cd" * 32,
        "verdict": "failed",
    }
    assert 'name="model digest" value="none"' in judged(junit_xml, a_failed_result())


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=60))
def test_any_reason_is_valid_xml(reason):
    text = judged(junit_xml, a_failed_result(reason=reason))
    assert text.encode("utf-8")
    assert len(list(ET.fromstring(text.encode("utf-8")).iter("failure"))) == 1 + len(GATES)


def test_what_xml_may_not_hold_is_shown_as_replaced():
    assert printable(UNPRINTABLE) == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert printable("tab\t line\n é 漢 \U0001f600") == "tab\t line\n é 漢 \U0001f600"


def test_markup_in_a_plan_name_is_text_in_junit():
    root = ET.fromstring(judged(junit_xml, a_result(plan=MALICIOUS)))
    assert not list(root.iter("script"))
    assert "<script>" in root.get("name")


# Markdown


def test_markdown_says_the_verdict_first():
    assert judged(markdown, a_result()).startswith("## FAILED: simulation of retail-default\n")
    assert judged(markdown, a_private_result()).startswith("## PASSED: simulation of retail-default\n")
    assert judged(markdown, a_failed_result(), ()).startswith("## FAILED:")
    assert "1 of 3 gates does not hold: epsilon \\<= 4." in judged(markdown, a_result())


def test_markdown_says_what_is_not_protected():
    text = judged(markdown, a_result())
    assert "aggregation is plain, so it would see each site's update" in text
    assert (
        "privacy is none and epsilon is infinite, so nothing bounds what the model tells of a person" in text
    )


def test_markdown_says_of_a_private_run_what_it_spent():
    assert (
        "Privacy is central: epsilon is 3.200 at delta 1e-06 per record (add-or-remove-one) after the last committed round"
        in judged(markdown, a_private_result())
    )
    nothing = replace(a_failed_result(rounds=0), privacy="central")
    assert "Privacy is central: no round was committed" in judged(markdown, nothing)


def test_an_unknown_aggregation_is_not_praised():
    assert "what this mode of the plan shows it" in judged(markdown, a_result(aggregation="masked"))


@given(st.text(max_size=60))
def test_any_text_stays_in_its_cell(text):
    escaped = escape(text)
    assert len(escaped.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(\\\\)*[|<`]", escaped)


@pytest.mark.parametrize("result", [a_result(plan=MALICIOUS), a_failed_result(reason=MALICIOUS)])
def test_every_row_of_a_markdown_table_has_as_many_cells(result):
    for table in re.findall(r"(?:^\|.*\n)+", judged(markdown, result), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_a_large_run_fits_a_comment():
    assert len(judged(markdown, a_result(sites=1000, rounds=1000))) < 65_536  # GitHub's limit


# Tables


@given(st.integers(0, 3000), st.integers(2, 60))
def test_thinning_out_keeps_first_and_last_and_even_distances(number, most):
    shown = thin_out(range(number), most)
    assert len(shown) == min(number, most)
    if number:
        assert (shown[0], shown[-1]) == (0, number - 1)
    steps = [after - before for before, after in pairwise(shown)]
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)


def test_many_rounds_are_thinned_out_and_the_table_says_so():
    table = rounds_table(a_result(rounds=1000))
    assert len(table.rows) == ROUNDS_SHOWN
    assert (table.rows[0][0], table.rows[-1][0]) == ("1", "1,000")
    assert table.note.startswith("20 of 1,000 rounds")
    assert not rounds_table(a_result(rounds=ROUNDS_SHOWN)).note


def test_of_many_sites_those_with_the_lowest_auc_are_shown():
    sites = [a_site(number, auc=number / 1000) for number in range(200, 100, -1)]
    sites += [a_site(1, auc=None), a_site(2, auc=math.nan)]
    shown = lowest_sites(sites)
    assert shown[0].site == "bank-02"
    assert [each.auc for each in shown[1:]] == [number / 1000 for number in range(101, 100 + SITES_SHOWN)]
    assert "42 more" in sites_table(replace(a_result(), sites=tuple(sites))).note
    assert lowest_sites(sites[:3]) == tuple(sites[:3])


@given(st.floats(0, 1e6))
def test_epsilon_is_never_shown_as_less_than_was_spent(value):
    assert value <= float(epsilon(value).replace(",", "")) <= value + 0.0011


def test_an_absurd_epsilon_is_shown_all_the_same():
    assert epsilon(1e300).startswith("1,000,")


def test_bytes_have_a_unit_that_fits():
    assert [(byte_unit(n).name, byte_unit(n).show(n)) for n in (0, 999, 1000, 1_500_000, 2 * 10**9)] == [
        ("B", "0"),
        ("B", "999"),
        ("kB", "1.00"),
        ("MB", "1.50"),
        ("GB", "2.00"),
    ]


# HTML

PAGES = {
    "without privacy": a_result(),
    "with privacy": a_private_result(),
    "failed": a_failed_result(),
    "failed at once": a_failed_result(rounds=0),
    "one round, one site": a_result(rounds=1, sites=1),
    "no evaluation": replace(
        a_result(metrics=None), rounds=tuple(a_round(n, auc=None, log_loss=None) for n in range(1, 5))
    ),
    "no numbers": replace(
        a_result(metrics=replace(SCORES, auc=math.nan)),
        rounds=(a_round(1, auc=math.nan), a_round(2, log_loss=math.inf)),
        sites=(a_site(1, auc=math.nan, positives=math.nan), a_site(2, auc=None)),
    ),
    "nothing": replace(a_failed_result(rounds=0, reason=None), sites=()),
    "large": a_result(rounds=1000, sites=61),
    "malicious": a_result(plan=MALICIOUS, partition=MALICIOUS, privacy=MALICIOUS, aggregation=MALICIOUS),
    "malicious site": replace(a_result(), sites=(a_site(1, site=SiteName(f"$x^2$ {MALICIOUS}")),)),
    "unprintable": a_failed_result(reason=UNPRINTABLE),
}


@pytest.fixture(scope="module")
def pages():
    return {name: judged(html, result) for name, result in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_parses_and_asks_nothing_of_the_network(pages, name):
    text = pages[name]
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "form", "base"} & set(page.tags)
    assert "<script" not in text
    for attribute in ("href", "src", "xlink:href", "action", "data"):
        assert all(value == "data:," or value.startswith("#") for value in page.values(attribute)), attribute
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert re.search(r"https?://(?!evil\.test)", text) is None
    assert text.encode("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_an_id_is_used_once_and_what_is_referred_to_is_there(pages, name):
    page = Page(pages[name])
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    referred = {value[1:] for value in page.values("href") if value.startswith("#")}
    referred |= set(re.findall(r"url\(#([^)]+)\)", pages[name])) | set(page.values("aria-labelledby"))
    assert referred <= set(ids)


def test_a_policy_forbids_what_the_page_does_not_need(pages):
    (policy,) = [value for value in Page(pages["failed"]).values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert "script-src" not in policy


@pytest.mark.parametrize("name", PAGES)
def test_every_plot_has_a_name_and_a_caption(pages, name):
    page = Page(pages[name])
    plots = page.tags.count("figure")
    assert page.tags.count("figcaption") == plots
    assert page.values("role").count("img") == plots == len(page.values("aria-labelledby"))
    assert page.tags.count("title") == plots + 1
    assert "dc:date" not in pages[name]
    assert "metadata" not in page.tags


def test_plots_cover_curves_costs_and_sites(pages):
    text = Page(pages["with privacy"]).text
    for said in (
        "AUC by round",
        "Log loss by round",
        "log loss, nats a row",
        "epsilon spent so far",
        "Survivors of each roster",
        "frames, kB",
        "slowest site, ms",
        "AUC on own held-out rows",
        "Training rows",
        "% of all rows of the site",
        "gate: auc >= 0.7",
    ):
        assert said in text


def test_infinite_epsilon_is_said_in_words_and_not_drawn(pages):
    page = Page(pages["without privacy"])
    assert "Epsilon is infinite in every round, because privacy is none" in page.text
    assert "epsilon spent so far" not in page.text


def test_what_cannot_be_plotted_is_said(pages):
    assert "No round was committed, so there is nothing to plot over rounds." in pages["failed at once"]
    assert pages["no evaluation"].count("No committed round was evaluated on held-out rows.") == 2


def test_the_verdict_is_a_word_and_a_form(pages):
    assert "<strong>PASSED</strong>" in pages["with privacy"]
    assert "<circle" in pages["with privacy"]
    assert "<strong>FAILED</strong>" in pages["failed"]
    assert "2 of 4 sites survived; 3 are needed." in Page(pages["failed"]).text


def test_markup_in_names_is_shown_as_text(pages):
    assert MALICIOUS.splitlines()[0] in Page(pages["malicious"]).text
    assert "$x^2$" in Page(pages["malicious site"]).text


def test_two_pages_of_one_result_are_equal(pages, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    for name in ("with privacy", "failed"):
        assert judged(html, PAGES[name]) == pages[name]
    assert judged(markdown, a_result()) == judged(markdown, a_result())
    assert judged(junit_xml, a_result()) == judged(junit_xml, a_result())


def test_settings_of_whoever_runs_it_do_not_change_a_plot(pages):
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0, "svg.fonttype": "path"}):
        assert judged(html, PAGES["failed"]) == pages["failed"]
        assert mpl.rcParams["font.size"] == 30.0


def test_three_reports_agree_on_the_figures(pages):
    said = judged(markdown, a_result())
    text = Page(pages["without privacy"]).text
    for value in ("0.7125", "0.4387", "4.04", "2,881", "ab" * 32):
        assert value in said
        assert value in text
