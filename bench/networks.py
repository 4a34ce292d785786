"""Student, teacher and moving average, in the memory of one U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.func import functional_call

from bench import paths
from bench.backbone import Backbone
from bench.ledger import Meter


class Networks:
    """What predicts noise while a method works; every call is on the meter.

    Args:
        backbone: its U-Net is the student.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.unet, self.device = backbone.unet, backbone.device
        self.meter = Meter(self.device)
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.frozen: dict[str, torch.Tensor] = {}  # the teacher: originals of the trained weights alone
        self.averaged: dict[str, torch.Tensor] = {}  # their moving average, while a method with `ema_decay` trains
        self._backbone = backbone

    def student(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the weights being trained: float32, the shape of `latents`."""
        self.meter.student_forwards += 1
        with self._backbone.autocast():
            return self.unet(latents, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0].float()

    @torch.no_grad()
    def teacher(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the untouched model: the student's network with the original trained weights put in."""
        self.meter.teacher_forwards += 1
        return self._swapped(self.frozen, latents, timesteps, prompt_embeds)

    @torch.no_grad()
    def average(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the moving average of the student's weights; metered as the student.

        Raises ValueError for a method that keeps none (its config's `ema_decay` is None).
        """
        if not self.averaged:
            raise ValueError("there is no moving average: set ema_decay in the method's config")
        self.meter.student_forwards += 1
        return self._swapped(self.averaged, latents, timesteps, prompt_embeds)

    def network(self, name: str) -> paths.Predict:
        """`student`, `teacher` or `average` by name. Raises ValueError for any other."""
        networks = {"student": self.student, "teacher": self.teacher, "average": self.average}
        if name not in networks:
            raise ValueError(f"unknown network {name!r}; known: {', '.join(networks)}")
        return networks[name]

    def null(self, count: int) -> torch.Tensor:
        """Embeddings of `count` empty prompts, (count, tokens, width)."""
        return self._backbone.embed([""] * count)

    @contextmanager
    def trainable(self, trains: Callable[[str], bool]) -> Iterator[None]:
        """Within the block the parameters whose names `trains` picks have gradients; after it they are as before."""
        self.trained = {n: p for n, p in self.unet.named_parameters() if trains(n)}
        self.frozen = {n: p.detach().clone() for n, p in self.trained.items()}
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.trained.items():
                    parameter.copy_(self.frozen[name]).requires_grad_(False)
                    parameter.grad = None

    def changed(self, weights: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The trained tensors that are no longer the original's, on the CPU and contiguous however they are held.

        Or those of `weights`, in their place.
        """
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in (self.trained if weights is None else weights).items()
            if not torch.equal(tensor, self.frozen[name])
        }

    def _swapped(
        self, weights: dict[str, torch.Tensor], latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        arguments = {"encoder_hidden_states": embeds, "return_dict": False}
        with self._backbone.autocast():
            return functional_call(self.unet, weights, (latents, timesteps), arguments)[0].float()
