"""The section on where a version ran: its rollouts, what was ordered and confirmed, and its recalls."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.governance.evidence.content import Block, Cell, Section, Words, table
from coordinator.governance.evidence.facts import fact, show_number
from coordinator.governance.evidence.story import Story
from protos.log_deploy_events import Deployed, RecallConfirmed, RecallOrdered, RolloutMoved, TargetAdded


def deployments(story: Story) -> Section:
    """Targets, rollouts and recalls, as the log has them."""
    tables = (
        table("Rollouts", ("rollout", "target", "kind", "stands at", "share, %"), _rollouts(story), (4,)),
        table("Orders", ("at", "target", "order", "rollout", "to", "by", "why"), _orders(story), (2,)),
        table(
            "Confirmed by targets", ("at", "target", "order", "rollout", "has come to"), _moves(story), (2,)
        ),
        table("Recalls", ("ordered at", "target", "by", "why", "confirmed at"), _recalls(story)),
    )
    blocks: tuple[Block, ...] = tuple(each for each in tables if each.rows)
    return Section(
        "Where it ran", blocks or (Words("The log tells of no order that brought this version anywhere."),)
    )


def _rollouts(story: Story) -> Iterator[list[Cell]]:
    """How each stands after the last entry."""
    kinds = {what.name: (each.seq, what.target_kind) for each, what in story.of(TargetAdded)}
    places = dict[str, list[int]]()
    targets = dict[str, str]()
    for each in story.told:
        what = each.what
        if isinstance(what, Deployed | RolloutMoved) and story.is_rollout(what.target, what.rollout):
            places.setdefault(what.rollout, []).append(each.seq)
            targets[what.rollout] = what.target
    for rollout, told in places.items():
        name, target = f"rollouts.{rollout}", targets[rollout]
        stands = story.audit.deployments.targets[target].rollouts[rollout]
        seq, kind = kinds[target]
        moved = [each.seq for each, what in story.of(RolloutMoved) if what.rollout == rollout]
        come = moved[-1:] or told[:1]
        yield [
            rollout,
            fact(f"{name}.target", "target", target, told[:1]),
            fact(f"{name}.kind", "kind", kind, (seq,)),
            fact(f"{name}.state", "stands at", str(stands.state), come, derived="what a target confirmed last, or planned"),
            fact(
                f"{name}.share", "share", stands.share, come, derived="of the state", shown=show_number(100 * stands.share)
            ),
        ]  # fmt: skip


def _orders(story: Story) -> Iterator[list[Cell]]:
    for each, what in story.of(Deployed):
        place, name = (each.seq,), f"orders.{each.seq}"
        yield [
            fact(f"{name}.at", "at", each.at, place),
            fact(f"{name}.target", "target", what.target, place),
            fact(f"{name}.number", "order", what.revision, place),
            fact(f"{name}.rollout", "rollout", what.rollout, place),
            fact(f"{name}.to", "to", str(what.state), place),
            fact(f"{name}.by", "by", what.by, place),
            fact(f"{name}.why", "why", what.why, place),
        ]


def _moves(story: Story) -> Iterator[list[Cell]]:
    for each, what in story.of(RolloutMoved):
        place, name = (each.seq,), f"confirmed.{each.seq}"
        yield [
            fact(f"{name}.at", "at", each.at, place),
            fact(f"{name}.target", "target", what.target, place),
            fact(f"{name}.number", "order", what.revision, place),
            fact(f"{name}.rollout", "rollout", what.rollout, place),
            fact(f"{name}.state", "state", str(what.state), place),
        ]


def _recalls(story: Story) -> Iterator[list[Cell]]:
    """Each with its confirmation, the first of the target after it."""
    confirmed = [(each, what.target) for each, what in story.of(RecallConfirmed)]
    for each, what in story.of(RecallOrdered):
        place, name = (each.seq,), f"recalls.{each.seq}"
        after = next((one for one, target in confirmed if target == what.target and one.seq > each.seq), None)
        yield [
            fact(f"{name}.at", "ordered at", each.at, place),
            fact(f"{name}.target", "target", what.target, place),
            fact(f"{name}.by", "by", what.by, place),
            fact(f"{name}.why", "why", what.why, place),
            "not confirmed"
            if after is None
            else fact(f"{name}.confirmed", "confirmed at", after.at, (after.seq,)),
        ]
