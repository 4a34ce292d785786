"""Saves the global state of a process before a run, and restores it after the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from bench.training.guard.settings import Settings

OURS = ("bench", "methods", "metrics")  # loggers of this project


@contextmanager
def restored() -> Iterator[None]:
    """Restore the global state of this process after the block, also after an exception.

    The state is everything in `bench.training.guard.settings.SWITCHES`: among others environment variables, loggers,
    the global random generators of Python, numpy and torch on every device, and the settings of torch.
    """
    settings = Settings()
    try:
        yield
    finally:
        settings.restore()


@contextmanager
def without_messages() -> Iterator[None]:
    """Within the block, warnings of this project's loggers go only to handlers that the caller has set up.

    Otherwise Python would print warnings to standard error if there is no handler.
    """
    handler = logging.NullHandler()
    for name in OURS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in OURS:
            logging.getLogger(name).removeHandler(handler)
