"""The decision log says what was decided and by which model, and nothing about whom; no line of it can be changed unseen."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.decisions import DecisionLog, Head, SiteKey, head_of, verify
from coordinator.deploy.scoring.words import Words
from strategies.errors import DiskError, Refused, UsageError
from tests.coordinator.scoring_for_tests import INFER, log_in, opened, output, question, serving


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((folder / "decisions").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_a_decision_has_a_line_without_a_value_of_the_application(tmp_path: Path) -> None:
    with serving(opened(), decline_at=0.5, decisions=log_in(tmp_path)) as client:
        answer = client.post(INFER, json={"id": "applicant-77", **question()}).json()
    (line,) = lines(tmp_path)
    scores = np.array(output(answer)["data"])
    declined = np.flatnonzero(scores >= 0.5).tolist()
    assert declined
    assert len(declined) < 3
    assert (line["model"], line["digest"], line["arm"], line["answered"]) == (
        "lending@3",
        opened().digest,
        "stable",
        True,
    )
    assert line["bands"] == (scores * 20).astype(int).tolist()
    assert list(line["reasons"]) == [str(row) for row in declined]
    told = output(answer, "reasons")["data"]
    assert line["reasons"][str(declined[0])] == [word for word in told[4 * declined[0] :][:4] if word]
    text = json.dumps(line)
    for value in ("applicant-77", "50000.5", "5000.0", '"36"'):
        assert value not in text
    key = SiteKey.at(tmp_path / "decisions.key")
    batch = Batch(numbers=np.array([[100.0], [50_000.5]]), words=(Words.of(["36"]),))
    assert line["inputs"][0] == key.of_rows(batch)[0]
    assert line["request"] == key.of_text("applicant-77")
    assert repr(key) == "<secret>"


def test_digests_tell_rows_apart_and_are_those_of_one_site() -> None:
    key, other = SiteKey(b"1" * 32), SiteKey(b"2" * 32)

    def digest(numbers: list[float], words: list[str], with_key: SiteKey = key) -> str:
        batch = Batch(
            numbers=np.array(numbers).reshape(-1, 1), words=tuple(Words.of([word]) for word in words)
        )
        return with_key.of_rows(batch)[0]

    same = digest([1.0, float("nan")], ["ab", "c"])
    assert same == digest([1.0, -float("nan")], ["ab", "c"])
    assert digest([0.0], []) == digest([-0.0], [])
    others = [
        digest([1.0, 2.0], ["ab", "c"]),
        digest([1.0, float("nan")], ["a", "bc"]),
        digest([1.0, float("nan")], ["ab", "c"], other),
    ]
    assert len({same, *others}) == 4


def test_the_chain_goes_on_over_files_and_restarts(tmp_path: Path) -> None:
    for _ in range(3):
        log = log_in(tmp_path, most_file_bytes=400)
        for number in range(5):
            log.append([{"at": number}, {"at": "\u00e9"}])
        log.close()
    head = verify(tmp_path / "decisions")
    assert head.lines == 30
    assert len(list((tmp_path / "decisions").glob("*.jsonl"))) > 5
    assert [line["n"] for line in lines(tmp_path)] == list(range(1, 31))
    assert head_of(tmp_path / "decisions").digest == head.digest


@pytest.mark.parametrize("defect", ["changed", "removed", "moved", "inserted", "file removed"])
def test_a_line_that_is_not_as_written_is_found(tmp_path: Path, defect: str) -> None:
    log = log_in(tmp_path, most_file_bytes=400)
    for number in range(12):
        log.append([{"score": number}])
    log.close()
    first, *_ = paths = sorted((tmp_path / "decisions").glob("*.jsonl"))
    whole = first.read_bytes().splitlines(keepends=True)
    changed = {
        "changed": [whole[0].replace(b'"score":0', b'"score":9'), *whole[1:]],
        "removed": [whole[0], *whole[2:]],
        "moved": [whole[1], whole[0], *whole[2:]],
        "inserted": [whole[0], whole[0], *whole[1:]],
        "file removed": whole,
    }[defect]
    first.write_bytes(b"".join(changed))
    if defect == "file removed":
        paths[1].unlink()
    with pytest.raises(Refused, match="does not follow the line before it"):
        verify(tmp_path / "decisions")


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_crash_left_of_a_line_stays_and_is_told_of(tmp_path: Path, times: int) -> None:
    log = log_in(tmp_path)
    log.append([{"a": 1}])
    log.close()
    newest = max((tmp_path / "decisions").glob("*.jsonl"))
    newest.write_bytes(newest.read_bytes() + b'{"half')
    if times == 2:
        (tmp_path / "decisions" / "decisions-00000009.jsonl").write_bytes(b'{"n')
    again = log_in(tmp_path)
    again.append([{"a": 2}])
    again.close()
    head = verify(tmp_path / "decisions")
    assert head.lines == 3
    assert (tmp_path / "decisions" / newest.name).read_bytes().endswith(b'{"half')
    tail = (tmp_path / "decisions" / newest.name).with_name(f"decisions-{head.file:08d}.jsonl").read_bytes()
    assert json.loads(tail.splitlines()[0])["torn"] == (6 if times == 1 else 9)
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(Refused, match="does not follow"):
        verify(tmp_path / "decisions")


def test_one_process_writes_a_log_and_another_is_refused(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    with pytest.raises(Refused, match="another scoring service writes"):
        log_in(tmp_path)
    log.close()
    log_in(tmp_path).close()


def test_a_log_that_others_wrote_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    folder.mkdir()
    (folder / "decisions-00000001.jsonl").write_bytes(b'{"some":"thing"}\n')
    with pytest.raises(Refused, match="no scoring service wrote"):
        DecisionLog(folder, SiteKey(b"k" * 32))
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(UsageError, match="has 5 bytes"):
        SiteKey.at(tmp_path / "short")


def test_nothing_is_answered_that_cannot_be_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_in(tmp_path)
    with serving(opened(), decisions=log) as client:
        assert client.post(INFER, json=question()).status_code == 200

        def full(_descriptor: int, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(os, "write", full)
            with pytest.raises(DiskError, match="cannot be written"):
                log.append([{}])
            assert client.post(INFER, json=question()).status_code == 503
        # The disk is whole again, and still nothing is answered: what was lost is not known.
        assert client.post(INFER, json=question()).status_code == 503
        assert client.get("/v2/health/ready").status_code == 503
    assert len(lines(tmp_path)) == 1
    assert head_of(tmp_path / "decisions") == Head(
        lines=1, digest=verify(tmp_path / "decisions").digest, file=1
    )


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decisions.key"
    SiteKey.at(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="can be read by others"):
        SiteKey.at(path)


def test_services_that_start_together_have_one_key(tmp_path: Path) -> None:
    """In a folder that nobody has made yet, as the pods of one target share it."""
    path = tmp_path / "shared" / "decisions" / "decisions.key"
    with ThreadPoolExecutor(8) as pods:
        keys = list(pods.map(lambda _: SiteKey.at(path).of_text("an id"), range(8)))

    assert len(set(keys)) == 1
    assert [each.name for each in path.parent.iterdir()] == ["decisions.key"]
    assert path.stat().st_mode & 0o777 == 0o600
