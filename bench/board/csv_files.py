"""Writes and reads tables as CSV, so that every text comes back as it was written.

CSV does not say which columns are text. A reader would turn a concept called "nan" or "NA" into a blank, and one called
"007" or "1e5" into a number. The columns in `TEXTS` are text, and all other columns are numbers.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TEXTS = (
    "method", "fidelity", "task", "band", "status", "way", "chain", "request", "probe", "of", "variant_of", "variant",
    "fid_extractor", "compensation", "reason", "warnings", "traceback", "config", "protocol", "fingerprint",
    "concept", "role", "judged_by", "undrawn", "data", "how", "best",
)  # fmt: skip


def read(file: Path) -> pd.DataFrame:
    """The table in a file that `text` made. An empty text is NaN, as a missing number is.

    Raises OSError, and ValueError for a file that is not a table.
    """
    return pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""], encoding="utf-8")


def text(table: pd.DataFrame, float_format: str = "%.6f") -> str:
    """The table as CSV. A text is written as it is, also one that a spreadsheet would take for a formula."""
    made = table.to_csv(index=False, float_format=float_format, lineterminator="\n")
    if "\r" in made:  # Python's writer quotes a carriage return only if it belongs to the end of a line
        made = table.to_csv(index=False, float_format=float_format, lineterminator="\r\n")
    return made
