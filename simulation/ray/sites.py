"""Flower's nodes as the sites that they stand for: its workers, which import this, hand each message on to the site's own process (`hosts`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.pieces import Bytes, joined

WHOSE: Final = "whose"
"""The action of Flower's queries that asks a node for its place among the sites."""
_PLACE: Final = "place"
_PARTITION: Final = "partition-id"


@dataclass(frozen=True, slots=True)
class _Handed:
    """Answers in a worker what a site's process answers."""

    site: SiteName

    def answer(self, frame: Bytes) -> bytes:
        """See `Participant.answer`."""
        import ray

        try:
            answer: Any = ray.get(ray.get_actor(self.site).answer.remote(joined(frame)))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise CovenantError(f"{type(cause).__name__}: {cause}") from None
        return bytes(answer)


def sites_app(sites: Sequence[SiteName]) -> ClientApp:
    """The real ClientApp over the processes of `sites`, which Flower's nodes stand for in this order. Ray carries it to its workers."""
    from client.app import (
        client_app,  # in the simulation's own process: workers are up sooner without a site's libraries
    )

    app = client_app(lambda context: _Handed(sites[_place(context)]))

    @app.query(WHOSE)
    def whose(message: Message, context: Context) -> Message:
        return Message(RecordDict({WHOSE: ConfigRecord({_PLACE: _place(context)})}), reply_to=message)

    return app


def place_in(reply: Message) -> int:
    """The place that a node names, counted from 0."""
    record = reply.content[WHOSE]
    place = record[_PLACE] if isinstance(record, ConfigRecord) else None
    if not isinstance(place, int):
        raise CovenantError("a node of Flower's engine does not say which one it is")
    return place


def _place(context: Context) -> int:
    return int(context.node_config[_PARTITION])
