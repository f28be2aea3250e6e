"""The policy that a new site begins with: what its operator has named, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from client.training import COMPONENT, PRIVATE

_HEAD: Final = """\
policy:                         # default deny: what no rule admits is refused; `covenant-agent plan test` explains it
  # owner: dpo-north            # who consents to plans here, where a rule says confirm: always or first-time
  # forbid_features: [nationality]   # never an input of a model, whatever the contract offers
  accept:                       # a plan must keep all of one rule
"""
_RULE: Final = """\
    - purpose: {purpose}
      contracts: [{contract}]
      components: [{components}]
      privacy: {{modes: [{modes}]}}   # of none, local, distributed, central; none: nothing protects a person's rows in what is released
      aggregation:
        modes: [{aggregation}]         # secure: the centre sees sums only; plain: it sees this site's updates
        adversaries: [active]   # active protects from a centre that breaks the protocol, semi-honest does not
        colluding_at_least: 1   # how many sites that collude with the centre a plan must bear
      approvals: {{privacy_officer: 1, model_risk: 1}}   # officers on the member list who must have approved a plan, beside its author
      # protected: [sex]        # protected attributes that a plan may count groups by; none, unless they are listed
      confirm: never            # always | first-time: a person here allows each plan, or each new kind, with `covenant-agent plan allow`
"""


def starting_policy(
    *, purposes: Sequence[str], contract: str, modes: Sequence[str], allow_plain: bool
) -> str:
    """`policy` of site.yaml, with a rule for each purpose."""
    components = [COMPONENT] * ("none" in modes) + [PRIVATE] * (set(modes) != {"none"})
    rules = (
        _RULE.format(
            purpose=purpose,
            contract=contract,
            components=", ".join(components),
            modes=", ".join(modes),
            aggregation="secure, plain" if allow_plain else "secure",
        )
        for purpose in purposes
    )
    return _HEAD + "".join(rules)
