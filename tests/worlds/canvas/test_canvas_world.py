"""The canvas world: the published answer set, and the whole way on a miniature release."""

import functools
import json
import math
import os
from pathlib import Path

import easel
import pandas as pd
import pytest
from support import longer_text, tiny

from bench.cells.artifacts import Context
from bench.cells.checks import recognition
from bench.commands import main
from bench.core.config import RunConfig
from bench.plan.plan import Plan, resolve
from bench.worlds import WORLDS, Options, WorldUnavailable
from bench.worlds.base import SPLITS
from bench.worlds.canvas import judges
from bench.worlds.canvas import world as room
from bench.worlds.canvas.classes import OBJECTS, SEED_IMAGES, SEEDS, STYLES, prompt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = easel.write(tmp_path_factory.mktemp("unlearncanvas"))
    easel.classifiers(folder)
    return folder


def plan_of(data: Path, backbone: Path, suite: str, **more: object) -> Plan:
    given = {"world": "canvas", "suite": suite, "data": data, "backbone": str(backbone), "methods": ("mimmu",)}
    return resolve(RunConfig(**{**given, **more}))  # type: ignore[arg-type]


def test_the_answer_set_is_the_published_one(data: Path, pipeline_folder: Path) -> None:
    for suite, count in (("style", 50), ("object", 20)):
        plan = plan_of(data, pipeline_folder, suite)
        assert len(plan.tasks) == count
        keys = Context(plan, machine={"versions": {}}, content="b", judges_digest=lambda: "p")
        assert len(keys.specs) == 51 * 20 * 5
        assert {(spec.prompt, spec.seed) for spec in keys.specs} == {
            (prompt(style, object), seed) for style in (*STYLES, SEED_IMAGES) for object in OBJECTS for seed in SEEDS
        }
        assert {concept: plan.images(concept) for concept in plan.concepts} == {
            **dict.fromkeys(OBJECTS, 255), **dict.fromkeys((SEED_IMAGES, *STYLES), 100)
        }  # fmt: skip
    protocol = plan.protocol
    assert (protocol.scheduler, protocol.num_inference_steps, protocol.guidance_scale) == ("ddim", 100, 9.0)


def test_no_method_sees_a_sentence_that_judges(data: Path, pipeline_folder: Path) -> None:
    world = plan_of(data, pipeline_folder, "style").world
    asked = {p for c in (*OBJECTS, SEED_IMAGES, *STYLES) for p in world.prompts("evaluate", c)}
    given = {p for c in (*OBJECTS, SEED_IMAGES, *STYLES) for p in world.prompts("forget", c)}
    assert len(asked) == 51 * 20
    assert not asked & given
    assert [p.replace("Monet", "Van Gogh") for p in world.prompts("forget", "Monet")] == [
        *world.prompts("forget", "Van_Gogh")
    ]
    for split in SPLITS:
        for whole, part in zip(world.prompts(split, "Monet"), world.superclass_prompts("Monet", split), strict=True):
            assert whole.replace("Monet", "Photo") == part
        assert world.superclass_prompts("Dogs", split) == ()
    assert [world.bare_name(c) for c in ("Dogs", "Van_Gogh")] == ["Dogs", "Van Gogh style"]


def test_real_pictures_are_named_so_that_a_style_and_an_object_can_share_one(data: Path, pipeline_folder: Path) -> None:
    plan = plan_of(data, pipeline_folder, "style")
    names = plan.world.reference_names
    monet, dogs = (set(names(c, plan.references(c))) for c in ("Monet", "Dogs"))
    assert (len(monet), len(dogs)) == (100, 255)
    assert monet & dogs == {f"Monet/Dogs/{i}.jpg" for i in range(1, 6)}
    assert plan.world.reference("Dogs", 3).shape == (3, 3, 512, 512)


