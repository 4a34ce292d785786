"""Finished models in every published layout: each is written as its tool writes it, and read as the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors.torch import load_file, save_file
from support.given_layouts import LAYOUTS, Tensors, written

from bench.backbones import pipeline
from bench.backbones.given import compvis, contents, lora
from bench.backbones.given import model as given
from bench.backbones.given.model import GivenModel
from bench.worlds.pocket.weights import WEIGHTS

LAYERS = {
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": "unet",
    "mid_block.attentions.0.proj_in": "unet",
}


@pytest.fixture
def unlearned(model: pipeline.Backbone) -> Tensors:
    """The cross-attention keys and values of the tiny U-Net, changed."""
    torch.manual_seed(3)
    state = model.unet.state_dict()
    return {
        n: t + torch.randn_like(t) for n, t in state.items() if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }


@pytest.fixture
def whole(model: pipeline.Backbone, unlearned: Tensors) -> Tensors:
    """The whole state of the tiny U-Net with the change."""
    return {**{n: t.clone() for n, t in model.unet.state_dict().items()}, **unlearned}


def read(path: Path, folder: Path, backbone: pipeline.Backbone) -> GivenModel:
    given.check(path, folder)
    return given.read(path, folder, backbone)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_changes(
    layout: str, unlearned: Tensors, whole: Tensors, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    found = read(LAYOUTS[layout](unlearned, whole, tmp_path), pipeline_folder, model)
    assert found.tensors.keys() == unlearned.keys()
    exact = "bfloat16" not in layout
    for name, tensor in unlearned.items():
        assert torch.equal(found.tensors[name], tensor if exact else tensor.bfloat16().float())
    state = model.unet.state_dict()
    change = sum(float((t - state[n]).square().sum()) for n, t in unlearned.items()) ** 0.5
    norm = change / sum(float(t.square().sum()) for t in state.values()) ** 0.5
    about = found.differences["unet"]
    assert (about.changed, about.total) == (len(unlearned), len(state))
    assert about.norm == pytest.approx(norm, rel=1e-5 if exact else 1e-2)
    assert not found.warnings


def test_folders_of_diffusers_are_read_whole(
    whole: Tensors, unlearned: Tensors, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    pipe = pipeline.read(pipeline_folder)
    pipe.unet.load_state_dict(whole)
    pipe.unet.save_pretrained(tmp_path / "network")
    pipe.save_pretrained(tmp_path / "pipeline")
    for folder in (tmp_path / "network", tmp_path / "pipeline"):
        assert read(folder, pipeline_folder, model).tensors.keys() == unlearned.keys()
    (tmp_path / "network" / "diffusion_pytorch_model.safetensors").unlink()
    written(unlearned, tmp_path / "network" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="missing"):
        read(tmp_path / "network", pipeline_folder, model)
    (tmp_path / "pipeline" / "unet" / "config.json").unlink()  # its text encoder alone would be another model
    with pytest.raises(FileNotFoundError, match=r"unet.config\.json is missing"):
        read(tmp_path / "pipeline", pipeline_folder, model)


@pytest.mark.parametrize("form", ["folder", "tensors", "adversarial training"])
def test_a_text_encoder_is_a_model(form: str, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone) -> None:
    encoder = pipeline.read(pipeline_folder).text_encoder
    name = next(n for n, _ in encoder.named_parameters() if n.endswith("q_proj.weight"))
    with torch.no_grad():
        encoder.get_parameter(name).add_(1)
    path = tmp_path / "te"
    if form == "folder":
        encoder.save_pretrained(path)
    else:
        prefix = "text_encoder.text_model." if form == "adversarial training" else ""
        path = written({prefix + n: t for n, t in encoder.state_dict().items()}, tmp_path / "TextEncoder.pt")
    found = read(path, pipeline_folder, model)
    assert list(found.tensors) == [f"text_encoder.{name}"]
    assert list(found.differences) == ["text_encoder"]


def factors(network: torch.nn.Module, rank: int = 2) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(5)
    layers = {name: network.get_submodule(name).weight for name in LAYERS}
    made = {}
    for name, weight in layers.items():
        tail = weight.shape[2:]
        made[name] = (torch.randn(rank, weight.shape[1], *tail), torch.randn(weight.shape[0], rank, *tail))
    return made


@pytest.mark.parametrize("names", ["kohya", "diffusers", "peft folder"])
def test_adapters_are_added_by_their_formula(
    names: str, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    pairs, alpha, rank = factors(model.unet), 1.0, 2
    path = tmp_path / "lora.safetensors"
    if names == "kohya":
        stored = {}
        for name, (down, up) in pairs.items():
            stem = "lora_unet_" + name.replace(".", "_")
            stored |= {
                f"{stem}.lora_down.weight": down,
                f"{stem}.lora_up.weight": up,
                f"{stem}.alpha": torch.tensor(alpha),
            }
    elif names == "diffusers":
        alpha = float(rank)
        stored = {}
        for name, (down, up) in pairs.items():
            stored |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
    else:
        path = tmp_path / "adapter_model.safetensors"
        stored = {}
        for name, (down, up) in pairs.items():
            stored |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": alpha}))
    written(stored, path)
    found = read(tmp_path if names == "peft folder" else path, pipeline_folder, model)
    assert found.tensors.keys() == {f"{name}.weight" for name in pairs}
    for name, (down, up) in pairs.items():
        product = (up.flatten(1) @ down.flatten(1)).view_as(model.unet.get_submodule(name).weight)
        expected = model.unet.get_submodule(name).weight + alpha / rank * product
        assert torch.allclose(found.tensors[f"{name}.weight"], expected, atol=1e-5)


LAYER, WORD_LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k", "encoder.layers.0.self_attn.q_proj"
UP, DOWN = torch.full((16, 2), 0.1), torch.linspace(-1, 1, 64).view(2, 32)
WORD_UP = torch.full((32, 2), 0.1)
SETTINGS = {"r": 2, "lora_alpha": 2, "alpha_pattern": {"attn2.to_k": 8}}


def peft_file(
    file: Path, stem: str, ends: tuple[str, str] = ("lora_A", "lora_B"), settings: str = "", **more: object
) -> Path:
    """A file of one adapter; `settings` says where peft's are: in the file "unet.", "plain", or "beside" it."""
    tensors = {f"{stem}.{end}.weight": t.clone() for end, t in zip(ends, (DOWN, UP), strict=True)}
    own = {**SETTINGS, **more}
    inside = {"unet.": {f"unet.{key}": value for key, value in own.items()}, "plain": own}.get(settings)
    save_file(tensors, file, metadata={lora.METADATA: json.dumps(inside)} if inside else None)
    if settings == "beside":
        (file.parent / lora.SETTINGS).write_text(json.dumps(own))
    return file


