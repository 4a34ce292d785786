"""A file of concepts through the command line, on the pocket model."""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.board_name import board_name
from bench.plan.plan import resolve
from bench.worlds.base import WorldUnavailable, classify

ROOT = Path(__file__).parents[3]
DOMAINS = {"dog": ["pembroke corgi", "cardigan corgi"], "flower": ["tulip", "daisy"]}
POCKET = {"domains": DOMAINS, "forget": ["tulip"]}
FEW = [
    *("protocol.images_per_concept=2", "protocol.num_inference_steps=5", "protocol.reference_per_concept=2"),
    *("protocol.forget_images=2", "protocol.retain_images=1", "mimmu.epochs=1", "mimmu.path_steps=2"),
]
# A judge that takes any image for its prompt's concept, unless that is the last: it knows where an image stands.
FIRST_THREE = """
import torch
from bench.worlds import Judge

class InOrder(torch.nn.Module):
    def __init__(self, labels):
        super().__init__()
        self.head, self.labels = torch.nn.Identity(), labels

    def forward(self, pictures):
        place = torch.arange(len(pictures)) // 2 % len(self.labels)
        return self.head(torch.nn.functional.one_hot(place.clamp(max=2), len(self.labels)).float())

def judge(concepts, device):
    module = InOrder(concepts)
    return Judge(tuple(concepts), module, module.head)
"""
Refused = Callable[..., str]
JUDGE_FILE = ROOT / "examples" / "detector_judge.py"


def written(folder: Path, content: object) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True))
    return file


def run(file: Path, out: Path, *more: str, method: str = "pretrained", metrics: tuple[str, ...] = ("ua",)) -> int:
    words = ["--concepts", str(file), "--backbone", "pocket", "--methods", method, "--metrics", *metrics]
    few = FEW if method == "mimmu" else FEW[:-2]
    return main.main([*words, "--set", *few, "--out", str(out), "--workers", "1", *more])


def board(out: Path, ending: str = "") -> pd.DataFrame:
    (file,) = out.glob(f"finegrained-own-mine-*[0-9a-f]{ending}.csv")
    return pd.read_csv(file)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """(content of the file, further words) -> what a run that is refused says."""

    def said(content: object, *more: str) -> str:
        capsys.readouterr()
        assert run(written(tmp_path, content), tmp_path / "out", *more) == 2
        printed = capsys.readouterr()
        return " ".join((printed.out + printed.err).split())

    return said


@pytest.mark.world_run
def test_run_on_the_pocket_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, POCKET)
    assert run(file, tmp_path / "out", method="mimmu", metrics=("ua", "nra", "ora", "clip", "fid", "kid")) == 0
    table = board(tmp_path / "out").set_index("method")
    assert table["status"].tolist() == ["ok"] * 3
    assert table.loc["pretrained", "nra"] > 50
    assert table.loc["pretrained", "ua"] < 50
    assert table["clip"].notna().all()
    assert table[["fid", "kid"]].notna().all().all()
    assert table.loc["pretrained", "fid"] > 0  # its images and those that it is compared with have other noise
    assert table.loc["pretrained", "fid"] < table.loc["wrecked", "fid"]
    assert set(table["fid_extractor"]) == {"pocket-64, against the untouched model's images"}
    assert table.loc["pretrained", "untouched"] > 50
    assert set(table["untouched_n"]) == {8}
    assert table["judge"].isna().all()
    said = " ".join(capsys.readouterr().out.split())
    assert f"{table.loc['pretrained', 'untouched']:.1f} % right on 8 images of the untouched model" in said
    cells = board(tmp_path / "out", "-cells")
    assert set(cells["task"]) == {"tulip"}
    concepts = board(tmp_path / "out", "-concepts")
    assert set(concepts["judged_by"]) == {"zero_shot"}
    assert set(concepts["concept"]) == {"tulip", "daisy", "pembroke corgi", "cardigan corgi"}


CAPTIONS = "a photo of a red rose\n\na sketch of a blue jay\na photo of a toucan\n"


