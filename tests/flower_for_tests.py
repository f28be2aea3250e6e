"""Flower messages as a SuperLink delivers them, without a SuperLink."""

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message


def message(
    content: RecordDict | None = None,
    *,
    error: Error | None = None,
    message_id: str = "",
    reply_to: str = "",
    kind: str = "train",
    run: int = 11,
    node: int = 7,
) -> Message:
    metadata = Metadata(
        run_id=run,
        message_id=message_id,
        src_node_id=1,
        dst_node_id=node,
        reply_to_message_id=reply_to,
        group_id="1",
        created_at=1.8e9,
        ttl=600.0,
        message_type=kind,
    )
    return make_message(metadata=metadata, content=content, error=error)
