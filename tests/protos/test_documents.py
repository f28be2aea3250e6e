"""Reading documents: YAML 1.2 facts, and what is refused, with its line."""

import copy
import json
import pickle
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from protos import yaml12
from protos.documents import Document, DocumentError, Part, load_document, read_document
from protos.quantities import Duration, Size, format_duration, format_size, parse_duration, parse_size
from strategies.errors import Refused


class Inner(Part):
    rounds: int
    learning_rate: float = 0.1


class Sample(Document):
    name: str = "x"
    inner: Inner = Inner(rounds=1)
    rows: tuple[tuple[int, ...], ...] = ()
    wait: Duration = 1.0
    memory: Size = 1024
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


def value(text: str) -> object:
    return yaml12.parse(text).value


def read(text: str) -> Sample:
    return read_document(text, Sample, "sample.yaml")


def refused(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        read(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        *[
            (word, word)
            for word in ("no", "yes", "on", "off", "y", "n", "NO", "tRue", "1_000", "12:30", "2027-01-11")
        ],
        *[(word, word) for word in ("0b1", "0x", "1e", ".", "+.nan", "<<", "=")],
        *[("true", True), ("FALSE", False), ("~", None), ("null", None), ("Null", None), ('"null"', "null")],
        *[("012", 12), ("0o14", 12), ("0xC", 12), ("-7", -7), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0)],
        *[("'1'", "1"), ("- |\n  1\n", ["1\n"]), ("-.inf", float("-inf"))],
    ],
)
def test_plain_scalars_follow_the_yaml_1_2_core_schema(text: str, means: object):
    found = value(text)
    assert found == means
    assert type(found) is type(means)


def test_norway_is_a_country():
    assert value("[no, se]") == ["no", "se"]


def test_keys_are_text_even_if_they_look_like_numbers_or_nothing():
    assert value("1: a\nno: b\n~: c\n") == {"1": "a", "no": "b", "~": "c"}


def test_nested_lists_and_their_lines():
    tree = yaml12.parse("rows:\n- [1, 2]\n-\n  - 3\n  - 4\n")
    assert tree.value == {"rows": [[1, 2], [3, 4]]}
    assert tree.line(("rows", 1, 1)) == 5
    assert read("rows: [[1, 2], [3]]").rows == ((1, 2), (3,))
    assert 'line 4: `rows[1][0]` is "x"' in refused("rows:\n- [1, 2]\n-\n  - x\n")


BAD_YAML = {
    "duplicate key": ("name: a\nshare: 0.1\nname: b", "line 3: duplicate key `name`, first given in line 1"),
    "duplicate key in another spelling": ("name: a\n'name': b", "line 2: duplicate key `name`"),
    "duplicate key in a nested mapping": (
        "inner:\n  rounds: 1\n  rounds: 2",
        "line 3: duplicate key `rounds`",
    ),
    "anchor": ("name: &a x", "line 1: anchors and aliases"),
    "anchor on a mapping": ("\ninner: &a\n  rounds: 1", "line 2: anchors and aliases"),
    "anchor on a key": ("&a name: x", "anchors and aliases"),
    "alias": ("share: 0.1\nname: *a", "line 2: anchors and aliases"),
    "tag": ("name: !!str 5", "line 1: tags are not accepted"),
    "python tag": ("name: !!python/object:os.system x", "tags are not accepted"),
    "tag on a list": ("rows: !x []", "tags are not accepted"),
    "yaml 1.1 directive": ("%YAML 1.1\n---\nname: no", "read as YAML 1.2"),
    "tag directive": ("%TAG ! tag:x,2000:\n---\nname: x", "remove the %TAG directive"),
    "two documents": ("name: a\n---\nname: b", "line 2: a second document begins here"),
    "empty": ("", "line 1: the document is empty"),
    "only a comment": ("# nothing\n", "the document is empty"),
    "list as a key": ("? [a]\n: b", "a key must be"),
    "too deep": ("rows: " + "[" * 40 + "]" * 40, "nested deeper than 32"),
    "deep enough to break a recursive parser": ("[" * 500_000, "nested deeper than 32"),
    "too many values": ("rows: [" + "1," * 100_001 + "]", "more than 100000 values"),
    "unclosed": ("name: a\nrows: [1, 2", "line 2: not YAML"),
    "tab as indentation": ("inner:\n\trounds: 1", "line 2: not YAML"),
    "control character": ("name: a\x00b", "not YAML"),
    "impossible escape": ('name: "\\UFFFFFFFF"', "not YAML"),
    "lone surrogate": ('name: "\\ud800"', "not valid Unicode"),
}


