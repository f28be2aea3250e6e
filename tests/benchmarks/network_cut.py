"""A federation whose network is cut for ten minutes in the middle of a run. Run as `python -m tests.benchmarks.network_cut [SECONDS] [MODE]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.cut_for_tests import play


def main(seconds: float = 600.0, mode: str = "secure") -> None:
    """Print what became of it as JSON."""
    with TemporaryDirectory() as folder:
        played = play(Path(folder), mode=mode, cut_s=seconds, rounds=10)
    facts = {
        "mode": mode, "cut_s": seconds, "state": str(played.finished.state), "committed": played.finished.committed,
        "committed_before": played.committed_before, "back_after_s": round(played.back_after_s, 1), "seconds": round(played.seconds, 1),
    }  # fmt: skip
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(*(float(each) for each in sys.argv[1:2]), *sys.argv[2:3])
