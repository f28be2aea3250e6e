"""A simulation that says nothing but its result."""

from __future__ import annotations

import logging

import structlog


def silence_logs() -> None:
    """Thousands of runs are not worth a log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
