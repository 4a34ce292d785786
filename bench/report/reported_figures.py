"""Figures that papers report, from `leaderboards/published`: read, checked, and never mixed with measured ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "leaderboards" / "published"  # of a checkout; elsewhere there are none

KIND = "reported"
ABOUT = ("kind", "world", "suite", "method", "source", "url", "setting", "verified", "note")  # every file has them
CONCEPT = "concept"
PERCENT = ("ua", "ira", "cra", "pre_asr", "asr")
AMOUNTS = ("fid_reported", "seconds", "memory_gb", "storage_gb")  # from 0 up
FIGURES = (*PERCENT, *AMOUNTS)
# a paper's name -> the nearest of ours; the board's uc_ua, uc_ira and uc_cra count images as UnlearnCanvas does
OURS = {"ua": "ua", "ira": "nra", "cra": "ora"}
MAY_BE_EMPTY = ("setting", "note")


class PublishedError(ValueError):
    """A file of reported figures is not as it must be; the message names file and line."""


def rows(world: str, suite: str, folder: Path = FOLDER) -> pd.DataFrame:
    """What papers report for a suite of a world, in the order of the files: no rows where they report nothing.

    Columns: ABOUT and `concept` as text, and FIGURES as float64, NaN where a source gives none; only those of `concept`
    and FIGURES that have any value. Every file of the folder is checked, whatever is asked for; a folder that is not
    there has no files. Raises PublishedError for an unknown or missing column, a kind other than "reported", a missing
    source, a figure that is no number or out of range, an attack that succeeds less often than none, a row without any
    figure, and a row that is there twice.
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
