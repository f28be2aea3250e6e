"""`covenant privacy` as a person types it: exit codes, one object on stdout, words and a chart on stderr."""

from __future__ import annotations

import re
from pathlib import Path

# Reads only what the command wrote a moment ago.
from xml.etree import ElementTree as ET

import pytest

from coordinator.cli.epsilon_chart import EpsilonChart, ticks
from coordinator.documents import read_plan
from protos.plan_costs import Spent
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.private_plan_for_tests import (
    CENTRAL,
    CUSTOMERS,
    EXEMPTING,
    LOCAL,
    NONE,
    SITES,
    plan_text,
    write_documents,
)

RECORD = PrivacyUnit(kind=UnitKind.RECORD)


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


# --- explain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [(), CENTRAL, LOCAL, CUSTOMERS, SITES, EXEMPTING])
def test_every_epsilon_that_people_read_has_its_delta_unit_and_neighbours(
    tmp_path, covenant, changes
) -> None:
    write_documents(tmp_path, *changes)
    code, out, err = covenant("privacy", "explain", "plan.yaml")
    assert (code, out) == (0, "")
    told = re.findall(r"epsilon (?:[0-9.]+|unbounded)(.*)", err)
    assert len(told) >= 5
    assert all(
        re.match(r" at delta 1e-05 per (record|site|customer \(.*\)) \(add-or-remove-one\)", each)
        for each in told
    )


