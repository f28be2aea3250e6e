"""The capacity model finds planted coefficients, says honestly how far off it is, and refuses what no plan could be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.main import build
from protos.frame_size import MAX_FRAME_BYTES
from protos.plan_sites import MAX_SITES
from protos.shell import run_command
from simulation.bench import capacity as measuring
from simulation.bench.capacity import MeasurementSizes
from simulation.capacity.fit import ROUND_S, SHIPPED, Fit, HeldOutError, Idle, Observation
from simulation.capacity.needs import Network, errors_of, needs_of
from simulation.capacity.terms import MOST_PARAMETERS, TERMS, Mode, Scale
from simulation.cli.capacity import size_of
from strategies.errors import CovenantError, UsageError
from strategies.secagg.graph import MOST_ACTIVE_SITES

PLANTED = {
    "round": 0.5,
    "site": 0.02,
    "site by site": 0.004,
    "neighbour": 0.01,
    "parameter": 1e-6,
    "site by parameter": 3e-8,
    "neighbour by parameter": 2e-8,
}
MACHINE = {"cpus": 2.0, "system": "Linux"}
SIZES = [(sites, parameters) for sites in (4, 8, 16, 32) for parameters in (10_000, 100_000, 1_000_000)]
HELD = [(12, 10_000), (24, 300_000), (64, 2_000_000)]


def figures(scale: Scale, off: float = 1.0) -> dict[str, float]:
    """What would be measured if the planted coefficients were the truth, times `off`."""
    found = {
        name: off * sum(PLANTED[term] * scale.value(term) for term in terms)
        for name, terms in TERMS[scale.mode].items()
    }
    busy = found["superlink_cpu_s"] + found["server_cpu_s"] + scale.sites * found["agent_cpu_s"]
    return found | {ROUND_S: off * 0.3 + 1.2 * busy / MACHINE["cpus"]}


def fitted(held_off: float = 1.0) -> Fit:
    observations = [
        Observation(
            mode=mode,
            sites=sites,
            parameters=parameters,
            held_out=held,
            figures=figures(Scale(mode, sites, parameters), held_off if held else 1.0),
        )
        for mode in Mode
        for held, sizes in ((False, SIZES), (True, HELD))
        for sites, parameters in sizes
    ]
    idle = [
        Idle(
            sites=sites,
            figures={"requests_a_s": 1.6 * sites, "superlink_cores": 0.01 + 0.002 * sites + 1e-5 * sites**2},
        )
        for sites in (4, 8, 16)
    ]
    return Fit.of(observations, idle, measured_at="2026-01-01", machine=MACHINE)


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fitted()


def test_planted_coefficients_are_found(fit: Fit) -> None:
    for mode, terms in TERMS.items():
        for name, of_figure in terms.items():
            found = fit.coefficients[mode][name]
            assert found == pytest.approx({term: PLANTED[term] for term in of_figure}, rel=1e-3), name
        assert fit.clock[mode] == pytest.approx({"waiting": 0.3, "computing": 1.2}, rel=1e-3)
    assert fit.idle["superlink_cores"] == pytest.approx(
        {"round": 0.01, "site": 0.002, "site by site": 1e-5}, rel=1e-3
    )


def test_a_model_that_is_right_says_that_its_error_is_small(fit: Fit) -> None:
    for error in (each for mode in Mode for each in fit.errors[mode].values()):
        assert error.worst < 1e-3
        assert error.measurements == len(HELD)


def test_a_model_that_is_wrong_about_what_it_has_not_seen_says_so() -> None:
    found = fitted(held_off=2.0)
    for error in (each for mode in Mode for each in found.errors[mode].values()):
        assert error.median == pytest.approx(0.5, rel=1e-2)


def test_what_is_held_out_shapes_no_coefficient(fit: Fit) -> None:
    assert fitted(held_off=7.0).coefficients == fit.coefficients


def test_the_worst_measurement_is_named() -> None:
    found = fitted()
    spoiled = [
        each.model_copy(update={"figures": each.figures | {"requests": 3 * each.figures["requests"]}})
        if (each.sites, each.mode) == (24, Mode.PLAIN)
        else each
        for each in found.observations
    ]
    errors = Fit.of(spoiled, found.idle_observations, measured_at="2026-01-01", machine=MACHINE).errors[
        Mode.PLAIN
    ]
    assert errors["requests"].worst == pytest.approx(2 / 3, rel=1e-3)
    assert errors["requests"].worst_at == "24 sites, 300,000 parameters"


def test_nothing_is_fitted_to_too_little_nor_without_a_measurement_held_out(fit: Fit) -> None:
    plain = [each for each in fit.observations if each.mode is Mode.PLAIN]
    with pytest.raises(
        UsageError,
        match=re.escape(
            "4 terms and 2 measurements (4 sites, 10,000 parameters; 4 sites, 100,000 parameters);"
            " measure more numbers of sites (--sites) or sizes of the model (--parameters)"
        ),
    ):
        Fit.of(plain[:2] + plain[-1:], fit.idle_observations, measured_at="2026-01-01", machine=MACHINE)
    seen = [each for each in plain if not each.held_out]
    with pytest.raises(UsageError, match="plain aggregation is held out"):
        Fit.of(seen, fit.idle_observations, measured_at="2026-01-01", machine=MACHINE)


def test_a_figure_that_was_not_measured_is_neither_fitted_to_nor_judged() -> None:
    found = fitted()
    without = [
        each.model_copy(update={"figures": {n: v for n, v in each.figures.items() if n != "database_bytes"}})
        if each.parameters > 10_000
        else each
        for each in found.observations
    ]
    fit = Fit.of(without, found.idle_observations, measured_at="2026-01-01", machine=MACHINE)
    assert fit.coefficients[Mode.PLAIN]["database_bytes"] == pytest.approx(
        {"round": 0.5, "site": 0.02}, rel=1e-3
    )
    assert fit.errors[Mode.PLAIN]["database_bytes"].measurements == 1
    gone = [each for each in without if not (each.held_out and each.parameters == 10_000)]
    fit = Fit.of(gone, found.idle_observations, measured_at="2026-01-01", machine=MACHINE)
    assert "database_bytes" not in fit.errors[Mode.PLAIN]


def test_coefficients_are_never_negative() -> None:
    """A figure that falls with size: the model says that it does not grow, rather than that it will be below nothing."""
    found = fitted()
    falling = [
        each.model_copy(update={"figures": each.figures | {"requests": 100.0 / each.sites}})
        for each in found.observations
    ]
    fit = Fit.of(falling, found.idle_observations, measured_at="2026-01-01", machine=MACHINE)
    assert all(min(fit.coefficients[mode]["requests"].values()) == 0.0 for mode in Mode)


@pytest.mark.parametrize("sites", [0, 2, MAX_SITES + 1])
def test_a_number_of_sites_that_no_secure_plan_may_invite_is_refused(sites: int) -> None:
    with pytest.raises(UsageError, match=f"{sites} sites; a plan with secure aggregation invites 3 to 1000"):
        Scale(Mode.SECURE, sites, 1000)


@pytest.mark.parametrize("parameters", [0, MOST_PARAMETERS + 1])
def test_a_model_that_no_frame_holds_is_refused(parameters: int) -> None:
    with pytest.raises(UsageError, match=f"holds a model of 1 to {MAX_FRAME_BYTES // 8}"):
        Scale(Mode.PLAIN, 4, parameters)


def test_everybody_is_everybodys_neighbour_up_to_128_sites_and_few_are_beyond() -> None:
    assert Scale(Mode.SECURE, 128, 1).neighbours == 127
    assert 10 < Scale(Mode.SECURE, 1000, 1).neighbours < 127
    assert Scale(Mode.PLAIN, 1000, 1).neighbours == 0


def test_a_thousand_sites_are_semi_honest_and_beyond_what_was_measured(fit: Fit) -> None:
    found = needs_of(fit, Scale(Mode.SECURE, 1000, 100_000_000), rounds=100)
    assert found.facts()["adversary"] == "semi-honest"
    assert "this version cannot do it: what 1000 sites know of each other as witnesses" in found.notes[0]
    assert "ends at 128 sites: this is semi-honest" in found.notes[1]
    assert found.extrapolated == (
        "1000 sites, measured up to 64",
        "100,000,000 parameters, measured up to 2,000,000",
    )
    assert needs_of(fit, Scale(Mode.SECURE, MOST_ACTIVE_SITES, 1000), rounds=1).notes == ()
    active = needs_of(fit, Scale(Mode.SECURE, 64, 2_000_000), rounds=100)
    assert (active.facts()["adversary"], active.notes, active.extrapolated) == ("active", (), ())
    assert "sees each site's update" in needs_of(fit, Scale(Mode.PLAIN, 64, 1000), rounds=1).notes[0]


def test_seconds_are_those_of_the_parts(fit: Fit) -> None:
    scale = Scale(Mode.PLAIN, 8, 100_000)
    expected = figures(scale)
    network = Network(site_mbit_s=8.0, centre_mbit_s=16.0)
    carried = expected["site_up_bytes"] + expected["site_down_bytes"]
    found = needs_of(fit, scale, rounds=10, network=network)
    assert found.network_s == pytest.approx(
        8 * carried / 2e6, rel=1e-3
    )  # all sites through the centre's line
    busy = sum(expected[f"{name}_cpu_s"] for name in ("superlink", "server", "agent"))
    assert found.round_s == pytest.approx(0.3 + busy + found.network_s, rel=1e-3)
    assert found.run_s == pytest.approx(10 * found.round_s)
    assert found.requests_a_s == pytest.approx(expected["requests"] / found.round_s, rel=1e-3)


def test_what_is_too_small_is_replaced_and_what_is_not_stays(fit: Fit) -> None:
    small = needs_of(fit, Scale(Mode.PLAIN, 4, 1000), rounds=1)
    assert small.replace == ()
    idle = [
        Idle(
            sites=each.sites,
            figures={"requests_a_s": 2.0 * each.sites, "superlink_cores": 0.002 * each.sites},
        )
        for each in fit.idle_observations
    ]
    busy = Fit.of(fit.observations, idle, measured_at="2026-01-01", machine=MACHINE)
    found = needs_of(busy, Scale(Mode.PLAIN, 1000, 1000), rounds=1)
    assert "2000 requests a second at rest keep it busy 200%" in found.replace[0]
    assert "idle_poll" in found.replace[0]
    heavy = {"database_bytes": 1e9, "artifact_bytes": 1e10, "superlink_peak_mib": 1e5, "agent_peak_mib": 1e5}
    crowded = Fit.of(
        [each.model_copy(update={"figures": each.figures | heavy}) for each in fit.observations],
        fit.idle_observations, measured_at="2026-01-01", machine=MACHINE,
    )  # fmt: skip
    told = " ".join(needs_of(crowded, Scale(Mode.PLAIN, 4, 1000), rounds=100).replace)
    for each in ("PostgreSQL", "object store", "several SuperLinks", "sites' machines"):
        assert each in told


def test_a_line_that_carries_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 0 Mbit/s"):
        Network(site_mbit_s=0.0)


@pytest.mark.parametrize(
    ("text", "means"), [("100M", 100_000_000), ("250k", 250_000), ("1.5M", 1_500_000), ("10_000", 10_000)]
)
def test_sizes_are_read_as_people_write_them(text: str, means: int) -> None:
    assert size_of(text) == means


@pytest.mark.parametrize("text", ["", "-1", "1G", "M", "1e6", "9" * 12])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="use a number"):
        size_of(text)


def test_a_fit_is_read_back_and_a_file_that_is_none_is_refused(fit: Fit, tmp_path: Path) -> None:
    file = tmp_path / "fit.json"
    file.write_text(fit.model_dump_json())
    assert Fit.read(file) == fit
    with pytest.raises(UsageError, match="cannot be read"):
        Fit.read(tmp_path / "none.json")
    for text, why in (
        ("{", "is no fit"),
        ('{"covenant": "capacity/v2"}', "covenant"),
        ("x" * (5 << 20), "at most"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=why):
            Fit.read(file)
    spoiled = fit.model_dump(mode="json")
    spoiled["coefficients"]["plain"]["requests"]["site"] = -1.0
    file.write_text(json.dumps(spoiled))
    with pytest.raises(UsageError, match=r"coefficients\.plain\.requests\.site"):
        Fit.read(file)


def test_the_fit_that_ships_is_what_its_measurements_give() -> None:
    shipped = Fit.read(SHIPPED)
    again = Fit.of(
        shipped.observations,
        shipped.idle_observations,
        measured_at=shipped.measured_at,
        machine=shipped.machine,
    )
    for mode, by_figure in shipped.coefficients.items():
        for name, found in by_figure.items():
            assert again.coefficients[mode][name] == pytest.approx(found, rel=1e-6, abs=1e-12)
        assert {name: each.worst_at for name, each in again.errors[mode].items()} == {
            name: each.worst_at for name, each in shipped.errors[mode].items()
        }


def shipped_with(change: Callable[[dict[str, Any]], object], file: Path) -> Path:
    """The fit of this release with one thing changed, as a file."""
    facts = json.loads(SHIPPED.read_text())
    change(facts)
    file.write_text(json.dumps(facts))
    return file


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f["coefficients"].pop("secure"), "coefficients lacks secure"),
        (lambda f: f["coefficients"]["plain"].pop("requests"), "coefficients.plain lacks requests"),
        (lambda f: f["coefficients"]["plain"].update(x={}), "coefficients.plain has x, which"),
        (
            lambda f: f["coefficients"]["plain"]["agent_cpu_s"].pop("site"),
            "coefficients.plain.agent_cpu_s lacks site",
        ),
        (
            lambda f: f["coefficients"]["plain"]["agent_cpu_s"].update(day=1.0),
            "coefficients.plain.agent_cpu_s has day, which",
        ),
        (lambda f: f["clock"].pop("plain"), "clock lacks plain"),
        (lambda f: f["clock"]["plain"].pop("waiting"), "clock.plain lacks waiting"),
        (lambda f: f["idle"].pop("superlink_cores"), "idle lacks superlink_cores"),
        (lambda f: f["errors"].pop("plain"), "errors lacks plain"),
        (lambda f: f["errors"]["plain"].pop(ROUND_S), "errors.plain lacks round_s"),
        (
            lambda f: f["errors"].update(plain={ROUND_S: f["errors"]["plain"][ROUND_S]}),
            "errors.plain has no figure beside round_s",
        ),
        (lambda f: f["observations"].clear(), "coefficients has plain, secure, which"),
    ],
)
def test_a_file_in_which_something_is_missing_is_no_fit(
    change: Callable[[dict[str, Any]], object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        Fit.read(shipped_with(change, tmp_path / "fit.json"))


def only_plain(facts: dict[str, Any]) -> None:
    for name in ("coefficients", "clock", "errors"):
        del facts[name]["secure"]
    facts["observations"] = [each for each in facts["observations"] if each["mode"] == "plain"]


def test_the_largest_median_and_the_largest_error_are_of_the_figures_that_have_them(fit: Fit) -> None:
    errors = {
        ROUND_S: HeldOutError(median=0.5, worst=0.9, measurements=2),
        "requests": HeldOutError(median=0.18, worst=0.18, measurements=2),
        "superlink_peak_mib": HeldOutError(median=0.17, worst=0.33, measurements=2),
    }
    found = errors_of(fit.model_copy(update={"errors": {Mode.PLAIN: errors}}), Mode.PLAIN)
    assert found.round_s == errors[ROUND_S]
    assert found.largest_median == ("requests", 0.18)
    assert found.largest_worst == ("superlink_peak_mib", 0.33)
    assert set(found.unknown) == {*TERMS[Mode.PLAIN]} - {"requests", "superlink_peak_mib"} | {
        "idle requests_a_s",
        "idle superlink_cores",
    }


Left = Callable[..., tuple[int, str, str]]


@pytest.fixture
def left(capsys: pytest.CaptureFixture[str]) -> Left:
    """With which code the command leaves, as a process would, and what it says to programs and to people."""

    def leaving(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            run_command(lambda: build()(list(words), standalone_mode=False))
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, " ".join(said.err.split())

    return leaving


def test_the_command_tells_what_it_rests_on(left: Left) -> None:
    code, out, _ = left("plan", "capacity", "--sites", "1000", "--parameters", "100M", "--json")
    facts = json.loads(out)
    assert (code, facts["sites"], facts["parameters"], facts["adversary"]) == (
        0,
        1000,
        100_000_000,
        "semi-honest",
    )
    assert facts["extrapolated"]
    assert facts["errors"][ROUND_S]["measurements"] > 0
    assert facts["fit"]["measurements"] == len(Fit.read(SHIPPED).observations)


def test_under_the_table_stand_the_largest_errors_and_the_figures_without_one(
    left: Left, tmp_path: Path
) -> None:
    def spoil(facts: dict[str, Any]) -> None:
        facts["errors"]["secure"].pop("database_bytes", None)
        facts["errors"]["secure"]["requests"].update(median=0.77, worst=0.78)
        facts["errors"]["secure"]["agent_cpu_s"].update(median=0.01, worst=0.88)

    file = shipped_with(spoil, tmp_path / "fit.json")
    code, _, told = left("plan", "capacity", "--sites", "8", "--parameters", "10k", "--fit", str(file))
    assert code == 0
    assert "the largest median is 77% (requests) and the largest error 88% (agent_cpu_s)" in told
    named = told.partition("nothing was held out: ")[2].split(", ")
    assert named[:2] == ["database_bytes", "idle requests_a_s"]
    assert named[2].startswith("idle superlink_cores")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (["--sites", "0"], "0 sites; a plan with secure aggregation invites 3 to 1000"),
        (["--sites", "1001"], "1001 sites; a plan with secure aggregation invites 3 to 1000"),
        (["--sites", "4", "--site-line", "0"], "--site-line 0: a line carries more than 0 Mbit/s"),
        (["--sites", "4", "--centre-line", "-2"], "--centre-line -2: a line carries more than 0 Mbit/s"),
    ],
)
def test_the_command_refuses_what_cannot_be_with_one_sentence(
    left: Left, asked: list[str], sentence: str
) -> None:
    code, out, told = left("plan", "capacity", "--parameters", "1M", *asked)
    assert (code, out) == (2, "")
    assert sentence in told
    assert "Traceback" not in told


def test_a_fit_without_the_mode_that_is_asked_for_is_refused(left: Left, tmp_path: Path) -> None:
    file = str(shipped_with(only_plain, tmp_path / "fit.json"))
    asked = ("plan", "capacity", "--sites", "8", "--parameters", "10k", "--fit", file)
    assert left(*asked, "--aggregation", "plain")[0] == 0
    code, _, told = left(*asked)
    assert code == 2
    assert "has no measurement of secure aggregation, only of plain; make one" in told


def test_sizes_hold_out_their_middle_and_their_largest_and_too_few_are_refused() -> None:
    sizes = MeasurementSizes.of([4, 8, 12, 16], [1000, 2000, 4000, 8000], rounds=3)
    held = {(s, p) for s in sizes.sites for p in sizes.parameters if sizes.is_held_out(s, p)}
    assert (16, 8000) in held
    assert {s for s, _ in held} == set(sizes.sites)
    assert all((12, p) in held and (s, 4000) in held for s in sizes.sites for p in sizes.parameters)
    assert not MeasurementSizes.of(None, [1000, 2000, 4000], rounds=3).is_held_out(4, 2000)
    usual = MeasurementSizes()
    assert (64, 1_000_000) not in usual.together, "one machine carries all sites"
    assert [(s, p) for s, p in usual.together if usual.is_held_out(s, p) and p != 300_000] == [
        (16, 1_000_000),
        (64, 100_000),
    ]
    with pytest.raises(UsageError, match=r"--sites is given 3 different values \(4, 8, 16\); a fit needs 4"):
        MeasurementSizes.of([4, 8, 8, 16], None, rounds=3)
    with pytest.raises(UsageError, match=r"--parameters is given 2 different values \(1000, 2000\)"):
        MeasurementSizes.of(None, [1000, 2000], rounds=3)


def test_sizes_that_leave_too_little_of_one_way_to_sum_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match="at 3, 4 sites, where secure aggregation can be measured, 2 "):
        MeasurementSizes.of([1, 2, 3, 4], [1000, 2000, 4000], rounds=3)
    with pytest.raises(UsageError, match=r"where secure aggregation can be measured, 6 .* and 0 held out"):
        MeasurementSizes.of([4, 8, 200, 300], [1000, 2000, 4000], rounds=3)
    plain = MeasurementSizes.of([200, 300, 400, 500], [1000, 2000, 4000, 8000], rounds=3)
    assert plain.sites == (200, 300, 400, 500)


def refuse_to_measure(_: MeasurementSizes) -> Fit:
    pytest.fail("measured before it was known whether the fit can be written")


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("nowhere/fit.json", "nowhere/fit.json (No such file or directory); name another file with --out"),
        ("there.json", "there.json exists; name a new file with --out"),
    ],
)
def test_a_fit_that_cannot_be_written_is_refused_before_it_is_measured(
    out: str, sentence: str, left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.json").write_text("kept")
    monkeypatch.setattr(measuring, "measure", refuse_to_measure)
    code, _, told = left("bench", "capacity", "--out", str(tmp_path / out))
    assert code == 2
    assert sentence in told
    assert (tmp_path / "there.json").read_text() == "kept"


def test_a_measured_fit_is_written_and_nothing_is_left_of_one_that_failed(
    fit: Fit, left: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fit.json"

    def fail(_: MeasurementSizes) -> Fit:
        assert out.exists()
        raise CovenantError("a federation of 4 sites did not start")

    monkeypatch.setattr(measuring, "measure", fail)
    assert left("bench", "capacity", "--out", str(out))[0] == 1
    assert not out.exists()
    monkeypatch.setattr(measuring, "measure", lambda _: fit)
    code, said, _ = left("bench", "capacity", "--out", str(out), "--json")
    assert code == 0
    assert Fit.read(out) == fit == Fit.model_validate(json.loads(said)["fit"])
