"""Which models a site had a part in, as a verified log tells it."""

from __future__ import annotations

from protos.log_audit import Audit
from protos.log_entries import ModelRegistered
from strategies.ids import SiteName


def shaped_by(story: Audit, site: SiteName) -> tuple[ModelRegistered, ...]:
    """The models of runs in which a sum was settled over `site`, the oldest first. What it put in stays in them, also after it has left."""
    return tuple(each for each in story.models if site in story.runs[each.run].survivors)
