"""Starting and stopping the Flower runs that carry Covenant runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coordinator.settings import SuperLinkAddress
from strategies.ids import RunId


class Transport(Protocol):
    """What carries runs. Production: a SuperLink; simulation: memory."""

    def require(self) -> None:
        """Raise `Unreachable` where there is clearly nobody to start a run on."""
        ...

    def start_run(self, run: RunId) -> int:
        """Start a Flower run that carries `run`; returns Flower's id of it."""
        ...

    def stop_run(self, flower_run: int) -> None:
        """Stop a Flower run; its server process ends."""
        ...


@dataclass(frozen=True, slots=True)
class SuperLinkTransport:
    """The SuperLink at `address`; each call connects anew, with the secrets that its files hold then."""

    address: SuperLinkAddress

    def require(self) -> None:
        """See `Transport.require`: a coordinator that runs has left its secrets."""
        from coordinator.flower.control import Control

        with Control(self.address):
            pass

    def start_run(self, run: RunId) -> int:
        """See `Transport.start_run`. Raises `Unreachable` without a running coordinator."""
        from coordinator.flower.control import Control
        from coordinator.flower.manifest import build_bundle

        with Control(self.address) as control:
            return control.start_run(build_bundle(), run)

    def stop_run(self, flower_run: int) -> None:
        """See `Transport.stop_run`. Raises `Unreachable` without a running coordinator."""
        from coordinator.flower.control import Control

        with Control(self.address) as control:
            control.stop_run(flower_run)
