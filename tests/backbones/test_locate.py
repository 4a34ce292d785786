"""From `--backbone` to a folder, or to a reason and a way out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import hub_server, ldm

from bench.backbones import cached_folder, pipeline
from bench.backbones import folder as folders
from bench.backbones.checks import file_kind
from bench.backbones.locate import NAMES, locate
from bench.core.digest import of_folder
from bench.worlds.pocket.world import POCKET

CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
BESIDE = {"first_stage_model.x": (1,), "cond_stage_model.x": (1,)}  # that a file has more than a U-Net


@pytest.fixture
def copy(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def file(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as its authors would publish it, in half precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    return ldm.write(pipeline, tmp_path_factory.mktemp("file") / "dreamy_v2.1.safetensors")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def change(folder: Path, file: str, **values: object) -> None:
    read = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**read, **values}))


def test_locate_returns_a_local_folder(pipeline_folder: Path) -> None:
    assert locate(str(pipeline_folder)) == pipeline_folder
    assert folders.picture_size(pipeline_folder) == (64, 64)


def test_digest_covers_exactly_the_loaded_files(copy: Path) -> None:
    before = folders.content(copy)
    assert before == of_folder(copy)
    (copy / "safety_checker").mkdir()
    for extra in (
        "safety_checker/model.safetensors", "README.md", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
        "text_encoder/pytorch_model.bin", "tokenizer/.cached",
    ):  # fmt: skip
        (copy / extra).write_bytes(b"anything")
    assert folders.content(copy) == before
    for part in ("unet/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer_config.json"):
        kept = (copy / part).read_bytes()
        (copy / part).write_bytes(kept + b" ")
        assert folders.content(copy) != before
        (copy / part).write_bytes(kept)
    assert folders.content(copy) == before


def test_digest_of_the_pocket_model_covers_all_files() -> None:
    folder = Path(POCKET.backbone())
    assert folders.content(folder) == of_folder(folder)


def test_model_without_safety_checker_files_loads(copy: Path) -> None:
    change(
        copy, "model_index.json", requires_safety_checker=True,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )  # fmt: skip
    model = pipeline.load(locate(str(copy)), torch.device("cpu"), "fp32")
    assert model.pipeline.safety_checker is None
    assert model.embed(["a dog"]).shape == (1, 20, 32)


def test_weights_in_parts_and_pickles_are_found(copy: Path) -> None:
    whole = copy / "unet" / "diffusion_pytorch_model.safetensors"
    whole.rename(copy / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    index = copy / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(
        json.dumps(
            {"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00001.safetensors"}}
        )
    )
    names = {path.name for path in folders.files(copy)}
    assert names >= {index.name, "diffusion_pytorch_model-00001-of-00001.safetensors"}
    (copy / "text_encoder" / "model.safetensors").rename(copy / "text_encoder" / "pytorch_model.bin")
    assert copy / "text_encoder" / "pytorch_model.bin" in folders.files(copy)


def test_error_names_the_missing_part_of_a_folder(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.other.safetensors"))
    with pytest.raises(FileNotFoundError, match=r"unet has no weights .*only .*other"):
        locate(str(copy))
    shutil.rmtree(copy / "tokenizer")
    weights.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="tokenizer is missing"):
        locate(str(copy))
    (copy / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        locate(str(copy))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "is a StableDiffusionXLPipeline; methods"),
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "is a StableDiffusion3Pipeline; methods"),
        ("unet/config.json", {"in_channels": 9}, "takes 9 channels and predicts 4, for in-painting"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "predicts 'v_prediction'.*sd21-base"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": None}, "model_max_length is None; .* takes, 20"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 2}, "model_max_length is 2"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 77}, "gives up to 77 tokens .* takes 20"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_the_reason(
    copy: Path, part: str, values: dict[str, object], message: str
) -> None:
    change(copy, part, **values)
    with pytest.raises(ValueError, match=message):
        locate(str(copy))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("./nowhere", "no diffusers pipeline"),
        ("sd1.5", "did you mean 'sd15'"),
        ("model.ckpt", "no such file"),
        ("nowhere.safetensors", "no such file"),
    ],
)
def test_invalid_sources_raise_with_an_explanation(source: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        locate(source)


def test_settings_are_for_single_files(pipeline_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"is for a single \.safetensors file"):
        locate(str(pipeline_folder), "sd15")


def test_a_single_file_becomes_a_folder_once(file: Path, pipeline_folder: Path) -> None:
    made = locate(str(file), str(pipeline_folder))
    assert made.parent == cached_folder.cache()
    expected, found = (StableDiffusionPipeline.from_pretrained(f) for f in (pipeline_folder, made))
    for part in folders.NETWORKS:
        old, new = (getattr(p, part).state_dict() for p in (expected, found))
        assert old.keys() == new.keys()
        assert all(torch.equal(old[name].half().float(), tensor) for name, tensor in new.items()), part
    assert found.tokenizer("a red rose").input_ids == expected.tokenizer("a red rose").input_ids
    assert found.scheduler.config.prediction_type == "epsilon"

    stamps = {p: p.stat().st_mtime_ns for p in made.rglob("*")}
    assert locate(str(file), str(pipeline_folder)) == made
    assert {p: p.stat().st_mtime_ns for p in made.rglob("*")} == stamps
    assert list(made.parent.iterdir()) == [made]


def test_a_single_file_that_does_not_fit_is_refused(file: Path, copy: Path, tmp_path: Path) -> None:
    change(copy, "unet/config.json", layers_per_block=2)
    with pytest.raises(
        ValueError,
        match=r"does not hold the tensors of the U-Net that .*copy describes: \d+ tensors are missing \(down_blocks\.0",
    ):
        locate(str(file), str(copy))
    assert not cached_folder.cache().exists()
    with pytest.raises(ValueError, match="no settings are known for a model with prompts of width 32"):
        locate(str(file))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        locate(str(broken))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({file_kind.FIRST: (320, 9, 3, 3)}, "takes 9 channels"),
        ({file_kind.FIRST: (320, 4, 3, 3), "conditioner.embedders.0.x": (1,)}, "but Stable Diffusion XL"),
        ({file_kind.FIRST: (320, 4, 3, 3), CROSS: (320, 1024), **BESIDE}, "--backbone-config sd21-base"),
        ({"lora_unet_down.weight": (4, 4)}, "a LoRA"),
        ({"conv_in.weight": (320, 4, 3, 3)}, "one network of a diffusers folder"),
    ],
)
def test_error_names_the_kind_of_a_single_file(
    shapes: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=message):
        locate(str(tmp_path / "m.safetensors"))


def test_offline_error_names_the_download_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE keeps the hub out of reach") as caught:
        locate("sd15")
    assert f"hf download {NAMES['sd15']} model_index.json unet/config.json" in str(caught.value)
    assert "unet/diffusion_pytorch_model.safetensors" in str(caught.value)
    from safetensors.torch import save_file

    shapes = {file_kind.FIRST: (320, 4, 3, 3), CROSS: (320, 768), **BESIDE}
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "m.safetensors")
    with pytest.raises(FileNotFoundError, match=r"(?s)come from the hub.*--backbone-config DIR"):
        locate(str(tmp_path / "m.safetensors"))


ASK = """
import json, sys
from huggingface_hub import constants
from bench.backbones.locate import NAMES, locate
NAMES["sd15"] = "tiny/open"
told = [{}, {}]
for answers, part in zip(told, json.loads(sys.argv[1])):
    for source, settings in part:
        try:
            answers[source] = str(locate(source, settings))
        except (ValueError, FileNotFoundError) as error:
            answers[source] = str(error)
    constants.ENDPOINT = "http://127.0.0.1:1"  # where nobody answers
