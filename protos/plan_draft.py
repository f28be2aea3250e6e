"""A plan written down from what is known before anybody has decided anything: a contract, sites, and what kind of plan it is.

1. The text is a whole plan with a comment at each number that somebody has to decide.
2. What kind is legal is for `Plan` to say: here any is written, so that the matrix of plans is made of real ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protos.contract import BooleanColumn, CategoryColumn, Contract, DateColumn
from protos.plan_aggregation import MEAN
from protos.plan_evaluation import Champion
from strategies.secagg.parameters import sharing_an_honest_site

DEFAULT_ALGORITHMS: Final = {
    "distributed": "dp-fedsgd",
    "central": "dp-fedsgd",
    "local": "dp-sgd",
    "none": "fedavg",
}
"""By privacy mode: what most people mean."""
_FEWEST: Final = 3
_COLLUDING: Final = 1
_PLAIN_MINIMUM: Final = 1
_PLAIN_MINIMUMS: Final = {"trimmed-mean": 3, "median": 3, "multi-krum": 5}
_RULES: Final = {
    MEAN: "",
    "trimmed-mean": ", rule: {kind: trimmed-mean, trim: 1}",
    "multi-krum": ", rule: {kind: multi-krum, attackers: 1}",
}
_BINS: Final = {True: 32, False: 100}

_ALGORITHMS: Final = {
    "fedavg": """\
  local_epochs: 1          # passes over a site's rows in a round
  batch_size: 64
  learning_rate: 0.1
""",
    "fedprox": """\
  local_epochs: 1          # passes over a site's rows in a round
  batch_size: 64
  learning_rate: 0.1
  proximal_mu: 0.01        # how strongly a site is held to the model that it was sent
""",
    "dp-fedsgd": """\
  expected_batch: {batch}      # units that a site takes into a round, on average; public
  nominal_rows: {rows}       # units that a site is taken to have; public, never counted
  clip: 1.0                # the most that one unit may move the model
""",
    "dp-sgd": """\
  expected_batch: {batch}      # units that a site takes into a step, on average; public
  nominal_rows: {rows}       # units that a site is taken to have; public, never counted
  clip: 1.0                # the most that one unit may move the model
  local_steps: 5           # noisy steps of a site in a round
  learning_rate: 0.1
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A cell of the matrix: any combination, legal or not."""

    algorithm: str
    privacy: str
    aggregation: str
    rule: str = MEAN


def kind_of(mode: str) -> Kind:
    """What most people mean by a privacy mode."""
    return Kind(algorithm=DEFAULT_ALGORITHMS[mode], privacy=mode, aggregation="secure")


def written(
    kind: Kind,
    contract: Contract,
    *,
    name: str,
    purpose: str,
    members: str,
    sites: Sequence[str],
    rounds: int = 20,
    batch: int = 128,
    rows: int = 1280,
    epsilon: float = 8.0,
    champion: Champion | None = None,
) -> str:
    """The text of a plan of `kind` for all `sites` over all columns of `contract`. It may be above its own limit."""
    private, secure = kind.privacy != "none", kind.aggregation == "secure"
    minimum = (
        max(_FEWEST, sharing_an_honest_site(len(sites), _COLLUDING))
        if secure
        else _PLAIN_MINIMUMS.get(kind.rule, _PLAIN_MINIMUM)
    )
    unit_column = contract.key
    every = rounds if private else max(1, rounds // 4)
    return f"""\
covenant: plan/v1
name: {name}
purpose: {purpose}          # a label that every site's policy must list
contract: {contract.ref}
features:                  # all columns of the contract that may be one, in the order of the model's inputs; fewer are better
  {json.dumps(_features(contract), ensure_ascii=False)}
sites:
  members: {members}
  invite: {json.dumps(list(sites))}
  minimum: {minimum}               # with fewer, nothing is opened
  join_within: 2m
model: {{kind: logistic}}    # or {{kind: mlp, hidden: [32]}}
training:
  component: {"tabular/2" if private else "tabular/1"}
  algorithm: {kind.algorithm}
  rounds: {rounds}
{_ALGORITHMS[kind.algorithm].format(batch=batch, rows=rows)}  round_deadline: 5m
  seed: 1
{_aggregation(kind)}
{_privacy(kind.privacy, epsilon)}evaluation:
  every: {every}
  score_bins: {_BINS[private]}
  holdout: {{by: {json.dumps(unit_column, ensure_ascii=False)}, share: 0.3, salt: "1"}}   # rows that nobody trains on
  # explanations: {{clip: 2.0}}   # sums of what each feature adds to scores, a row's clipped to so many logits; in the same release
  # profile: {{bins: 10}}         # how the features are distributed; every count of the evaluation then has more noise
{_groups(contract)}{_gates(champion)}approvals: {{privacy_officer: 1, model_risk: 1, valid_for: 30d}}   # beside its author
"""


def _features(contract: Contract) -> list[str]:
    protected = contract.protected or ()
    return [
        name
        for name, column in contract.columns.items()
        if name not in protected and not isinstance(column, DateColumn)
    ]


def _groups(contract: Contract) -> str:
    """How groups would be counted, where the contract has any."""
    attributes = [
        name
        for name in contract.protected or ()
        if isinstance(contract.columns[name], CategoryColumn | BooleanColumn)
    ]
    if not attributes:
        return ""
    listed = json.dumps(attributes, ensure_ascii=False)
    return f"  # fairness: {{decline_at: 0.5, minimum_group: 100}}   # with `protected: {listed}` beside features: rows by group, class and score\n"


def _gates(champion: Champion | None) -> str:
    """The champion, as the last of `evaluation`, and what is asked of the model."""
    if champion is None:
        return """\
gates:                     # what the model must reach to be validated, decided before anybody has seen it
  - {metric: auc, at_least: 0.6}
"""
    part = json.dumps(champion.model_dump(mode="json", exclude_none=True), ensure_ascii=False)
    return f"""\
  champion: {part}
gates:                     # what the model must reach to be validated, decided before anybody has seen it
  - {{metric: auc, at_least: 0.6}}
  - {{metric: auc, over: champion, at_least: -0.02}}   # by the bad end of what noise leaves open
"""


def _aggregation(kind: Kind) -> str:
    rule = _RULES.get(kind.rule, f", rule: {{kind: {kind.rule}}}")
    if kind.aggregation != "secure":
        return f"aggregation: {{mode: plain{rule}}}   # the coordinator sees the update of every site"
    return f"aggregation: {{mode: secure, adversary: active, colluding: {_COLLUDING}{rule}}}   # the coordinator sees sums only"


def _privacy(mode: str, epsilon: float) -> str:
    if mode == "none":
        return "privacy: {mode: none}      # nothing protects a person's rows in what is released\n"
    return f"""\
privacy:
  mode: {mode}
  unit: {{kind: record}}     # whom figures are about: record, customer or site
  limit: {{epsilon: {epsilon:g}, delta: 1.0e-5}}   # everything included; delta well below one over the number of units
  noise: {{preparation: 8.0, training: 4.0, evaluation: 4.0}}   # fitted with `covenant privacy calibrate`
  retries: 5               # attempts that come to nothing, paid for in advance
"""
