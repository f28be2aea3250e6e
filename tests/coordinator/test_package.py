"""A package is opened only whole, approved, signed, in time and in order; whatever is wrong with it is refused before a byte of it is loaded."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.db import open_database
from coordinator.deploy import pieces
from coordinator.deploy.accepted import FLOOR_FILE, Machine
from coordinator.deploy.approved import PackageApprovals
from coordinator.deploy.inventory import orders
from coordinator.deploy.opening import order_of
from coordinator.deploy.package import (
    APPROVALS_FILE,
    MEMBERS_FILE,
    RELEASE_FILE,
    Package,
    Recalled,
    bundle_package,
    open_package,
    write_package,
)
from coordinator.deploy.targets.settings import EdgeSettings
from coordinator.documents import read_listed, read_root
from coordinator.keys import release_signer
from protos.keys import SigningKey
from protos.model_approvals import ModelStatement
from protos.model_release import ModelRelease, sign_release
from strategies.errors import Refused, UsageError
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.trust_for_tests import impostors, key_of, officers


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> tuple[Works, Package]:
    """A coordinator with one release for an edge target; nobody changes it."""
    folder = tmp_path_factory.mktemp("works")
    shutil.copy(migrated_sqlite, folder / "covenant.db")
    works = Works.make(folder / "works", open_database(f"sqlite:///{folder / 'covenant.db'}"))
    works.approved(1)
    settings = EdgeSettings(outbox=str(folder / "out"), inbox=str(folder / "in"), key=key_of("edge").public)
    works.add("branch", settings)
    works.start(1, "branch")
    package = order_of(works.centre, "branch", 1).stable
    assert package is not None
    return works, package


@pytest.fixture
def works(released: tuple[Works, Package]) -> Works:
    return released[0]


@pytest.fixture
def package(released: tuple[Works, Package]) -> Package:
    return released[1]


@pytest.fixture
def machine(works: Works, tmp_path: Path) -> Machine:
    return Machine(read_root(works.centre.settings), "branch", tmp_path / "machine")


@pytest.fixture
def folder(package: Package, tmp_path: Path) -> Path:
    return write_package(tmp_path / "packages", package)


def again(works: Works, package: Package, **changes: object) -> Package:
    """The same package under another release, signed by the artifacts service."""
    facts = {name: getattr(package.release, name) for name in ModelRelease.model_fields}
    del facts["covenant"], facts["signature"]
    signer = changes.pop("signer", None) or release_signer(works.centre.settings)
    release = sign_release(signer, **{**facts, **changes})  # type: ignore[arg-type]
    return Package(
        release=release,
        membership=package.membership,
        approvals=package.approvals,
        files=package.files,
        extra={},
    )


def test_a_package_opens_as_a_folder_and_as_a_bundle(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    bundle = tmp_path / "one.covenant"
    bundle_package(bundle, package)
    now = works.centre.clock()
    for source in (folder, bundle):
        opened = open_package(source, machine, now)
        assert (opened.name, opened.version) == (NAME, 1)
        assert opened.digest == package.release.released.digest
        assert opened.onnx == package.files["model.onnx"]
        assert opened.expires == package.release.expires
        assert opened.plan_digest == package.release.released.artifacts["plan.json"]


def test_the_same_package_is_the_same_bundle(package: Package, tmp_path: Path) -> None:
    for name in ("a", "b"):
        bundle_package(tmp_path / name, package)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def flip(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def pipe(folder: Path) -> None:
    (folder / "plan.json").unlink()
    os.mkfifo(folder / "plan.json")


def one_officer(folder: Path) -> None:
    said = json.loads((folder / APPROVALS_FILE).read_bytes())
    said["statements"] = said["statements"][:1]
    (folder / APPROVALS_FILE).write_bytes(json.dumps(said, separators=(",", ":"), sort_keys=True).encode())


def other_roots(folder: Path) -> None:
    from coordinator.documents import read_membership

    found = read_membership(folder / MEMBERS_FILE)
    (folder / MEMBERS_FILE).write_bytes(impostors().sign(found.signed.list).canonical)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (flip("model.onnx"), Refused, "model.onnx in the package has the digest"),
        (flip("plan.json"), Refused, "plan.json in the package has the digest"),
        (flip(RELEASE_FILE), Refused, "sign|canonical|should|digest|expected|key"),
        (flip(APPROVALS_FILE), Refused, "sign|canonical|should|digest|expected|key"),
        (flip(MEMBERS_FILE), Refused, "sign|canonical|should|digest|expected|key"),
        (remove("model.onnx"), Refused, "has no model.onnx"),
        (remove("contract.json"), Refused, "has no contract.json"),
        (remove(RELEASE_FILE), Refused, "has no release.json"),
        (remove(APPROVALS_FILE), Refused, "has no approvals.json"),
        (remove(MEMBERS_FILE), Refused, "has no members.json"),
        (
            lambda folder: (folder / "more.bin").write_bytes(b"x"),
            Refused,
            "more.bin in the package is no file of",
        ),
        (lambda folder: (folder / ".hidden").write_bytes(b"x"), Refused, "has a file called"),
        (lambda folder: (folder / "inner").mkdir(), Refused, "no ordinary file"),
        (link, UsageError, "cannot be read"),
        (pipe, Refused, "no ordinary file"),
        (one_officer, Refused, "0 of the 1 approvals as"),
        (other_roots, Refused, "not signed|signature|quorum"),
    ],
)
def test_a_package_that_was_changed_is_refused(
    change: Callable[[Path], object],
    error: type[Exception],
    reason: str,
    works: Works,
    folder: Path,
    machine: Machine,
) -> None:
    change(folder)
    with pytest.raises(error, match=reason):
        open_package(folder, machine, works.centre.clock())
    assert not (machine.folder / FLOOR_FILE).exists()


def test_approvals_of_another_version_do_not_count(
    works: Works, package: Package, machine: Machine, tmp_path: Path
) -> None:
    said = json.loads(package.approvals)
    other = []
    for each in said["statements"]:
        facts = {**each, "version": 2}
        unsigned = ModelStatement.model_validate_json(json.dumps(facts))
        from protos.model_approvals import approve_model

        subject = unsigned.subject
        other.append(
            approve_model(
                subject,
                unsigned.officer,
                unsigned.role,
                key_of(unsigned.officer),
                federation=unsigned.federation,
                at=unsigned.at,
                expires=unsigned.expires,
            )
        )
    wrong = Package(
        release=package.release,
        membership=package.membership,
        approvals=PackageApprovals(statements=tuple(other)).canonical,
        files=package.files,
        extra={},
    )
    with pytest.raises(Refused, match="what is released was not approved"):
        open_package(write_package(tmp_path / "p", wrong), machine, works.centre.clock())


@pytest.mark.parametrize("made", [timedelta(minutes=-1), timedelta(days=-20)])
def test_a_release_that_outlasts_its_approvals_is_refused_also_if_it_is_backdated(
    works: Works, package: Package, machine: Machine, tmp_path: Path, made: timedelta
) -> None:
    last = max(each.expires for each in PackageApprovals.from_canonical(package.approvals).statements)
    now = last + timedelta(days=1)
    wrong = again(works, package, at=last + made, expires=last + timedelta(days=30))
    with pytest.raises(Refused, match="nothing runs for longer than it was approved"):
        open_package(write_package(tmp_path / "p", wrong), machine, now)


def test_a_release_by_somebody_else_is_refused(
    works: Works, package: Package, machine: Machine, tmp_path: Path
) -> None:
    wrong = again(works, package, signer=SigningKey.generate())
    with pytest.raises(Refused, match="not signed by artifacts"):
        open_package(write_package(tmp_path / "p", wrong), machine, works.centre.clock())


def test_a_package_of_another_target_is_refused(works: Works, folder: Path, tmp_path: Path) -> None:
    other = Machine(read_root(works.centre.settings), "branch-2", tmp_path / "m")
    with pytest.raises(Refused, match="not for branch-2"):
        open_package(folder, other, works.centre.clock())


def test_another_federation_of_the_same_name_is_refused(works: Works, folder: Path, tmp_path: Path) -> None:
    other = Machine(impostors().pinned, "branch", tmp_path / "m")
    with pytest.raises(Refused):
        open_package(folder, other, works.centre.clock())


def test_after_its_end_a_package_is_refused(
    works: Works, package: Package, folder: Path, machine: Machine
) -> None:
    open_package(folder, machine, package.release.expires)
    with pytest.raises(Refused, match=r"was good until .* renewed"):
        open_package(folder, machine, package.release.expires + timedelta(seconds=1))


def test_an_older_model_is_refused_for_good(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    now = works.centre.clock()
    open_package(folder, machine, now)
    newer = write_package(tmp_path / "p", again(works, package, sequence=2, floor=2))
    open_package(newer, machine, now)
    restarted = Machine(machine.pinned, machine.target, machine.folder)
    with pytest.raises(Refused, match="releases before 2 count no more"):
        open_package(folder, restarted, now)
    open_package(newer, restarted, now)


def test_a_recall_is_remembered_and_nothing_before_it_opens(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    now = works.centre.clock()
    open_package(folder, machine, now)
    recall = write_package(tmp_path / "p", again(works, package, sequence=2, floor=2, mode="recall"))
    assert sorted(each.name for each in recall.iterdir()) == [MEMBERS_FILE, RELEASE_FILE]
    # Also long after it was made: to stop is safe.
    with pytest.raises(Recalled, match="out of service"):
        open_package(recall, machine, now + timedelta(days=4000))
    with pytest.raises(Refused, match="count no more"):
        open_package(folder, machine, now)


def test_what_is_accepted_is_on_disk_before_it_is_used(
    works: Works, folder: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise UsageError("no space left on device")

    monkeypatch.setattr("coordinator.deploy.accepted.replace_file", full)
    with pytest.raises(UsageError, match="no space"):
        open_package(folder, machine, works.centre.clock())


def test_a_memory_that_was_emptied_is_not_taken_for_a_new_machine(
    works: Works, folder: Path, machine: Machine
) -> None:
    open_package(folder, machine, works.centre.clock())
    (machine.folder / FLOOR_FILE).write_bytes(b"")
    with pytest.raises(Refused, match="is empty"):
        open_package(folder, machine, works.centre.clock())


def test_a_key_that_was_taken_off_the_list_signs_nothing_new(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    """The machine has seen the newer list in the package of a newer release; the old key signs one more."""
    now = works.centre.clock()
    listed = read_listed(works.centre.settings).trusted.members
    new_key = SigningKey.generate()
    service = listed.service("artifacts").model_copy(update={"key": new_key.public})
    newer = officers().sign(listed.next(services=[service]))
    facts = {"sequence": 2, "floor": 2, "members": newer.digest}
    renewed = again(works, package, signer=new_key, **facts)
    renewed = Package(**{**_fields(renewed), "membership": newer})
    open_package(folder, machine, now)
    open_package(write_package(tmp_path / "p", renewed), machine, now)
    stolen = again(works, package, sequence=3, floor=3)
    with pytest.raises(Refused, match="not signed by artifacts"):
        open_package(write_package(tmp_path / "q", stolen), machine, now)


def test_officers_who_were_taken_off_the_list_approve_nothing_new(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    """The machine knows the list without one of them; who has both their keys and the service's makes a release under the list before."""
    now = works.centre.clock()
    listed = read_listed(works.centre.settings).trusted.members
    newer = officers().sign(listed.without(["risk-1"], "officer"))
    with machine.looking() as memory:
        memory.accept(
            again(works, package, members=newer.digest).release, newer, newer.verify(machine.pinned)
        )
    stolen = again(works, package, sequence=2, floor=2)
    with pytest.raises(Refused, match="has been accepted here; whoever was taken off"):
        open_package(write_package(tmp_path / "p", stolen), machine, now)
    # To stop is safe, whatever list it was decided under.
    recall = write_package(tmp_path / "q", again(works, package, sequence=3, floor=3, mode="recall"))
    with pytest.raises(Recalled):
        open_package(recall, machine, now)


