import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from bench.backbones import folder as folders
from bench.backbones import pipeline
from bench.backbones.sampler import ImageSpec, sample
from bench.commands import export, main
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World
from bench.worlds.pocket.world import POCKET

TINY = ("--world", "tiny", "--suite", "smoke", "--metrics", "ua")


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board")
    assert main.main([*TINY, "--methods", "mimmu", "--out", str(out)]) == 0
    return out


def test_exported_model_has_weights_of_cell(
    finished: Path, world: World, tmp_path: Path, pipeline_folder: Path
) -> None:
    to, task = tmp_path / "without" / "it", world.concepts[0]
    arguments = ["export", f"mimmu/{task}", "--to", str(to), *TINY, "--methods", "pretrained"]
    assert main.main([*arguments, "--out", str(finished)]) == 0  # the method need not be named twice
    assert [path.name for path in to.parent.iterdir()] == ["it"]
    (delta,) = [
        entry for path in (finished / ".store" / "deltas").glob("*/record.json")
        if (entry := json.loads(path.read_text()))["key"]["method"] == "mimmu"
    ]  # fmt: skip
    told = json.loads((to / export.NOTE).read_text())
    assert (told["method"], told["task"], told["seed"]) == ("mimmu", task, 0)
    assert told["config"] == delta["key"]["config"]

    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", out=finished))
    artifacts = export.Artifacts(export.Context(plan))
    weights = artifacts.store.get("deltas", artifacts.weights.key(export.find(plan, f"mimmu/{task}/0")))
    assert weights is not None
    before, after = (pipeline.load(f, torch.device("cpu"), "fp32") for f in (pipeline_folder, to))
    specs = [ImageSpec(f"a photo of a {task}", i) for i in range(2)]
    with before.weights(weights.tensors()):
        expected = sample(before, specs, plan.protocol, 0, 2)
    assert torch.equal(sample(after, specs, plan.protocol, 0, 2), expected)
    assert not torch.equal(sample(before, specs, plan.protocol, 0, 2), expected)
    assert (before.embed(["a dog"]) == after.embed(["a dog"])).all()


def test_half_precision_backbone_is_exported_in_fp32(tmp_path: Path) -> None:
    folder = Path(POCKET.backbone())
    stock = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    name, old = next((n, t) for n, t in stock.unet.state_dict().items() if ".attn2." in n)
    new = old + 1e-7  # far below what fp16 can tell apart
    export.write(folder, {name: new}, {}, tmp_path / "made")
    made = StableDiffusionPipeline.from_pretrained(tmp_path / "made")
    assert torch.equal(made.unet.state_dict()[name], new)
    for part in folders.NETWORKS:
        expected, found = (getattr(p, part).state_dict() for p in (stock, made))
        assert all(t.dtype == torch.float32 for t in found.values() if t.is_floating_point())
        assert all(torch.equal(expected[n], t) for n, t in found.items() if (part, n) != ("unet", name))
    assert made.tokenizer("a red rose").input_ids == stock.tokenizer("a red rose").input_ids
    assert sorted(p.name for p in (tmp_path / "made" / "tokenizer").iterdir()) == sorted(
        p.name for p in (folder / "tokenizer").iterdir()
    )
    with pytest.raises(ValueError, match="no tensor 'nowhere'"):
        export.write(folder, {"nowhere": new}, {}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_changed_text_encoder_is_exported(model: pipeline.Backbone, pipeline_folder: Path, tmp_path: Path) -> None:
    state = model.pipeline.text_encoder.state_dict()
    name = next(n for n in state if n.endswith("token_embedding.weight"))
    delta = {"conv_out.bias": model.unet.conv_out.bias + 1, f"text_encoder.{name}": state[name].flip(0)}
    export.write(pipeline_folder, delta, {}, tmp_path / "made")
    made = pipeline.read(tmp_path / "made")
    assert torch.equal(made.unet.conv_out.bias, delta["conv_out.bias"])
    assert torch.equal(made.text_encoder.state_dict()[name], delta[f"text_encoder.{name}"])
    with pytest.raises(ValueError, match="text encoder has no tensor 'nowhere'"):
        export.write(pipeline_folder, {"text_encoder.nowhere": state[name]}, {}, tmp_path / "other")


def test_export_leaves_out_safety_checker_and_notes_it(pipeline_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "base"))
    index = json.loads((folder / folders.INDEX).read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / folders.INDEX).write_text(json.dumps(index))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "model.safetensors").write_bytes(b"large")
    (folder / "v1-5-pruned.ckpt").write_bytes(b"large")
    export.write(folder, {}, {"method": "mimmu"}, tmp_path / "made")
    parts = {folders.INDEX, export.NOTE, *folders.NETWORKS, *folders.OTHERS}
    assert {path.name for path in (tmp_path / "made").iterdir()} == parts
    assert json.loads((tmp_path / "made" / export.NOTE).read_text())["safety_checker"].startswith("off")
    made = StableDiffusionPipeline.from_pretrained(tmp_path / "made")
    assert made.safety_checker is None
    assert made.feature_extractor is None


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("mimmu/red rose", ("mimmu", "red rose", None)),
        ("a/b/3", ("a", "b", 3)),
        ("a/b/c", ("a", "b/c", None)),
        ("mimmu/AC/DC", ("mimmu", "AC/DC", None)),
        ("mimmu/AC/DC/2", ("mimmu", "AC/DC", 2)),
        ("mimmu/AC/3", ("mimmu", "AC/3", None)),  # a task is called so
        ("mimmu/AC/3/4", ("mimmu", "AC/3", 4)),
        ("mine file=a/b/AC/DC/1", ("mine file=a/b", "AC/DC", 1)),
    ],
)
def test_parse_of_cell_names(world: World, cell: str, parts: tuple[str, str, int | None]) -> None:
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny"))
    tasks = tuple(dataclasses.replace(plan.tasks[0], name=name) for name in ("AC", "AC/3", "AC/DC"))
    methods = {"mimmu": plan.methods["mimmu"], "mine file=a/b": plan.methods["mimmu"]}
    assert export.parse(dataclasses.replace(plan, tasks=tasks, methods=methods), cell) == parts


