"""The log of a command, on stderr."""

import logging
import os
import sys

import structlog

from sprint_agents.errors import ConfigurationError

LOG_LEVEL = "SPRINT_LOG_LEVEL"
"""The environment variable for the lowest level that is logged to stderr, such as ``debug`` or ``warning``."""


def configure_logs() -> None:
    """Write messages to stderr, from the level that the environment names.

    Raises:
        ConfigurationError: there is no such level.
    """
    name = os.environ.get(LOG_LEVEL, "warning")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigurationError(f"${LOG_LEVEL} is {name!r}: use debug, info, warning or error")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Looked up at each use, because stderr may have been replaced.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
