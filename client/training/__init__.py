"""What a site computes from its rows: scaling moments, model updates and counts of scores (behaviour "tabular/1").

1. Held-out rows never train, and are the only rows that evaluation scores.
2. Equal inputs give equal bits on one machine: fixed batch orders, one thread, no global random state.
3. torch is loaded by the first training round, not by importing this package.
"""

from client.training.session import COMPONENT, TrainingSession

__all__ = ["COMPONENT", "TrainingSession"]