@pytest.mark.parametrize("cell", ["mimmu", "/a", "mimmu/", ""])
def test_cell_without_method_or_task_is_refused(world: World, cell: str) -> None:
    with pytest.raises(ValueError, match="takes METHOD/TASK"):
        export.parse(resolve(RunConfig(("mimmu",), "smoke", "tiny")), cell)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("mimmu", "takes METHOD/TASK"),
        ("mimum/golden retriever", "did you mean 'mimmu'"),
        ("mimmu/golden retreiver", "did you mean 'golden retriever'"),
        ("mimmu/golden retriever/7", "--suite smoke --world tiny --seeds 7, --metrics ua"),
        (
            "salun/golden retriever",
            "this command computes it:   python run_bench.py --methods salun --suite smoke --world tiny",
        ),
    ],
)
def test_missing_cell_is_refused_with_reason(
    finished: Path, cell: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "made"
    assert main.main(["export", cell, "--to", str(to), *TINY, "--methods", "mimmu", "--out", str(finished)]) == 2
    assert message in capsys.readouterr().out.replace("\n", " ")
    assert not to.exists()


def test_cell_name_without_seed_is_ambiguous_with_several_seeds(world: World) -> None:
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", seeds=(3, 4)))
    assert export.find(plan, f"mimmu/{world.concepts[0]}/4").seed == 4
    with pytest.raises(ValueError, match=f"name one, mimmu/{world.concepts[0]}/3"):
        export.find(plan, f"mimmu/{world.concepts[0]}")


def test_export_does_not_overwrite(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    arguments = ["export", "mimmu/golden retriever", *TINY, "--out", str(finished)]
    assert main.main([*arguments, "--to", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(SystemExit):
        main.main(arguments)


@pytest.mark.huge
def test_export_of_variant_of_sweep(world: World, tmp_path: Path) -> None:
    swept = ["--methods", "mimmu", "--sweep", "mimmu.t_max=400,950"]
    words = [*TINY, *swept, "--workers", "1", "--out", str(tmp_path / "board")]
    assert main.main(words) == 0
    name = f"mimmu t_max=400/{world.concepts[0]}"
    assert main.main(["export", name, "--to", str(tmp_path / "to"), *words]) == 0
    told = json.loads((tmp_path / "to" / export.NOTE).read_text())
    assert (told["method"], told["config"]["t_max"]) == ("mimmu t_max=400", 400)
