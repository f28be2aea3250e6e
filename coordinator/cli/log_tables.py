"""The transparency log for people: its entries, and what an export proves, as tables and sentences on stderr."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from coordinator.cli.log_words import words_of
from protos.approvals import ApprovedPlan
from protos.log_audit import Audit
from protos.log_entries import (
    LogEntry,
)
from protos.log_export import Verified
from protos.log_gaps import Gap
from protos.root import SignedRoot
from protos.shell import as_written, people

_SHORT = 12


def _row(table: Table, *texts: str) -> None:
    table.add_row(*map(as_written, texts))


def show_entries(size: int, found: Sequence[tuple[int, LogEntry]]) -> None:
    """Entries, one a line."""
    table = Table("entry", "at", "kind", "what", title=f"transparency log, {size} entries")
    for seq, entry in found:
        _row(table, str(seq), f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.what.kind, words_of(entry.what))
    people.print(table)


def _approved_by(approved: ApprovedPlan) -> str:
    return ", ".join(f"{name} ({role})" for name, role in approved.approved_by) or "nobody, as the plan asks"


def show_verified(found: Verified, pinned: SignedRoot) -> None:
    """What an export proves, and what it does not."""
    for table in (_runs(found.story), _models(found.story), _budgets(found.story)):
        if table.row_count:
            people.print(table)
    for gap in found.story.gaps.met:
        _show_gap(gap)
    for pack in found.story.policies.published.values():
        force = (
            "everything was judged by it" if pack.digest in found.story.policies.in_force else "not in force"
        )
        people.print(
            as_written(f"policy pack {pack.ref} from {pack.effective_from:%Y-%m-%d %H:%M} UTC: {force}")
        )
    for halt in found.story.halts.standing.values():
        people.print(as_written(f"under a halt: {halt.order.words}"))
    people.print(
        _witnesses(found.story)
        + f"verified: all {found.head.size} entries of the log of {found.federation} (fingerprint {pinned.root.fingerprint}), in order and"
        f" without a gap, are those of the head that {found.log_key.name} signed. Each fits those before it.\n"
        f"Whether others than those witnesses see the same log, they have to say: compare the head of {found.head.size} entries, {found.head.root.hex()}.",
        highlight=False,
        markup=False,
    )


def _show_gap(gap: Gap) -> None:
    """Loudly: whatever a log says besides, it does not say what happened there."""
    declared = gap.sound.declared
    known = "".join(f"\n  lost: {each.words}" for each in declared.lost) or "\n  no later head is known"
    by = ", ".join(gap.sound.signed.signed(gap.sound.root))
    people.print(Text("GAP", style="bold red"), end=" ")
    people.print(
        f"at entry {gap.seq}: what came after the first {declared.kept.size} entries is lost. {by} signed so on {declared.declared:%Y-%m-%d}:"
        f" {declared.reason}{known}\nModels and charges of that time are in this log only as far as sites stated them.",
        highlight=False,
        markup=False,
    )


def _witnesses(story: Audit) -> str:
    """How far which sites have seen the log."""
    by_size: dict[int, list[str]] = {}
    for site, size in story.witnesses.sizes.items():
        by_size.setdefault(size, []).append(site)
    lines = [
        f"up to entry {size - 1} it was witnessed by {', '.join(sites)}\n"
        for size, sites in sorted(by_size.items(), reverse=True)
    ]
    unseen = story.witnesses.unseen
    return "".join(lines) + f"{unseen} entries at the end were witnessed by nobody\n"


def _runs(story: Audit) -> Table:
    table = Table(
        "run",
        "plan",
        "approved by",
        "witnessed by",
        "privacy",
        "state",
        "rounds",
        "sites whose input was opened",
        title="runs",
    )
    for each in story.runs.values():
        plan = f"{each.plan.name} {each.plan.digest[:_SHORT]}"
        rest = (each.state, str(each.committed), ", ".join(sorted(each.survivors)))
        seen = ", ".join(sorted(each.witnesses)) or "nobody"
        _row(table, each.run, plan, _approved_by(each.approved), seen, each.plan.privacy.mode, *rest)
    return table


def _models(story: Audit) -> Table:
    table = Table("model", "stage", "digest", "run", title="models")
    for each in story.models:
        stage = story.registry.versions[each.name, each.version].stage
        _row(table, f"{each.name}@{each.version}", stage, each.digest, each.run)
    return table


def _budgets(story: Audit) -> Table:
    table = Table(
        "account",
        "sums opened",
        "opened at most",
        "with what is reserved",
        "ceiling",
        "decided by",
        title="budgets",
    )
    for each in story.budgets.standing():
        officers = ", ".join(each.decisions[-1].officers)
        figures = (each.opened.words, each.charged.words, each.ceiling.words)
        _row(table, each.account.words, str(each.sums), *figures, officers)
    return table
