"""Converts a single file of Stable Diffusion, in the layout of its authors, to a pipeline folder.

The file is a safetensors file, or a pickle that torch's restricted loader reads. Its tensors are compared with the
networks before the file is converted, and no tensor is left out in silence.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.backbones import cached_folder, noise_schedule
from bench.backbones import folder as pipeline_folder
from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.checks.file_kind import EMA, FIRST, UNET, VAE
from bench.backbones.checks.tensor_check import Header, TensorMismatch
from bench.core import digest
from bench.core.filenames import is_junk

CROSS = ".attn2.to_k.weight"
WIDTHS = {768: "sd15"}  # width of the prompt embeddings -> a model with the same settings
NEEDS = "--backbone-config takes the settings from a name, a hub id or a folder, e.g. --backbone-config"
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # parts of the settings that are never loaded
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # of Stable Diffusion
ARCHITECTURE = "modelspec.architecture"
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
ALPHAS = "alphas_cumprod"
# names of tensors that no network computes with: the noise schedule, and what trainings and text encoders keep
UNUSED = (
    "betas", ALPHAS, "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "logvar", "lvlb_weights",
    "scale_factor", "denoiser.sigmas", "v_pred", "ztsnr", "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection", f"{CLIP}text_projection.weight", f"{CLIP}text_model.embeddings.position_ids",
    f"{CLIP}embeddings.position_ids", f"{OPEN_CLIP}logit_scale", f"{OPEN_CLIP}text_projection", f"{OPEN_CLIP}attn_mask",
)  # fmt: skip
UNUSED_STARTS = (EMA, "first_stage_model.loss.", f"{OPEN_CLIP}transformer.resblocks.23.")


@dataclass(frozen=True)
class _Named:
    """A tensor of a header with its name in the file, for diffusers' conversion, which only renames and slices."""

    name: str
    meta: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        return self.meta.shape

    @property
    def ndim(self) -> int:
        return self.meta.ndim

    @property
    def T(self) -> _Named:
        return _Named(self.name, self.meta.T)

    def __getitem__(self, index: Any) -> _Named:
        return _Named(self.name, self.meta[index])

    def contiguous(self) -> _Named:
        return self

    clone = detach = contiguous


def usual_settings(file: Path, names: Header) -> str:
    """The name of a model whose configuration and tokenizer fit the file.

    Raises ValueError for a file from which the settings can't be determined.
    """
    width = next((tensor.shape[-1] for name, tensor in names.items() if name.endswith(CROSS)), 0)
    if width == 1024:
        raise ValueError(
            f"{file} is of Stable Diffusion 2.x, and such a file does not say whether it predicts noise (base, 512 "
            f"pixels) or v (768 pixels). {NEEDS} sd21-base"
        )
    if width not in WIDTHS:
        raise ValueError(f"{file}: no settings are known for a model with prompts of width {width}. {NEEDS} DIR")
    return WIDTHS[width]


def require_noise(file: Path, names: Header) -> None:
    """Raise ValueError if a file says that methods can't work on its noise, in its metadata or by a tensor's name.

    The reasons are those of `noise_schedule.read`: the file predicts something else than noise, or its noise schedule
    ends at a terminal SNR of zero. A U-Net that was distilled with guidance is refused too.
    """
    said = {key.lower(): value.strip() for key, value in tensor_check.metadata(file).items()}
    true = {key for key, value in said.items() if value.lower() in ("true", "1")}
    predicts = next((v for key, v in said.items() if key.endswith("prediction_type") and v), "epsilon")
    declared = ("v_parameterization", "v_pred")
    if "v_pred" in names or any(key.endswith(declared) for key in true) or "768-v" in said.get(ARCHITECTURE, ""):
        predicts = "v_prediction"
    if predicts.lower() != "eps":
        noise_schedule.read({**NOISE, "prediction_type": predicts}, str(file))
    if "ztsnr" in names or any(key.endswith("zero_terminal_snr") for key in true):
        noise_schedule.read({**NOISE, "rescale_betas_zero_snr": True}, str(file))
    if any("cond_proj" in name for name in names):
        raise ValueError(
            f"{file}: its U-Net also takes an embedding of the guidance scale, since it was distilled with guidance; "
            "methods give it noisy latents, a timestep and a prompt alone"
        )


def has_ema(names: Header) -> bool:
    """Whether a file contains EMA weights of its U-Net beside the ordinary ones."""
    return _flat(FIRST) in names


def folder_of(file: Path, names: Header, settings: Path, choice: str | None = None) -> Path:
    """The pipeline folder of a file, in float32. The file is converted once, and the folder is kept in the cache.

    Args:
        file: a file in the layout of the original authors.
        names: the header of the file.
        settings: folder with model_index.json, the configuration of every part, and the tokenizer.
        choice: which weights of the U-Net to take, one of `cached_folder.CHOICES`. None: the ordinary ones, as
            diffusers does.

    Raises ValueError for a file that does not fit the settings or lacks the weights of `choice`, and CannotWrite.
    """
    own = {p.relative_to(settings).as_posix(): digest.of_file(p) for p in _settings(settings)}
    networks = {part: folder_check.empty_network(settings, part) for part in folder_check.NAMES}
    places = _places(file, names, choice)
    _compare(file, settings, places, names, networks)
    _require_noise_schedule(file, names, settings)
    chosen = [choice] if choice == cached_folder.EMA else []
    key = digest.of_json([digest.of_file(file), own, *chosen])[:24]
    size = 4 * sum(tensor.numel() for network in networks.values() for tensor in network.state_dict().values())
    return cached_folder.make(key, size, lambda work: _write(file, settings, places, networks, work))


