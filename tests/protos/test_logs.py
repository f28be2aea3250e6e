"""What a log tells of an exception, and what it keeps to itself."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import structlog

from protos.logs import Logging, configure
from strategies.errors import CovenantError

SECRET = "CANARY-4711"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    handlers = list(logging.getLogger().handlers)
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def fail(word: str) -> None:
    row = {"customer": word}
    raise ValueError(f"could not convert {row['customer']!r}")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_strangers_words_and_local_variables_are_not_told(
    capsys: pytest.CaptureFixture[str], form: str
) -> None:
    configure(Logging.model_validate({"form": form}))
    try:
        fail(SECRET)
    except ValueError:
        structlog.get_logger().exception("the app failed")
    told = capsys.readouterr().err
    assert SECRET not in told
    assert "ValueError" in told
    assert "test_logs.py" in told
    assert "fail" in told


def test_our_own_words_are_told_and_the_cause_behind_them_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(form="json"))
    try:
        try:
            fail(SECRET)
        except ValueError as error:
            raise CovenantError("column 'amount' has 3 infinite values") from error
    except CovenantError:
        structlog.get_logger().exception("failed")
    (line,) = lines(capsys)
    assert [each.get("words") for each in line["error"]] == ["column 'amount' has 3 infinite values", None]  # type: ignore[attr-defined]
    assert SECRET not in json.dumps(line)


def test_a_process_without_rows_tells_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(form="json"), words=True)
    try:
        fail(SECRET)
    except ValueError:
        structlog.get_logger().exception("a call failed")
    assert SECRET in capsys.readouterr().err


def test_an_array_shows_its_type(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(form="json"))
    structlog.get_logger().info("event", values=np.array([4711.0]), each=[np.float64(4711.0)], rows={"n": 3})
    (line,) = lines(capsys)
    assert (line["values"], line["each"], line["rows"]) == ("<numpy.ndarray>", ["<numpy.float64>"], {"n": 3})


def test_libraries_show_templates(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(form="json"))
    logging.getLogger("driver").warning("bad value %s", SECRET)
    whole = f"bad value {SECRET}"
    logging.getLogger("driver").error(whole)
    warnings.warn(f"strange value {SECRET}", stacklevel=1)
    told = lines(capsys)
    assert [each.get("said") for each in told] == ["bad value %s", "a message", None]
    assert SECRET not in json.dumps(told)


def test_a_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Logging(level="warning", form="json"))
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [each["event"] for each in lines(capsys)] == ["loud"]


CRASH = """
import threading
from protos.logs import configure
configure()
def fail(word):
    raise ValueError(f"could not convert {word}")
%s
"""


@pytest.mark.parametrize(
    "how",
    [
        "fail('CANARY-4711')",
        "t = threading.Thread(target=fail, args=('CANARY-4711',)); t.start(); t.join()",
        "class Gone:\n    def __del__(self): fail('CANARY-4711')\nGone()",
    ],
)
def test_a_crash_report_has_type_and_place_and_no_values(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH % how], capture_output=True, text=True, timeout=60, check=False
    )
    assert SECRET not in done.stderr + done.stdout
    (line,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert line["event"] in {"crashed", "ignored"}
    assert line["error"][0]["type"] == "ValueError"
    assert line["error"][0]["at"][-1].endswith("fail")


def test_what_others_wrote_moves_no_terminals_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """A word without a space is shown without quotes."""
    configure(Logging.model_validate({"form": "text"}))
    structlog.get_logger().warning("refused", reason="\x1b[2J\x9bnothing-happened\r")
    structlog.get_logger().warning("refused", code="\x1b[2Jnothing")
    said = capsys.readouterr().err
    assert "nothing-happened" in said
    assert "\x1b[2J" not in said
    assert "\x9b" not in said
