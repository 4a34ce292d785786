from pathlib import Path

import pandas as pd
import pytest

from bench.report import markdown, terminal
from metrics import METRICS

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards" / "reference"


@pytest.mark.parametrize("file", sorted(BOARDS.glob("*-pocket.md")), ids=lambda file: file.stem)
def test_committed_markdown_tables_match_committed_boards(file: Path) -> None:
    text = file.read_text()
    title = text.splitlines()[0].strip("*")
    assert markdown.table(pd.read_csv(file.with_suffix(".csv")), METRICS.names(), title) == text


def test_readme_shows_committed_board() -> None:
    table = (BOARDS / "finegrained-pocket.md").read_text().split("\n\n")[1]
    assert table in (ROOT / "README.md").read_text()


def test_figure_has_interval_if_there_is_one() -> None:
    (ua, fid) = map(METRICS.get, ("ua", "fid"))
    row = {"ua": 96.25, "ua_lo": 93.4, "ua_hi": 100.0, "fid": 7.125, "fid_lo": None, "fid_hi": None}
    assert markdown._figure(row, ua) == "96.2 (93.4..100.0)"
    assert markdown._figure(row, fid) == "7.1"
    assert markdown._figure(row | {"ua": None}, ua) == ""


def test_table_has_columns_of_terminal_and_one_row_per_method() -> None:
    names = ("ua", "drift")
    row = {"fidelity": "published", "seconds": 12.4, "status": "ok", "compensation": "none", "fid_extractor": "x"}
    row |= {f"{n}{end}": 0.5 for n in names for end in ("", "_lo", "_hi")} | {f"{n}_n": 4 for n in names}
    row |= {"judge": 99.0, "judge_n": 60, "protocol": "full", "fingerprint": "f", "rank": 1}
    row |= {f"{n}{end}": 40.0 for n in ("h", "ripple", "nra@ua90") for end in ("", "_lo", "_hi")}
    board = pd.DataFrame([{"method": "a", **row}, {"method": "b", **row, "fidelity": "reconstruction", "rank": None}])
    lines = markdown.table(board, names, "title").splitlines()
    assert lines[2] == (
        "| method | rank | H %↑ | UA %↑ | DRIFT ↓ | RIPPLE pp↓ | NRA@UA90 %↑ | s/cell | compensation | status |"
    )
    forty = "40.0 (40.0..40.0)"
    assert (
        lines[4] == f"| a | 1 | {forty} | 0.5 (0.5..0.5) | 0.500 (0.500..0.500) | {forty} | {forty} | 12 | none | ok |"
    )
    assert lines[5].startswith("| b\\* |  | 40.0")
    assert terminal.caption(board, [METRICS.get(n).column for n in names], names).replace("*", "\\*") in lines