@pytest.mark.parametrize("defect", BAD_YAML)
def test_refused_yaml(defect: str):
    text, sentence = BAD_YAML[defect]
    message = refused(text)
    assert message.startswith("sample.yaml line ")
    assert sentence in message


BAD_VALUES = {
    "unknown key": ("\nshair: 0.1", "sample.yaml line 2: unknown key `shair`; did you mean `share`?"),
    "unknown nested key": (
        "inner:\n  rounds: 1\n  learning_rte: 2",
        "sample.yaml line 3: unknown key `inner.learning_rte`; did you mean `learning_rate`?",
    ),
    "unknown key like no other": (
        "zzz: 1",
        "unknown key `zzz`; known here: inner, memory, name, rows, share, wait",
    ),
    "missing key": ("share: 0.1\ninner: {}", "sample.yaml line 2: `inner.rounds` is missing; add it"),
    "number for text": ("name: 1", "`name` is 1, but it should be a valid string; put it in quotes"),
    "text for a number": (
        "inner: {rounds: '20'}",
        '`inner.rounds` is "20", but it should be a valid integer',
    ),
    "fraction for an integer": ("inner: {rounds: 2.5}", "`inner.rounds` is 2.5"),
    "boolean for an integer": ("inner: {rounds: true}", "`inner.rounds` is true"),
    "empty value": ("inner: {rounds: }", "`inner.rounds` is empty, but it should be a valid integer"),
    "not a number": ("share: .nan", "`share` is NaN, but it should be a finite number"),
    "infinite": ("share: 1e999", "it should be a finite number"),
    "out of range": ("\n\nshare: 1.5", "sample.yaml line 3: `share` is 1.5, but it should be less than 1"),
    "duration without unit": ("wait: 300", "`wait` is 300: should be a number with a unit"),
    "duration of another unit": ("wait: 3 weeks", "should be a number with a unit (ms, s, m, h or d)"),
    "duration of zero": ("wait: 0s", "should be longer than 0s"),
    "negative duration": ("wait: -5m", "should be a number with a unit"),
    "size without unit": ("memory: 2048", "should be a number with a unit"),
    "size of half a byte": ("memory: 0.5 B", "whole number of bytes"),
    "list for a mapping": ("inner: [1]", "`inner` is [1]"),
    "document that is a list": ("[1]", "`the document` is [1]"),
    "document that is a word": ("hello", '`the document` is "hello"'),
    "huge integer": ("inner: {rounds: " + "9" * 5000 + "}", "`inner.rounds` is"),
}


@pytest.mark.parametrize("defect", BAD_VALUES)
def test_refused_values(defect: str):
    text, sentence = BAD_VALUES[defect]
    assert sentence in refused(text)


def test_all_defects_are_told_in_the_order_of_their_lines():
    lines = refused("share: 2\nnmae: x\nwait: soon").splitlines()
    assert [line.split(":")[0] for line in lines] == [f"sample.yaml line {place}" for place in (1, 2, 3)]


def test_long_values_and_many_defects_are_cut():
    message = refused("share: " + "x" * 500 + "\n" + "".join(f"k{i}: 1\n" for i in range(30)))
    assert len(message.splitlines()) == 11
    assert message.endswith("and 21 more defects")
    assert all(len(line) < 200 for line in message.splitlines())


def test_oversized_text_is_refused():
    assert "larger than 1048576 bytes" in refused("name: " + "é" * 600_000)


def test_missing_oversized_unreadable_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "sample.yaml"
    with pytest.raises(DocumentError, match="does not exist"):
        load_document(path, Sample)
    with pytest.raises(DocumentError, match="cannot be read"):
        load_document(tmp_path, Sample)
    path.write_bytes(b"#" * (yaml12.MAX_BYTES + 1))
    with pytest.raises(DocumentError, match="larger than 1048576 bytes"):
        load_document(path, Sample)
    path.write_bytes(b"share: 0.1\nname: \xff\n")
    with pytest.raises(DocumentError, match="line 2: not UTF-8"):
        load_document(path, Sample)
    path.write_bytes(b"\xef\xbb\xbfname: bom\n")
    assert load_document(path, Sample).name == "bom"