print(json.dumps(told))
"""


def test_the_hubs_reasons_reach_the_user(pipeline_folder: Path, copy: Path, file: Path, tmp_path: Path) -> None:
    change(copy, "model_index.json", _class_name="StableDiffusionXLPipeline")
    licence = "Access to model tiny/gated is restricted. You must have access to it and be authenticated to access it."
    models: dict[str, Path | tuple[int, str, str]] = {
        "tiny/open": pipeline_folder,
        "tiny/xl": copy,
        "tiny/gated": (401, "GatedRepo", licence),
        "tiny/disabled": (403, "", "Access to this resource is disabled."),
    }
    wanted = [*models, "tiny/none", "runwayml/stable-diffusion-v1-5", "sd15", "not a name/x"]
    parts = [[*((source, None) for source in wanted), (str(file), "tiny/open")]]
    parts.append([("tiny/open", None), ("tiny/other", None)])
    converted = locate(str(file), str(pipeline_folder))  # the same, whoever the settings come from
    with hub_server.serving(models) as (endpoint, asked):
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        arguments = [sys.executable, "-c", ASK, json.dumps(parts)]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    told, nobody = json.loads(done.stdout.splitlines()[-1])
    assert folders.content(Path(told["tiny/open"])) == folders.content(pipeline_folder)
    assert told["sd15"] == told["tiny/open"]
    assert told[str(file)] == str(converted)
    assert "is a StableDiffusionXLPipeline" in told["tiny/xl"]
    assert not any("tiny/xl/resolve" in path and path.endswith(".safetensors") for path in asked)
    assert licence in told["tiny/gated"]
    assert f"Accept it at {endpoint}/tiny/gated, then `hf auth login`" in told["tiny/gated"]
    assert "disabled it (Access to this resource is disabled." in told["tiny/disabled"]
    assert "no such model, or it is private (Invalid username or password.)" in told["tiny/none"]
    assert "withdrew it" in told["runwayml/stable-diffusion-v1-5"]
    assert "--backbone sd15" in told["runwayml/stable-diffusion-v1-5"]
    assert "not a valid name of a model on the hub" in told["not a name/x"]
    assert nobody["tiny/open"] == told["tiny/open"], "what is kept here needs no hub"
    assert "the hub can't be reached" in nobody["tiny/other"]
    assert "hf download tiny/other" in nobody["tiny/other"]
