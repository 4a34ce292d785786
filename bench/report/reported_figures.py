"""Reads and checks the figures from papers in `leaderboards/published`. They are never mixed with measured figures."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "leaderboards" / "published"  # exists only in a checkout of the repository

KIND = "reported"
ABOUT = (
    "kind",
    "world",
    "suite",
    "method",
    "source",
    "url",
    "setting",
    "verified",
    "note",
)  # required columns
CONCEPT = "concept"
PERCENT = ("ua", "ira", "cra", "pre_asr", "asr")  # each is from 0 to 100
AMOUNTS = ("fid_reported", "seconds", "memory_gb", "storage_gb")  # each is at least 0
FIGURES = (*PERCENT, *AMOUNTS)
# A paper's metric -> the most similar metric of Lethe. uc_ua, uc_ira and uc_cra count images in the same way as
# UnlearnCanvas.
OURS = {"ua": "ua", "ira": "nra", "cra": "ora"}
MAY_BE_EMPTY = ("setting", "note")  # every other column of ABOUT needs a value in each row


class PublishedError(ValueError):
    """A file of reported figures is invalid. The message names the file and the line."""


def rows(world: str, suite: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The figures from papers for one suite of one world, in the order of the files.

    The table is empty if there are no such figures. The columns ABOUT and `concept` are text. The columns FIGURES are
    float64, with NaN for missing figures. `concept` and the columns of FIGURES are left out if they are empty. All
    files of the folder are checked. A missing folder counts as an empty folder.

    Raises PublishedError if:

    - a column is unknown, missing or doubled,
    - a row has more or fewer cells than the header,
    - a kind is not "reported", a url does not begin with "https://", or `verified` is not "yes" or "no",
    - a source or another column of ABOUT is empty, except for MAY_BE_EMPTY,
    - a figure is not a number or is out of range, or `asr` is below `pre_asr`,
    - a row has no figure, or a row occurs twice.
    """
    everything = [row for path in sorted(folder.glob("*.csv")) for row in _read(path)]
    shown = [row for row in everything if (row["world"], row["suite"]) == (world, suite)]
    frame = pd.DataFrame(shown, columns=[*ABOUT, CONCEPT, *FIGURES])
    frame[list(FIGURES)] = frame[list(FIGURES)].astype("float64")
    return frame.drop(
        columns=[name for name in (CONCEPT, *FIGURES) if not any(row.get(name, "") != "" for row in shown)]
    )


def _read(path: Path) -> Iterator[dict[str, str | float]]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        _check_columns(path, list(reader.fieldnames or []))
        seen: dict[tuple[str, ...], int] = {}
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise PublishedError(f"{where}: not as many cells as columns ({len(reader.fieldnames or [])})")
            _check_words(where, row)
            key = tuple(row.get(name, "") for name in ("world", "suite", CONCEPT, "method", "source"))
            if key in seen:
                raise PublishedError(f"{where}: the same row as line {seen[key]}")
            seen[key] = reader.line_num
            figures = {name: _figure(where, name, row[name]) for name in FIGURES if row.get(name)}
            if not figures:
                raise PublishedError(f"{where}: no figure at all")
            if figures.get("asr", 100.0) < figures.get("pre_asr", 0.0):
                raise PublishedError(f"{where}: asr {row['asr']} is below pre_asr {row['pre_asr']}, which it contains")
            yield {**{name: value for name, value in row.items() if name not in FIGURES}, **figures}


def _check_columns(path: Path, found: list[str]) -> None:
    missing = [name for name in ABOUT if name not in found]
    unknown = [name for name in found if name not in (*ABOUT, CONCEPT, *FIGURES)]
    if unknown:
        hint = "; a FID against another reference than ours is fid_reported" if "fid" in unknown else ""
        raise PublishedError(f"{path}, line 1: unknown column {', '.join(map(repr, unknown))}{hint}")
    if missing or len(set(found)) < len(found):
        raise PublishedError(f"{path}, line 1: missing or doubled columns; needed once each: {', '.join(ABOUT)}")


def _check_words(where: str, row: Mapping[str, str]) -> None:
    if row["kind"] != KIND:
        raise PublishedError(f"{where}: kind is {row['kind']!r}, and must be {KIND!r}")
    for name in ABOUT:
        if not row[name].strip() and name not in MAY_BE_EMPTY:
            raise PublishedError(f"{where}: {name} is empty")
    if not row["url"].startswith("https://"):
        raise PublishedError(f"{where}: url is {row['url']!r}, and must begin with https://")
    if row["verified"] not in ("yes", "no"):
        raise PublishedError(f"{where}: verified is {row['verified']!r}, and must be yes or no")


def _figure(where: str, name: str, text: str) -> float:
    high = 100.0 if name in PERCENT else math.inf
    try:
        value = float(text)
    except ValueError:
        raise PublishedError(f"{where}: {name} is {text!r}, which is no number") from None
    if not (math.isfinite(value) and 0 <= value <= high):
        limit = "from 0 to 100" if name in PERCENT else "from 0 up"
        raise PublishedError(f"{where}: {name} is {text}, and must be {limit}")
    return value
