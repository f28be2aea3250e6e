"""An export is verified with nothing but the pinned root; and a coordinator that signs another story is caught by what does not fit."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.governance.log import TransparencyLog, open_log
from coordinator.ledger.ceilings import Decision
from coordinator.registry.publish import publish
from protos.documents import load_document
from protos.log_entries import LogEntry
from protos.log_export import Export, ExportHeader, Verified, verify_file, write_export
from protos.root import SignedRoot
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote
from tests.coordinator.private_for_tests import Make, Private, make, templates
from tests.coordinator.secure_for_tests import RUN

__all__ = ["make", "templates"]
Story = list[dict[str, Any]]


@pytest.fixture
def federation(make: Make) -> Private:
    """One whole run, with a model."""
    made = make()
    finished = made.drive()
    publish(made.centre, made.documents, finished)
    made.store.finish("completed")
    return made


@pytest.fixture
def log(federation: Private) -> TransparencyLog:
    return open_log(federation.engine, federation.centre.settings, federation.clock.wall)


@pytest.fixture
def pinned(federation: Private) -> SignedRoot:
    return load_document(federation.centre.settings.root_file, SignedRoot)


def exported(log: TransparencyLog, bodies: list[bytes] | None = None, note: str | None = None) -> io.BytesIO:
    file = io.BytesIO()
    header = ExportHeader(federation="demo", checkpoint=note or log.checkpoint().encoded)
    write_export(file, header, [each.body for each in log.entries()] if bodies is None else bodies)
    file.seek(0)
    return file


def resigned(log: TransparencyLog, bodies: list[bytes]) -> io.BytesIO:
    """Another story, with its own head, signed by the log's real key: what a lying coordinator can make."""
    tree = Frontier()
    for each in bodies:
        tree, _ = tree.append(leaf_hash(each))
    head = Checkpoint(origin=log.key.name, size=tree.size, root=tree.root)
    note = SignedNote(head.text, (log.key.line(log.sign(head.text)),))
    return exported(log, bodies, note.encoded)


def verified(log: TransparencyLog, pinned: SignedRoot) -> Verified:
    return Export.read(exported(log)).verify(pinned)


def test_an_export_tells_which_plan_made_the_model_whose_input_was_opened_and_what_it_cost(
    federation: Private, log: TransparencyLog, pinned: SignedRoot
) -> None:
    found = verified(log, pinned)
    (run,), (model,) = found.story.runs.values(), found.story.models
    assert (run.run, run.plan, run.state, run.committed) == (RUN, federation.plan, "completed", 2)
    assert run.survivors == set(federation.sites)
    assert (model.name, model.version, model.run) == ("private", 1, RUN)
    assert found.head.size == log.size()
    budgets = list(found.story.budgets.standing())
    assert [each.account.site for each in budgets] == list(federation.sites)
    for each in budgets:
        view = federation.ledger.show(each.account.site, each.account.population, each.ceiling.unit)
        assert (each.opened, each.charged, each.sums) == (view.settled, view.spent, view.settled_releases)
        assert each.opened == each.charged  # what the run did not use was given back


def test_a_ceiling_that_is_set_is_in_the_log(
    federation: Private, log: TransparencyLog, pinned: SignedRoot
) -> None:
    site = federation.sites[0]
    population = federation.plan.population_of(site)
    before = {each.account.site: each.ceiling for each in verified(log, pinned).story.budgets.standing()}
    decision = Decision(
        epsilon=45.0, delta=1e-5, unit=before[site].unit, officers=["one", "other"], reason="a year's plans"
    )
    federation.ledger.set_ceiling(site, population, decision)
    after = {each.account.site: each.ceiling for each in verified(log, pinned).story.budgets.standing()}
    assert after[site].epsilon == 45.0
    assert {name: each for name, each in after.items() if name != site} == {
        name: each for name, each in before.items() if name != site
    }


