"""An officer's own machine, in a folder: the officer's key, the root, and an access folder. Nothing on it is the coordinator's but what `access grant` gave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from coordinator.cli.access import grant, request
from protos.egress import child_environment
from protos.shell import people
from simulation.deployment import Deployment
from strategies.errors import CovenantError

ACCESS: Final = "access"
_LONGEST_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Commands of officer `name` in `folder`, each a process of its own, which reach the coordinator by its control API alone."""

    folder: Path
    name: str

    @classmethod
    def let_in(cls, deployment: Deployment, folder: Path, name: str) -> Self:
        """The machine of an officer, who has asked for access and was granted it."""
        made = cls(folder / name, name)
        made.folder.mkdir(parents=True)
        made.folder.chmod(0o700)
        officers = deployment.officers
        shutil.copy(officers.key(name), made.folder / "officer.key")
        shutil.copy(officers.passphrase(name), made.folder / "passphrase")
        shutil.copy(officers.root, made.folder / "root.json")
        with people.capture():
            request(
                name,
                deployment.federation,
                made.folder / "officer.key",
                made.access,
                made.folder / "passphrase",
            )
            grant(made.access / f"{name}.access.json", made.access, home=deployment.home)
        return made

    @property
    def access(self) -> Path:
        """The access folder."""
        return self.folder / ACCESS

    @property
    def signs(self) -> tuple[str, ...]:
        """The options of a command that signs."""
        return ("--officer", self.name, "--key", "officer.key", "--passphrase-file", "passphrase")

    def run(self, *arguments: str) -> str:
        """What a command prints on stdout. Raises CovenantError where it fails."""
        done = command(self.folder, *arguments, environment={"COVENANT_ACCESS": ACCESS})
        if done.returncode:
            raise CovenantError(
                f"`covenant {' '.join(arguments[:2])}` of {self.name} left with {done.returncode}: {done.stderr.strip()[-2000:]}"
            )
        return done.stdout

    def facts(self, *arguments: str) -> dict[str, Any]:
        """What it prints with --json."""
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json"))
        return found


def command(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A `covenant` command in `folder`, which knows of no coordinator and no access but what `environment` names."""
    inherited = {
        name: value for name, value in child_environment().items() if not name.startswith("COVENANT_")
    }
    return subprocess.run(
        [sys.executable, "-m", "coordinator.main", *arguments],
        cwd=folder,
        env=inherited | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
