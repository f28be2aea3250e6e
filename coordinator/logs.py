"""Logs of the coordinator's processes: one JSON object a line on stderr, or readable lines where a person watches."""

from __future__ import annotations

import logging
import sys

import structlog


def configure() -> None:
    """Send structlog to stderr; stdout belongs to results."""
    for_people = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if for_people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
