"""What a population is made of, in a few words that can be sent: whoever has them, the plan and the contract makes the same population."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from protos.contract import Contract
from protos.plan import Plan
from simulation.cohorts.file_population import FilePopulation
from simulation.cohorts.population import check_size
from simulation.cohorts.synthetic_population import SyntheticPopulation
from simulation.partition import Partition, read_rows
from strategies.errors import Refused, UsageError


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """See `SyntheticPopulation`. Raises `UsageError` for a population that is too large, or of nobody."""

    size: int
    rows: int
    seed: int

    def __post_init__(self) -> None:
        check_size(self.size, self.rows)

    def pinned(self) -> SyntheticSource:
        """See `FileSource.pinned`: made-up rows follow from what is here."""
        return self

    def population(self, plan: Plan, contract: Contract) -> SyntheticPopulation:
        """The population."""
        return SyntheticPopulation(contract, plan, self.size, self.rows, self.seed)


@dataclass(frozen=True, slots=True)
class FileSource:
    """See `FilePopulation`; `path` is read by each machine that makes the population, and has to have the SHA-256 `digest` where there is one. Raises as `SyntheticSource` does."""

    path: Path
    partition: Partition
    size: int
    rows: int
    seed: int
    digest: str | None = None

    def __post_init__(self) -> None:
        check_size(self.size, self.rows)

    def pinned(self) -> FileSource:
        """The same wherever it is read: an absolute path, and the digest of the file as it is now. Raises `UsageError` where it cannot be read."""
        return replace(self, path=self.path.absolute(), digest=_digest(self.path))

    def population(self, plan: Plan, contract: Contract) -> FilePopulation:
        """The population. Raises `UsageError` and `CovenantError` where the file or its rows cannot be used, `Refused` for a file of another digest."""
        if self.digest is not None and (found := _digest(self.path)) != self.digest:
            raise Refused(
                f"{self.path} has SHA-256 {found[:16]}..., and the rows of this simulation have {self.digest[:16]}...; put the same file there"
            )
        return FilePopulation.of(
            read_rows(self.path),
            plan,
            contract,
            self.partition,
            size=self.size,
            rows_per_client=self.rows,
            seed=self.seed,
        )


Source = SyntheticSource | FileSource


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; name a file with the rows of all clients") from error
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); give a readable Parquet or CSV file"
        ) from error
