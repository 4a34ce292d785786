"""Lethe: a benchmark of concept unlearning for text-to-image diffusion models.

The packages are named after what they do. `run`, `evaluate`, `load_board`, `Board` and `RunConfig` are the Python
interface (docs/python-api.md); importing this package alone imports none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.commands.api import evaluate, run
    from bench.core.config import RunConfig
    from bench.report.read import Board, load_board

INTERFACE = {
    "run": "bench.commands.api",
    "evaluate": "bench.commands.api",
    "load_board": "bench.report.read",
    "Board": "bench.report.read",
    "RunConfig": "bench.core.config",
}  # name -> module that is imported when the name is first used

__all__ = ["Board", "RunConfig", "evaluate", "load_board", "run"]


def __getattr__(name: str) -> Any:
    """The interface's names. Raises AttributeError for any other."""
    if name not in INTERFACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(INTERFACE[name]), name)
