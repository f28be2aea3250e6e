"""What the demo promises of federation, over the five seeds that the README reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "auc_seeds.py"


@pytest.mark.slow
def test_federation_stays_near_pooled_and_clear_of_local_models_over_five_seeds() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, check=True, timeout=250
    )
    facts = json.loads(done.stdout)
    assert facts["seeds"] == 5
    assert facts["federated_minus_pooled"]["min"] >= -0.01
    assert facts["federated_minus_local"]["min"] >= 0.03
