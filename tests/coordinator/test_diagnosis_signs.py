"""Each sign of a cause is of words that some part of the project says: a sentence that is put otherwise must not lose its diagnosis unseen."""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from coordinator.diagnosis.causes import CAUSES
from protos.frames import RefusalCode
from protos.witness import Evidence

ROOT = Path(__file__).parents[2]
ROOMS = ("client", "coordinator", "protos", "strategies")
_COMPOSED = (
    *(f"refused ({code.name.lower()}) could not: received" for code in RefusalCode),
    *(f"evidence of the log: {shows}" for shows in get_args(Evidence.model_fields["shows"].annotation)),
    f"the stage: west sent Update ({os.strerror(errno.ENOSPC)})",
)
"""Said in two steps, of words that stand in two places, or by the system."""
SIGNS = [(cause.name, sign) for cause in CAUSES for sign in cause.signs]


def _words(node: ast.AST) -> Iterator[str]:
    """The texts of a module as they may be said, with a word, and a number, in each gap; docstrings are no such texts."""
    silent = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Expr)}
    for each in ast.walk(node):
        if id(each) in silent:
            continue
        match each:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                for filled in ("west", "7"):
                    yield "".join(part.value if isinstance(part, ast.Constant) else filled for part in parts)


@cache
def said() -> str:
    """All that the project says, a line a text; not what the table itself has."""
    files = (file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py")))
    texts = [
        " ".join(text.split())
        for file in files
        if "diagnosis" not in file.parts or file.name == "evidence.py"
        for text in _words(ast.parse(file.read_text()))
    ]
    return "\n".join([*texts, *_COMPOSED])


@pytest.mark.parametrize(("cause", "sign"), SIGNS)
def test_each_sign_is_of_words_that_are_said(cause: str, sign: str) -> None:
    assert re.search(sign, said(), re.MULTILINE), f"nothing says {sign!r} any more: see {cause}"


def test_every_code_of_a_refusal_is_diagnosed() -> None:
    """What breaks the protocol is told by its words: which rule it was matters more than the code."""
    for code in set(RefusalCode) - {RefusalCode.PROTOCOL}:
        said_of_it = f"refused ({code.name.lower()}) could not"
        assert any(cause.shows_in(said_of_it) for cause in CAUSES), code


@pytest.mark.parametrize(
    ("said_of_it", "cause"),
    [
        ("this site has answered step mask of attempt 1 at the train stage of round 2 for another statement, 0a1b", "two-questions"),
        ("the request is for another statement than the input was masked for", "two-questions"),
        ("west has masked its input for another statement", "strange-answers"),
        ("west has signed other survivors, or another statement", "strange-answers"),
    ],
)  # fmt: skip
def test_who_is_wrong_about_a_statement_is_told_apart(said_of_it: str, cause: str) -> None:
    assert [each.name for each in CAUSES if each.shows_in(said_of_it)] == [cause]
