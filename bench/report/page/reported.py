"""The figures of papers on the page: a separate block without ranks, and hollow points in charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.report import reported_figures
from bench.report.page.summary import listed
from metrics import Column

HARDWARE = "on the source's hardware"


HEADS = (
    Column("pre_asr", "how often the forgotten concept comes back without an attack", "%", "lower"),
    Column("asr", "how often it comes back with or without an attack", "%", "lower"),
    Column("ua", "how often the forgotten concept no longer appears", "%", "higher"),
    Column("ira", "in-domain retain accuracy: NRA, counted as UC IRA counts", "%", "higher"),
    Column("cra", "cross-domain retain accuracy: ORA, counted as UC CRA counts", "%", "higher"),
    Column("fid_reported", "against the source's own reference: no FID of the board compares with it", "", "lower"),
    Column("seconds", HARDWARE, "s", "lower"),
    Column("memory_gb", HARDWARE, "GB", "lower"),
    Column("storage_gb", HARDWARE, "GB", "lower"),
)
LABELS = {  # of the columns whose label is not their name in capitals
    "pre_asr": "PRE-ASR",
    "fid_reported": "FID reported",
    "seconds": "time",
    "memory_gb": "memory",
    "storage_gb": "storage",
}


@dataclass(frozen=True)
class Row:
    """A row of the block. A figure that the source does not give is ""."""

    method: str
    concept: str
    figures: tuple[str, ...]
    source: str
    url: str
    setting: str
    note: str
    verified: bool


@dataclass(frozen=True)
class Block:
    """The block below a board: its non-empty columns, and its rows in the order of the files."""

    heads: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def labels(self) -> dict[str, str]:
        """The names of the columns, for people."""
        return {head.name: LABELS.get(head.name, head.name.upper()) for head in self.heads}

    @property
    def concepts(self) -> bool:
        """Whether each row is about one concept."""
        return any(row.concept for row in self.rows)

    @property
    def remarks(self) -> list[tuple[str, str]]:
        """The setting and the note of rows: (names of the rows, text), in the order of the rows."""
        alike: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if row.setting or row.note:
                alike.setdefault((row.setting, row.note), []).append(row)
        return [(_named(rows), "; ".join(filter(None, words))) for words, rows in alike.items()]

    @property
    def unverified(self) -> bool:
        """Whether some row was not checked against its authors' own file."""
        return not all(row.verified for row in self.rows)


def block(frame: pd.DataFrame) -> Block | None:
    """The block for the rows of `reported_figures.rows`, with the digits of their source. None without rows."""
    if frame.empty:
        return None
    heads = tuple(head for head in HEADS if head.name in frame)
    return Block(heads, tuple(_row(row, heads) for row in frame.to_dict("records")))


def _named(rows: Sequence[Row]) -> str:
    methods = listed(list(dict.fromkeys(row.method for row in rows)))
    concepts = list(dict.fromkeys(row.concept for row in rows if row.concept))
    return f"{methods} ({listed(concepts)})" if concepts else methods


def _row(row: dict[Any, Any], heads: Sequence[Column]) -> Row:
    figures = tuple("" if pd.isna(row[head.name]) else f"{row[head.name]:,.10g}" for head in heads)
    words = {name: row[name] for name in ("method", "source", "url", "setting", "note")}
    return Row(
        **words, concept=row.get(reported_figures.CONCEPT, ""), figures=figures, verified=row["verified"] == "yes"
    )


def points(frame: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Retention metric of Lethe -> points of a paper: UA and the paper's metric, for rows that give both."""
    names = {ours: paper for paper, ours in reported_figures.OURS.items() if paper != "ua" and paper in frame}
    if "ua" not in frame:
        return {}
    return {
        ours: [
            {"method": row["method"], "x": row["ua"], "y": row[paper], "source": row["source"],
             "x_text": f"{row['ua']:.10g}", "y_text": f"{row[paper]:.10g}"}
            for row in frame.dropna(subset=["ua", paper]).to_dict("records")
        ]
        for ours, paper in names.items()
    }  # fmt: skip
