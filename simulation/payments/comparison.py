"""Banks alone, together, together with noise, and all rows in one place: F1 at each bank on later days, and what of each typology is caught.

1. Training sees the days before the split, with the labels that were known on the last of them. Scores are of the days after, against the truth.
2. A bank chooses its threshold on its own earlier rows, for whatever model it has.
3. All models are made by production's code: the sites' sessions, and the sums, noise and optimisers of a run, masks left out (`simulation.unmasked`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from statistics import fmean
from typing import Final, assert_never

import numpy as np

from client.data import Table
from client.data.table import Part
from client.training import TrainingSession
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.plan_releases import guarantee_after
from simulation.baselines import pooled_table, trained
from simulation.invitation import with_sites
from simulation.payments.files import CONTRACT, PLAN, PRIVATE_PLAN
from simulation.payments.rows import Flags, Floats
from simulation.payments.setting import Setting
from simulation.payments.split import Rows, rows_of, split_day
from simulation.payments.streams import stream
from simulation.payments.thresholds import best_threshold, f1
from simulation.payments.typology import TYPOLOGIES
from simulation.scores import probabilities
from simulation.unmasked import UnmaskedRun
from strategies.dp.units import Guarantee
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import Scaling
from strategies.ids import SiteName, site_name
from strategies.secagg.parameters import FEWEST_SURVIVORS


class Arm(StrEnum):
    """Whose rows a model is trained on, and how."""

    LOCAL = "local"
    FEDERATED = "federated"
    PRIVATE = "private"
    POOLED = "pooled"


HARDLY_SEEN: Final = 10
"""Fewer payments of a typology than this, known to a bank on the last training day, and it has hardly seen it."""
_ALL = site_name("pooled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """Of `payments` that are fraud, how many each arm catches, by its name."""

    payments: int
    caught: Mapping[Arm, int]

    def shares(self) -> dict[Arm, float]:
        """The same as shares; nothing where there is no payment."""
        return {arm: caught / self.payments for arm, caught in self.caught.items()} if self.payments else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One seed. `f1` by arm and bank on the bank's own later rows, `everywhere` on those of all banks; recall by typology, and by whether the bank had seen it."""

    setting: Setting
    payments: int
    fraud_late: int
    f1: Mapping[Arm, Mapping[SiteName, float]]
    everywhere: Mapping[Arm, Mapping[SiteName, float]]
    recall: Mapping[str, Recall]
    hardly_seen: Recall
    seen: Recall
    guarantee: Guarantee | None

    def mean(self, arm: Arm) -> float:
        """F1 of an arm, the mean over banks on their own later rows."""
        return fmean(self.f1[arm].values())

    def mean_everywhere(self, arm: Arm) -> float:
        """F1 of an arm, the mean over banks on all banks' later rows."""
        return fmean(self.everywhere[arm].values())


def contract() -> Contract:
    """The package's contract."""
    return read_document(_text(CONTRACT), Contract, CONTRACT)


def plan_for(setting: Setting, name: str) -> Plan:
    """One of the package's plans, for the setting's banks and with its seed. Raises UsageError for fewer than three banks."""
    if setting.banks < FEWEST_SURVIVORS:
        raise UsageError(
            f"banks is {setting.banks}; a sum that shows nobody's part takes {FEWEST_SURVIVORS} or more"
        )
    plan = read_document(_text(name), Plan, name)
    seeded = plan.training.model_copy(update={"seed": setting.seed})
    # One bank may miss a round, as long as there are enough.
    fewest = max(FEWEST_SURVIVORS, min(plan.sites.minimum, setting.banks - 1))
    return with_sites(plan.model_copy(update={"training": seeded}), setting.names, fewest)