def test_a_file_is_verified_as_it_lies(
    log: TransparencyLog, pinned: SignedRoot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("export") / "log.jsonl"
    path.write_bytes(exported(log).getvalue())
    assert verify_file(path, pinned).head.size == log.size()
    with pytest.raises(UsageError, match="cannot be read"):
        verify_file(path.parent / "none", pinned)


def test_a_file_that_was_changed_is_refused(log: TransparencyLog, pinned: SignedRoot) -> None:
    """By whoever does not have the log's key: every byte counts."""
    whole = exported(log).getvalue()
    lines = whole.split(b"\n")[:-1]
    changes = (
        lines[:-1],
        [*lines[:2], lines[3], lines[2], *lines[4:]],
        [*lines, lines[-1]],
        [*lines[:-1], lines[-1].replace(b"completed", b"stopped")],
    )
    for rest in changes:
        with pytest.raises(Refused):
            Export.read(io.BytesIO(b"".join(each + b"\n" for each in rest))).verify(pinned)
    with pytest.raises(Refused, match="cut short"):
        Export.read(io.BytesIO(whole[:-1])).verify(pinned)
    with pytest.raises(Refused, match="no export"):
        Export.read(io.BytesIO(whole[:20]))


def story(log: TransparencyLog) -> Story:
    return [
        LogEntry.from_canonical(each.body).model_dump(mode="json", exclude_none=True)
        for each in log.entries()
    ]


def of(entries: Story, kind: str) -> list[dict[str, Any]]:
    return [each["what"] for each in entries if each["what"]["kind"] == kind]


def without(kind: str) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        del entries[next(n for n, each in enumerate(entries) if each["what"]["kind"] == kind)]

    return lie


def changed(kind: str, **values: object) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        of(entries, kind)[-1].update(values)

    return lie


def twice(kind: str) -> Callable[[Story], None]:
    def lie(entries: Story) -> None:
        place = next(n for n, each in enumerate(entries) if each["what"]["kind"] == kind)
        entries.insert(place, entries[place])

    return lie


def another_plan(entries: Story) -> None:
    of(entries, "plan")[0]["plan"]["document"]["training"]["rounds"] = 1


def more_noise_on_paper(entries: Story) -> None:
    launch = of(entries, "launch")[0]
    launch["reserved"][0]["times"] += 1


def another_release(entries: Story) -> None:
    settled = of(entries, "settled")
    settled[1]["releases"] = settled[0]["releases"]


LIES: dict[str, tuple[Callable[[Story], None], str]] = {
    "no member list": (without("members"), "not in the log before it"),
    "no plan": (without("plan"), "not in the log before it"),
    "a plan that is another than its digest": (another_plan, "it is of another document"),
    "no launch": (without("launch"), "was never launched"),
    "launched twice": (twice("launch"), "is launched twice"),
    "no ceiling": (without("ceiling"), "which has no ceiling"),
    "another reservation": (more_noise_on_paper, "does not reserve what its plan releases"),
    "a sum that was never settled": (without("settled"), "was not settled over these sites"),
    "a sum settled twice": (twice("settled"), "is settled twice"),
    "charged as another release": (another_release, "is charged as another release"),
    "a sum over two sites": (changed("settled", sites=["east", "north"]), "a sum over east, north"),
    "a sum over a stranger": (changed("settled", sites=["east", "north", "ghost"]), "ghost"),
    "a round that the plan does not have": (
        changed("settled", stage="train", round=7),
        "the plan has no train in round 7",
    ),
    "a round left out": (without("round"), "after round 0"),
    "another survivor": (
        changed("round", survivors=["east", "north", "south"]),
        "was not settled over these sites",
    ),
    "a survivor that was not asked": (changed("round", roster=["east"]), "is not on the roster"),
    "a model of another plan": (changed("model", name="other"), "has not made such a model"),
    "artifacts of another digest": (changed("model", artifacts={}), "it is not of these artifacts"),
    "a reservation that was never given back": (changed("given-up", releases=1), "gives 1 releases back"),
    "ended twice": (twice("ended"), "is completed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_coordinator_that_signs_another_story_is_caught(
    lie: str, log: TransparencyLog, pinned: SignedRoot
) -> None:
    change, words = LIES[lie]
    entries = story(log)
    change(entries)
    with pytest.raises(Refused, match=words):
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)


def test_the_same_story_signed_again_is_believed(log: TransparencyLog, pinned: SignedRoot) -> None:
    """The control of the test before: nothing but the lie is refused there."""
    found = Export.read(resigned(log, [canonical_json(each) for each in story(log)])).verify(pinned)
    assert found.head.size == log.size()


def test_a_head_that_another_key_signed_is_refused(
    log: TransparencyLog, pinned: SignedRoot, federation: Private
) -> None:
    text = log.checkpoint().text
    signer = open_signer()
    forged = SignedNote(text, (log.key.line(signer(text)),))
    with pytest.raises(Refused, match="is not signed by demo/log"):
        Export.read(exported(log, note=forged.encoded)).verify(pinned)


def open_signer() -> Callable[[str], bytes]:
    from protos.keys import SigningKey

    return SigningKey.generate().sign_note


def test_another_federations_root_verifies_nothing(log: TransparencyLog) -> None:
    from tests.trust_for_tests import Officers

    with pytest.raises(Refused, match=r"of the 2 signatures"):
        Export.read(exported(log)).verify(Officers.of("a", "b").pinned)
    with pytest.raises(Refused, match="the root is of other"):
        Export.read(exported(log)).verify(Officers.of("a", "b", federation="other").pinned)


def test_entries_of_an_unknown_kind_are_refused(log: TransparencyLog, pinned: SignedRoot) -> None:
    """What a reader does not understand it does not pass over."""
    entries = story(log)
    entries.append({"covenant": "entry/v1", "at": "2026-11-25T12:00:00Z", "what": {"kind": "later"}})
    with pytest.raises(Refused, match=f"entry {len(entries) - 1}"):
        Export.read(resigned(log, [canonical_json(each) for each in entries])).verify(pinned)