def _settings(folder: Path) -> list[Path]:
    parts = [folder / part / "config.json" for part in pipeline_folder.NETWORKS]
    others = [p for part in pipeline_folder.OTHERS for p in sorted((folder / part).glob("*")) if not is_junk(p.name)]
    if missing := [p for p in (folder / pipeline_folder.INDEX, *parts) if not p.is_file()]:
        raise FileNotFoundError(f"--backbone-config: {missing[0]} is missing")
    return [folder / pipeline_folder.INDEX, *parts, *others]


def _places(file: Path, names: Header, choice: str | None) -> dict[str, str]:
    """The name that the conversion expects -> the name in the file, of every tensor outside of the EMA weights."""
    places = {name: name for name in names if not name.startswith(EMA)}
    bare = f"{CLIP}embeddings.token_embedding.weight"
    if bare in places:  # files of one group of models leave out "text_model."
        places = {f"{CLIP}text_model.{n.removeprefix(CLIP)}" if n.startswith(CLIP) else n: n for n in places}
    if choice == cached_folder.EMA:
        places = {name: _flat(name) if name.startswith(UNET) else old for name, old in places.items()}
    if choice is not None and not has_ema(names):
        raise ValueError(f"--backbone-weights {choice}: {file} has only one set of weights; leave the flag out")
    if missing := [old for old in places.values() if old not in names]:
        raise TensorMismatch(f"{file} lacks {len(missing)} of its EMA weights: {', '.join(missing[:3])}, ...")
    return places


def _flat(name: str) -> str:
    """The name of a tensor's EMA: it has no dots after the first part."""
    return EMA + name.removeprefix("model.").replace(".", "")


def _converted(tensors: Mapping[str, Any], networks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tensors of each network by their names in diffusers. Raises KeyError if diffusers needs a missing tensor."""
    from diffusers.loaders import single_file_utils as utils

    unet = {name: tensor for name, tensor in tensors.items() if name.startswith(UNET)}
    vae = {name: tensor for name, tensor in tensors.items() if name.startswith(VAE)}
    text = {name: tensor for name, tensor in tensors.items() if name.startswith((CLIP, OPEN_CLIP))}
    clip = any(name.startswith(CLIP) for name in text)
    found = {
        "unet": utils.convert_ldm_unet_checkpoint(unet, networks["unet"].config),
        "vae": utils.convert_ldm_vae_checkpoint(vae, networks["vae"].config),
        "text_encoder": utils.convert_ldm_clip_checkpoint(text)
        if clip
        else utils.convert_open_clip_checkpoint(networks["text_encoder"], text, OPEN_CLIP),
    }
    return {
        part: folder_check.renamed(part, {n: t for n, t in each.items() if t is not None}, networks[part])
        for part, each in found.items()
    }


def _compare(file: Path, settings: Path, places: Mapping[str, str], names: Header, networks: Mapping[str, Any]) -> None:
    """Raise TensorMismatch unless the conversion gives every tensor of the networks and uses every tensor of a file."""
    try:
        converted = _converted({new: _Named(old, names[old]) for new, old in places.items()}, networks)
    except KeyError as error:
        raise TensorMismatch(f"{file} lacks the tensor {error.args[0]}") from error
    for part, each in converted.items():
        found = {name: tensor.meta for name, tensor in each.items()}
        expected, harmless = networks[part].state_dict(), folder_check.HARMLESS.get(part, ())
        network = f"{folder_check.NAMES[part]} that {settings} describes"
        tensor_check.compare(str(file), network, found, expected, harmless)
    used = {tensor.name for each in converted.values() for tensor in each.values()}
    used |= {new for new, old in places.items() if old in used}  # ordinary weights, where EMA weights replace them
    rest = {n: t for n, t in names.items() if n not in used and n not in UNUSED and not n.startswith(UNUSED_STARTS)}
    tensor_check.compare(str(file), "model", rest, {})


def _require_noise_schedule(file: Path, names: Header, settings: Path) -> None:
    """Raise ValueError if a file contains a noise schedule, and it is not that of the settings."""
    if ALPHAS in names:
        own = tensor_check.load(file, ALPHAS)[ALPHAS].float()
        usual = noise_schedule.noising(pipeline_folder.noise_of(settings)).alphas_cumprod
        if own.shape != usual.shape or not torch.allclose(own, usual, rtol=0.01, atol=1e-3):
            raise ValueError(
                f"{file} has another noise schedule ({ALPHAS}) than the settings in {settings}; --backbone-config "
                "takes the settings from another model"
            )


def _write(file: Path, settings: Path, places: Mapping[str, str], networks: Mapping[str, Any], work: Path) -> None:
    folder_check.quieten()
    stored = tensor_check.load(file)
    converted = _converted({new: stored[old] for new, old in places.items()}, networks)
    for part, empty in networks.items():
        network = copy.deepcopy(empty)
        own = network.state_dict()
        tensors = {name: tensor.float() for name, tensor in converted[part].items() if name in own}
        tensor_check.require_finite(str(file), tensors.items())
        network.load_state_dict(tensors, strict=True, assign=True)
        network.save_pretrained(work / part)
    for part in pipeline_folder.OTHERS:
        shutil.copytree(settings / part, work / part, ignore=lambda _, names: {name for name in names if is_junk(name)})
    index = pipeline_folder.read_json(settings / pipeline_folder.INDEX)
    index |= {name: [None, None] for name in LEFT_OUT if name in index} | {"requires_safety_checker": False}
    (work / pipeline_folder.INDEX).write_text(json.dumps(index, indent=2) + "\n")
