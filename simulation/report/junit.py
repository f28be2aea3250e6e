"""The verdicts as JUnit XML, which Jenkins, GitLab and the readers of GitHub Actions show beside the tests."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from simulation.report.gates import Verdict
from simulation.report.words import has_passed, printable
from simulation.result import SimulationResult


def junit_xml(result: SimulationResult, verdicts: Sequence[Verdict]) -> str:
    """One suite: the case that the run completes, then one case a gate, each failure with its sentence. Ends in a newline.

    A gate that could not be measured is a failure and not an error or a skipped case, which some readers count as green.
    """
    failures = sum(not verdict.passed for verdict in verdicts) + (not result.completed)
    totals = {
        "name": printable(f"covenant simulate: {result.plan}"),
        "tests": str(1 + len(verdicts)),
        "failures": str(failures),
        "errors": "0",
        "time": f"{result.elapsed_s:.3f}",
    }
    root = ET.Element("testsuites", totals)
    suite = ET.SubElement(root, "testsuite", {**totals, "skipped": "0"})
    _properties(suite, result, verdicts)
    _case(suite, result, "the run completes", None if result.completed else _failure(result))
    for verdict in verdicts:
        _case(suite, result, str(verdict.gate), None if verdict.passed else verdict.sentence)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document.decode("utf-8") + "\n"


def _properties(suite: ET.Element, result: SimulationResult, verdicts: Sequence[Verdict]) -> None:
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("seed", str(result.seed)),
        ("plan digest", result.plan_digest),
        ("model digest", result.model_digest or "none"),
        ("verdict", "passed" if has_passed(result, verdicts) else "failed"),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": printable(value)})


def _case(suite: ET.Element, result: SimulationResult, name: str, failure: str | None) -> None:
    """A case that fails if there is a `failure`. The run's own case carries the time, so that the suite's is their sum."""
    time = result.elapsed_s if name == "the run completes" else 0.0
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": printable(f"covenant.simulate.{result.plan}"),
            "name": printable(name),
            "time": f"{time:.3f}",
        },
    )
    if failure is not None:
        # Some readers show the attribute and some the text.
        said = ET.SubElement(case, "failure", {"message": printable(failure), "type": "covenant"})
        said.text = printable(failure)


def _failure(result: SimulationResult) -> str:
    committed = f"{len(result.rounds)} of {result.planned_rounds} rounds were committed"
    return f"{committed}: {result.reason or 'no reason was recorded'}"