def compare(
    setting: Setting, *, arms: Sequence[Arm] = tuple(Arm), progress: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Make the payments, train every arm, score. `progress` hears what is done next. Raises UsageError where the setting does not allow a comparison."""
    agreed, plan, private = contract(), plan_for(setting, PLAN), plan_for(setting, PRIVATE_PLAN)
    split_day(setting)
    rows = {}
    for place, bank in enumerate(setting.names):
        progress(f"seed {setting.seed}: payments of {bank}")
        rows[bank] = rows_of(setting, place, agreed)
    tables = {bank: each.early for bank, each in rows.items()}
    scored: dict[Arm, dict[SiteName, _Flagged]] = {}
    for arm in arms:
        progress(f"seed {setting.seed}: {arm}")
        used = private if arm is Arm.PRIVATE else plan
        models = _models(arm, used, agreed, tables, setting)
        scored[arm] = _flagged(models, used, agreed, rows)
    whole = private.training.rounds
    guarantee = guarantee_after(private, agreed, whole, evaluated=True) if Arm.PRIVATE in arms else None
    return _compared(setting, rows, scored, guarantee)


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Trained:
    """A model, and the banks that have it."""

    model: Vector
    scaling: Scaling
    banks: tuple[SiteName, ...]


def _models(
    arm: Arm, plan: Plan, agreed: Contract, tables: Mapping[SiteName, Table], setting: Setting
) -> list[_Trained]:
    """The models of an arm, each once; every bank has one of them."""
    import torch

    torch.set_num_threads(1)
    everybody = tuple(tables)
    match arm:
        case Arm.LOCAL:
            sessions = {
                bank: TrainingSession(plan, agreed, table, site=bank) for bank, table in tables.items()
            }
            return [_Trained(*trained(plan, session), (bank,)) for bank, session in sessions.items()]
        case Arm.POOLED:
            session = TrainingSession(plan, agreed, pooled_table(tables), site=_ALL)
            return [_Trained(*trained(plan, session), everybody)]
        case Arm.FEDERATED | Arm.PRIVATE:
            run = UnmaskedRun(plan, agreed, tables, stream(setting.seed, "secrets").bytes)
            return [_Trained(*run.train(), everybody)]
        case unreachable:
            assert_never(unreachable)


# --- scores -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Flagged:
    """What one bank's model flags at its threshold of the later rows of each bank, (n,) each."""

    of: Mapping[SiteName, Flags]


def _flagged(
    models: Sequence[_Trained], plan: Plan, agreed: Contract, rows: Mapping[SiteName, Rows]
) -> dict[SiteName, _Flagged]:
    """What each bank flags, with its own threshold; a model that several banks have scores each row once."""
    found = {}
    for each in models:
        late = {bank: _scores(each, plan, agreed, of.late) for bank, of in rows.items()}
        for bank in each.banks:
            own = rows[bank].early
            threshold = best_threshold(_scores(each, plan, agreed, own), own.target > 0)
            found[bank] = _Flagged({other: scores >= threshold for other, scores in late.items()})
    return found


def _scores(of: _Trained, plan: Plan, agreed: Contract, table: Table) -> Floats:
    """(n,) probabilities of all rows of a table."""
    whole = Part(table, np.arange(len(table.keys)))
    return probabilities(plan, agreed, whole, of.model, of.scaling)


def _compared(
    setting: Setting,
    rows: Mapping[SiteName, Rows],
    scored: Mapping[Arm, Mapping[SiteName, _Flagged]],
    guarantee: Guarantee | None,
) -> Comparison:
    everything = np.concatenate([rows[bank].fraud for bank in rows])
    hardly = {
        bank: each.fraud
        & np.isin(each.kind, [kind for kind, seen in each.seen.items() if seen < HARDLY_SEEN])
        for bank, each in rows.items()
    }
    return Comparison(
        setting=setting,
        payments=sum(len(each.early.keys) + len(each.late.keys) for each in rows.values()),
        fraud_late=int(everything.sum()),
        f1={
            arm: {bank: f1(flagged.of[bank], rows[bank].fraud) for bank, flagged in by_bank.items()}
            for arm, by_bank in scored.items()
        },
        everywhere={
            arm: {
                bank: f1(np.concatenate([flagged.of[each] for each in rows]), everything)
                for bank, flagged in by_bank.items()
            }
            for arm, by_bank in scored.items()
        },
        recall={
            each.typology.word: _recall(
                scored, {bank: of.fraud & (of.kind == each.typology.word) for bank, of in rows.items()}
            )
            for each in TYPOLOGIES
        },
        hardly_seen=_recall(scored, hardly),
        seen=_recall(scored, {bank: rows[bank].fraud & ~which for bank, which in hardly.items()}),
        guarantee=guarantee,
    )


def _recall(scored: Mapping[Arm, Mapping[SiteName, _Flagged]], which: Mapping[SiteName, Flags]) -> Recall:
    """What is caught of some fraud, each bank's by its own model."""
    return Recall(
        payments=sum(int(each.sum()) for each in which.values()),
        caught={
            arm: sum(int((by_bank[bank].of[bank] & chosen).sum()) for bank, chosen in which.items())
            for arm, by_bank in scored.items()
        },
    )


def _text(name: str) -> str:
    return (files("simulation.payments") / name).read_text(encoding="utf-8")
