"""What a path leads to is recognised by its content: loaded, or refused with what it is and what to do."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from support import ldm
from support.damaged_tensors import Tensors

from bench.backbones import cached_folder, pipeline
from bench.backbones import locate as locating
from bench.backbones.locate import locate

UNET = "model.diffusion_model."
TEXT = "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def single(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """The tensors of the tiny pipeline as one file."""
    file = tmp_path_factory.mktemp("file") / "one.safetensors"
    return load_file(ldm.write(StableDiffusionPipeline.from_pretrained(pipeline_folder), file))


@pytest.fixture(scope="module")
def unet(pipeline_folder: Path) -> Tensors:
    return load_file(pipeline_folder / "unet" / "diffusion_pytorch_model.safetensors")


@pytest.fixture
def copy(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cached_folder.VARIABLE, str(tmp_path / "cache"))
    locating._told.clear()


def change(folder: Path, file: str, **values: object) -> None:
    read = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**read, **values}))


def flat(name: str) -> str:
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def first(tensors: Tensors) -> Tensors:
    """EMA weights of the U-Net in `tensors`: all ones."""
    return {flat(name): torch.ones_like(tensor) for name, tensor in tensors.items() if name.startswith(UNET)}


NETWORK_NAMES: Mapping[str, Mapping[str, Any]] = {
    "a LoRA": {"lora_unet_down_blocks_0.lora_down.weight": 4, "unet.x.lora_A.weight": 1, "text.lora.up.weight": 2},
    "an adapter (LyCORIS)": {"lycoris.hada_w1_a": 4, "lycoris.lokr_w1": 2},
    "an IP-Adapter": {"ip_adapter.1.to_k_ip.weight": 3, "image_proj.proj.weight": 3},
    "a ControlNet": {"controlnet_cond_embedding.conv_in.weight": 3, "control_model.input_hint_block.0.weight": 3},
    "a motion module": {"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": 3},
    "a textual inversion": {"emb_params": 768, "string_to_param": 3},
    "Stable Diffusion XL": {"conditioner.embedders.0.x": 1},
    "Stable Diffusion 3, Flux": {"model.diffusion_model.joint_blocks.0.x": 1, "double_blocks.0.img_attn.x": 2},
    "tensors of a U-Net in diffusers' names": {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": 3},
    "tensors of networks in diffusers' names": {"unet.down_blocks.0.attn2.to_k.weight": 2},
    "one network of a diffusers folder": {"conv_in.weight": 2},
    "a U-Net alone": {"time_embed.0.weight": 1, "input_blocks.0.0.weight": 2},
    "EMA weights of a U-Net alone": {"model_ema.diffusion_modelinput_blocks00weight": 1},
    "a VAE alone": {"encoder.down.0.block.0.norm1.weight": 1, "first_stage_model.decoder.conv_in.weight": 2},
    "a text or picture encoder alone": {"text_model.embeddings.token_embedding.weight": 2, "visual.conv1.weight": 3},
    "Stable Diffusion 3 or another model": {"something.weight": 1},
}


@pytest.mark.parametrize("kind", NETWORK_NAMES)
@pytest.mark.parametrize("end", ["safetensors", "SafeTensors", "ckpt", "pt", "bin", ""])
def test_a_file_that_is_no_model_is_named(kind: str, end: str, tmp_path: Path) -> None:
    for i, (name, size) in enumerate(NETWORK_NAMES[kind].items()):
        file = tmp_path / f"file{i}.{end}".removesuffix(".")
        tensors = {name: torch.zeros(size)}
        save_file(tensors, file) if "safe" in end.lower() or not end else torch.save(tensors, file)
        with pytest.raises(ValueError, match=f"{file.name} is not .*but {re.escape(kind)}.*; .*(give|methods work)"):
            locate(str(file))


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + b"0" * 50, b"\x80\x02}q", b"hello", b"<html>", b"{}"])
@pytest.mark.parametrize("name", ["x.CKPT", "x.safetensors", "x.pt", "x"])
def test_a_file_without_tensors_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(name)} (is|holds)"):
        locate(str(tmp_path / name))


def test_whole_models_are_recognised_whatever_their_names(
    pipeline_folder: Path, single: Tensors, tmp_path: Path
) -> None:
    for name in ("esd.pt", "model.safetensors", "my.ckpt", "pipeline.bin"):
        folder = shutil.copytree(pipeline_folder, tmp_path / name)
        assert locate(str(folder)) == folder
    made = set()
    for name in ("one.SAFETENSORS", "one.bin", "one.ckpt", "one"):
        save_file(single, tmp_path / f"file-{name}")
        made.add(locate(str(tmp_path / f"file-{name}"), str(pipeline_folder)))
    (converted,) = made
    torch.save({"state_dict": single, "global_step": 7}, tmp_path / "lightning.CKPT")
    pickled = locate(str(tmp_path / "lightning.CKPT"), str(pipeline_folder))
    for file in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (folder / f"{file}.safetensors" for folder in (pickled, converted))
        assert one.read_bytes() == other.read_bytes()


def test_a_pickle_of_other_objects_is_never_loaded(single: Tensors, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    for old in (False, True):
        torch.save({**single, "trap": Trap()}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not old)
        with pytest.raises(ValueError, match=r"may run any code.*take the model's \.safetensors file"):
            locate(str(tmp_path / "x.ckpt"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda n: not n.startswith("cond_stage"), r"no text encoder \(cond_stage_model\..*missing"),
        (lambda n: not n.startswith("first_stage"), r"no VAE \(first_stage_model\.decoder.*missing"),
        (lambda n: n.startswith(UNET), "no VAE .*and no text encoder"),
        (lambda n: "layers.1.mlp.fc1.weight" not in n, r"1 tensor is missing \(encoder\.layers\.1\.mlp\.fc1\.weight\)"),
        (lambda n: "input_blocks.3.1.transformer_blocks.0.attn2.to_k" not in n, r"1 tensor is missing \(down_blocks"),
        (lambda n: "output_blocks.1.2.conv.bias" not in n, r"missing \(up_blocks|lacks the tensor output_blocks"),
    ],
)
def test_a_single_file_with_a_part_missing_is_refused(
    pipeline_folder: Path, single: Tensors, edit: Callable[[str], bool], message: str, tmp_path: Path
) -> None:
    kept = {name: tensor for name, tensor in single.items() if edit(name)}
    assert len(kept) < len(single)
    save_file(kept, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=message):
        locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("lora_unet_x.lora_down.weight", "adapters"),
        ("bundle_emb.word.string_to_param.*", r"unused \(bundle_emb"),
        ("control_model.input_blocks.0.0.weight", r"unused \(control_model"),
        (f"{UNET}label_emb.weight", r"unused .*label_emb"),
        ("model_ema2.x", r"unused \(model_ema2"),
        ("vae.encoder.conv_in.weight", "VAE"),
        ("cond_stage_model.model.ln_final.weight", "unused"),
        (f"{UNET}time_embed.cond_proj.weight", "distilled with guidance"),
        ("v_pred", "predicts 'v_prediction'"),
        ("ztsnr", "rescale_betas_zero_snr"),
    ],
)
def test_tensors_beside_a_single_files_model_are_refused(
    pipeline_folder: Path, single: Tensors, extra: str, message: str, tmp_path: Path
) -> None:
    save_file({**single, extra: torch.zeros(4)}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=message):
        locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modelspec.prediction_type", "v", "predicts 'v'"),
        ("modelspec.prediction_type", "epsilon", None),
        ("modelspec.architecture", "stable-diffusion-v2-768-v", "predicts 'v_prediction'"),
        ("modelspec.architecture", "stable-diffusion-v1", None),
        ("ss_v_parameterization", "True", "predicts 'v_prediction'"),
        ("ss_zero_terminal_snr", "True", "rescale_betas_zero_snr"),
        ("ss_zero_terminal_snr", "False", None),
    ],
)
def test_the_metadata_of_a_file_are_obeyed(
    pipeline_folder: Path, single: Tensors, key: str, value: str, message: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "one.safetensors"
    save_file(single, file, {key: value})
    if message is None:
        assert locate(str(file), str(pipeline_folder)).is_dir()
    else:
        with pytest.raises(ValueError, match=message):
            locate(str(file), str(pipeline_folder))


def test_a_noise_schedule_in_a_file_must_be_that_of_the_settings(
    pipeline_folder: Path, single: Tensors, tmp_path: Path
) -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    file = tmp_path / "one.safetensors"
    for alphas, same in ((torch.cumprod(1 - betas, 0), True), (torch.cumprod(1 - betas / 2, 0), False)):
        save_file({**single, "betas": betas, "alphas_cumprod": alphas.half()}, file)
        if same:
            assert locate(str(file), str(pipeline_folder)).is_dir()
        else:
            with pytest.raises(ValueError, match="another noise schedule"):
                locate(str(file), str(pipeline_folder))


def test_files_of_one_group_leave_out_a_prefix(pipeline_folder: Path, single: Tensors, tmp_path: Path) -> None:
    save_file(single, tmp_path / "one.safetensors")
    short = {name.replace(f"{TEXT}text_model.", TEXT): tensor for name, tensor in single.items()}
    save_file(short, tmp_path / "nai.safetensors")
    a, b = (locate(str(tmp_path / f"{n}.safetensors"), str(pipeline_folder)) for n in ("one", "nai"))
    assert (a / "text_encoder" / "model.safetensors").read_bytes() == (
        b / "text_encoder" / "model.safetensors"
    ).read_bytes()


def test_ema_weights_of_a_single_file_are_chosen_by_a_flag(
    pipeline_folder: Path, single: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, settings = tmp_path / "one.safetensors", str(pipeline_folder)
    save_file({**single, **first(single), "model_ema.decay": torch.ones(1)}, file)
    with caplog.at_level(logging.WARNING):
        usual = locate(str(file), settings)
    assert "the ordinary weights of the U-Net are used; it also has others: --backbone-weights ema" in caplog.text
    caplog.clear()
    assert locate(str(file), settings, "non_ema") == usual
    chosen = pipeline.read(locate(str(file), settings, "ema")).unet.state_dict()
    assert all(torch.equal(tensor, torch.ones_like(tensor)) for tensor in chosen.values())
    assert not caplog.text
    ordinary = pipeline.read(usual).unet.conv_in.weight
    assert torch.equal(ordinary, single[f"{UNET}input_blocks.0.0.weight"].float())
    save_file(single, file)
    with pytest.raises(ValueError, match="has only one set of weights"):
        locate(str(file), settings, "ema")
    save_file({**single, **dict([*first(single).items()][:-1])}, file)
    with pytest.raises(ValueError, match="lacks 1 of its EMA weights"):
        locate(str(file), settings, "ema")
    with pytest.raises(ValueError, match="must be one of ema, non_ema"):
        locate(str(file), settings, "EMA")


@pytest.mark.parametrize(
    ("place", "choice"),
    [
        ("unet_ema/diffusion_pytorch_model.safetensors", "ema"),
        ("unet/diffusion_pytorch_model.ema.safetensors", "ema"),
        ("unet/diffusion_pytorch_model.non_ema.safetensors", "non_ema"),
        ("unet/diffusion_pytorch_model.non_ema.bin", "non_ema"),
    ],
)
def test_other_weights_of_a_folder_are_chosen_by_a_flag(
    copy: Path, unet: Tensors, place: str, choice: str, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / place).parent.mkdir(exist_ok=True)
    ones = {name: torch.ones_like(tensor) for name, tensor in unet.items()}
    torch.save(ones, copy / place) if place.endswith(".bin") else save_file(ones, copy / place)
    assert locate(str(copy)) == copy
    assert f"--backbone-weights {choice}" in caplog.text
    made = locate(str(copy), choice=choice)
    assert torch.equal(pipeline.read(made).unet.conv_in.weight, torch.ones_like(unet["conv_in.weight"]))
    with pytest.raises(ValueError, match=f"has no such weights of the U-Net; it has {choice}$"):
        locate(str(copy), choice="ema" if choice == "non_ema" else "non_ema")


def test_a_folder_with_weights_in_half_precision_alone_is_loaded(copy: Path) -> None:
    expected = locate(str(copy))
    for file in (*copy.glob("*/diffusion_pytorch_model.safetensors"), copy / "text_encoder" / "model.safetensors"):
        tensors = {name: tensor.half() for name, tensor in load_file(file).items()}
        save_file(tensors, file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")), {"format": "pt"})
        if "text_encoder" not in file.parts:
            file.unlink()
    made = locate(str(copy))
    assert made.parent == cached_folder.cache()
    assert locate(str(copy)) == made
    found = pipeline.read(made)
    assert found.unet.conv_in.weight.dtype == torch.float32
    assert {path.name for path in (made / "unet").iterdir()} == {p.name for p in (expected / "unet").iterdir()} - {
        "diffusion_pytorch_model.fp16.safetensors"
    } | {"diffusion_pytorch_model.safetensors"}


@pytest.mark.parametrize(
    "name",
    ["pytorch_lora_weights.safetensors", "text_encoder/adapter_config.json", "unet/adapter_model.bin",
     "learned_embeds.safetensors"],
)  # fmt: skip
def test_adapters_beside_a_pipeline_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=f"contains the adapter {re.escape(name)} beside the model.*merge"):
        locate(str(copy))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("adapter_config.json",), "is a LoRA"),
        (("pytorch_lora_weights.safetensors",), "is a LoRA"),
        (("learned_embeds.safetensors",), "is a textual inversion"),
        (("config.json", "diffusion_pytorch_model.safetensors"), "is one part of a pipeline"),
        (("unet/config.json", "optimizer.bin"), "no model_index.json, as the checkpoints of a training"),
        (("snapshots/abc/model_index.json",), "hub's cache; give .*abc"),
        (("sd15/model_index.json",), "in the folder below; give .*sd15"),
        (("dreamy.safetensors", "README.md"), r"contains the file dreamy\.safetensors; if this is the model"),
        ((), "give the folder of the whole model"),
    ],
)
def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    for name in names:
        (tmp_path / "it" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "it" / name).write_text("{}")
    (tmp_path / "it").mkdir(exist_ok=True)
    with pytest.raises(FileNotFoundError, match=f"no diffusers pipeline .*{message}"):
        locate(str(tmp_path / "it"))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("unet", {"sample_size": None}, "sample_size is None; write the side"),
        ("unet", {"sample_size": 0}, "sample_size is 0"),
        ("unet", {"sample_size": True}, "sample_size is True"),
        ("unet", {"sample_size": "16"}, "sample_size is '16'"),
        ("unet", {"sample_size": [16]}, r"sample_size is \[16\]"),
        ("unet", {"sample_size": [16, 16.5]}, "sample_size is"),
        ("unet", {"time_cond_proj_dim": 16}, "an embedding of the guidance scale"),
        ("unet", {"class_embed_type": "timestep"}, "also takes classes"),
        ("unet", {"num_class_embeds": 10}, "also takes classes"),
        ("unet", {"addition_embed_type": "text_time"}, "as Stable Diffusion XL does"),
        ("unet", {"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 32}, "in place of a prompt"),
        ("unet", {"cross_attention_dim": 768}, "gives 32 numbers .* U-Net takes 768"),
        ("unet", {"block_out_channels": [16]}, "describes no U-Net"),
        ("vae", {"latent_channels": 16}, "16 latent channels"),
        ("vae", {"scaling_factor": None}, "scaling_factor is None"),
        ("vae", {"scaling_factor": 0}, "scaling_factor is 0"),
        ("vae", {"scaling_factor": float("inf")}, "scaling_factor is inf"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
        ("text_encoder", {"hidden_size": 64}, "gives 64 numbers"),
        ("text_encoder", {"max_position_embeddings": 10}, "up to 20 tokens .* takes 10"),
    ],
)
def test_settings_that_do_not_work_are_refused(copy: Path, file: str, values: dict[str, Any], message: str) -> None:
    change(copy, f"{file}/config.json", **values)
    with pytest.raises(ValueError, match=message):
        locate(str(copy))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
@pytest.mark.parametrize("entry", [None, [None, None], ["mine", "Another"]])
def test_parts_of_another_class_are_refused(copy: Path, part: str, entry: object) -> None:
    change(copy, "model_index.json", **{part: entry})
    with pytest.raises(ValueError, match=f"its {part} is (missing|Another); it must be a"):
        locate(str(copy))


def test_the_side_of_latents_may_be_a_list(copy: Path) -> None:
    change(copy, "unet/config.json", sample_size=[16, 24])
    model = pipeline.load(locate(str(copy)), torch.device("cpu"), "fp32")
    assert model.latent_shape == (4, 16, 24)


@pytest.mark.parametrize("blocked", ["cache", "cache/lethe", "cache/lethe/backbones"])
def test_a_cache_that_is_a_file_is_named(pipeline_folder: Path, single: Tensors, tmp_path: Path, blocked: str) -> None:
    (tmp_path / blocked).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / blocked).write_text("")
    save_file(single, tmp_path / "one.safetensors")
    with pytest.raises(OSError, match=r"the folder .*cache/lethe/backbones .*can't be written .*XDG_CACHE_HOME moves"):
        locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))


def test_a_cache_that_is_too_small_stays_empty(
    pipeline_folder: Path, single: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(single, tmp_path / "one.safetensors")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"can't be written .*XDG_CACHE_HOME moves it"):
            locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(cached_folder.cache().iterdir()) == []
    assert locate(str(tmp_path / "one.safetensors"), str(pipeline_folder)).is_dir()


def test_a_damaged_folder_of_the_cache_is_found(pipeline_folder: Path, single: Tensors, tmp_path: Path) -> None:
    save_file(single, tmp_path / "one.safetensors")
    made = locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))
    file = made / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"remove the folder {made}, and the file is converted again"):
        locate(str(tmp_path / "one.safetensors"), str(pipeline_folder))