def test_what_runs_under_an_older_list_opens_again_beside_a_trial_under_a_newer(
    works: Works, package: Package, folder: Path, machine: Machine, tmp_path: Path
) -> None:
    now = works.centre.clock()
    open_package(folder, machine, now)
    listed = read_listed(works.centre.settings).trusted.members
    newer = officers().sign(listed.next())
    trial = again(works, package, sequence=2, floor=1, mode="trial", members=newer.digest)
    trial = Package(**{**_fields(trial), "membership": newer})
    open_package(write_package(tmp_path / "p", trial), machine, now)
    open_package(folder, Machine(machine.pinned, machine.target, machine.folder), now)
    with pytest.raises(Refused, match="signed two"):
        open_package(
            write_package(
                tmp_path / "q", again(works, package, expires=package.release.expires - timedelta(days=1))
            ),
            machine,
            now,
        )


def _fields(package: Package) -> dict[str, object]:
    return {name: getattr(package, name) for name in Package.__dataclass_fields__}


# --- bundles of other people's making


def bundle_of(
    path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], kind: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in entries:
            archive.writestr(name, data, compress_type=kind)
    return path


def linked() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("model.onnx")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "kind", "reason"),
    [
        ([("../model.onnx", b"x")], zipfile.ZIP_STORED, "plain names"),
        ([("/etc/passwd", b"x")], zipfile.ZIP_STORED, "plain names"),
        ([("inner/model.onnx", b"x")], zipfile.ZIP_STORED, "plain names"),
        ([("inner/", b"")], zipfile.ZIP_STORED, "plain names"),
        ([(linked(), b"/etc/passwd")], zipfile.ZIP_STORED, "no ordinary file"),
        ([("model.onnx", b"x" * 1000)], zipfile.ZIP_DEFLATED, "not stored as it is"),
        ([(f"f{each}", b"") for each in range(61)], zipfile.ZIP_STORED, "61 files; at most 60"),
    ],
)
def test_a_bundle_that_nobody_here_makes_is_refused(
    entries: list[tuple[zipfile.ZipInfo | str, bytes]],
    kind: int,
    reason: str,
    machine: Machine,
    works: Works,
    tmp_path: Path,
) -> None:
    path = bundle_of(tmp_path / "b.covenant", entries, kind)
    with pytest.raises(Refused, match=reason):
        open_package(path, machine, works.centre.clock())


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_bundle_with_a_file_twice_is_refused(machine: Machine, works: Works, tmp_path: Path) -> None:
    path = bundle_of(tmp_path / "b.covenant", [("a", b"1"), ("a", b"2")])
    with pytest.raises(Refused, match="two files called a"):
        open_package(path, machine, works.centre.clock())


