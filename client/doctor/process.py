"""The agent's own process: whether it runs and reaches the centre, and why it ended if it does not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from client.doctor.findings import Check, Finding, Patient, doubtful, fine
from client.operation.state import StateFolder
from client.operation.status import about_process, word_of


def _process(patient: Patient) -> Iterator[Finding]:
    folder = StateFolder(patient.config.journal.parent)
    alive, state = folder.alive, folder.read()
    if state is None and not alive:
        yield fine("agent", "no agent has run here yet", str(folder.folder))
        return
    word = word_of(state, alive=alive)
    evidence = (
        "it holds its lock, and has written no state"
        if state is None
        else f"process {state.pid}, started {state.started_at[:19]}, last asked: {state.last_request or 'nothing'}"
    )
    said = about_process(state, word, patient.clock())
    for each in said:
        yield doubtful(
            "agent",
            each,
            evidence=evidence,
            then=f"covenant-agent run --config {patient.file}"
            if word == "down"
            else "covenant-agent doctor again, once what it says of superlink, tls and clock is mended",
        )
    if not said:
        yield fine("agent", f"the agent is {word}", evidence)


CHECKS: Final[Sequence[Check]] = (Check("agent", _process),)
