"""Applicants for the full demo: held-out loans as they are, and then as a campaign for large ones would bring them. No value is changed, and outcomes are their own."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import numpy as np
import numpy.typing as npt

from client.data import Table
from protos.contract import Contract
from simulation.demo.scoring import inputs
from strategies.errors import CovenantError
from strategies.features import FeatureSpec

APPLICANTS: Final = 2000
"""In a window."""
FEATURE: Final = "funded_amnt"
LARGE: Final = 20_000.0
SHARE: Final = 0.75
"""Of the campaign's applicants, those who ask for at least `LARGE`, in USD; of the demo's held-out loans a third are as large."""
CAMPAIGN: Final = f"a campaign for loans of {LARGE:.0f} USD and more"
_TOGETHER: Final = 200
_SEED: Final = 1


@dataclass(slots=True)
class Traffic:
    """Sends `loans` as applications, and remembers which request they came in: what becomes of them is known later."""

    loans: Table
    features: FeatureSpec
    contract: Contract
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))
    _sent: list[tuple[str, npt.NDArray[np.int64]]] = field(default_factory=list)

    def ordinary(self) -> npt.NDArray[np.int64]:
        """Places of loans, each as likely as any other."""
        return self._random.choice(len(self.loans.keys), size=APPLICANTS)

    def campaign(self) -> npt.NDArray[np.int64]:
        """Places of loans, of which `SHARE` are large."""
        large = np.asarray(self.loans.columns[FEATURE]) >= LARGE
        shares = np.where(large, SHARE / large.sum(), (1.0 - SHARE) / (~large).sum())
        return self._random.choice(len(large), size=APPLICANTS, p=shares)

    def send(self, service: httpx.Client, model: str, places: npt.NDArray[np.int64]) -> None:
        """Ask about the loans at `places`, some in each request. Raises CovenantError for any answer but scores."""
        for first in range(0, len(places), _TOGETHER):
            some = places[first : first + _TOGETHER]
            request = f"batch-{len(self._sent)}"
            asked = {"id": request, "inputs": inputs(self.features, self.loans, some)}
            response = service.post(f"/v2/models/{model}/infer", json=asked)
            if not response.is_success:
                raise CovenantError(
                    f"{service.base_url} answered HTTP {response.status_code}: {response.text[:300]}"
                )
            self._sent.append((request, some))

    def write_outcomes(self, path: Path) -> None:
        """A file of what became of all loans that were sent, as a bank's own systems would write it."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("request", "row", "outcome"))
            writer.writerows(self._outcomes())

    def _outcomes(self) -> Iterator[tuple[str, int, str]]:
        target = self.contract.target
        for request, places in self._sent:
            for row, place in enumerate(places):
                yield request, row, target.positive if self.loans.target[place] else target.negative
