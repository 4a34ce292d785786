"""The networks of a pipeline in Stable Diffusion's format. Each prompt is encoded once, and weights can be replaced."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.backbones import finite, noise_schedule
from bench.backbones.checks import folder_check, tensor_check
from bench.backbones.folder import noise_of
from bench.backbones.frozen import Frozen
from bench.backbones.noise_schedule import NoiseSchedule
from bench.core import device as devices
from bench.core.guidance import Guidance

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

# diffusers imports bitsandbytes if it is installed, and on a CPU bitsandbytes logs warnings about missing kernels
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# On the CPU the fused attention kernel's backward pass is slow on maps up to this side, where the attention matrix is
# small enough to hold; plain matrix products train faster: `python -m benchmarks.throughput --only attention`.
SMALL_MAP = 32

# settings of torch._dynamo, by the names that all its versions know
COMPILATION = {
    "cache_size_limit": 4096,
    "accumulated_cache_size_limit": 4096,
    "fail_on_cache_limit_hit": True,
    "suppress_errors": False,
}

TEXT = "text_encoder."  # prefix of the text encoder's tensors in mappings that also contain tensors of the U-Net


class Backbone:
    """The networks of a run.

    Args:
        pipeline: the pipeline. Its U-Net, VAE and text encoder are set to eval mode and frozen. The harness of a
            training decides which parameters are trained.
        device: the device of the networks.
        dtype: dtype of forward passes; bfloat16 uses autocast, or on CUDA weights of bfloat16 in passes without a
            gradient. In float32 an image does not depend on the other images of its batch. In bfloat16 rounding may
            change it by one or two grey levels.

    Attributes:
        casts_weights: whether passes without a gradient have weights of `dtype`.
        guidance: how the sampler combines predictions; see `guided_by`.
    """

    def __init__(self, pipeline: StableDiffusionPipeline, device: torch.device, dtype: torch.dtype) -> None:
        self.pipeline = pipeline.to(device)
        self.unet, self.vae = pipeline.unet, pipeline.vae
        self.device, self.dtype = device, dtype
        if device.type == "cpu" and max(self.latent_shape) <= SMALL_MAP:
            from diffusers.models.attention_processor import AttnProcessor

            pipeline.unet.set_attn_processor(AttnProcessor())
        for network in (self.unet, self.vae, pipeline.text_encoder):
            network.eval().requires_grad_(False)
        if device.type == "cuda":  # convolutions are faster in this layout, and results do not depend on it
            for network in (self.unet, self.vae):
                network.to(memory_format=torch.channels_last)
        self.casts_weights = devices.casts_weights(device, dtype)
        self.guidance = Guidance()
        self._embeds: dict[str, torch.Tensor] = {}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of the latents of one image."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise that the model was trained with. Raises ValueError like `bench.backbones.noise_schedule.read`."""
        return noise_schedule.read(self.pipeline.scheduler.config, "the backbone")

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which forward passes with a gradient have the precision `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def frozen(
        self,
        network: torch.nn.Module,
        weights: Mapping[str, torch.Tensor] | None = None,
        kept: dict[str, torch.nn.Parameter] | None = None,
    ) -> Frozen:
        """`network`, the U-Net or the VAE, in passes without a gradient. `weights` and `kept` as in `Frozen`."""
        return Frozen(network, self.device, self.dtype, self.casts_weights, weights, kept)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Outputs of the text encoder for `prompts`, float32 (len(prompts), tokens, width). Results are cached.

        Raises NonFiniteImage.
        """
        new = [p for p in dict.fromkeys(prompts) if p not in self._embeds]
        if new:
            embeds, _ = self.pipeline.encode_prompt(new, self.device, 1, False)
            finite.require(embeds, "the text encoder's embeddings", new)
            self._embeds.update(zip(new, embeds.float(), strict=True))
        return torch.stack([self._embeds[p] for p in prompts])

    @contextmanager
    def guided_by(self, guidance: Guidance) -> Iterator[None]:
        """Within the block, the sampler combines predictions by `guidance`."""
        before, self.guidance = self.guidance, guidance
        try:
            yield
        finally:
            self.guidance = before

    @contextmanager
    def weights(self, changed: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Replace the tensors named in `changed` within the block. For their names see `owners`.

        If a tensor of the text encoder changes, prompts are encoded again. Raises ValueError for a name or shape that
        the networks do not have, and for values that are not finite.
        """
        new = owners(self.pipeline, changed)
        states = [(network, network.state_dict()) for network, _ in new]
        old = [{n: state[n].clone() for n in part} for (_, state), (_, part) in zip(states, new, strict=True)]
        embeds = self._embeds
        try:
            if any(network is self.pipeline.text_encoder for network, _ in new):
                self._embeds = {}
            for network, part in new:
                network.load_state_dict(part, strict=False)
            yield
        finally:
            self._embeds = embeds
            for (network, _), part in zip(new, old, strict=True):
                network.load_state_dict(part, strict=False)


def owners(
    pipeline: StableDiffusionPipeline, changed: Mapping[str, torch.Tensor]
) -> list[tuple[torch.nn.Module, dict[str, torch.Tensor]]]:
    """Each network that owns tensors of `changed`, and these tensors by their names in the network.

    Names with the prefix "text_encoder." belong to the text encoder, all others to the U-Net. Raises ValueError for a
    name or shape that the network does not have, and for values that are not finite.
    """
    text = {name.removeprefix(TEXT): t for name, t in changed.items() if name.startswith(TEXT)}
    unet = {name: t for name, t in changed.items() if not name.startswith(TEXT)}
    named = (("U-Net", pipeline.unet, unet), ("text encoder", pipeline.text_encoder, text))
    for noun, network, tensors in named:
        state = network.state_dict()
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != tensor.shape:
                raise ValueError(f"the backbone's {noun} has no tensor {name!r} of shape {tuple(tensor.shape)}")
    tensor_check.require_finite("the changed weights", changed.items())
    return [(network, tensors) for _, network, tensors in named if tensors]


def read(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in `folder` in float32, without a safety checker. It reads only `bench.backbones.folder.files`.

    The pipeline's scheduler has the noise schedule of the folder's scheduler, and none of its other settings.
    """
    import diffusers  # this import takes seconds, and commands that only list names do not need it

    folder_check.quieten()
    scheduler = noise_schedule.noising(noise_of(folder))
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, scheduler=scheduler, dtype=torch.float32, local_files_only=True, requires_safety_checker=False,
        safety_checker=None, feature_extractor=None, image_encoder=None,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load(
    folder: Path,
    device: torch.device,
    precision: str = "auto",
    compile: bool = False,
    gradient_checkpointing: bool = False,
) -> Backbone:
    """`read` a pipeline folder, and freeze its networks.

    Args:
        folder: the pipeline folder.
        device: the device of the networks.
        precision: precision of forward passes, one of `bench.core.config.PRECISIONS`.
        compile: whether to compile the U-Net on its first calls.
        gradient_checkpointing: whether to keep only the inputs of the U-Net's blocks for the backward pass, and to
            compute the other activations again.
    """
    pipeline = read(folder)
    dtype = devices.compute_dtype(device, precision)
    if device.type == "cuda":
        devices.allow_tf32(dtype)
    made = Backbone(pipeline, device, dtype)
    if gradient_checkpointing:
        made.unet.enable_gradient_checkpointing()
    if compile:
        compile_each_shape(made.unet)
    return made


def compile_each_shape(unet: torch.nn.Module) -> None:
    """Compile the U-Net on its first calls, once for each shape of its inputs and each set of weights that train.

    So the code of a call does not depend on the calls before it. If left alone, torch compiles the second shape for any
    size, and after the eighth compilation it runs what is new uncompiled, without an error.

    Raises RuntimeError if compilation is switched off in this process. A call beyond the limits of COMPILATION raises
    an error of torch.
    """
    import torch._dynamo  # this import takes a second, and most runs compile nothing

    torch._dynamo.reset()  # other code of this process may have reached its limit
    unet.compile(dynamic=False)
    compiled: Any = unet._compiled_call_impl
    if torch._dynamo.config.disable or compiled == unet._call_impl:
        raise RuntimeError("--compile has no effect here: unset TORCHDYNAMO_DISABLE and TORCH_COMPILE_DISABLE")
    settings = torch._dynamo.config.patch(COMPILATION)

    def call(*args: Any, **kwargs: Any) -> Any:
        with settings:
            return compiled(*args, **kwargs)

    unet._compiled_call_impl = call
