"""The same training and sampling without Lethe, as a short script would do it with the same networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from bench.backbones.pipeline import Backbone
from benchmarks.timing import clock


class Trainer:
    """Erasure as a plain loop: a frozen copy of the network gives the target.

    Args:
        backbone: both networks are copies of its U-Net.
        trains: parameter name -> whether the parameter is trained.
        lr: learning rate.
        size: batch size.
        processor: attention processor of both networks; None keeps that of the backbone.
    """

    def __init__(
        self, backbone: Backbone, trains: Callable[[str], bool], lr: float, size: int, processor: object | None = None
    ) -> None:
        self.backbone = backbone
        self.student: UNet2DConditionModel = copy.deepcopy(backbone.unet)
        self.teacher: UNet2DConditionModel = copy.deepcopy(backbone.unet)
        if processor is not None:
            self.student.set_attn_processor(processor)
            self.teacher.set_attn_processor(processor)
        trained = [p.requires_grad_(True) for name, p in self.student.named_parameters() if trains(name)]
        self.optimizer = torch.optim.Adam(trained, lr=lr)
        self.latents = torch.randn(size, *backbone.latent_shape, device=backbone.device)
        self.timesteps = torch.randint(0, 1000, (size,), device=backbone.device)
        self.prompts, self.null = backbone.embed(["a photo"] * size), backbone.embed([""] * size)

    def step(self) -> None:
        """One step of training."""
        with torch.no_grad(), self.backbone.autocast():
            target = self.predict(self.teacher, self.null)
        with self.backbone.autocast():
            predicted = self.predict(self.student, self.prompts)
        F.mse_loss(predicted.float(), target.float()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def predict(self, network: UNet2DConditionModel, embeds: torch.Tensor) -> torch.Tensor:
        """The predicted noise of the batch."""
        return network(self.latents, self.timesteps, encoder_hidden_states=embeds, return_dict=False)[0]

    def seconds(self, steps: int) -> float:
        """Mean wall time of one of `steps` steps, in seconds. A first step is not timed."""
        self.step()
        began = clock()
        for _ in range(steps):
            self.step()
        return (clock() - began) / steps


@torch.inference_mode()
def sample(backbone: Backbone, count: int, batch: int, steps: int) -> None:
    """Run the network passes for `count` guided images: `steps` passes of 2B rows and one decoding per batch of B."""
    for start in range(0, count, batch):
        size = min(batch, count - start)
        latents = torch.randn(2 * size, *backbone.latent_shape, device=backbone.device)
        embeds = backbone.embed(["", "a photo"] * size)
        with backbone.autocast():
            for t in range(steps):
                backbone.unet(latents, 999 - t, encoder_hidden_states=embeds, return_dict=False)
            backbone.vae.decode(latents[:size], return_dict=False)
