"""Student, teacher and moving average, in the memory of one U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.func import functional_call

from bench.backbones import lora, sampling_paths
from bench.backbones.pipeline import Backbone
from bench.training.accounting import Meter

TEACHERS = ("original", "previous")


def require_teacher(name: str) -> None:
    """Raises ValueError unless `name` is one of TEACHERS."""
    if name not in TEACHERS:
        raise ValueError(f"unknown teacher {name!r}; known: {', '.join(TEACHERS)}")


class Networks:
    """What predicts noise while a method works; every call is on the meter.

    Args:
        backbone: its U-Net is the student.
        start: the U-Net's tensors that earlier requests changed: where the student begins.
        teacher: whose weights the teacher has, one of TEACHERS: the "original" ones, or the "previous" ones, `start`.
    """

    def __init__(
        self, backbone: Backbone, start: Mapping[str, torch.Tensor] | None = None, teacher: str = "original"
    ) -> None:
        require_teacher(teacher)
        self.unet, self.device = backbone.unet, backbone.device
        self.meter = Meter(self.device)
        self.start, self._previous = dict(start or {}), teacher == "previous"
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.frozen: dict[str, torch.Tensor] = {}  # the teacher: its values of the weights that differ in the student
        self.original: dict[str, torch.Tensor] = {}  # the untouched model's values of the same
        self.averaged: dict[str, torch.Tensor] = {}  # their moving average, while a method with `ema_decay` trains
        self._backbone = backbone
        self._moving: dict[str, torch.nn.Parameter] = {}
        self._merged: Callable[[], dict[str, torch.Tensor]] = dict  # what adapters make of the weights they sit on

    def student(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the weights being trained: float32, the shape of `latents`."""
        self.meter.student_forwards += 1
        with self._backbone.autocast():
            return self.unet(latents, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0].float()

    @torch.no_grad()
    def teacher(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """Noise predicted by the teacher: the student's network with the weights put in that differ in it."""
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

    def network(self, name: str) -> sampling_paths.Predict:
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
        """Within the block the parameters whose names `trains` picks have gradients; after it all are as before.

        The U-Net begins at `start`. Raises ValueError where that is none of this U-Net's.
        """
        with self._begun(trains) as parameters:
            self.trained = {name: p for name, p in parameters.items() if trains(name)}
            for parameter in self.trained.values():
                parameter.requires_grad_(True)
            yield

    @contextmanager
    def adaptable(self, rank: int, seed: int) -> Iterator[None]:
        """As `trainable`, but what has gradients are low-rank adapters of `rank` on the U-Net's attention."""
        with self._begun(lambda name: False), lora.adapted(self.unet, rank, seed=seed) as adapters:
            self.trained, self._merged = adapters, lambda: lora.merged(self.unet)
            try:
                yield
            finally:
                self._merged = dict

    @contextmanager
    def _begun(self, trains: Callable[[str], bool]) -> Iterator[dict[str, torch.nn.Parameter]]:
        parameters = dict(self.unet.named_parameters())
        if strange := [n for n, t in self.start.items() if n not in parameters or parameters[n].shape != t.shape]:
            raise ValueError(f"the backbone's U-Net has no tensor {strange[0]!r} of this shape to start from")
        moving = {n: p for n, p in parameters.items() if trains(n) or n in self.start}
        self.original = {n: p.detach().clone() for n, p in moving.items()}
        try:  # from the first weight that is moved on: memory may end at any of these copies
            with torch.no_grad():
                for name, tensor in self.start.items():
                    parameters[name].copy_(tensor)
            self.frozen = {n: p.detach().clone() for n, p in moving.items()} if self._previous else self.original
            self._moving = moving
            yield parameters
        finally:
            with torch.no_grad():
                for name, parameter in moving.items():
                    parameter.copy_(self.original[name]).requires_grad_(False)
                    parameter.grad = None

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within the block the U-Net has the weights that it had before all this, in the middle of a step as well.

        But for adapters (`adaptable`), which stay where they sit.
        """
        held = {name: parameter.data for name, parameter in self._moving.items()}
        try:
            for name, parameter in self._moving.items():
                parameter.data = self.original[name]  # not copied: a gradient that is under way would take offence
            yield
        finally:
            for name, parameter in self._moving.items():
                parameter.data = held[name]

    def changed(self, weights: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The U-Net's tensors that are no longer the original's, on the CPU and contiguous however they are held.

        With `weights` in place of those trained. Adapters are counted in where they sit.
        """
        kept = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in {**self._moving, **(weights or {})}.items()
            if not torch.equal(tensor, self.original[name])
        }
        return kept | self._merged()

    def _swapped(
        self, weights: dict[str, torch.Tensor], latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        arguments = {"encoder_hidden_states": embeds, "return_dict": False}
        with self._backbone.autocast():
            return functional_call(self.unet, weights, (latents, timesteps), arguments)[0].float()
