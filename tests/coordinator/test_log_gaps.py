"""A gap in the log is believed with the officers' signatures at its very place, and reported; whatever pretends that nothing was lost is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from coordinator.governance.log import TransparencyLog
from protos.gaps import GapDeclared, GapHead, SignedGap
from protos.log_entries import AccountsAdopted, AdoptedCharge, GapLogged, LogEntry, LoggedDocument, What
from protos.log_export import Export
from protos.log_run_events import RunEnded, RunResumed
from protos.root import SignedRoot
from simulation.world.layout import _signing_key
from strategies.errors import Refused
from strategies.ids import Digest
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint
from tests.coordinator.private_for_tests import Private, templates
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import federation, log, pinned, resigned

__all__ = ["federation", "log", "pinned", "templates"]
AT = datetime(2027, 1, 1, 0, 4, tzinfo=UTC)
"""Little later than what is logged, as time goes on in a log."""
STATEMENT = Digest("ab" * 32)
Tail = Callable[["Scene"], list[What]]


class Scene:
    """The whole story of one run, cut off after `keep` entries, with a gap and more behind it."""

    def __init__(self, log: TransparencyLog, federation: Private, pinned: SignedRoot, keep: int) -> None:
        self.log, self.federation, self.pinned = log, federation, pinned
        self.whole = [each.body for each in log.entries()]
        self.kept = self.whole[:keep]

    @property
    def head(self) -> Checkpoint:
        tree = Frontier()
        for body in self.kept:
            tree, _ = tree.append(leaf_hash(body))
        return Checkpoint(origin=self.log.key.name, size=tree.size, root=tree.root)

    def gap(self, officers: int = 2, **changes: Any) -> GapLogged:
        facts: dict[str, Any] = {
            "federation": "demo",
            "kept": GapHead.of(self.head),
            "reason": "the disk failed",
            "declared": AT,
            **changes,
        }
        signed, source = SignedGap(gap=GapDeclared(**facts)), Random("keys 0")
        for _ in range(officers):
            signed = signed.signed_with(_signing_key(source), self.pinned.root)
        return GapLogged(gap=LoggedDocument.of(signed))

    def adopted(self, times: int = 0, **changes: Any) -> AccountsAdopted:
        launch = next(LogEntry.from_canonical(body).what for body in self.whole if b'"kind":"launch"' in body)
        release = next(iter(launch.releases))  # type: ignore[union-attr]
        site = self.federation.sites[0]
        charges = (
            [AdoptedCharge(population=self.federation.plan.population_of(site), release=release, times=times)]
            if times
            else []
        )
        facts: dict[str, Any] = {
            "site": site,
            "statement": STATEMENT,
            "made_at": AT + timedelta(hours=1),
            "releases": {release: launch.releases[release]} if times else {},  # type: ignore[union-attr]
            "adopted": tuple(charges),
            **changes,
        }
        return AccountsAdopted(**facts)

    def verify(self, *tail: What, raw: list[bytes] | None = None) -> Any:
        entries = [LogEntry(at=AT, what=each).canonical for each in tail]
        export = resigned(self.log, [*self.kept, *entries, *(raw or [])])
        return Export.read(export).verify(self.pinned).story


@pytest.fixture
def scene(log: TransparencyLog, federation: Private, pinned: SignedRoot) -> Scene:
    """Cut off after the first round was committed."""
    bodies = [each.body for each in log.entries()]
    place = next(n for n, body in enumerate(bodies) if b'"kind":"round"' in body)
    return Scene(log, federation, pinned, place + 1)


def test_a_gap_is_believed_and_reported(scene: Scene) -> None:
    story = scene.verify(scene.gap(), RunEnded(run=RUN, state="failed", reason="restored"))
    ((seq, sound),) = story.gaps.met
    assert (seq, sound.declared.kept.size) == (len(scene.kept), len(scene.kept))
    assert story.runs[RUN].state == "failed"


def test_what_a_site_had_charged_counts_as_opened(scene: Scene) -> None:
    before = next(iter(scene.verify(scene.gap()).budgets.standing()))
    after = next(iter(scene.verify(scene.gap(), scene.adopted(times=1)).budgets.standing()))
    assert after.sums == before.sums + 1
    assert after.opened.epsilon > before.opened.epsilon
    assert after.charged.epsilon > before.charged.epsilon


LIES: dict[str, tuple[Tail, str]] = {
    "a gap without the quorum": (lambda it: [it.gap(officers=1)], "has 1 of the 2 signatures"),
    "a gap at another place": (
        lambda it: [it.gap(kept=GapHead(size=3, root=Digest("ab" * 32)))],
        "begins after another head",
    ),
    "a gap twice": (lambda it: [it.gap(), it.gap()], "begins after another head"),
    "a run resumed after it": (
        lambda it: [it.gap(), RunEnded(run=RUN, state="failed"), RunResumed(run=RUN)],
        "entries were lost after its launch",
    ),
    "accounts adopted without a gap": (lambda it: [it.adopted()], "there was no gap"),
    "accounts adopted twice": (lambda it: [it.gap(), it.adopted(), it.adopted()], "adopted twice"),
    "accounts adopted by an old statement": (
        lambda it: [it.gap(), it.adopted(made_at=AT - timedelta(hours=1))],
        "made before the gap",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_whoever_makes_more_of_a_gap_is_caught(lie: str, scene: Scene) -> None:
    tail, words = LIES[lie]
    with pytest.raises(Refused, match=words):
        scene.verify(*tail(scene))


def test_a_run_from_before_does_not_go_on(scene: Scene) -> None:
    """The very entries that were lost are refused after a gap: they are copies' to bring back, before it."""
    assert scene.verify(raw=scene.whole[len(scene.kept) :]).runs[RUN].state == "completed"
    with pytest.raises(Refused, match="entries were lost after its launch"):
        scene.verify(scene.gap(), raw=scene.whole[len(scene.kept) :])


def test_nothing_is_charged_after_a_gap_before_the_site_was_heard(
    log: TransparencyLog, federation: Private, pinned: SignedRoot
) -> None:
    bodies = [each.body for each in log.entries()]
    place = next(n for n, body in enumerate(bodies) if b'"kind":"launch"' in body)
    scene = Scene(log, federation, pinned, place)
    launch = [bodies[place]]
    with pytest.raises(Refused, match="whose accounts were not adopted after the gap"):
        scene.verify(scene.gap(), raw=launch)
    heard = [scene.adopted(site=site) for site in federation.sites]
    assert RUN in scene.verify(scene.gap(), *heard, raw=launch).runs