def kohya_file(file: Path, stem: str, alpha: object, up: torch.Tensor = UP) -> Path:
    torch.save({f"{stem}.lora_down.weight": DOWN, f"{stem}.lora_up.weight": up, f"{stem}.alpha": alpha}, file)
    return file


ADAPTERS: dict[str, tuple[Callable[[Path], Path], float]] = {  # how a file is written -> alpha / rank
    "alpha as a number": (lambda at: kohya_file(at / "l.pt", "lora_unet_" + LAYER.replace(".", "_"), 1), 0.5),
    "alpha of one dimension": (
        lambda at: kohya_file(at / "l.pt", "lora_unet_" + LAYER.replace(".", "_"), torch.tensor([4])), 2.0
    ),
    "one layer of the text encoder": (
        lambda at: kohya_file(at / "l.pt", "lora_te_text_model_" + WORD_LAYER.replace(".", "_"), 1.0, WORD_UP), 0.5
    ),
    "diffusers with settings": (lambda at: peft_file(at / "l.safetensors", f"unet.{LAYER}", settings="unet."), 4.0),
    "diffusers' old names with settings": (
        lambda at: peft_file(at / "l.safetensors", f"unet.{LAYER}", ("lora.down", "lora.up"), "unet."), 4.0
    ),
    "a U-Net's adapter": (lambda at: peft_file(at / "l.safetensors", LAYER, settings="plain"), 4.0),
    "peft's file without its folder": (
        lambda at: peft_file(at / "adapter_model.safetensors", f"base_model.model.{LAYER}", settings="beside"), 4.0
    ),
    "another layer's pattern": (
        lambda at: peft_file(at / "l.safetensors", LAYER, settings="plain", alpha_pattern={"attn1.to_k": 8}), 1.0
    ),
    "rank-stabilised": (
        lambda at: peft_file(at / "l.safetensors", LAYER, settings="plain", use_rslora=True), 8 / 2**0.5
    ),
    "peft's names of adapters": (
        lambda at: peft_file(at / "l.safetensors", LAYER, ("lora_A.default", "lora_B.default")), 1.0
    ),
    "attention processors": (
        lambda at: written(
            {f"unet.{LAYER.replace('to_k', 'processor.to_k_lora.down')}.weight": DOWN,
             f"unet.{LAYER.replace('to_k', 'processor.to_k_lora.up')}.weight": UP}, at / "l.safetensors"
        ), 1.0
    ),
    "below unet": (
        lambda at: written({"unet": {f"{LAYER}.lora_A.weight": DOWN, f"{LAYER}.lora_B.weight": UP}}, at / "l.bin"), 1.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ADAPTERS)
def test_the_scale_of_adapters_is_read_wherever_it_stands(
    form: str, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    write, scale = ADAPTERS[form]
    found = read(write(tmp_path), pipeline_folder, model)
    text = form == "one layer of the text encoder"
    network, layer, up = (model.pipeline.text_encoder, WORD_LAYER, WORD_UP) if text else (model.unet, LAYER, UP)
    (tensor,) = found.tensors.values()
    assert list(found.tensors) == [("text_encoder." if text else "") + f"{layer}.weight"]
    assert torch.allclose(tensor, network.get_submodule(layer).weight + scale * up @ DOWN, atol=1e-6)


def test_settings_beside_adapters_are_part_of_the_key(tmp_path: Path) -> None:
    file = peft_file(tmp_path / "adapter_model.safetensors", LAYER, settings="beside")
    before = given.content(file)
    (tmp_path / lora.SETTINGS).write_text(json.dumps({**SETTINGS, "lora_alpha": 1}))
    assert given.content(file) != before


def test_a_file_that_lacks_few_tensors_has_a_warning(
    whole: Tensors, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    few = {name: tensor for name, tensor in whole.items() if not name.startswith("conv_out.")}
    (warning,) = read(written(few, tmp_path / "unet.pt"), pipeline_folder, model).warnings
    assert warning.startswith("the file lacks 2 tensors of the U-Net (conv_out.weight, conv_out.bias); the backbone's")


def test_adapters_like_those_of_spm_have_a_warning(
    tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    block, stored = "mid_block.attentions.0", {}
    for name, module in model.unet.get_submodule(block).named_modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            stem, shape = f"lora_unet_{block}.{name}".replace(".", "_"), module.weight.shape
            stored[f"{stem}.lora_down.weight"] = torch.ones(1, shape[1], *shape[2:])
            stored[f"{stem}.lora_up.weight"] = torch.ones(shape[0], 1, *shape[2:])
            stored[f"{stem}.alpha"] = torch.tensor(1.0)
    assert read(written(stored, tmp_path / "spm.safetensors"), pipeline_folder, model).warnings == (lora.SPM,)


def test_compvis_names_are_those_of_diffusers_conversion() -> None:
    """For whole models diffusers converts too: of both networks every tensor gets the same name."""
    wide = {"block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8}
    for config in (json.loads((WEIGHTS / "pipeline" / "unet" / "config.json").read_text()), wide):
        with torch.device("meta"):
            network = UNet2DConditionModel.from_config(config)
        state = {n: torch.empty(t.shape, device="meta") for n, t in network.state_dict().items()}
        names = compvis.unet_names(state, network.config.layers_per_block)
        tagged = {compvis.PREFIX + old: _Tag(new, state[new]) for old, new in names.items()}
        converted = single_file_utils.convert_ldm_unet_checkpoint(tagged, network.config)
        assert len(converted) == len(state)
        assert all(tag.name == name for name, tag in converted.items())


class _Tag:
    """A tensor without values that keeps its name."""

    def __init__(self, name: str, meta: torch.Tensor) -> None:
        self.name, self.shape, self.ndim = name, meta.shape, meta.ndim


def test_a_model_that_changes_nothing_is_an_error(
    tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    state = {n: t.half() for n, t in model.unet.state_dict().items()}  # only rounded
    with pytest.raises(ValueError, match=f"changes nothing: all its {len(state)} tensors are those of the backbone"):
        read(written(state, tmp_path / "same.pt"), pipeline_folder, model)
    with pytest.raises(ValueError, match="changes nothing"):
        read(pipeline_folder, pipeline_folder, model)


def test_another_vae_is_an_error(tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone) -> None:
    pipe = pipeline.read(pipeline_folder)
    with torch.no_grad():
        next(pipe.vae.parameters()).add_(1)
        next(pipe.unet.parameters()).add_(1)
    pipe.save_pretrained(tmp_path / "p")
    with pytest.raises(ValueError, match="another VAE than the backbone"):
        read(tmp_path / "p", pipeline_folder, model)


class Network(torch.nn.Linear):
    """A network of a library that is not torch's, pickled whole."""


REFUSED: dict[str, tuple[Callable[[Tensors, Path], Path], str]] = {
    "no key matches": (
        lambda some, at: written({"a.weight": torch.ones(2), "b": torch.ones(1)}, at / "m.pt"),
        r"none of its 2 tensors .* It has a.weight, b, ...; the U-Net has conv_in.weight",
    ),
    "a key that the U-Net lacks": (
        lambda some, at: written({**some, "extra.weight": torch.ones(2)}, at / "m.pt"),
        r"1 tensor is unused \(extra.weight\)",
    ),
    "another shape": (
        lambda some, at: written({n: torch.ones(3, 3) for n in some}, at / "m.pt"), "tensors are of another shape"
    ),
    "not finite": (
        lambda some, at: written({n: t * float("nan") for n, t in some.items()}, at / "m.pt"), "NaN or infinite"
    ),
    "a whole module": (
        lambda some, at: written(Network(2, 2), at / "m.pt"), r"any code .* torch.save\(model.state_dict\(\)"
    ),
    "a sparse autoencoder": (
        lambda some, at: written({n: torch.ones(2) for n in contents.SAE}, at / "sae.pt"), "SAeUron.* no weight"
    ),
    "adapters of Receler": (
        lambda some, at: written({"mid_block.attentions.0": {"down.weight": torch.ones(2)}}, at / "eraser_weights.pt"),
        "Receler.* no weight",
    ),
    "neurons": (lambda some, at: written([1, 2], at / "neurons.pt"), "contains no tensors by name, but list"),
    "not a file of weights": (lambda some, at: _text(at / "m.pt", "weights"), "neither a safetensors file nor"),
    "an empty folder": (lambda some, at: _folder(at / "nothing"), "is not a model: it must have model_index.json"),
    "an adapter of another layer": (
        lambda some, at: written({"lora_unet_no_layer.lora_down.weight": torch.ones(1, 2)}, at / "l.safetensors"),
        "the backbone has no layer 'lora_unet_no_layer'",
    ),
    "an adapter of another size": (
        lambda some, at: written(
            {f"unet.{next(iter(LAYERS))}.lora_{k}.weight": torch.ones(1, 1) for k in "AB"}, at / "l.safetensors"
        ),
        "has factors of shapes",
    ),
    "half an adapter": (
        lambda some, at: written({f"unet.{next(iter(LAYERS))}.lora_A.weight": torch.ones(1, 1)}, at / "l.safetensors"),
        "no second factor",
    ),
    "the other half": (
        lambda some, at: written({f"unet.{LAYER}.lora_B.weight": UP}, at / "l.safetensors"), "is no part of an adapter"
    ),
    "an adapter with a bias": (
        lambda some, at: _with(peft_file(at / "l.safetensors", LAYER), {f"{LAYER}.lora_B.bias": torch.ones(16)}),
        "lora_B.bias is no part of an adapter",
    ),
    "two adapters of a layer": (
        lambda some, at: _with(
            peft_file(at / "l.safetensors", LAYER),
            {f"{LAYER}.lora_{k}.other.weight": t.clone() for k, t in (("A", DOWN), ("B", UP))},
        ),
        "two adapters of the layer",
    ),
    "another kind of adapters": (
        lambda some, at: written({"lora_unet_x.hada_w1_a": torch.ones(1)}, at / "l.pt"), "of another kind than LoRA"
    ),
    "another kind in the settings": (
        lambda some, at: peft_file(at / "l.safetensors", LAYER, settings="plain", use_dora=True), r"LoRA \(DoRA\)"
    ),
    "an alpha that is no number": (
        lambda some, at: peft_file(
            at / "l.safetensors", f"unet.{LAYER}", settings="unet.", lora_alpha="8", alpha_pattern={}
        ),
        "lora_alpha in its settings must be a number, not '8'",
    ),
    "adapters that add nothing": (
        lambda some, at: kohya_file(at / "l.pt", "lora_unet_" + LAYER.replace(".", "_"), 0),
        "changes nothing: all its 1",
    ),
    "two models in a folder": (
        lambda some, at: _text(peft_file(at / "adapter_model.safetensors", LAYER).parent / "config.json", "{}").parent,
        "two models; give the path of one",
    ),
    "a pointer": (
        lambda some, at: _text(at / "m.pt", "version https://git-lfs.github.com/spec/v1"), "git's pointer to a file"
    ),
}  # fmt: skip


def _with(file: Path, more: Tensors) -> Path:
    return written({**load_file(file), **more}, file)


def _text(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_model_is_refused_with_the_reason(
    kind: str, unlearned: Tensors, tmp_path: Path, pipeline_folder: Path, model: pipeline.Backbone
) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(ValueError, match=words):
        read(make(unlearned, tmp_path), pipeline_folder, model)
