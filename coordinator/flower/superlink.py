"""Starting, watching and stopping the SuperLink child."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Self

import httpx

from coordinator.flower.superlink_process import SuperLinkSettings
from coordinator.flower.traffic import file_in
from coordinator.settings import SuperLinkAddress
from protos.egress import child_environment
from strategies.errors import CovenantError

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 10.0
_POLL_S = 0.05


class SuperLink:
    """A SuperLink child on `address`, with fresh secrets at each start. Use as a context manager."""

    def __init__(self, *, address: SuperLinkAddress, home: Path, log: IO[bytes]) -> None:
        """Nothing is started yet; `home` takes the child's files, `log` its output."""
        self._address, self._home, self._log = address, home, log
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until it answers."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None."""
        return self._child.pid if self._child else None

    def exited(self) -> int | None:
        """The exit code of a child that has ended by itself, else None."""
        return self._child.poll() if self._child else None

    def start(self) -> None:
        """Start the child with fresh secrets and wait until it answers; raises `CovenantError` if it does not."""
        self._refuse_taken_port()
        folder = self._home / "superlink"
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(self._address.control_token_file, secrets.token_urlsafe(48).encode())
        write_secret(self._address.executor_secret_file, secrets.token_bytes(48))
        settings = SuperLinkSettings(
            host=self._address.host,
            port=self._address.port,
            ca_file=self._address.ca_file,
            certificate_file=self._address.certificate_file,
            key_file=self._address.key_file,
            control_token_file=self._address.control_token_file,
            executor_secret_file=self._address.executor_secret_file,
            traffic_file=file_in(self._home),
            parent_pid=os.getpid(),
        )
        config = folder / "superlink.json"
        config.write_text(settings.model_dump_json())
        self._child = subprocess.Popen(
            [sys.executable, "-m", "coordinator.flower.superlink_process", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=child_environment(flower_home=folder),
            start_new_session=True,
        )
        self._wait_until_it_answers()

    def cut(self) -> None:
        """Kill the child without waiting for its end. `stop` comes after it all the same."""
        if (child := self._child) is not None:
            child.kill()

    def stop(self) -> None:
        """End the child; politely first."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _refuse_taken_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._address.host, self._address.port))
            except OSError as error:
                raise CovenantError(
                    f"the SuperLink cannot listen on {self._address.host}:{self._address.port}: {error.strerror}. "
                    "Stop what uses that port, or set another `superlink.port` in covenant.yaml"
                ) from error

    def _wait_until_it_answers(self) -> None:
        child, deadline = self._child, time.monotonic() + _START_WITHIN_S
        context = ssl.create_default_context(cafile=str(self._address.ca_file))
        url = f"https://{self._address.host}:{self._address.port}/health"
        with httpx.Client(verify=context, trust_env=False) as client:
            while child is not None and time.monotonic() < deadline:
                if (code := child.poll()) is not None:
                    raise CovenantError(
                        f"the SuperLink ended with exit code {code} while starting; its log says why"
                    )
                try:
                    client.get(url)
                except httpx.TransportError:
                    time.sleep(_POLL_S)
                else:
                    return
        raise CovenantError(f"the SuperLink did not answer within {_START_WITHIN_S:.0f} s; its log says why")


def write_secret(path: Path, secret: bytes) -> None:
    """Write `secret` to a file that only the owner can read, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
