"""An artifact is complete, durable and exactly what its name says, or it is an error."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.registry.artifacts import ArtifactStore
from coordinator.service import Service
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, UsageError
from strategies.ids import Digest
from tests.coordinator.deploy_for_tests import Works


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_bytes_are_kept_under_their_digest(artifacts: ArtifactStore, tmp_path: Path) -> None:
    name = artifacts.put(b"weights")
    assert name == sha256_hex(b"weights")
    assert files(tmp_path / "artifacts") == [f"sha256/{name[:2]}/{name[2:]}"]
    assert artifacts.get(name) == b"weights"
    assert artifacts.path(name).read_bytes() == b"weights"


def test_keeping_the_same_bytes_again_leaves_one_file(artifacts: ArtifactStore, tmp_path: Path) -> None:
    assert artifacts.put(b"") == artifacts.put(b"")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"weightz", b"", b"weights and more"])
def test_an_altered_artifact_is_never_returned_and_is_healed_by_keeping_it_again(
    artifacts: ArtifactStore, damage: bytes
) -> None:
    name = artifacts.put(b"weights")
    artifacts.path(name).write_bytes(damage)
    with pytest.raises(CovenantError, match="so it was altered; restore it from a backup"):
        artifacts.get(name)
    artifacts.put(b"weights")
    assert artifacts.get(name) == b"weights"


def test_an_absent_artifact_is_named_with_its_folder(artifacts: ArtifactStore) -> None:
    with pytest.raises(CovenantError, match=f"{'0' * 64} is not in .*artifacts; restore"):
        artifacts.get(Digest("0" * 64))


def test_the_size_of_an_artifact_is_told_without_reading_it(artifacts: ArtifactStore) -> None:
    assert artifacts.size(artifacts.put(b"weights")) == 7
    assert artifacts.size(Digest("0" * 64)) is None


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a" * 63, "A" * 64, "a" * 65, "/" + "a" * 63, "a" * 64 + "\n"]
)
def test_only_a_digest_becomes_a_path(artifacts: ArtifactStore, name: str) -> None:
    with pytest.raises(UsageError, match="not a SHA-256 digest"):
        artifacts.path(Digest(name))


def test_a_write_is_flushed_before_it_gets_its_name_and_its_folder_after(
    artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.put(b"makes the folders")
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(handle: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{handle}").resolve().is_dir() else "file")
        fsync(handle)

    def watched_replace(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    artifacts.put(b"weights")
    assert order[-3:] == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "free space on its volume"), (errno.EIO, "check its rights and the disk")],
)
def test_a_failed_flush_is_one_sentence_and_leaves_nothing(
    artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    artifacts.put(b"makes the folders")
    before = files(tmp_path)

    def failing(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(
        CovenantError, match=f"cannot be written to .*nothing was kept under its name; {remedy}"
    ):
        artifacts.put(b"weights")
    assert files(tmp_path) == before


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file is in the way")
    with pytest.raises(CovenantError, match="cannot be written to"):
        ArtifactStore(tmp_path / "artifacts").put(b"weights")


@pytest.mark.parametrize("stopped", [MemoryError, KeyboardInterrupt])
def test_a_write_that_is_cut_off_by_anything_leaves_nothing(
    artifacts: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: type[BaseException]
) -> None:
    def cut_off(_: int) -> None:
        raise stopped

    artifacts.path(
        artifacts.put(b"weights")
    ).unlink()  # its folders are flushed now: the next flush is of the file
    before = files(tmp_path)
    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(stopped):
        artifacts.put(b"weights")
    assert files(tmp_path) == before


def test_what_was_left_half_written_a_day_ago_is_removed_and_what_is_being_written_is_not(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert artifacts.remove_left_over(now) == 0
    kept = artifacts.put(b"weights")
    temporary = tmp_path / "artifacts" / "tmp"
    for name, age in {"killed": timedelta(days=2), "writing": timedelta(hours=23)}.items():
        (temporary / name).write_bytes(b"half of ")
        written = (now - age).timestamp()
        os.utime(temporary / name, (written, written))
    os.utime(artifacts.path(kept), (0, 0))
    assert artifacts.remove_left_over(now) == 1
    assert [path.name for path in temporary.iterdir()] == ["writing"]
    assert artifacts.get(kept) == b"weights"


def test_a_coordinator_that_starts_removes_what_was_left_half_written(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    centre = Works.make_at(tmp_path / "home", migrated_sqlite).centre
    centre.artifacts.put(b"weights")
    left = centre.settings.artifacts / "tmp" / "killed"
    left.write_bytes(b"half of ")
    os.utime(left, (0, 0))
    service = Service(centre)
    service.stop()
    service.serve()
    centre.engine.dispose()
    assert not left.exists()


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were flushed, one after the other."""
    found: list[Path] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").resolve()
        if path.is_dir():
            found.append(path)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    return found


def test_folders_of_a_process_that_was_killed_are_flushed_once(tmp_path: Path, flushed: list[Path]) -> None:
    """It may have made them and been killed before it flushed them."""
    store = ArtifactStore(tmp_path / "artifacts")
    inner = store.path(sha256_hex(b"weights")).parent
    inner.mkdir(parents=True)
    above = [tmp_path, inner.parent.parent, inner.parent]
    store.put(b"weights")
    assert [folder for folder in flushed if folder in above][:3] == above
    assert flushed[-1] == inner
    flushed.clear()
    store.put(b"weights")
    assert flushed == [inner]


def test_a_folder_that_was_removed_meanwhile_is_made_and_flushed_again(
    artifacts: ArtifactStore, flushed: list[Path]
) -> None:
    name = artifacts.put(b"weights")
    artifacts.path(name).unlink()
    artifacts.path(name).parent.rmdir()
    flushed.clear()
    artifacts.put(b"weights")
    assert flushed == [artifacts.path(name).parent.parent, artifacts.path(name).parent]
