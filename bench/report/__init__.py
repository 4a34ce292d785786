"""The HTML report: one file for each board, made from its tables, its description and the store's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import leaderboard

if TYPE_CHECKING:
    from bench.executor import Executor


def write(executor: Executor, results: Sequence[leaderboard.Result], tables: leaderboard.Tables, path: Path) -> None:
    """Write the page of a board to `path`, in one step. Raises what its parts raise, and OSError."""
    from bench.report import page  # charts and templates take a second to import; lists need none of it

    leaderboard.replace(path, page.render(executor, results, tables))
