"""That a site personalises a model: handed in, logged, audited, replayed and shown; and nothing that does not count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from client.keystore import load_identity
from client.shared_models import read_exported
from coordinator.db.engine import open_database, writing
from coordinator.documents import read_root
from coordinator.governance.log import append
from coordinator.office.model_desk import LocalModelDesk
from coordinator.registry.publish import publish
from coordinator.registry.versions import WEIGHTS_FILE, get_version, list_versions, register
from protos import control_pb2 as control
from protos.keys import SigningKey
from protos.log_audit import AuditRefused, audit
from protos.log_entries import LoggedDocument, ModelRegistered, PersonalTold
from protos.personal import PersonalStatement, state_personal
from protos.site import load_site
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, site_name
from tests.coordinator.api_for_tests import FEDERATION, Bank, approved, new_id, plan_of, serving
from tests.coordinator.private_for_tests import Private, Templates, private_plan, templates
from tests.coordinator.recovery_for_tests import replayed
from tests.coordinator.test_log_export import log_of, pinned_by, verified
from tests.trust_for_tests import key_of

__all__ = ["templates"]
NORTH = site_name("north")


@pytest.fixture
def federation(templates: Templates) -> Iterator[Private]:
    made = templates.copy(private_plan())
    publish(made.centre, made.documents, made.drive())
    made.store.finish("completed")
    yield made
    made.close()


def registered(federation: Private) -> ModelRegistered:
    story = audit((each.body for each in log_of(federation).entries()), pinned_by(federation))
    return story.models[-1]


def said(
    federation: Private,
    model: Digest | None = None,
    site: str = NORTH,
    signer: SigningKey | None = None,
    root: Digest | None = None,
) -> PersonalStatement:
    signer = signer or load_identity(load_site(federation.layout.site_file(site_name(site))))
    return state_personal(
        root or read_root(federation.centre.settings).root.identity,
        site_name(site),
        model or registered(federation).weights,
        signer,
        at=federation.clock.wall(),
    )


def test_it_is_logged_once_verified_by_auditors_and_shown_by_the_registry(federation: Private) -> None:
    desk, before = LocalModelDesk(federation.centre), log_of(federation).size()
    for _ in range(2):
        assert desk.tell_personal(said(federation)) == ("private@1",)
    assert log_of(federation).size() == before + 1
    assert desk.tell_personal(said(federation, site="south")) == ("private@1",)
    (version,) = list_versions(federation.engine)
    assert version.personal == ("north", "south")
    assert get_version(federation.engine, "private", 1) == version
    story = verified(log_of(federation), pinned_by(federation)).story
    assert story.personal.told == {(site, registered(federation).weights) for site in ("north", "south")}


def test_a_model_may_be_named_by_the_file_that_was_handed_over(federation: Private) -> None:
    weights = federation.centre.artifacts.get(registered(federation).artifacts[WEIGHTS_FILE])
    statement = said(federation, sha256_hex(weights))
    assert LocalModelDesk(federation.centre).tell_personal(statement) == ("private@1",)
    assert list_versions(federation.engine)[0].personal == ("north",)


def test_the_folder_of_an_exported_model_is_a_shared_model_at_a_site(
    federation: Private, tmp_path: Path
) -> None:
    version = list_versions(federation.engine)[0]
    for name, digest in version.artifacts.items():
        (tmp_path / name).write_bytes(federation.centre.artifacts.get(digest))
    shared = read_exported(tmp_path)
    model = federation.committed().model
    np.testing.assert_array_equal(shared.vector, model.astype(np.float32).astype(np.float64))
    assert (shared.plan, shared.scaling) == (federation.plan, federation.scaling())
    assert registered(federation).holds(shared.digest)
    (tmp_path / "plan.json").write_bytes(private_plan({"seed: 1": "seed: 2"}).canonical)
    with pytest.raises(Refused, match="names another plan"):
        read_exported(tmp_path)


def test_a_replayed_log_tells_the_same(federation: Private, tmp_path: Path) -> None:
    LocalModelDesk(federation.centre).tell_personal(said(federation))
    empty: Engine = open_database(f"sqlite:///{tmp_path / 'restored.db'}")
    replayed(empty, [each.body for each in log_of(federation).entries()], pinned_by(federation))
    assert list_versions(empty)[0].personal == ("north",)
    empty.dispose()


WRONG: dict[str, Callable[[Private], PersonalStatement]] = {
    "not signed with its key": lambda it: said(it, signer=key_of("somebody")),
    "is not registered|no model with weights": lambda it: said(it, Digest("ab" * 32)),
    "this is the one with root": lambda it: said(it, root=Digest("ab" * 32)),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_count_is_neither_taken_nor_believed(words: str, federation: Private) -> None:
    """The coordinator refuses it; and of one that logs it all the same, the auditor does."""
    statement, before = WRONG[words](federation), log_of(federation).size()
    with pytest.raises(CovenantError, match=words):
        LocalModelDesk(federation.centre).tell_personal(statement)
    assert log_of(federation).size() == before
    _log(federation, statement)
    with pytest.raises(AuditRefused, match=words):
        audit((each.body for each in log_of(federation).entries()), pinned_by(federation))


def test_an_auditor_does_not_take_it_twice(federation: Private) -> None:
    for _ in range(2):
        _log(federation, said(federation))
    with pytest.raises(AuditRefused, match=r"tells of .* twice"):
        audit((each.body for each in log_of(federation).entries()), pinned_by(federation))


def _log(federation: Private, statement: PersonalStatement) -> None:
    with writing(federation.engine, "lying") as session:
        append(session, federation.clock.wall(), [PersonalTold(statement=LoggedDocument.of(statement))])


# --- over the control API -------------------------------------------------------------------------------------------------


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


def test_a_sites_operator_hands_it_in_and_the_same_request_gets_the_same_answer(bank: Bank) -> None:
    run = bank.desk("author-1").launch(approved(plan_of()))
    register(
        bank.centre.engine, bank.centre.artifacts, name="default", run_id=run, files={"model.safetensors": b"weights"},
        weights=Digest("cd" * 32), metrics=None, clock=bank.centre.clock,
    )  # fmt: skip
    first, *others = bank.listed.members
    site = first.site
    bank.certify(
        bank.listed.next(members=(first.model_copy(update={"identity_key": key_of(site).public}), *others))
    )
    statement = state_personal(FEDERATION, site, Digest("cd" * 32), key_of(site), at=bank.centre.clock())
    assert bank.model_desk("operator-1").tell_personal(statement) == ("default@1",)
    client, id_ = bank.client("operator-1"), new_id()
    request = control.TellPersonalRequest(request_id=id_, statement=statement.canonical)
    answers = [
        client.ask("covenant.control.v1.Models/TellPersonal", request, control.TellPersonalResponse)
        for _ in range(2)
    ]
    assert [list(each.models) for each in answers] == [["default@1"]] * 2
    assert len(bank.told("personal")) == 1
    (version,) = bank.model_desk("auditor-1").versions()
    assert version.personal == (site,)
