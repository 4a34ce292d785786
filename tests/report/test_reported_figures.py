"""Reported figures are read as they are, or refused with file and line."""

import re
from pathlib import Path

import pytest

from bench.report import reported_figures

HEAD = "kind,world,suite,method,ua,source,url,setting,verified,note"
ROW = "reported,w,s,ESD,98.5,a paper,https://example.org,,yes,"


def write(folder: Path, *rows: str, head: str = HEAD) -> Path:
    (folder / "one.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def test_committed_files_are_valid_and_name_their_boards() -> None:
    for suite in ("style", "object"):
        found = reported_figures.rows("canvas", suite)
        assert len(found) == 10
        assert {"ua", "ira", "cra", "fid_reported", "seconds", "memory_gb", "storage_gb"} <= set(found)
        assert not {"concept", "asr"} & set(found)
    attack = reported_figures.rows("stable-diffusion", "attack")
    assert set(attack["concept"]) == {"nudity", "Van Gogh", "church", "parachute", "tench", "garbage truck"}
    assert list(attack.columns) == [*reported_figures.ABOUT, "concept", "pre_asr", "asr", "fid_reported"]


def test_figures_match_sources() -> None:
    style = reported_figures.rows("canvas", "style").set_index("method")
    row = style.loc["SalUn", ["ua", "ira", "cra", "fid_reported", "seconds", "memory_gb", "storage_gb"]]
    assert row.tolist() == [86.26, 90.39, 95.08, 61.05, 667, 30.8, 4.0]
    assert style.loc["SPM", "storage_gb"] == 0
    assert style["fid_reported"].isna().tolist() == [False] * 9 + [True]
    attack = reported_figures.rows("stable-diffusion", "attack").query("concept == 'nudity'").set_index("method")
    assert attack.loc["ESD", ["pre_asr", "asr", "fid_reported", "verified"]].tolist() == [20.42, 76.05, 18.18, "yes"]
    assert attack["fid_reported"].loc[["MACE", "RECE", "SAFREE"]].tolist() == [16.90, 17.20, 19.28]
    every = reported_figures.rows("stable-diffusion", "attack")
    assert every["fid_reported"].notna().all()
    assert set(every.query("verified == 'no'")["concept"]) == {"garbage truck"}


def test_board_without_reported_figures_has_no_rows(tmp_path: Path) -> None:
    assert reported_figures.rows("pocket", "style").empty
    assert reported_figures.rows("canvas", "style", tmp_path / "nowhere").empty
    assert reported_figures.rows("w", "other", write(tmp_path, ROW)).empty
    assert reported_figures.rows("w", "s", write(tmp_path, ROW))["ua"].tolist() == [98.5]


def test_zero_is_figure_and_blank_is_missing(tmp_path: Path) -> None:
    head = HEAD.replace("ua", "pre_asr,asr")
    write(tmp_path, ROW.replace("98.5", "0,0"), ROW.replace("98.5", ",5").replace("ESD", "UCE"), head=head)
    found = reported_figures.rows("w", "s", tmp_path)
    assert found["pre_asr"].tolist()[0] == 0
    assert found["pre_asr"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW.replace("reported", "measured"), "kind is 'measured', and must be 'reported'"),
        (ROW.replace("a paper", ""), "source is empty"),
        (ROW.replace("https://example.org", "example.org"), "must begin with https://"),
        (ROW.replace("yes", "maybe"), "verified is 'maybe', and must be yes or no"),
        (ROW.replace("98.5", "100.1"), "ua is 100.1, and must be from 0 to 100"),
        (ROW.replace("98.5", "-1"), "ua is -1, and must be from 0 to 100"),
        (ROW.replace("98.5", "nan"), "ua is nan, and must be from 0 to 100"),
        (ROW.replace("98.5", "98,5"), "not as many cells as columns (10)"),
        (ROW.replace("98.5", "98.5 %"), "ua is '98.5 %', which is no number"),
        (ROW.replace("98.5", ""), "no figure at all"),
        (ROW.removesuffix(","), "not as many cells as columns (10)"),
        (ROW.replace("ESD", "UCE"), "the same row as line 2"),
    ],
)
def test_invalid_row_is_refused_with_file_and_line(tmp_path: Path, row: str, said: str) -> None:
    write(tmp_path, ROW.replace("ESD", "UCE"), row)
    with pytest.raises(reported_figures.PublishedError, match=rf"one\.csv, line 3: .*{re.escape(said)}"):
        reported_figures.rows("another", "board", tmp_path)


def test_asr_below_pre_asr_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ROW.replace("98.5", "20,10"), head=HEAD.replace("ua", "pre_asr,asr"))
    with pytest.raises(reported_figures.PublishedError, match="asr 10 is below pre_asr 20"):
        reported_figures.rows("w", "s", tmp_path)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (HEAD.replace("ua", "fid"), "unknown column 'fid'; a FID against another reference than ours is fid_reported"),
        (HEAD.replace("ua", "accuracy"), "unknown column 'accuracy'"),
        (HEAD.replace("source", "ua"), "missing or doubled columns"),
        ("", "missing or doubled columns"),
    ],
)
def test_invalid_columns_are_refused_with_names(tmp_path: Path, head: str, said: str) -> None:
    write(tmp_path, ROW, head=head)
    with pytest.raises(reported_figures.PublishedError, match=rf"one\.csv, line 1: {re.escape(said)}"):
        reported_figures.rows("w", "s", tmp_path)