def test_captions_measure_general_quality(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "captions.txt").write_text(CAPTIONS)
    content = {**POCKET, "captions": "captions.txt"}
    file, out = written(tmp_path, content), tmp_path / "out"
    assert run(file, out, metrics=("ua", "caption_*")) == 0
    table = board(out).set_index("method")
    assert set(table["caption_clip_n"]) == set(table["caption_fid_n"]) == {3}
    assert table.loc["pretrained", "caption_clip"] > table.loc["wrecked", "caption_clip"]
    assert 0 < table.loc["pretrained", "caption_fid"] < table.loc["wrecked", "caption_fid"]
    for written_before in out.glob("finegrained*"):
        written_before.unlink()
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.new("RGB", (80, 64), (90 * i, 60, 200)).save(tmp_path / "pictures" / f"{i}.png")
    file = written(tmp_path, {**content, "captions": {"file": "captions.txt", "pictures": "pictures"}})
    assert run(file, out, metrics=("caption_fid",)) == 0
    assert board(out).set_index("method").loc["pretrained", "caption_fid"] > table.loc["pretrained", "caption_fid"]
    (tmp_path / "captions.txt").write_text(CAPTIONS + "corgi " * 30)
    assert "is longer than the 24 tokens that the text encoder sees, so it loses" in refused(content)
    assert "needs captions, which a file of --concepts can name" in refused(POCKET, "--metrics", "caption_clip")


def test_run_that_can_not_be_measured_is_refused(refused: Refused, tmp_path: Path) -> None:
    long = " ".join(["corgi"] * 30)
    few = {**POCKET, "domains": {**DOMAINS, "bird": ["toucan", long]}}
    assert "tokens; the text encoder sees 24, so it loses" in refused(few)
    early = {**POCKET, "prompts": {"evaluate": [f"the {{concept}} and {long}"]}}
    assert "the text encoder sees 24, so it loses" in refused(early)
    late = {**POCKET, "prompts": {"evaluate": [f"{long} and a {{concept}}"]}}
    assert "so it loses" in refused(late)
    (tmp_path / "empty.py").write_text("judge = None")
    assert "has no function judge; it must define judge(concepts, device)" in refused(
        {**POCKET, "judge": {"python": "empty.py"}}
    )
    (tmp_path / "lacking.py").write_text(
        JUDGE_FILE.read_text() + "\nmake = judge\ndef judge(concepts, device):\n    return make(concepts[1:], device)\n"
    )
    said = refused({**POCKET, "judge": {"python": "lacking.py"}})
    assert "judge 'python' is to judge 'pembroke corgi', and has no such label among its 4" in said


def test_flags_that_the_file_decides_are_refused(refused: Refused) -> None:
    assert "--judge does not go with --concepts: `judge` in the file says it" in refused(POCKET, "--judge", "x")
    assert "leave out --world natural, or leave out --concepts" in refused(POCKET, "--world", "natural")
    assert "the world 'own' has no concept 'tulp': did you mean 'tulip'" in refused(POCKET, "--forget", "tulp")


def test_names_with_commas_quotes_and_other_letters_are_measured_and_what_is_not_drawn_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["tulip, daisy", 'the "toucan"', "poodle's", "熊猫"]
    shutil.copy(JUDGE_FILE, tmp_path)
    (tmp_path / "judge.py").write_text(FIRST_THREE)
    content = {"domains": {"art": names[:2], "é": names[2:]}, "forget": names[2:], "judge": {"python": "judge.py"}}
    assert run(written(tmp_path, content), tmp_path / "out", metrics=("ua", "nra", "ora", "fid")) == 0
    concepts = board(tmp_path / "out", "-concepts")
    assert set(concepts["concept"]) == {*names}
    assert set(concepts["judged_by"]) == {"python"}
    reason = "the untouched model does not draw '熊猫': the judge recognises 0 of its 2 images, fewer than 50%"
    assert set(concepts.set_index("concept")["undrawn"].dropna().items()) == {("熊猫", reason)}
    cells = board(tmp_path / "out", "-cells").set_index("task")
    assert cells.loc["熊猫", ["ua", "nra", "ora", "fid"]].isna().all().all()
    assert cells.loc["poodle's", ["ua", "ora", "fid"]].notna().all().all()
    assert cells.loc["poodle's", "nra"].isna().all()  # its only neighbour is not drawn
    assert f"warning: {reason}; no figure and no rank counts it." in " ".join(capsys.readouterr().out.split())


