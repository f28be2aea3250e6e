"""What a study found, as tables by deal of the rows: one line a defence, what it costs and what it saves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from simulation.attacks.behaviours import WORDS, Attack
from simulation.attacks.study import StudyResult, StudyRun
from simulation.attacks.trigger import SAFEST
from simulation.report.tables import Column, Table

_NOTHING = "-"


def table_of(result: StudyResult, partition: str) -> Table:
    """One line a defence: AUC and what it costs without an attack, AUC under each attack, the backdoor without and with its attack, processor seconds a run."""
    backdoor = Attack.BACKDOOR in result.attacks
    columns = [
        Column("defence", number=False),
        Column("the coordinator sees", number=False),
        Column("AUC, no attack"),
        Column("costs"),
        *(Column(f"AUC, {attack}") for attack in result.attacks),
        *([Column("backdoor, no attack"), Column("backdoor")] if backdoor else []),
        Column("runs ended"),
        Column("processor seconds a run"),
    ]
    reference = next(iter(result.seen))
    rows = [tuple(_row(result, partition, defence, reference)) for defence in result.seen]
    return Table(tuple(columns), tuple(rows))


def _row(result: StudyResult, partition: str, defence: str, reference: str) -> Iterator[str]:
    honest = result.of(partition, defence, None)
    lost = [
        one.auc - other.auc
        for one, other in zip(result.of(partition, reference, None), honest, strict=True)
        if one.auc is not None and other.auc is not None
    ]
    yield defence
    yield result.seen[defence]
    yield _auc(honest)
    yield f"{sum(lost) / len(lost):+.3f}" if lost else _NOTHING
    under = [result.of(partition, defence, attack) for attack in result.attacks]
    yield from map(_auc, under)
    if Attack.BACKDOOR in result.attacks:
        yield _share([each.attack_success_rate for each in honest])
        opened = result.of(partition, defence, Attack.BACKDOOR)
        yield _share([each.attack_success_rate for each in opened if each.ended is None])
    attacked = [each for runs in under for each in runs]
    ended = sum(each.ended is not None for each in attacked)
    yield f"{ended} of {len(attacked)}" if attacked else _NOTHING
    seconds = [each.seconds for each in (*honest, *attacked) if each.ended is None]
    yield f"{sum(seconds) / len(seconds):.1f}" if seconds else _NOTHING


def _auc(runs: Sequence[StudyRun]) -> str:
    """The mean over the runs that came to a model, with the lowest where they differ, and the rounds that ended the others."""
    found = [each.auc for each in runs if each.auc is not None and each.ended is None]
    ends = sorted({each.ended for each in runs if each.ended is not None})
    words = []
    if found:
        low = (
            f" (lowest {min(found):.3f})"
            if len(found) > 1 and f"{min(found):.3f}" != f"{max(found):.3f}"
            else ""
        )
        words.append(f"{sum(found) / len(found):.3f}{low}")
    if ends:
        gated = "gate" if any(each.gated for each in runs) else "no model"
        words.append(f"{gated}, round {', '.join(map(str, ends))}")
    return "; ".join(words) or _NOTHING


def _share(values: Sequence[float | None]) -> str:
    known = [each for each in values if each is not None]
    return f"{sum(known) / len(known):.0%}" if known else _NOTHING


def legend(result: StudyResult) -> tuple[str, ...]:
    """What the tables mean, in sentences."""
    malicious = f"{result.attackers} of {result.sites} sites lie together"
    return (
        f"Plan {result.plan} ({result.plan_digest[:16]}), {result.seeds} {'seed' if result.seeds == 1 else 'seeds'}; {malicious}. AUC is on the held-out rows of the honest sites, over seeds.",
        *(f"{attack}: malicious sites {WORDS[attack]}." for attack in result.attacks),
        f"backdoor: the share of bad held-out rows that, once marked ({'; '.join(result.triggers)}), score among the safest {SAFEST:.0%}.",
        f"The gate is an L2 norm of {result.gate:g}: {result.gate_from}. A round above it ends the run, and there is no model.",
        "Attackers are honest about the moments of their rows, which the scaling comes from, and no evaluation of the plan is played. Of these the gate sees nothing; under a rule each site's moments count alike.",
        *(f"Left out: {each.name}. {each.why}" for each in result.left_out),
    )


def facts(result: StudyResult) -> dict[str, object]:
    """The result as JSON has it."""
    return {**asdict(result), "legend": list(legend(result))}
