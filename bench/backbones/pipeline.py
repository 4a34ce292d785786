"""A Stable-Diffusion-format pipeline, loaded once: its networks, its prompts encoded once, its weights swapped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.core import device as devices

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

# diffusers imports it wherever it is installed, and on a CPU it then speaks of kernels that nobody asked for
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# On the CPU the fused attention kernel's backward pass is slow on maps up to this side, where the attention matrix is
# small enough to hold; plain matrix products train faster: `python -m benchmarks.throughput --only attention`.
SMALL_MAP = 32

TEXT = "text_encoder."  # before the names of its tensors, where they stand beside the U-Net's


class Backbone:
    """The networks a run works on.

    Args:
        pipeline: its U-Net, VAE and text encoder are put in eval mode and frozen; what trains is for the harness.
        device: where the networks live.
        dtype: of forward passes: bfloat16 runs them under autocast. In fp32 an image does not depend on the others
            in its batch; in bfloat16 it does by rounding, a grey level or two.
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
        if device.type == "cuda":  # convolutions want it so there; what is stored does not depend on it
            for network in (self.unet, self.vae):
                network.to(memory_format=torch.channels_last)
        self._embeds: dict[str, torch.Tensor] = {}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one image's latents: channels, height, width."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.unet.config.in_channels, height, width

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of every forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text encoder states of `prompts`, float32 (len(prompts), tokens, width). Each prompt is encoded once."""
        new = [p for p in dict.fromkeys(prompts) if p not in self._embeds]
        if new:
            embeds, _ = self.pipeline.encode_prompt(new, self.device, 1, False)
            self._embeds.update(zip(new, embeds.float(), strict=True))
        return torch.stack([self._embeds[p] for p in prompts])

    @contextmanager
    def weights(self, changed: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Within the block, the tensors named in `changed` have these values: see `owners`.

        Prompts are encoded anew where the text encoder is among them. Raises ValueError for a name or shape that the
        networks do not have.
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
    """Each network that `changed` names tensors of, with these under its own names.

    They are the U-Net's, or after the prefix "text_encoder." the text encoder's. Raises ValueError for a name or shape
    that the network does not have.
    """
    text = {name.removeprefix(TEXT): t for name, t in changed.items() if name.startswith(TEXT)}
    unet = {name: t for name, t in changed.items() if not name.startswith(TEXT)}
    named = (("U-Net", pipeline.unet, unet), ("text encoder", pipeline.text_encoder, text))
    for noun, network, tensors in named:
        state = network.state_dict()
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != tensor.shape:
                raise ValueError(f"the backbone's {noun} has no tensor {name!r} of shape {tuple(tensor.shape)}")
    return [(network, tensors) for _, network, tensors in named if tensors]


def read(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in `folder`, in float32, of `bench.backbones.folder.files` alone: without a safety checker."""
    import diffusers  # seconds to import; lists need none of it
    import transformers

    diffusers.utils.logging.disable_progress_bar()  # both libraries draw theirs across the run's own
    transformers.utils.logging.disable_progress_bar()
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, feature_extractor=None, image_encoder=None,
        requires_safety_checker=False, local_files_only=True,
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
    """`read` a pipeline folder and freeze it; what passes forward has `bench.core.device.compute_dtype`.

    Args:
        compile: the U-Net on its first calls: once as student and once as teacher, whose weights are swapped in.
        gradient_checkpointing: keep the inputs of the U-Net's blocks for the gradient, and compute the rest again.
    """
    pipeline = read(folder)
    dtype = devices.compute_dtype(device, precision)
    if device.type == "cuda":
        devices.allow_tf32(dtype)
    made = Backbone(pipeline, device, dtype)
    if gradient_checkpointing:
        made.unet.enable_gradient_checkpointing()
    if compile:
        made.unet.compile()
    return made
