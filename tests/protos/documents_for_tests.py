"""Small valid documents; each test breaks one thing in them."""

PLAN = """\
covenant: plan/v1
name: lending-default
purpose: credit-risk
contract: lending-club@1
features: [funded_amnt, term]
sites:
  members: demo@1
  invite: [west, midwest, south]
  minimum: 2
  join_within: 2m
  weights: {west: 2}
model: {kind: mlp, hidden: [64, 32]}
training:
  component: tabular/1
  algorithm: fedprox
  proximal_mu: 0.01
  server_optimiser: {kind: fedadam, learning_rate: 0.1}
  rounds: 20
  local_epochs: 1
  batch_size: 64
  learning_rate: 0.1
  l2: 0.001
  class_weights: {negative: 1.0, positive: 2.5}
  round_deadline: 5m
  seed: 1
aggregation: {mode: plain}
privacy: {mode: none}
evaluation:
  every: 5
  score_bins: 1000
  holdout: {by: loan_id, share: 0.3, salt: "1"}
"""

CONTRACT = """\
covenant: contract/v1
name: lending-club
version: 1
key: loan_id
target: {column: Class, positive: bad, negative: good}
columns:
  funded_amnt: {type: number, unit: USD, range: [0, 50000]}
  income: {type: number, unit: USD, range: [0, 1.0e+6], transform: log1p, missing: indicator}
  term: {type: category, vocabulary: [term_36, term_60]}
"""

SITE = """\
covenant: site/v1
site: west
federation: {name: demo, superlink: "127.0.0.1:9092", ca: ca.crt, root: root.json, proxy: none}
identity: {key: site.key, node_key: node.key}
data:
  loans:
    contract: lending-club@1
    contract_file: lending-club.yaml
    file: data/loans.parquet
    columns: {income: annual_inc}
allow: {apps: ["client.app:app"], fab_sha256: []}
policy:
  accept:
    - purpose: credit-risk
      contracts: [lending-club@1]
      components: [tabular/1]
      privacy: {modes: [none]}
      aggregation: {modes: [plain]}
run: {cpu_threads: 1, idle_poll: 1s, busy_poll: 25ms}
"""


def changed(text: str, old: str, new: str) -> str:
    """`text` with its one occurrence of `old` replaced: a test that changes nothing proves nothing."""
    assert text.count(old) == 1, old
    return text.replace(old, new)
