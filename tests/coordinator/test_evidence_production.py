"""Evidence tells fairness where a version runs from windows that are not in the log: what of a file counts, and who vouches for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.monitor_windows import carried_windows
from coordinator.governance.evidence import write
from coordinator.governance.evidence.about_production import key_of_place
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form
from coordinator.governance.evidence.story import Story, Told
from coordinator.governance.evidence.write import story_in
from protos.log_deploy_events import TargetAdded
from protos.log_monitor import MonitorAdded
from protos.log_run_events import RoundEvaluated
from protos.root import SignedRoot
from protos.windows import Outcomes, Window, Windows
from strategies.errors import Refused, UsageError
from tests.coordinator.private_for_tests import templates
from tests.coordinator.registry_for_tests import NAME
from tests.coordinator.test_evidence import Evidenced, facts_of, plain, shown_by
from tests.coordinator.test_evidence_monitoring import DAY, drifted
from tests.coordinator.test_fairness_shown import FACTS
from tests.coordinator.test_log_export import pinned_by
from tests.trust_for_tests import key_of

__all__ = ["drifted", "templates"]


def by_group(story: Story) -> Story:
    """The same log, in which the last evaluation counted a protected attribute."""
    told = list[Told]()
    for each in story.told:
        what = each.what
        if isinstance(what, RoundEvaluated) and what.metrics is not None:
            what = what.model_copy(update={"metrics": {**what.metrics, "panels": FACTS}})
        told.append(replace(each, what=what))
    return replace(story, told=tuple(told))


def outcomes(story: Story, number: int, **changes: Any) -> Window:
    """A window of outcomes of the version and monitor in the log: of each group 40 in each of its cells."""
    (monitor,) = (what.monitor for _, what in story.of(MonitorAdded))
    counts = ((40,) * monitor.score_bins,) * 2
    begins = datetime(2026, 1, number, tzinfo=UTC)
    told: dict[str, Any] = {
        "place": "branch",
        "model": story.ref,
        "version_digest": story.model.digest,
        "contract": story.contract.digest,
        "monitor": monitor.digest,
        "number": number,
        "sequence": number,
        "begins": begins,
        "ends": begins + DAY,
        "outcomes": Outcomes(noise_std=3.0, counts=counts, groups={"band": {"old": counts, "young": counts}}),
        "spent": 0.5,
    }
    return Window(**told | changes)


def test_production_fairness_is_shown_as_what_a_place_told_with_digests_and_not_in_the_log(
    drifted: Evidenced,
) -> None:
    bare = by_group(drifted.story)
    windows = [outcomes(bare, 1), outcomes(bare, 2)]
    others = [
        outcomes(bare, 3, version_digest="ab" * 32),
        outcomes(bare, 4, monitor="ab" * 32),
        outcomes(bare, 5, outcomes=None),
    ]
    story = bare.with_windows([*windows, *others])
    assert story.outcomes == tuple(reversed(windows))
    card = document(story, EvidenceKind.CARD)
    told = facts_of(story, EvidenceKind.CARD)
    digests = {name: each for name, each in told.items() if name.endswith(".digest") and "production" in name}
    assert {each.value for each in digests.values()} == {each.digest for each in windows}
    ratio = told["production.band.young.adverse_impact_ratio"]
    assert ratio.value == pytest.approx(1.0)
    (watched,) = story.places(MonitorAdded)
    for each in (*digests.values(), ratio):
        assert each.entries == (watched,)
        assert each.derived is not None
        assert each.derived.startswith("not in the log: from windows of outcomes")
    for form in Form:
        shown = shown_by(card, form)
        assert plain("What follows on decisions where it runs is not in the log") in shown, form
        assert plain("nobody: the log has no key of branch") in shown, form
        for window in windows:
            assert plain(window.digest) in shown, form
    missing = "Decisions by group of people where it runs"
    assert missing not in {each.what for each in card.missing()}
    assert missing in {each.what for each in document(bare, EvidenceKind.CARD).missing()}
    assert not any(name.startswith("production.") for name in facts_of(bare, EvidenceKind.CARD))


@dataclass
class Beside:
    """An export that tells of `story`, and the files of windows that are put beside it."""

    story: Story
    folder: Path
    pinned: SignedRoot

    def with_files(self, *files: Windows) -> Story:
        return story_in(self.folder, self.pinned, None, NAME, windows=files)


@pytest.fixture
def beside(drifted: Evidenced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Beside:
    """The version was sent to branch, which has a key, and to north, which has none."""
    story, key = by_group(drifted.story), key_of("branch").public
    first = story.told[0]
    targets = (
        TargetAdded(name="branch", target_kind="edge", settings={"kind": "edge", "key": key}, by="author-1"),
        TargetAdded(name="north", target_kind="local", settings={"kind": "local"}, by="author-1"),
    )
    story = replace(story, told=(*(replace(first, what=each) for each in targets), *story.told))
    monkeypatch.setattr(write, "_named", lambda *_: story)
    return Beside(story, tmp_path, pinned_by(drifted.registry.federation))


def file_of(place: str, *windows: Window) -> Windows:
    return Windows(place=place, windows=windows, last=9)


def test_windows_of_a_place_with_a_key_count_only_with_its_signature(beside: Beside) -> None:
    """Whoever reads an export holds a file to the key that the log has of its place."""
    assert key_of_place(beside.story, "branch") == key_of("branch").public
    assert key_of_place(beside.story, "north") is None
    file = file_of("branch", outcomes(beside.story, 1))
    with pytest.raises(Refused, match="these windows are not signed by branch"):
        beside.with_files(file)
    signed = beside.with_files(file.signed(key_of("branch")))
    assert "its file, signed by branch with key" in str(document(signed, EvidenceKind.CARD).view())


def test_a_file_without_a_signature_is_said_to_be_vouched_for_by_nobody(beside: Beside) -> None:
    """Nobody has asked the place for it: whoever carried the file may have written it."""
    told = str(
        document(
            beside.with_files(file_of("north", outcomes(beside.story, 1, place="north"))), EvidenceKind.CARD
        ).view()
    )
    assert "nobody: the log has no key of north" in told
    assert "the coordinator asked" not in told


def test_a_file_of_a_place_where_the_version_was_never_sent_is_refused(beside: Beside) -> None:
    """One without a key in these entries may have one elsewhere in the log, or be made up."""
    with pytest.raises(Refused, match=f"no order that brought {NAME}@1 to elsewhere"):
        beside.with_files(file_of("elsewhere", outcomes(beside.story, 1, place="elsewhere")))


def test_a_window_that_is_carried_twice_counts_once(beside: Beside) -> None:
    one, other = (outcomes(beside.story, number) for number in (1, 2))
    files = [file_of("branch", *each).signed(key_of("branch")) for each in ((one, other), (other,))]
    assert beside.with_files(*files).outcomes == (other, one)


def test_a_place_that_tells_two_windows_under_one_number_is_refused(beside: Beside) -> None:
    """With two noises for one window, or with counts that one of its readers should see."""
    files = [
        file_of("branch", outcomes(beside.story, 1, spent=spent)).signed(key_of("branch"))
        for spent in (0.5, 0.6)
    ]
    with pytest.raises(Refused, match="branch tells two windows under sequence 1"):
        beside.with_files(*files)


def test_a_carried_window_is_held_to_its_monitor(beside: Beside) -> None:
    """As the coordinator holds those that it takes in."""
    fair = outcomes(beside.story, 1)
    assert fair.outcomes is not None
    few = ((40,) * 3,) * 2
    for match, changes in {
        "and its monitor asks for": {"outcomes": fair.outcomes.model_copy(update={"noise_std": 1.0})},
        "bins of band": {"outcomes": fair.outcomes.model_copy(update={"groups": {"band": {"old": few}}})},
        "no window of its monitor": {"ends": fair.ends + DAY},
    }.items():
        with pytest.raises(Refused, match=match):
            beside.with_files(file_of("branch", fair.model_copy(update=changes)).signed(key_of("branch")))


def test_a_file_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    large = tmp_path / "windows.json"
    with large.open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no disk, and all the memory of whoever reads it
    with pytest.raises(UsageError, match="is larger than"):
        carried_windows(large)