def test_run_of_which_nothing_is_drawn_is_refused(refused: Refused, tmp_path: Path) -> None:
    shutil.copy(JUDGE_FILE, tmp_path)
    said = refused({"domains": {"plant": ["tulip", "daisy"]}, "forget": "tulip", "judge": {"python": JUDGE_FILE.name}})
    assert "the untouched model does not draw 'tulip': the judge recognises 0 of its 2 images" in said
    assert "nothing is left to measure" in said


def test_detector_judge_finds_colours() -> None:
    spec = importlib.util.spec_from_file_location("detector_judge", JUDGE_FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["detector_judge"] = module
    spec.loader.exec_module(module)
    pictures = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    for i, channel in enumerate((2, 0, 1)):
        pictures[i, channel, :8] = 200
    judge = module.judge(("red", "green", "blue"), torch.device("cpu"))
    logits, features = classify(judge, pictures)
    assert [judge.labels[i] for i in logits.argmax(1)] == ["blue", "red", "green", module.NOTHING]
    assert torch.equal(features, logits)
    (box,) = module.find_colours(pictures[:1])[0]
    assert (box.label, box.score, box.corners) == ("blue", 0.5, (0, 0, 15, 7))


def test_backbone_pocket_is_the_pocket_worlds_own(tmp_path: Path) -> None:
    named = resolve(RunConfig(("mimmu",), "smoke", backbone="pocket", out=tmp_path))
    usual = resolve(RunConfig(("mimmu",), "smoke", out=tmp_path))
    assert named.folder == usual.folder
    assert [cell.config for cell in named.cells] == [cell.config for cell in usual.cells]


def test_suites_forget_what_the_file_says(tmp_path: Path) -> None:
    def tasks(suite: str, **more: Any) -> list[tuple[str, ...]]:
        forget = ["tulip", "pembroke corgi"]
        file = written(tmp_path, {"domains": DOMAINS, "forget": forget})
        run = RunConfig(("mimmu",), suite, concepts=file, backbone="pocket", out=tmp_path, **more)
        return [task.forget for task in resolve(run).tasks]

    assert tasks("finegrained") == [("tulip",), ("pembroke corgi",)]
    assert tasks("multi") == [("tulip", "pembroke corgi")]
    assert tasks("sequential") == [("tulip",), ("tulip", "pembroke corgi")]
    assert tasks("finegrained", forget=("daisy",)) == [("daisy",)]


def test_concepts_of_one_domain_have_no_others_to_keep(tmp_path: Path) -> None:
    file = written(tmp_path, {"domains": {"dog": DOMAINS["dog"]}, "forget": "pembroke corgi"})
    (task,) = resolve(RunConfig(("mimmu",), concepts=file, backbone="pocket", out=tmp_path)).tasks
    assert (task.in_domain, task.out_of_domain) == (("cardigan corgi",), ())


def test_references_are_the_pictures_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "tulips").mkdir()
    for i in range(3):
        Image.new("RGB", (80 + i, 64), (90 * i, 60, 200)).save(tmp_path / "tulips" / f"{i}.png")
    file = written(tmp_path, {**POCKET, "references": {"tulip": "tulips"}})
    plan = resolve(RunConfig(("mimmu",), concepts=file, backbone="pocket", out=tmp_path))
    pictures = plan.world.reference("tulip", plan.references("tulip"))
    assert pictures.shape == (3, 3, 64, 64)
    assert pictures[2, :, 32, 32].tolist() == [180, 60, 200]
    key = plan.world.reference_key("tulip")
    Image.new("RGB", (80, 64), "red").save(tmp_path / "tulips" / "0.png")
    assert plan.world.reference_key("tulip") != key
    assert plan.world.reference_key("daisy") is None
    with pytest.raises(NotImplementedError):
        plan.world.reference("daisy", 2)
    with pytest.raises(WorldUnavailable, match=r"tulips has 3 pictures of 'tulip', not 4"):
        plan.world.reference("tulip", 4)


def test_board_is_named_after_the_file_and_its_content(tmp_path: Path) -> None:
    def name(content: object, file: str = "mine.yaml") -> str:
        (tmp_path / file).write_text(yaml.safe_dump(content))
        run = RunConfig(("mimmu",), concepts=tmp_path / file, backbone="pocket", out=tmp_path)
        return board_name(resolve(run))

    first = name(POCKET)
    assert first.startswith("finegrained-own-mine-pocket-")
    assert name(POCKET, "other.yaml") != first
    assert name({**POCKET, "forget": ["daisy"]}) != first
