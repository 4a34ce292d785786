"""The files of the one board that a folder has."""

from __future__ import annotations

from pathlib import Path


def only(folder: Path, ending: str = ".csv") -> Path:
    """Path of that file of the folder's only board that ends so, such as "-cells.csv"; it need not be there."""
    (cells,) = folder.glob("*-cells.csv")
    return cells.with_name(cells.name.removesuffix("-cells.csv") + ending)
