"""Every kind of target holds to the contract: a local scoring service, KServe, and a branch server without a connection."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from coordinator.db import open_database
from coordinator.deploy.branch import Branch
from coordinator.deploy.opening import order_of
from coordinator.deploy.package import Package, Recalled, open_package
from coordinator.deploy.pieces import read_pieces, write_bundle
from coordinator.deploy.scoring.serving import read_state
from coordinator.deploy.targets.base import Order
from coordinator.deploy.targets.edge import EdgeTarget, bundle_name, write_acknowledgement
from coordinator.deploy.targets.kserve import KServeTarget
from coordinator.deploy.targets.local import LocalTarget, machine_of
from coordinator.deploy.targets.settings import EdgeSettings, KServeSettings, LocalSettings
from coordinator.documents import read_root
from coordinator.keys import release_signer
from protos.model_release import ModelRelease, sign_release
from strategies.errors import CovenantError, Refused, UsageError
from tests.contracts.target_contract import Kit, Orders, TargetContract
from tests.coordinator.conftest import migrated_sqlite
from tests.coordinator.deploy_for_tests import Serving, Works, serve
from tests.trust_for_tests import key_of

__all__ = ["migrated_sqlite"]
IMAGE = "registry.example/covenant/scoring@sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Works:
    folder = tmp_path_factory.mktemp("works")
    shutil.copy(migrated_sqlite, folder / "covenant.db")
    works = Works.make(folder / "works", open_database(f"sqlite:///{folder / 'covenant.db'}"))
    works.approved(1), works.approved(2)
    settings = EdgeSettings(outbox=str(folder / "out"), inbox=str(folder / "in"), key=key_of("edge").public)
    for version, name in ((1, "branch"), (2, "other")):
        works.add(name, settings)
        works.start(version, name)
    return works


@pytest.fixture(scope="module")
def orders(works: Works) -> Orders:
    first, second = (order_of(works.centre, name, 1).stable for name in ("branch", "other"))
    assert first is not None
    assert second is not None

    def numbered(package: Package, sequence: int, floor: int, mode: str) -> Package:
        facts = {name: getattr(package.release, name) for name in ModelRelease.model_fields}
        del facts["covenant"], facts["signature"]
        facts |= {"sequence": sequence, "floor": floor, "mode": mode, "target": "branch"}
        return replace(package, release=sign_release(release_signer(works.centre.settings), **facts))

    return Orders(
        first=Order(revision=1, stable=first),
        trial=Order(
            revision=2,
            stable=first,
            challenger=numbered(second, 2, 1, "trial"),
            mode="canary",
            share=0.25,
        ),
        second=Order(revision=3, stable=numbered(second, 3, 3, "serve")),
        recall=Order(revision=4, recall=numbered(second, 4, 4, "recall")),
    )


def files_in(*folders: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


class TestLocal(TargetContract):
    """A scoring service on this machine."""

    @pytest.fixture
    def service(self, works: Works, tmp_path: Path) -> Iterator[Serving]:
        (tmp_path / "state").mkdir()
        with serve(works, "branch", tmp_path / "state") as service:
            yield service

    @pytest.fixture
    def kit(self, service: Serving, works: Works) -> Kit:
        settings = LocalSettings(state=str(service.state), url=service.url)
        target = LocalTarget("branch", settings, read_root(works.centre.settings))

        def refuse() -> None:
            for path in service.state.glob("packages/000000003-*/model.onnx"):
                path.write_bytes(b"!")
            service.look()

        return Kit(target, service.look, refuse, lambda: files_in(service.state))

    def test_the_service_declines_at_the_targets_threshold_and_else_at_its_own(
        self, works: Works, orders: Orders, service: Serving
    ) -> None:
        for order, threshold in ((orders.first, 0.3), (orders.trial, None), (orders.second, 0.4)):
            settings = LocalSettings(state=str(service.state), url=service.url, decline_at=threshold)
            LocalTarget("branch", settings, read_root(works.centre.settings)).give(order)
            state = read_state(service.state)
            assert state is not None
            assert state.decline_at == (threshold or 0.3)

    def test_what_was_recalled_cannot_be_put_back_by_hand(
        self, kit: Kit, orders: Orders, service: Serving
    ) -> None:
        """By whoever can write the service's state."""
        kit.target.give(orders.second)
        kit.settle()
        before = (service.state / "serving.json").read_bytes()
        kit.target.give(orders.recall)
        kit.settle()
        (service.state / "serving.json").write_bytes(before.replace(b'"revision":3', b'"revision":9'))
        service.look()
        assert service.opened == {}
        assert service.refused is not None
        assert "count no more" in service.refused.why

    def test_an_address_elsewhere_is_no_local_target(self) -> None:
        with pytest.raises(ValueError, match="loopback"):
            LocalSettings(state="s", url="http://scoring.example:80")


