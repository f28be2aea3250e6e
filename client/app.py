"""The ClientApp that every Covenant run names. In the warm agent it keeps data and torch loaded from message to message.

Under a stock `flower-supernode` it runs in a fresh process for each message, which is good enough to develop with plain aggregation:
start that with `--node-config 'site="/path/to/site.yaml"'`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.bootstrap import open_participant
from client.participant import Participant
from client.progress import progress_for
from protos.envelope import seal, unseal
from protos.shell import people
from strategies.errors import UsageError
from strategies.pieces import Bytes

SITE_KEY = "site"
"""The entry of Flower's node configuration that names this site's configuration file."""


class Answering(Protocol):
    """What answers frames: a `Participant`, or something that hands them on to one."""

    def answer(self, frame: Bytes) -> Bytes:
        """See `Participant.answer`."""
        ...


def client_app(participant_of: Callable[[Context], Answering]) -> ClientApp:
    """A ClientApp that lets the participant of its context answer."""
    made = ClientApp()

    @made.query()
    @made.train()
    @made.evaluate()
    def answer(message: Message, context: Context) -> Message:
        """Answer any frame; which stage it belongs to, and whether it is answered at all, stands in the frame."""
        return Message(seal(participant_of(context).answer(unseal(message))), reply_to=message)

    return made


@cache
def participant(path: Path) -> Participant:
    """The site of a configuration file, opened once a process."""
    return open_participant(path, progress=progress_for(people))


def _configured(context: Context) -> Participant:
    path = context.node_config.get(SITE_KEY)
    if not isinstance(path, str):
        raise UsageError(
            f"the node configuration names no site; start with --node-config '{SITE_KEY}=\"/path/to/site.yaml\"'"
        )
    return participant(Path(path))


app = client_app(_configured)
