"""Numbers changed in a document's text: everything else stays, to the byte."""

from __future__ import annotations

import pytest

from protos import yaml12
from protos.yaml_edit import with_values
from strategies.errors import UsageError

TEXT = '# ü 😀\r\na: {b: 1.0, c: [x, y]}  # why\r\nd:\r\n  e:\r\n    f: 1.0e-5 # g\r\n  h: "1"\r\n'


def test_only_the_numbers_change() -> None:
    changed = with_values(TEXT, {("a", "b"): 2.125, ("d", "e", "f"): 1e-6})
    assert changed == TEXT.replace("1.0,", "2.125,").replace("1.0e-5", "1e-06")


def test_nothing_to_change_changes_nothing() -> None:
    assert with_values(TEXT, {}) == TEXT


@pytest.mark.parametrize("value", [3, 0.001, 1e-300, 12345.678, 1e22])
def test_what_is_written_is_read_back(value: float) -> None:
    read = yaml12.parse(with_values(TEXT, {("d", "h"): value})).value
    assert read["d"]["h"] == value
    assert type(read["d"]["h"]) is type(value)


@pytest.mark.parametrize("path", [("a",), ("a", "z"), ("a", "b", "c"), ("a", "c", "x"), ("z",)])
def test_where_no_single_value_stands_nothing_is_written(path: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="has no value at"):
        with_values(TEXT, {path: 1.0})


@pytest.mark.parametrize("text", ["", "a: [", "- a\n- b\n"])
def test_a_text_without_keys_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        with_values(text, {("a",): 1.0})
