"""Reads the files of a board as data frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.board import csv_files
from bench.cells.estimate import TABLES
from bench.core.config import RunConfig
from bench.core.registry import nearest

ENDINGS = ("-cells.csv", "-concepts.csv", "-curve.csv", "-recovery.csv", ".csv", ".html", ".json", ".md")


@dataclass(frozen=True)
class Board:
    """The files of one board. Each table is read at its first use. docs/leaderboard.md describes the columns.

    Args:
        path: path of the table of methods, STEM.csv. The other files are in the same folder.
    """

    path: Path

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each method."""
        return self._read(".csv")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row for each method, task and training seed. `status` says whether the cell finished."""
        return self._read("-cells.csv")

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """One row for each finished cell and concept."""
        return self._read("-concepts.csv")

    @cached_property
    def description(self) -> dict[str, Any]:
        """All facts that the figures depend on besides the methods, in the types of JSON."""
        return json.loads(self._file(".json").read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        """The stem of the names of the board's files."""
        return self.path.name.removesuffix(".csv")

    @property
    def report(self) -> Path | None:
        """The path of the HTML report. None if the file does not exist."""
        file = self._file(".html")
        return file if file.is_file() else None

    def _file(self, ending: str) -> Path:
        return self.path.with_name(f"{self.name}{ending}")

    def _read(self, ending: str) -> pd.DataFrame:
        return csv_files.read(self._file(ending))


def load_board(path_or_name: str | Path) -> Board:
    """Find a board on disk. This does not compute anything.

    Args:
        path_or_name: the path of a file of the board, this path without the ending, or the name of the board. The
            function searches for a name in the folder `leaderboards` of the current folder, and among the reference
            boards of the repository.

    Raises FileNotFoundError if the board does not exist. The message has the most similar name.

    >>> load_board("finegrained-pocket").table["method"].tolist()[:2]  # doctest: +SKIP
    ['pretrained', 'wrecked']
    """
    text = str(Path(path_or_name).expanduser())
    stem = text.removesuffix(next((end for end in ENDINGS if text.endswith(end)), ""))
    folders = [] if len(Path(stem).parts) > 1 else [RunConfig().out, *TABLES]
    for file in (Path(f"{stem}.csv"), *(folder / f"{stem}.csv" for folder in folders)):
        if file.is_file():
            return Board(file)
    beside = folders or [Path(stem).parent]
    ends = "-cells.csv"
    names = {file.name.removesuffix(ends) for folder in beside for file in folder.glob(f"*{ends}")}
    where = ", ".join(dict.fromkeys(str(folder) for folder in beside))
    raise FileNotFoundError(f"no board {Path(stem).name!r} in {where}: {nearest(Path(stem).name, sorted(names))}")