def test_a_private_plan_is_explained_in_words_numbers_and_a_chart(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    err = covenant("privacy", "explain", "plan.yaml")[2]
    for words in (
        "only the noisy sum of at least 3 sites exists anywhere",
        "45 at most, 5 of them for attempts that come to nothing",
        "2 are counted on, of the 3 or more sites of a sum, of which 1 may collude",
        "if nobody colludes",
        "if only a site's own noise counts",
        "epsilon over rounds, at delta 1e-05 per record (add-or-remove-one)",
        "40 rounds",
        "takes part at all",
        "The choice of sites",
        "What a site does itself",
        "`contract`",
    ):
        assert words in err


def test_a_plan_above_its_limit_is_explained_and_said_to_be_refused(tmp_path, covenant) -> None:
    write_documents(tmp_path, ("epsilon: 8.0", "epsilon: 2.0"))
    assert covenant("plan", "check", "plan.yaml")[0] == 2
    code, _, err = covenant("privacy", "explain", "plan.yaml")
    assert code == 0
    assert "above its limit:" in err
    assert "`covenant plan check` refuses this plan" in err


def test_without_privacy_people_read_that_nothing_protects_and_no_number(tmp_path, covenant) -> None:
    write_documents(tmp_path, *NONE)
    code, _, err = covenant("privacy", "explain", "plan.yaml")
    assert code == 0
    assert "Privacy mode none: nothing protects a person's rows" in err
    assert "Everything: no noise is added to anything" in err
    assert "epsilon" not in err
    facts = facts_of(covenant, "privacy", "explain", "plan.yaml")
    assert (facts["mode"], facts["figures"]) == ("none", None)
    assert [each["alone"] for each in facts["stages"]] == [None, None, None]


def test_an_exempt_stage_is_told_apart(tmp_path, covenant) -> None:
    write_documents(tmp_path, *EXEMPTING)
    assert "everything: no noise, no guarantee" in covenant("privacy", "explain", "plan.yaml")[2]
    facts = facts_of(covenant, "privacy", "explain", "plan.yaml")
    assert [each["exempt"] for each in facts["stages"]] == [False, False, True]
    assert facts["not_protected"][0].startswith("The evaluation counts: the plan exempts evaluation")


def test_json_has_no_bare_epsilon_and_null_for_unbounded(tmp_path, covenant) -> None:
    write_documents(tmp_path, *CENTRAL)
    figures = facts_of(covenant, "privacy", "explain", "plan.yaml")["figures"]
    assert figures["own_noise_only"]["epsilon"] is None
    assert "unbounded" in figures["own_noise_only"]["words"]

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if "epsilon" in value:
                assert {"delta", "unit", "neighbours", "words"} <= set(value)
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(figures)


def test_another_contract_is_refused(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    other = tmp_path / "other.yaml"
    other.write_text((tmp_path / "lending-club.yaml").read_text().replace("version: 1", "version: 2"))
    code, out, err = covenant("privacy", "explain", "plan.yaml", "--contract", "other.yaml", "--json")
    assert (code, out) == (2, "")
    assert "is for contract lending-club@1, but this is lending-club@2" in err


# --- charts ------------------------------------------------------------------------------------------------------------


def test_the_svg_is_a_named_picture_without_scripts_or_references(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    assert covenant("privacy", "explain", "plan.yaml", "--svg", "chart.svg")[0] == 0
    text = (tmp_path / "chart.svg").read_text()
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert root.get("role") == "img"
    named = {each.get("id"): each.text for each in root if each.tag in {f"{space}title", f"{space}desc"}}
    assert set(root.get("aria-labelledby").split()) == set(named)
    assert "at delta 1e-05 per record (add-or-remove-one)" in named["epsilon-title"]
    assert "limit is 8" in named["epsilon-desc"]
    assert {each.tag.removeprefix(space) for each in root.iter()} == {
        "svg", "title", "desc", "rect", "text", "line", "polyline",
    }  # fmt: skip
    assert "href" not in text
    assert "url(" not in text


def test_no_chart_is_drawn_where_nothing_is_promised(tmp_path, covenant) -> None:
    write_documents(tmp_path, *NONE)
    code, _, err = covenant("privacy", "explain", "plan.yaml", "--svg", "chart.svg")
    assert code == 2
    assert "leave --svg out" in err
    assert not (tmp_path / "chart.svg").exists()


def test_a_chart_that_cannot_be_written_is_a_sentence(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    code, _, err = covenant("privacy", "explain", "plan.yaml", "--svg", "nowhere/chart.svg")
    assert code == 2
    assert "nowhere/chart.svg cannot be written" in err


def chart(*epsilons: tuple[float, float], limit: float = 8.0) -> EpsilonChart:
    def figure(epsilon: float) -> Guarantee:
        return Guarantee(epsilon=epsilon, delta=1e-5, unit=RECORD)

    rounds = [
        Spent(number=number, smooth=figure(smooth), at_most=figure(at_most))
        for number, (smooth, at_most) in enumerate(epsilons)
    ]
    return EpsilonChart("a<b>&'\"", rounds, figure(limit))


def test_the_terminal_chart_is_as_high_as_what_it_shows() -> None:
    lines = chart((0.0, 0.0), (4.0, 8.0), (8.0, 8.0)).lines()
    rows = [line.partition("┤" if "┤" in line else "│")[2] for line in lines[1:11]]
    columns = ["".join(row[at] for row in rows) for at in (0, 30, 59)]
    assert columns[0] == "┄" + " " * 9
    assert columns[1] == "░" * 5 + "█" * 5
    assert columns[2] == "█" * 10
    assert {len(row) for row in rows} == {60}
    assert lines[1].startswith("    8.00 ┤")


def test_the_limit_is_a_line_where_it_is() -> None:
    rows = chart((0.0, 0.0), (8.0, 8.0), limit=4.0).lines()[1:11]
    assert [at for at, row in enumerate(rows) if "┄" in row] == [5]


def test_names_in_an_svg_are_text() -> None:
    root = ET.fromstring(chart((1.0, 2.0)).svg())
    assert any("a<b>&'\"" in (each.text or "") for each in root.iter())


@pytest.mark.parametrize(
    ("highest", "values"),
    [
        (8.0, [0, 2, 4, 6, 8]),
        (60, [0, 10, 20, 30, 40, 50, 60]),
        (0.07, [0, 0.02, 0.04, 0.06]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (10_000, [0, 2000, 4000, 6000, 8000, 10000]),
        (0, [0]),
    ],
)
def test_ticks_are_round_numbers_up_to_the_highest(highest, values) -> None:
    assert ticks(highest) == values


# --- calibrate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [[], ["--split", "preparation=0.1,evaluation=0.2"], ["--vary", "rounds"], ["--vary", "sampling"]],
)
def test_a_calibrated_plan_that_was_written_passes_the_check_and_keeps_its_comments(
    tmp_path, covenant, options
) -> None:
    write_documents(tmp_path)
    facts = facts_of(
        covenant, "privacy", "calibrate", "plan.yaml", "--epsilon", "4", *options, "--write", "new.yaml"
    )
    assert facts["written"] == "new.yaml"
    assert facts["after"]["epsilon"] <= 4.0 < facts["before"]["epsilon"]
    plan, _ = read_plan(tmp_path / "new.yaml")
    assert plan.digest == facts["digest"]
    assert covenant("plan", "check", "new.yaml")[0] == 0
    assert plan.privacy.noise.training == facts["values"]["privacy"]["noise"]["training"]
    old, new = plan_text().splitlines(), (tmp_path / "new.yaml").read_text().splitlines()
    changed = {
        old_line.split(":")[0].strip()
        for old_line, new_line in zip(old, new, strict=True)
        if old_line != new_line
    }
    by_option = {"--vary": {"rounds": {"limit", "rounds"}, "sampling": {"limit", "expected_batch"}}}
    assert changed == (by_option["--vary"][options[1]] if "--vary" in options else {"limit", "noise"})


def test_people_read_both_costs_and_lines_to_paste(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    code, out, err = covenant("privacy", "calibrate", "plan.yaml", "--epsilon", "4")
    assert (code, out) == (0, "")
    noise = facts_of(covenant, "privacy", "calibrate", "plan.yaml", "--epsilon", "4")["values"]["privacy"][
        "noise"
    ]
    assert f"noise: {{training: {noise['training']}, preparation: 8.0, evaluation: 6.0}}" in err
    assert "limit: {epsilon: 4.0, delta: 1e-05}" in err
    assert err.count("at delta 1e-05 per record (add-or-remove-one)") == 2


def test_a_plan_is_never_overwritten(tmp_path, covenant) -> None:
    write_documents(tmp_path)
    code, _, err = covenant("privacy", "calibrate", "plan.yaml", "--epsilon", "4", "--write", "plan.yaml")
    assert code == 2
    assert "never overwritten" in err
    assert (tmp_path / "plan.yaml").read_text() == plan_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epsilon", "nan"], "epsilon is nan"),
        (["--epsilon", "0"], "epsilon is 0.0"),
        (["--epsilon", "-1"], "epsilon is -1.0"),
        (["--epsilon", "inf"], "epsilon is inf"),
        (["--epsilon", "4", "--delta", "0"], "delta is 0.0"),
        (["--epsilon", "4", "--delta", "1"], "delta is 1.0"),
        (["--epsilon", "4", "--delta", "nan"], "delta is nan"),
        (["--epsilon", "4", "--split", "preparation"], "--split is 'preparation'"),
        (["--epsilon", "4", "--split", "preparation=nan"], "the share of preparation is nan"),
        (["--epsilon", "4", "--split", "training=0.5"], "takes no share"),
        (["--epsilon", "4", "--split", "evaluation=0.1,evaluation=0.2"], "names evaluation twice"),
        (["--epsilon", "0.01"], "cannot be brought to epsilon 0.010"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, covenant, options, sentence) -> None:
    write_documents(tmp_path)
    code, out, err = covenant("privacy", "calibrate", "plan.yaml", "--json", *options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--epsilon", "four"], ["--epsilon", "4", "--vary", "clip"], []])
def test_options_that_are_none_are_usage_errors(tmp_path, covenant, arguments) -> None:
    write_documents(tmp_path)
    assert covenant("privacy", "calibrate", "plan.yaml", *arguments)[0] == 2


def test_a_plan_without_privacy_is_not_calibrated(tmp_path, covenant) -> None:
    write_documents(tmp_path, *NONE)
    code, out, err = covenant("privacy", "calibrate", "plan.yaml", "--epsilon", "4", "--json")
    assert (code, out) == (2, "")
    assert "privacy mode none: nothing protects a person's rows" in err
