"""What is written for others names files, and never the folders of the machine that made it."""

import doctest
import json
import re
import shlex
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.awkward_names import ANY_NAME
from support.awkward_names import NAMES as AWKWARD

from bench.commands import arguments, main, results_archive
from bench.core import filenames
from bench.core.config import RunConfig
from bench.core.filenames import within, without_folders, without_paths
from bench.plan.plan import resolve
from bench.worlds import World

SECRET = "zebedee-q"  # a folder of the machine in every path below
PATHS = tuple(
    path.replace("SECRET", SECRET)
    for path in (
        "/home/SECRET/x.pt", "/SECRET/x.pt", "~/SECRET/x.pt", "~SECRET/x.pt", "../SECRET/x.pt", "./SECRET/x.pt",
        "SECRET/deep/x.pt", "SECRET/x.pt", "/home/SECRET smith/x.pt", "/data/a=SECRET/x.pt", "/data/SECRET:b/x.pt",
        "C:\\Users\\SECRET\\x.pt", "C:/Users/SECRET/x.pt", "..\\SECRET\\x.pt", "\\\\host\\SECRET\\x.pt",
        "/home/SECRET//x.pt",
    )
)  # fmt: skip
FOLDERS = tuple(path.removesuffix(".pt") for path in PATHS if path not in (f"{SECRET}/x.pt",))
NAMES = (
    "sd15", "CompVis/stable-diffusion-v1-4", "open_clip:ViT-B-32/laion2b_s34b_b79k", "none", "x.pt",
    "timm/convnext_base.fb_in22k", "dogs=open_clip:ViT-L-14/datacomp_xl_s13b_b90k", "open_clip:hf-hub:laion/CLIP",
    "1e-5", "attn2", "True", "(1, 2)",
)  # fmt: skip
HEADS = ("", "birds=", "open_clip:ViT-B-32/", "dogs=open_clip:ViT-B-32/", "dogs=open_clip:local-dir:")


def test_doctests_pass() -> None:
    assert doctest.testmod(filenames).failed == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("before", HEADS)
def test_path_becomes_file_name(path: str, before: str) -> None:
    assert without_folders(before + path) == f"{before}x.pt"


@pytest.mark.parametrize("path", PATHS)
def test_clip_weights_keep_the_architecture(path: str) -> None:
    assert without_folders(f"ViT-B-32/{path}", model=True) == "ViT-B-32/x.pt"


@pytest.mark.parametrize("path", FOLDERS)
def test_folder_path_becomes_folder_name(path: str) -> None:
    assert without_folders(path) == without_folders(f"{path}/") == "x"


@pytest.mark.parametrize("name", NAMES)
def test_other_names_do_not_change(name: str) -> None:
    assert without_folders(name) == name
    assert without_folders("ViT-B-32/laion2b_s34b_b79k", model=True) == "ViT-B-32/laion2b_s34b_b79k"


@pytest.mark.parametrize(
    "path", [p for p in PATHS if " " not in p and "=" not in p and not p.startswith(SECRET) and "b/x" not in p]
)
def test_text_names_files_without_folders(path: str) -> None:
    assert without_paths(f"OSError: can't read {path}, or '{path}' (a/b), 1/2") == (
        "OSError: can't read x.pt, or 'x.pt' (a/b), 1/2"
    )


def test_urls_and_words_with_a_slash_do_not_change() -> None:
    text = "see https://example.org/a/b.html, and/or 3/4 of CompVis/stable-diffusion-v1-4 ... /x"
    assert without_paths(text) == text


def test_path_is_relative_to_the_folder_of_the_board(tmp_path: Path) -> None:
    assert within(tmp_path, str(tmp_path / ".store" / "x" / "traceback.txt")) == ".store/x/traceback.txt"
    assert within(tmp_path / "board", str(tmp_path / "logs" / "1.txt")) == "1.txt"


@pytest.mark.parametrize("path", PATHS)
def test_shared_command_contains_no_folder(path: str) -> None:
    file = Path(path)
    run = RunConfig(
        backbone=path, backbone_config=path, data=file, judges=(path, f"dogs={path}", f"open_clip:A/{path}"),
        clip=f"A/{path}", plugins=(file,), overrides={"mine": {"teacher": path}},
        sweep={"mine": {"teacher": (path, "none")}}, out=file,
    )  # fmt: skip
    said = run.shared_command
    assert SECRET not in said
    assert run.command.count(SECRET) >= 9
    assert shlex.split(said).count("x.pt") >= 3  # which files they were is still said


def test_existing_folder_is_not_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SECRET / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "--backbone model" in RunConfig(backbone=f"{SECRET}/model").shared_command
    assert "--backbone other/model" in RunConfig(backbone="other/model").shared_command


def test_written_files_contain_no_folder(
    world: World, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: a failed and a finished cell, their tables, their report, their archive."""
    home = tmp_path / SECRET
    (home / "plug ins").mkdir(parents=True)
    (home / "model").symlink_to(pipeline_folder, target_is_directory=True)
    plugin = home / "plug ins" / "breaks.py"
    plugin.write_text(
        "from methods import METHODS, Method\n\n\n@METHODS.register('breaks')\nclass Breaks(Method):\n"
        "    about, source, fidelity = 'x', 'x', 'control'\n\n    def edit(self, harness):\n"
        f"        raise FileNotFoundError('no {home}/weights.pt')\n"
    )
    monkeypatch.chdir(home)
    words = ["--world", "tiny", "--suite", "smoke", "--methods", "breaks", "--metrics", "ua", "--backbone", "./model",
             "--plugin", str(plugin), "--out", str(home / "out")]  # fmt: skip
    assert main.main([*words, "--workers", "1"]) == 1
    written = [p for p in (home / "out").iterdir() if p.is_file()]
    assert {p.suffix for p in written} == {".csv", ".md", ".json", ".html"}
    for file in written:
        assert SECRET not in file.read_text(), file.name
        assert str(tmp_path) not in file.read_text(), file.name
    cells = next((home / "out").glob("smoke-tiny-model-*-cells.csv")).read_text()
    assert "no weights.pt" in cells
    assert ".store/failures/" in cells
    run = arguments.run_config(arguments.parse(main.parser(), words))
    results_archive.pack(resolve(run), home / "all.results.tar.xz")
    with tarfile.open(home / "all.results.tar.xz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            assert SECRET not in json.dumps(json.load(stream))


@given(st.lists(ANY_NAME, min_size=2, max_size=2, unique=True))
@settings(max_examples=200)
def test_names_of_files_are_short_distinct_and_portable(names: list[str]) -> None:
    first, second = (filenames.stem(name) for name in names)
    assert first != second
    assert filenames.stem(names[0]) == first
    assert re.fullmatch(r"[a-z0-9._+][a-z0-9._+-]{0,79}", first)
    assert not filenames.DEVICE.match(first)
    assert not first.endswith(".")


def test_awkward_names_give_different_files_on_file_systems_that_ignore_case() -> None:
    names = (*AWKWARD, "Tiny", "tiny", "TINY", "a b", "a-b", "x" * 81, "x" * 82)
    assert len({filenames.stem(name) for name in names}) == len(names)
    assert filenames.stem("tiny") == "tiny"