def test_another_picture_of_the_same_size_and_time_is_another_key(data: Path, pipeline_folder: Path) -> None:
    def keys() -> list[object]:
        world = plan_of(data, pipeline_folder, "style").world
        return [world.reference_key(concept, 5) for concept in ("Monet", "Dogs", "Van_Gogh")]

    (file,) = data.rglob("Monet/Architectures/1.jpg")
    before, content, state = keys(), bytearray(file.read_bytes()), file.stat()
    for changed in (True, False):
        content[25] ^= 1  # the first entry of the quantisation table: another contrast, and then the first one again
        file.unlink()  # the copy of the release has links to a few files
        file.write_bytes(content)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert [now != then for now, then in zip(keys(), before, strict=True)] == [changed, False, False]


def test_what_does_not_fit_the_protocol_is_refused(data: Path, pipeline_folder: Path) -> None:
    with pytest.raises(ValueError, match="takes no --judge"):
        plan_of(data, pipeline_folder, "style", judges=("open_clip:ViT-B-32/openai",))
    with pytest.raises(ValueError, match="takes no --neighbours"):
        plan_of(data, pipeline_folder, "style", neighbours="3")
    with pytest.raises(WorldUnavailable, match="--data DIR"):
        resolve(RunConfig(world="canvas", suite="style", backbone=str(pipeline_folder)))
    with pytest.raises(WorldUnavailable, match="fine-tuned Stable Diffusion"):
        resolve(RunConfig(world="canvas", suite="style", data=data))
    with pytest.raises(ValueError, match="images_per_prompt is 6, but noise_seeds has only 5 seeds"):
        plan_of(data, pipeline_folder, "style", overrides={"protocol": {"images_per_prompt": "6"}})


def test_closeness_comes_from_the_backbone(data: Path, pipeline_folder: Path) -> None:
    ready = WORLDS.get("canvas").configure(Options(lambda: pipeline_folder, data))
    assert ready.closeness("Monet", "Monet") == 1.0
    there, back = ready.closeness("Monet", "Van_Gogh"), ready.closeness("Van_Gogh", "Monet")
    assert there == pytest.approx(back)
    assert -1 <= there < 1


@pytest.mark.huge
@pytest.mark.world_run
def test_the_whole_way_on_a_miniature_release(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pocket model stands in for Stable Diffusion, a smaller ViT for the judges, mean colours for Inception."""
    backbone = longer_text.copy(Path(WORLDS.get("pocket").backbone()), tmp_path / "pipeline")
    monkeypatch.setattr(recognition, "ENOUGH", math.inf)  # the judges know nothing
    monkeypatch.setattr(judges, "load", functools.partial(judges.load, options=easel.SMALL))
    monkeypatch.setattr(room.Canvas, "feature_extractor", lambda self: tiny.feature_extractor())
    command = ["--world", "canvas", "--data", str(data), "--backbone", str(backbone)]
    command += ["--methods", "mimmu", "--suite", "style", "--quick", "--clip", "none", "--workers", "1"]
    command += ["--out", str(tmp_path), "--set", "protocol.images_per_concept=2", "protocol.num_inference_steps=2"]
    command += ["protocol.reference_per_concept=2", "protocol.forget_images=4", "protocol.retain_images=1"]
    command += ["mimmu.epochs=1"]
    assert main.main(command) == 0
    (file,) = tmp_path.glob("style-canvas-*-quick.csv")
    board = pd.read_csv(file).set_index("method")
    assert board["status"].tolist() == ["ok"] * 3
    # two images of each; those of an object are in the first two styles, and one task forgets the first
    assert board.loc["pretrained", ["nra_n", "uc_ira_n"]].tolist() == [2 * 2 * 49, 2 * 2 * 50]
    assert board.loc["pretrained", ["ora_n", "uc_cra_n"]].tolist() == [20 + 2 * 20, 2 * 2 * 20]
    chosen = json.loads(file.with_suffix(".json").read_text())
    assert chosen["chosen"] == {"CLIP": "none"}
    page = file.with_suffix(".html").read_text()
    assert "reported by papers, not measured here" in page
    assert "EDiff" in page
    assert str(data.parent) not in page
