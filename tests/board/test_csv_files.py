"""Names come back from CSV as they were, whatever a reader might take them for."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.awkward_names import ANY_NAME, NAMES

from bench.board import csv_files
from bench.core.store import output_files


def back(tmp_path: Path, table: pd.DataFrame) -> pd.DataFrame:
    output_files.write({tmp_path / "table.csv": csv_files.text(table)})
    return csv_files.read(tmp_path / "table.csv")


def columns(names: list[str]) -> pd.DataFrame:
    figures = {"seed": range(len(names)), "ua": 12.5, "judge_a\rb": 1.0}
    return pd.DataFrame({"method": "mimmu", "task": names[::-1], "concept": names, **figures})


@given(st.lists(ANY_NAME, min_size=1, max_size=4))
@settings(max_examples=60)
def test_table_comes_back_with_every_name(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    table = columns(names)
    read = back(tmp_path_factory.mktemp("csv"), table)
    assert read.columns.tolist() == table.columns.tolist()
    assert read["concept"].tolist() == names
    assert read["task"].tolist() == names[::-1]
    assert read["seed"].tolist() == [*range(len(names))]
    assert set(read["ua"]) == {12.5}


def test_other_readers_see_the_same_names(tmp_path: Path) -> None:
    back(tmp_path, columns(list(NAMES)))
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["concept"] for row in csv.DictReader(stream)] == [*NAMES]


def test_missing_text_and_missing_figure_are_blank(tmp_path: Path) -> None:
    read = back(tmp_path, pd.DataFrame({"reason": [None, "", "NA"], "ua": [None, 1.0, 2.0]}))
    assert read["reason"].isna().tolist() == [True, True, False]
    assert read["ua"].isna().tolist() == [True, False, False]


def test_table_without_carriage_return_has_plain_line_ends() -> None:
    table = pd.DataFrame({"concept": ["a\nb"], "ua": [1.0]})
    assert csv_files.text(table) == 'concept,ua\n"a\nb",1.000000\n'
    assert pd.read_csv(io.StringIO(csv_files.text(table)))["concept"].tolist() == ["a\nb"]
