"""A scoring service on this machine, driven by the state document that it watches.

Its packages lie in `packages` of its state folder. What is on a machine decides nothing: the service opens a package only as `open_package` does.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from coordinator.deploy.accepted import Machine
from coordinator.deploy.package import Package, Recalled, open_package, verify_package, write_package
from coordinator.deploy.scoring.serving import (
    STATUS_PATH,
    Opener,
    PackageRef,
    ServiceStatus,
    ServingState,
    read_state,
    write_state,
)
from coordinator.deploy.targets.base import Observed, Order
from coordinator.deploy.targets.settings import LocalSettings
from protos.rollouts import State
from protos.root import SignedRoot
from protos.windows import WINDOWS_PATH, Windows
from strategies.errors import Refused, Unreachable, UsageError

PACKAGES: Final = "packages"
ACCEPTED: Final = "accepted"
_LOCK: Final = "deploying.lock"
_TIMEOUT_S: Final = 2.0
_MOST_STATUS_BYTES: Final = 1 << 20
_PLAIN: Final = {"Accept-Encoding": "identity"}


def machine_of(state: Path, target: str, pinned: SignedRoot) -> Machine:
    """What the scoring service with that state folder remembers of releases."""
    return Machine(pinned, target, state / ACCEPTED)


def opener_of(state: Path, target: str, pinned: SignedRoot, clock: Callable[[], datetime]) -> Opener:
    """What the scoring service with that state folder opens packages with."""
    machine = machine_of(state, target, pinned)
    return lambda source: open_package(source, machine, clock())


class LocalTarget:
    """See `Target`."""

    states = frozenset({State.SHADOW, State.CANARY, State.FULL})

    def __init__(self, name: str, settings: LocalSettings, pinned: SignedRoot) -> None:
        self._settings = settings
        self._folder = Path(settings.state)
        self._machine = machine_of(self._folder, name, pinned)

    def give(self, order: Order) -> None:
        """See `Target.give`."""
        with self._alone():
            before = read_state(self._folder)
            if before is not None and before.revision > order.revision:
                raise Refused(
                    f"{self._folder} has order {before.revision}; order {order.revision} is older, so another deployment came first"
                )
            wanted = ServingState(
                revision=order.revision,
                stable=self._place(order.stable),
                challenger=self._place(order.challenger),
                mode=order.mode,
                share=order.share,
                decline_at=self._decline_at(before),
            )
            if before != wanted:
                write_state(self._folder, wanted)
            # After the state: a machine that can remember nothing is out of service all the same.
            if order.recall is not None:
                self._forget(order.recall)

    def observe(self) -> Observed:
        """See `Target.observe`."""
        status = self._status()
        refused = status.refused
        return Observed(
            revision=status.revision,
            refused=None if refused is None else (refused.revision, refused.why),
            status=status,
        )

    def _decline_at(self, before: ServingState | None) -> float | None:
        if self._settings.decline_at is not None or before is None:
            return self._settings.decline_at
        return before.decline_at

    def _place(self, package: Package | None) -> PackageRef | None:
        if package is None:
            return None
        folder = write_package(self._folder.absolute() / PACKAGES, package)
        return PackageRef(package=str(folder), digest=package.release.released.digest)

    def _forget(self, recall: Package) -> None:
        """Have the machine refuse all that was released before: whoever can write its state brings nothing back."""
        folder = write_package(self._folder.absolute() / PACKAGES, recall)
        with suppress(Recalled):
            verify_package(folder, self._machine, recall.release.at)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self._folder / _LOCK).open("ab")
        except OSError as error:
            raise UsageError(f"{self._folder} cannot be used: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def windows(self, after: int) -> Windows:
        """The windows that the service has released since its sequence `after`. Raises Unreachable, and Refused for what is none."""
        path = f"{WINDOWS_PATH}?after={after}"
        data = self._got(path)
        try:
            return Windows.from_canonical(data)
        except Refused as error:
            raise Refused(
                f"{self._settings.url}{path} does not tell windows of a scoring service: {error}"
            ) from error

    def _status(self) -> ServiceStatus:
        """What the service tells. Raises Unreachable where it does not answer, Refused for what is no status."""
        try:
            return ServiceStatus.model_validate_json(self._got(STATUS_PATH))
        except ValueError as error:
            raise Refused(
                f"{self._settings.url}{STATUS_PATH} does not tell a status of a scoring service"
            ) from error

    def _got(self, path: str) -> bytes:
        """What the service answers. Raises Unreachable where it does not, or with another code than 200."""
        url = f"{self._settings.url}{path}"
        authority, headers = self._authority(), self._headers()
        try:
            code, data = asyncio.run(_fetched(url, headers, authority))
        except (httpx.HTTPError, TimeoutError) as error:
            raise Unreachable(
                f"the scoring service at {self._settings.url} does not answer ({type(error).__name__}); start it with `covenant score serve`"
            ) from error
        if code != httpx.codes.OK:
            raise Unreachable(f"{url} answers {code}; see that its token is the service's")
        return data

    def _headers(self) -> dict[str, str]:
        if self._settings.token_file is None:
            return _PLAIN
        try:
            token = Path(self._settings.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self._settings.token_file} cannot be read as a token") from error
        return {**_PLAIN, "Authorization": f"Bearer {token}"}

    def _authority(self) -> ssl.SSLContext:
        if self._settings.ca_file is None:
            return _known_authorities()
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file)
        except OSError as error:
            raise UsageError(f"{self._settings.ca_file} cannot be read as a certificate") from error


@cache
def _known_authorities() -> ssl.SSLContext:
    """Those that httpx comes with, read once: every target is looked at again and again."""
    return httpx.create_ssl_context(trust_env=False)


async def _fetched(
    url: str,
    headers: dict[str, str],
    authority: ssl.SSLContext,
) -> tuple[int, bytes]:
    """The code and body of an answer, all of it within the time: a service that sends a byte now and then holds nobody up.

    Raises TimeoutError, httpx.HTTPError, and Refused for more than a status can have.
    """
    async with (
        asyncio.timeout(_TIMEOUT_S),
        httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S, verify=authority) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        data = bytearray()
        async for chunk in answer.aiter_raw():  # nothing that unpacks to more than it weighs
            data += chunk
            if len(data) > _MOST_STATUS_BYTES:
                raise Refused(f"{url} answers more than {_MOST_STATUS_BYTES} bytes; it is no scoring service")
        return answer.status_code, bytes(data)