def test_a_bundle_that_is_cut_off_is_refused(
    package: Package, machine: Machine, works: Works, tmp_path: Path
) -> None:
    path = tmp_path / "b.covenant"
    bundle_package(path, package)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Refused, match="no bundle, or is damaged"):
        open_package(path, machine, works.centre.clock())


def test_sizes_are_bounded_before_anything_is_read(
    folder: Path,
    machine: Machine,
    works: Works,
    monkeypatch: pytest.MonkeyPatch,
    package: Package,
    tmp_path: Path,
) -> None:
    bundle = tmp_path / "b.covenant"
    bundle_package(bundle, package)
    monkeypatch.setattr(pieces, "MOST_FILE_BYTES", 100)
    for source in (folder, bundle):
        with pytest.raises(Refused, match="has more than 100 bytes"):
            open_package(source, machine, works.centre.clock())
    monkeypatch.setattr(pieces, "MOST_PACKAGE_BYTES", 50)
    with pytest.raises(Refused, match="more than 50 bytes"):
        open_package(bundle, machine, works.centre.clock())


def test_nothing_is_written_that_no_reader_takes(
    package: Package, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(sentence: str) -> None:
        for write, path in (
            (write_package, tmp_path / "packages"),
            (bundle_package, tmp_path / "b.covenant"),
        ):
            with pytest.raises(Refused, match=sentence):
                write(path, package)
            assert not path.exists()

    largest = max((len(data), name) for name, data in package.pieces.items())
    monkeypatch.setattr(pieces, "MOST_FILE_BYTES", largest[0] - 1)
    refused(
        f"has {largest[0]} bytes in {largest[1]}, and no machine takes a file of more than {largest[0] - 1}"
    )
    monkeypatch.undo()
    total = sum(map(len, package.pieces.values()))
    monkeypatch.setattr(pieces, "MOST_PACKAGE_BYTES", total - 1)
    refused(f"has {total} bytes, and no machine takes more than {total - 1} in a package")
    monkeypatch.setattr(pieces, "MOST_PACKAGE_BYTES", total)
    assert write_package(tmp_path / "packages", package).exists()
    with pytest.raises(Refused, match=f"more than {total} bytes"):  # with its directory
        bundle_package(tmp_path / "b.covenant", package)


def test_a_version_that_no_machine_takes_is_refused_before_a_release_is_signed(
    tmp_path: Path, migrated_sqlite: Path
) -> None:
    works = Works.make_at(tmp_path / "works", migrated_sqlite)
    version = works.approved(1)
    settings = EdgeSettings(
        outbox=str(tmp_path / "out"), inbox=str(tmp_path / "in"), key=key_of("edge").public
    )
    works.add("branch", settings)
    most = pieces.MOST_FILE_BYTES
    model = works.centre.artifacts.path(version.artifacts["model.onnx"])
    written = model.read_bytes()
    os.truncate(model, most + 1)
    sentence = f"{NAME}@1 has {most + 1} bytes in model.onnx, and no machine takes a file of more than {most}"
    with pytest.raises(Refused, match=sentence):
        works.start(1, "branch")
    assert orders(works.centre.engine, "branch") == []
    for file in version.artifacts.values():
        os.truncate(works.centre.artifacts.path(file), most)
    sentence = f"{NAME}@1 has {3 * most} bytes, and no machine takes more than {3 * most - (8 << 20)}"
    with pytest.raises(Refused, match=sentence):
        works.start(1, "branch")
    model.write_bytes(written)
    works.start(1, "branch")
    works.centre.engine.dispose()


def ending(data: bytes, at: int, value: bytes) -> bytes:
    """A bundle with another value in the record at its end."""
    start = len(data) - 22 + at
    return data[:start] + value + data[start + len(value) :]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: ending(data, 12, (10**8).to_bytes(4, "little")),
        lambda data: data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:],
        lambda data: ending(data, 20, b"\1\0") + b"!",
    ],
)
def test_a_directory_larger_than_any_of_a_bundle_is_not_built(
    package: Package,
    machine: Machine,
    works: Works,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
) -> None:
    """Millions of empty entries fit the most that a bundle weighs, and take gigabytes of memory."""
    path = tmp_path / "b.covenant"
    bundle_package(path, package)
    path.write_bytes(change(path.read_bytes()))

    def built(*_: object) -> None:
        raise AssertionError("the directory was built")

    monkeypatch.setattr(zipfile, "ZipFile", built)
    with pytest.raises(Refused, match="is no bundle"):
        open_package(path, machine, works.centre.clock())


def test_a_bundle_that_is_no_file_is_not_waited_for(machine: Machine, works: Works, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.covenant")
    with pytest.raises(Refused, match="no ordinary file"):
        open_package(tmp_path / "b.covenant", machine, works.centre.clock())


def test_what_is_not_there_is_said_so(machine: Machine, works: Works, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        open_package(tmp_path / "nothing", machine, works.centre.clock())


def test_the_files_of_a_package_verify_with_the_independent_command(folder: Path) -> None:
    """What a package adds of its own is named, and everything else must be as it was signed."""
    own = [
        flag
        for name in (RELEASE_FILE, MEMBERS_FILE, APPROVALS_FILE)
        for flag in ("--ignore-paths", folder / name)
    ]
    command = [
        Path(sys.executable).parent / "model_signing",
        "verify",
        "key",
        "--signature",
        folder / "model.sig",
    ]
    command = [*command, "--public_key", folder / "artifacts.pub", *own, folder]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    flip("model.onnx")(folder)
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0