def test_digest_is_over_what_was_read_not_over_its_text():
    plain = read("name: a\nwait: 5m\nmemory: 2 GiB\ninner: {rounds: 3}")
    other = read(
        "# note\nmemory: '2048 MiB'\ninner:\n  learning_rate: 1e-1\n  rounds: 0x3\nwait: 300s\n\"name\": 'a'"
    )
    assert plain.digest == other.digest
    assert plain.digest != read("name: a\nwait: 5m\nmemory: 2 GiB\ninner: {rounds: 4}").digest


def test_canonical_bytes_come_back_as_the_same_document():
    sample = read("wait: 25ms\nmemory: 1500 B\nrows: [[1], []]")
    assert Sample.from_canonical(sample.canonical) == sample
    assert json.loads(sample.canonical)["wait"] == "0.025s"


def test_canonical_bytes_are_those_of_each_documents_own_values():
    sample = read("wait: 25ms\nrows: [[1], []]")
    made = sample.canonical
    assert sample.canonical is made
    for changed in (
        sample.model_copy(update={"name": "y"}),
        sample.model_copy(update={"name": "y"}, deep=True),
        sample.model_copy(update={"inner": sample.inner.model_copy(update={"rounds": 2})}),
    ):
        assert changed.canonical != made
        assert changed.canonical == Sample.from_canonical(changed.canonical).canonical
        assert changed.digest != sample.digest
    fresh = read("wait: 25ms\nrows: [[1], []]")
    for same in (fresh, copy.copy(sample), copy.deepcopy(sample), pickle.loads(pickle.dumps(sample))):
        assert (same, hash(same), repr(same)) == (sample, hash(sample), repr(sample))
        assert same.canonical == made
    assert sample.model_dump() == fresh.model_dump()


def test_a_key_file_that_is_taken_for_a_document_is_not_repeated():
    text = "\n-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIIhF8RNd5LA\n-----END PRIVATE KEY-----\n"
    with pytest.raises(Refused, match="is a key or a certificate") as caught:
        Sample.from_canonical(text.encode())
    assert "MC4C" not in str(caught.value) + refused(text)


def test_documents_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        read("name: a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("90s", 90), ("4h", 14400), ("250ms", 0.25), ("1.5 d", 129600)]
)
def test_durations(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("2 GiB", 2**31), ("500MB", 500_000_000), ("1.5 KiB", 1536), ("7 B", 7)]
)
def test_sizes(text: str, size: int):
    assert parse_size(text) == size


@given(st.integers(min_value=1, max_value=366 * 86400 * 10**6))
def test_written_durations_are_read_back(microseconds: int):
    seconds = microseconds / 10**6
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=1, max_value=2**49))
def test_written_sizes_are_read_back(size: int):
    assert parse_size(format_size(size)) == size


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{},#&*!|>'\"%? \n\t\\~1.0", max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_line(text: str):
    try:
        read(text)
    except DocumentError as error:
        message = str(error)
    else:
        message = "sample.yaml line 1: nothing to refuse"
    assert message.startswith("sample.yaml line ")


@pytest.mark.parametrize("digits", [17, 4300, 4301, 5000])
@pytest.mark.parametrize("field", ["rounds", "name"])
def test_a_number_of_any_length_from_another_party_is_refused(field: str, digits: int):
    """Python writes and reads 4,300 digits; canonical JSON has sixteen."""
    known = json.loads(Sample().canonical)
    known["inner"]["rounds"], known["name"] = (0, "x") if field == "rounds" else (1, 0)
    text = json.dumps(known, sort_keys=True, separators=(",", ":")).replace(
        f'"{field}":0', f'"{field}":{"9" * digits}'
    )
    assert "9" * digits in text
    with pytest.raises(Refused):
        Sample.from_canonical(text.encode())


@pytest.mark.parametrize("depth", [10, 300, 100_000])
def test_nested_lists_of_any_depth_from_another_party_are_refused(depth: int):
    with pytest.raises(Refused):
        Sample.from_canonical(b'{"rows":' + b"[" * depth + b"]" * depth + b"}")
