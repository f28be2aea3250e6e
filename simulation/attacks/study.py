"""Every attack against every defence, over some deals of the rows and some seeds; first without an attack, which is what a defence costs.

1. A seed decides who is malicious, how rows are dealt, samples and noise. With one seed a study repeats to the bit, but for measured seconds.
2. Models are scored on the held-out rows of the sites that are honest, the same rows with and without an attack.
3. The gate is the plan's own, or one that is given, or `GATE_ROOM` times the longest mean update of the honest runs of the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import pyarrow as pa

from client.data import Table, table_from
from protos.contract import Contract
from protos.plan import Plan
from simulation.attacks.attacked import Scenario, attacked_run
from simulation.attacks.behaviours import Attack, MaliciousClient
from simulation.attacks.defences import CLIPPING, Defence, LeftOut, gate_at, ungated
from simulation.attacks.trigger import Trigger, attack_success_rate
from simulation.baselines import pooled_table
from simulation.partition import Partition, deal, describe
from simulation.scores import held_out_auc
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName

GATE_ROOM: Final = 2.0
_HALF: Final = 0.5

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is tried. `share` of the sites are malicious, above 0 and below one half; `seeds` are 0, 1, and so on."""

    plan: Plan
    contract: Contract
    rows: pa.Table
    partitions: tuple[Partition, ...]
    attacks: tuple[Attack, ...]
    share: float
    seeds: int
    gate: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < _HALF:  # phrased so that NaN is refused
            raise UsageError(
                f"attackers is {self.share:g}; use a share above 0 and below 0.5: where one half or more lie, no rule can tell who does"
            )
        if 2 * self.attackers >= len(self.sites):
            raise UsageError(
                f"attackers {self.share:g} of {len(self.sites)} sites is {self.attackers}, one half or more, and no rule can tell who lies; use a smaller"
                " share, or more sites"
            )
        if self.gate is not None and not 0 < self.gate < math.inf:
            raise UsageError(f"gate is {self.gate:g}; use a finite norm above 0")

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """All of them."""
        return tuple(sorted(self.plan.sites.invite))

    @property
    def attackers(self) -> int:
        """How many sites are malicious: the share, rounded up."""
        return math.ceil(self.share * len(self.sites) - 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRun:
    """One run. `auc` and `attack_success_rate`, of marked rows, are of the last committed model; `ended` is the round that ended the run.

    `attack` is None where everybody is honest.
    """

    partition: str
    seed: int
    defence: str
    attack: Attack | None
    auc: float | None
    attack_success_rate: float | None
    ended: int | None
    gated: bool
    longest: float | None
    """The largest norm of a mean update; None where none was opened, or one is beyond float64."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """All runs of a study. `gate` is the norm that was used, of which `gate_from` says whence; `left_out` has no runs."""

    plan: str
    plan_digest: str
    sites: int
    attackers: int
    seeds: int
    gate: float
    gate_from: str
    triggers: tuple[str, ...]
    seen: Mapping[str, str]
    """By defence, what the coordinator sees of a site."""
    left_out: tuple[LeftOut, ...]
    runs: tuple[StudyRun, ...]

    @property
    def partitions(self) -> tuple[str, ...]:
        """In the order in which they were asked for."""
        return tuple(dict.fromkeys(each.partition for each in self.runs))

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """Those that were tried, in their order."""
        return tuple(dict.fromkeys(each.attack for each in self.runs if each.attack is not None))

    def of(self, partition: str, defence: str, attack: Attack | None) -> tuple[StudyRun, ...]:
        """The runs of one cell, by seed."""
        return tuple(
            each
            for each in self.runs
            if (each.partition, each.defence, each.attack) == (partition, defence, attack)
        )


@dataclass(frozen=True, slots=True)
class _Dealt:
    """The rows as one partition and seed deal them, and which sites are `malicious`."""

    partition: str
    seed: int
    tables: Mapping[SiteName, Table]
    malicious: tuple[SiteName, ...]
    trigger: Trigger

    @property
    def judged_on(self) -> Table:
        """The rows of the honest sites."""
        return pooled_table({site: each for site, each in self.tables.items() if site not in self.malicious})


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs that are done, of `count`; `progress` hears of each."""

    count: int
    progress: Progress
    done: list[StudyRun] = field(default_factory=list)

    def take(self, runs: Iterable[StudyRun]) -> None:
        """Do `runs`, one after the other."""
        for run in runs:
            self.done.append(run)
            self.progress(len(self.done), self.count)


def study(setting: Setting, *, progress: Progress = lambda _, __: None) -> StudyResult:
    """All runs; `progress` hears of those done, and of how many there are. Raises UsageError and DataError for rows that the plan cannot use."""
    import torch

    torch.set_num_threads(1)
    defences = list(ungated(setting.plan, setting.contract, setting.attackers))
    playable = [each for each in defences if isinstance(each, Defence)]
    if not playable:
        raise UsageError("; ".join(each.why for each in defences if isinstance(each, LeftOut)))
    _require_norm(setting, defences)
    deals = list(_dealt(setting))
    runs = _Runs(len(deals) * (len(playable) + 1) * (1 + len(setting.attacks)), progress)
    runs.take(_honest_runs(setting, deals, playable))
    gate, gate_from = _gate(setting, runs.done)
    gated = gate_at(setting.plan, setting.contract, gate)
    defences.append(gated)
    if isinstance(gated, Defence):
        playable.append(gated)
        runs.take(_honest_runs(setting, deals, [gated]))
    runs.take(_attacked_runs(setting, deals, playable, gate))
    return _result(setting, deals, defences, runs.done, (gate, gate_from))


def _honest_runs(
    setting: Setting, deals: Sequence[_Dealt], defences: Sequence[Defence]
) -> Iterator[StudyRun]:
    """What defences cost: each on each deal, with nobody malicious."""
    for dealt in deals:
        for defence in defences:
            yield _judged(setting, dealt, defence, None)


def _attacked_runs(
    setting: Setting, deals: Sequence[_Dealt], defences: Sequence[Defence], gate: float
) -> Iterator[StudyRun]:
    """What defences save: each on each deal, under each attack."""
    for dealt in deals:
        for defence in defences:
            for attack in setting.attacks:
                client = MaliciousClient(
                    attack=attack,
                    sites=len(setting.sites),
                    attackers=setting.attackers,
                    gate=gate,
                    trigger=dealt.trigger,
                )
                yield _judged(setting, dealt, defence, client)


def _result(
    setting: Setting,
    deals: Sequence[_Dealt],
    defences: Sequence[Defence | LeftOut],
    runs: Sequence[StudyRun],
    gate: tuple[float, str],
) -> StudyResult:
    norm, gate_from = gate
    return StudyResult(
        plan=setting.plan.name,
        plan_digest=setting.plan.digest,
        sites=len(setting.sites),
        attackers=setting.attackers,
        seeds=setting.seeds,
        gate=norm,
        gate_from=gate_from,
        triggers=tuple(sorted({each.trigger.words for each in deals})),
        seen={each.name: each.seen for each in defences if isinstance(each, Defence)},
        left_out=tuple(each for each in defences if isinstance(each, LeftOut)),
        runs=tuple(runs),
    )


def _dealt(setting: Setting) -> Iterator[_Dealt]:
    plan, contract = setting.plan, setting.contract
    for partition in setting.partitions:
        for seed in range(setting.seeds):
            dealt = deal(setting.rows, setting.sites, partition, target=contract.target.column, seed=seed)
            tables = {
                site: table_from(
                    rows, contract, renamed={}, named=f"the rows of {site}", protected=plan.protected_columns
                )
                for site, rows in dealt.items()
            }
            drawn = sorted(Random(f"liars {seed}").sample(setting.sites, setting.attackers))  # noqa: S311
            trigger = Trigger.of(plan, contract, [tables[site] for site in drawn])
            yield _Dealt(describe(partition), seed, tables, tuple(drawn), trigger)


def _require_norm(setting: Setting, defences: Sequence[Defence | LeftOut]) -> None:
    """Raise UsageError where no honest run will give the gate its norm, and none is given: before anything is played."""
    if setting.gate is not None or setting.plan.update_gate is not None:
        return
    for each in defences:
        if isinstance(each, LeftOut) and each.name == CLIPPING:
            raise UsageError(
                f"the gate's norm is taken from honest runs of {CLIPPING}, and there are none: {each.why}. Give one with --gate, which"
                f" {Attack.BELOW_THE_GATE} stays below even where the gate itself is left out; or use fewer --sites"
            )


def _gate(setting: Setting, honest: Sequence[StudyRun]) -> tuple[float, str]:
    """The norm of the gate, and whence it is."""
    if setting.gate is not None:
        return setting.gate, "as given"
    own = setting.plan.update_gate
    if own is not None:
        return own.update_norm, "the plan's own"
    norms = [each.longest for each in honest if each.defence == CLIPPING]
    longest = max((norm for norm in norms if norm is not None), default=None)
    if longest is None:
        raise Refused(
            f"no honest run of {CLIPPING} came to a mean update, so none says what a gate's norm is to be; give one with --gate"
        )
    return float(
        f"{GATE_ROOM * longest:.2g}"
    ), f"{GATE_ROOM:g} times the longest of the honest runs, {longest:.3g}"


def _judged(setting: Setting, dealt: _Dealt, defence: Defence, client: MaliciousClient | None) -> StudyRun:
    """One run, with every malicious site like `client`, or with nobody malicious."""
    secrets = Random(f"secrets {dealt.seed}")  # noqa: S311 (a simulation repeats)
    outcome = attacked_run(
        Scenario(
            plan=defence.plan,
            contract=setting.contract,
            tables=dealt.tables,
            malicious={} if client is None else dict.fromkeys(dealt.malicious, client),
            entropy=secrets.randbytes,
        )
    )
    scored = (outcome.model, outcome.scaling)
    longest = max(outcome.norms, default=math.inf)
    return StudyRun(
        partition=dealt.partition,
        seed=dealt.seed,
        defence=defence.name,
        attack=None if client is None else client.attack,
        auc=held_out_auc(setting.plan, setting.contract, dealt.judged_on, *scored),
        attack_success_rate=attack_success_rate(
            setting.plan, setting.contract, dealt.judged_on, dealt.trigger, *scored
        ),
        ended=outcome.ended,
        gated=outcome.gated,
        longest=longest if math.isfinite(longest) else None,
        seconds=outcome.seconds,
    )