class TestKServe(TargetContract):
    """An InferenceService in a GitOps folder."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> KServeSettings:
        return KServeSettings(
            folder=str(tmp_path / "gitops"),
            packages=str(tmp_path / "packages"),
            storage="s3://models/covenant",
            namespace="scoring",
            image=IMAGE,
            root_config_map="covenant-root",
            callers_secret="covenant-callers",
        )

    @pytest.fixture
    def kit(self, settings: KServeSettings) -> Kit:
        folder = Path(settings.folder)

        def cluster(ready: str) -> None:
            """Take what is in the folder, as a GitOps agent does, and write back what `kubectl get -o json` prints."""
            found = YAML(typ="safe", pure=True).load((folder / "branch.yaml").read_bytes())
            items = []
            if found is not None:
                condition = {"type": "Ready", "status": ready, "message": "a pod fails"}
                status = {"observedGeneration": 1, "conditions": [condition]}
                items = [{**found, "metadata": {**found["metadata"], "generation": 1}, "status": status}]
            (folder / "branch.status.json").write_text(json.dumps({"kind": "List", "items": items}))

        return Kit(
            KServeTarget("branch", settings),
            lambda: cluster("True"),
            lambda: cluster("False"),
            lambda: files_in(folder, Path(settings.packages)),
        )

    def test_a_manifest_names_everything_by_digest(
        self, kit: Kit, orders: Orders, settings: KServeSettings
    ) -> None:
        kit.target.give(orders.trial)
        found = YAML(typ="safe", pure=True).load((Path(settings.folder) / "branch.yaml").read_bytes())
        predictor = found["spec"]["predictor"]
        (container,) = predictor["containers"]
        assert orders.trial.challenger is not None
        release = orders.trial.challenger.release
        assert predictor["canaryTrafficPercent"] == 25
        assert container["image"] == IMAGE
        assert release.digest[:16] in container["env"][0]["value"]
        assert found["metadata"]["annotations"]["covenant/model-digest"] == release.released.digest
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}

    @pytest.mark.parametrize(
        "image", ["covenant/scoring:latest", "covenant/scoring", "covenant/scoring@sha256:12"]
    )
    def test_an_image_by_tag_is_refused(self, settings: KServeSettings, image: str) -> None:
        with pytest.raises(ValueError, match="a tag can be moved"):
            KServeSettings.model_validate({**settings.model_dump(), "image": image})

    def test_a_shadow_is_refused(self, kit: Kit, orders: Orders) -> None:
        with pytest.raises(Refused, match="no shadow"):
            kit.target.give(replace(orders.trial, mode="shadow"))

    @pytest.mark.parametrize(
        "text", ["", "[]", '{"items": [1]}', '{"items": [{"metadata": {}}]}', "nonsense"]
    )
    def test_a_status_that_kubectl_does_not_print_is_refused(
        self, kit: Kit, orders: Orders, settings: KServeSettings, text: str
    ) -> None:
        kit.target.give(orders.first)
        (Path(settings.folder) / "branch.status.json").write_text(text)
        with pytest.raises(Refused, match="no list of one InferenceService"):
            kit.target.observe()

    def test_an_empty_list_from_before_a_recall_does_not_confirm_it(
        self, kit: Kit, orders: Orders, settings: KServeSettings
    ) -> None:
        """As where the cluster took an order and has not told so yet."""
        status = Path(settings.folder) / "branch.status.json"
        kit.target.give(orders.first)
        status.write_text('{"items": []}')
        os.utime(status, (1, 1))
        kit.target.give(orders.recall)
        assert kit.target.observe().revision == 0
        kit.settle()
        assert kit.target.observe().revision == orders.recall.revision

    def test_a_status_that_is_no_file_is_not_waited_for(
        self, kit: Kit, orders: Orders, settings: KServeSettings
    ) -> None:
        kit.target.give(orders.first)
        os.mkfifo(Path(settings.folder) / "branch.status.json")
        with pytest.raises(Refused, match="no ordinary file"):
            kit.target.observe()

    def test_a_file_of_somebody_else_is_not_overwritten(
        self, kit: Kit, orders: Orders, settings: KServeSettings
    ) -> None:
        Path(settings.folder).mkdir()
        (Path(settings.folder) / "branch.yaml").write_text("kind: Secret\n")
        with pytest.raises(Refused, match="did not write it"):
            kit.target.give(orders.first)


class TestEdge(TargetContract):
    """A branch server that bundles are carried to."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> EdgeSettings:
        return EdgeSettings(
            outbox=str(tmp_path / "out"), inbox=str(tmp_path / "in"), key=key_of("edge").public
        )

    @pytest.fixture
    def service(self, works: Works, tmp_path: Path) -> Iterator[Serving]:
        (tmp_path / "state").mkdir()
        with serve(works, "branch", tmp_path / "state") as service:
            yield service

    @pytest.fixture
    def branch(self, service: Serving, works: Works) -> Branch:
        pinned = read_root(works.centre.settings)
        local = LocalTarget("branch", LocalSettings(state=str(service.state), url=service.url), pinned)

        class Looking:
            """The service looks at its state whenever it is asked."""

            states = local.states

            def give(self, order: Order) -> None:
                local.give(order)

            def observe(self) -> object:
                service.look()
                return local.observe()

        return Branch(
            machine=machine_of(service.state, "branch", pinned),
            service=Looking(),  # type: ignore[arg-type]
            signer=key_of("edge"),
            clock=works.centre.clock,
            wait_s=5.0,
        )

    @pytest.fixture
    def kit(self, settings: EdgeSettings, branch: Branch) -> Kit:
        outbox, inbox = Path(settings.outbox), Path(settings.inbox)
        inbox.mkdir()

        def settle() -> None:
            write_acknowledgement(inbox, branch.take_in(max(outbox.iterdir())))

        def refuse() -> None:
            newest = max(outbox.iterdir())
            whole = newest.read_bytes()
            found = read_pieces(newest)
            write_bundle(newest, {**found, "model.onnx": found["model.onnx"][:-1] + b"!"})
            settle()
            newest.write_bytes(whole)

        return Kit(EdgeTarget("branch", settings), settle, refuse, lambda: files_in(outbox))

    def test_a_refused_bundle_leaves_the_running_model(
        self, kit: Kit, orders: Orders, service: Serving
    ) -> None:
        kit.target.give(orders.first)
        kit.settle()
        running = service.opened["stable"]
        kit.target.give(orders.second)
        with suppress(CovenantError):
            kit.refuse()
        assert service.opened["stable"] == running

    def test_an_older_bundle_that_is_carried_again_is_refused(
        self, kit: Kit, orders: Orders, branch: Branch, settings: EdgeSettings, service: Serving
    ) -> None:
        kit.target.give(orders.first)
        kit.settle()
        kit.target.give(orders.second)
        kit.settle()
        said = branch.take_in(Path(settings.outbox) / bundle_name("branch", orders.first.revision))
        assert said.refused is not None
        assert "count no more" in said.refused
        assert service.opened["stable"].version == 2

    @pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b"[" * 5000])
    def test_a_bad_acknowledgement_blocks_no_other(
        self, kit: Kit, orders: Orders, settings: EdgeSettings, text: bytes
    ) -> None:
        """Whichever of the two is bad."""
        first = Path(settings.inbox) / "branch-000001.ack.json"
        kit.target.give(orders.first)
        kit.settle()
        kit.target.give(orders.second)
        (Path(settings.inbox) / "branch-000003.ack.json").write_bytes(text)
        assert kit.target.observe().revision == orders.first.revision
        kit.settle()
        first.write_bytes(text)
        assert kit.target.observe().revision == orders.second.revision

    def test_what_somebody_else_acknowledges_counts_for_nothing(
        self, kit: Kit, orders: Orders, branch: Branch, settings: EdgeSettings
    ) -> None:
        kit.target.give(orders.first)
        other = replace(branch, signer=key_of("somebody"))
        said = other.take_in(Path(settings.outbox) / bundle_name("branch", orders.first.revision))
        write_acknowledgement(Path(settings.inbox), said)
        with pytest.raises(Refused, match="not signed by branch"):
            said.require(settings.key, "branch")
        assert kit.target.observe().revision == 0

    def test_a_bundle_is_for_one_branch(
        self, kit: Kit, orders: Orders, works: Works, settings: EdgeSettings, tmp_path: Path
    ) -> None:
        kit.target.give(orders.first)
        other = machine_of(tmp_path / "m", "branch-2", read_root(works.centre.settings))
        bundle = Path(settings.outbox) / bundle_name("branch", orders.first.revision)
        with pytest.raises(Refused, match="not for branch-2"):
            open_package(bundle, other, works.centre.clock())

    def test_a_recall_carries_no_model(self, kit: Kit, orders: Orders, settings: EdgeSettings) -> None:
        kit.target.give(orders.recall)
        bundle = Path(settings.outbox) / bundle_name("branch", orders.recall.revision)
        assert b"probability" not in bundle.read_bytes()


def test_what_is_no_bundle_is_not_acknowledged(works: Works, tmp_path: Path) -> None:
    pinned = read_root(works.centre.settings)
    branch = Branch(
        machine=machine_of(tmp_path / "state", "branch", pinned),
        service=LocalTarget("branch", LocalSettings(state="s", url="http://127.0.0.1:1"), pinned),
        signer=key_of("edge"),
        clock=works.centre.clock,
    )
    (tmp_path / "b.covenant").write_bytes(b"nonsense")
    with pytest.raises(Refused, match="no bundle"):
        branch.take_in(tmp_path / "b.covenant")
    with pytest.raises(UsageError, match="cannot be read"):
        branch.take_in(tmp_path / "none.covenant")
    assert issubclass(Recalled, Refused)
