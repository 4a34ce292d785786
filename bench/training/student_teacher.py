"""The student, the teacher and the moving average of the student, in the memory of one U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.func import functional_call

from bench.backbones import lora, sampling_paths
from bench.backbones.pipeline import Backbone
from bench.training.accounting import CostMeter

TEACHERS = ("original", "previous")


def require_teacher(name: str) -> None:
    """Raises ValueError unless `name` is one of TEACHERS."""
    if name not in TEACHERS:
        raise ValueError(f"unknown teacher {name!r}; known: {', '.join(TEACHERS)}")


class StudentTeacher:
    """The networks that predict noise while a method works. The meter counts every call.

    Only one U-Net is in memory. Of each parameter that trains there is a second copy, which the teacher uses.

    Args:
        backbone: the loaded pipeline. Its U-Net is the student.
        start: tensors of the U-Net that earlier requests changed. The student starts from them.
        teacher: "original" for a teacher with the weights of the backbone, "previous" for a teacher with the weights
            of `start`. Raises ValueError for any other name.

    Attributes:
        trained: parameter name -> parameter of the student, float32, with a gradient. Empty outside of `trainable`.
        teacher_weights: parameter name -> the teacher's value, for the parameters whose values may differ.
        original_weights: parameter name -> the backbone's value of the same parameters.
        average_weights: parameter name -> exponential moving average of the student's value. Empty unless the method's
            config has an `ema_decay`.
        meter: the cost so far.

    Example, with `harness` a Harness, which is a StudentTeacher:
        >>> embeds = harness.null_embeds(2)
        >>> z, t = torch.randn(2, 4, 16, 16), torch.tensor([10, 900])
        >>> with harness.trainable(lambda name: ".attn2." in name):
        ...     same_at_the_start = torch.equal(harness.student(z, t, embeds), harness.teacher(z, t, embeds))
        >>> same_at_the_start
        True
    """

    def __init__(
        self, backbone: Backbone, start: Mapping[str, torch.Tensor] | None = None, teacher: str = "original"
    ) -> None:
        require_teacher(teacher)
        self.unet, self.device = backbone.unet, backbone.device
        self.meter = CostMeter(self.device)
        self.start, self._teacher_is_previous = dict(start or {}), teacher == "previous"
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.teacher_weights: dict[str, torch.Tensor] = {}
        self.original_weights: dict[str, torch.Tensor] = {}
        self.average_weights: dict[str, torch.Tensor] = {}
        self._backbone = backbone
        self._movable: dict[str, torch.nn.Parameter] = {}  # parameters that train or that `start` changed
        self._merged_adapters: Callable[[], dict[str, torch.Tensor]] = dict

    def student(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the student predicts, with a gradient.

        Args:
            latents: z_t, float32 (B, C, h, w).
            timesteps: t, int64 (B,), in 0..T-1.
            prompt_embeds: float32 (B, tokens, width).

        Returns float32 (B, C, h, w).
        """
        self.meter.student_forwards += 1
        with self._backbone.autocast():
            return self.unet(latents, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0].float()

    @torch.no_grad()
    def teacher(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the frozen teacher predicts, without a gradient. Arguments and result as in `student`."""
        self.meter.teacher_forwards += 1
        return self._predict_with(self.teacher_weights, latents, timesteps, prompt_embeds)

    @torch.no_grad()
    def average(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the moving average of the student predicts, without a gradient.

        Arguments and result as in `student`. The meter counts the call as one of the student. Raises ValueError if the
        method's config has no `ema_decay`.
        """
        if not self.average_weights:
            raise ValueError("there is no moving average: set ema_decay in the method's config")
        self.meter.student_forwards += 1
        return self._predict_with(self.average_weights, latents, timesteps, prompt_embeds)

    def network(self, name: str) -> sampling_paths.Predict:
        """The method `student`, `teacher` or `average` by its name. Raises ValueError for any other name.

        Example:
            >>> harness.network("ema")
            Traceback (most recent call last):
            ValueError: unknown network 'ema'; known: student, teacher, average
        """
        networks = {"student": self.student, "teacher": self.teacher, "average": self.average}
        if name not in networks:
            raise ValueError(f"unknown network {name!r}; known: {', '.join(networks)}")
        return networks[name]

    def null_embeds(self, count: int) -> torch.Tensor:
        """Embeddings of `count` empty prompts, float32 (count, tokens, width).

        Example:
            >>> harness.null_embeds(2).shape
            torch.Size([2, 20, 32])
        """
        return self._backbone.embed([""] * count)

    @contextmanager
    def trainable(self, trains: Callable[[str], bool]) -> Iterator[None]:
        """Within the block, the student starts from `start`, and the parameters that `trains` picks have gradients.

        After the block, the U-Net has the weights of the backbone again, whether or not the block raised.

        Args:
            trains: parameter name -> whether the parameter trains.

        Raises ValueError if a tensor of `start` does not fit the U-Net.
        """
        with self._started(trains) as parameters:
            self.trained = {name: p for name, p in parameters.items() if trains(name)}
            for parameter in self.trained.values():
                parameter.requires_grad_(True)
            yield

    @contextmanager
    def trainable_adapters(self, rank: int, seed: int) -> Iterator[None]:
        """Like `trainable`, but low-rank adapters of `rank` on the attention layers train in place of the weights."""
        with self._started(lambda name: False), lora.adapted(self.unet, rank, seed=seed) as adapters:
            self.trained, self._merged_adapters = adapters, lambda: lora.merged(self.unet)
            try:
                yield
            finally:
                self._merged_adapters = dict

    @contextmanager
    def _started(self, trains: Callable[[str], bool]) -> Iterator[dict[str, torch.nn.Parameter]]:
        parameters = dict(self.unet.named_parameters())
        if misfits := [n for n, t in self.start.items() if n not in parameters or parameters[n].shape != t.shape]:
            raise ValueError(f"the backbone's U-Net has no tensor {misfits[0]!r} of this shape to start from")
        movable = {n: p for n, p in parameters.items() if trains(n) or n in self.start}
        memory = {n: p.data for n, p in movable.items()}  # an optimiser may lay a parameter out in another way
        self.original_weights = {n: _frozen(p) for n, p in movable.items()}
        try:  # a copy may fail for lack of memory after the first weights have moved
            with torch.no_grad():
                for name, tensor in self.start.items():
                    parameters[name].copy_(tensor)
            self.teacher_weights = (
                {n: _frozen(p) for n, p in movable.items()} if self._teacher_is_previous else self.original_weights
            )
            self._movable = movable
            yield parameters
        finally:
            with torch.no_grad():
                for name, parameter in movable.items():
                    parameter.grad = None
                    parameter.data = memory[name]
                    parameter.copy_(self.original_weights[name]).requires_grad_(False)

    @contextmanager
    def with_original_weights(self) -> Iterator[None]:
        """Within the block, the U-Net has the weights of the backbone, also between `backward` and the step.

        Adapters of `trainable_adapters` stay in place.
        """
        student_data = {name: parameter.data for name, parameter in self._movable.items()}
        try:
            for name, parameter in self._movable.items():
                # replaced, not overwritten: autograd refuses tensors that were changed in place
                parameter.data = self.original_weights[name]
            yield
        finally:
            for name, parameter in self._movable.items():
                parameter.data = student_data[name]

    def changed_tensors(self, weights: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """The tensors of the student's U-Net that differ from the backbone's, on the CPU and contiguous.

        Args:
            weights: parameter name -> value to use in place of the student's.

        Adapters are merged into the weights that they act on.
        """
        changed = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in {**self._movable, **(weights or {})}.items()
            if not torch.equal(tensor, self.original_weights[name])
        }
        return changed | self._merged_adapters()

    def _predict_with(
        self, weights: dict[str, torch.Tensor], latents: torch.Tensor, timesteps: torch.Tensor, embeds: torch.Tensor
    ) -> torch.Tensor:
        weights = {n: t if isinstance(t, torch.nn.Parameter) else _parameter(t) for n, t in weights.items()}
        arguments = {"encoder_hidden_states": embeds, "return_dict": False}
        with self._backbone.autocast():
            # a U-Net ties no weights, and to look for tied ones takes longer than the rest of the swap
            return functional_call(self.unet, weights, (latents, timesteps), arguments, tie_weights=False)[0].float()


def _frozen(parameter: torch.Tensor) -> torch.nn.Parameter:
    """A copy that does not train."""
    return _parameter(parameter.detach().clone())


def _parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    """The tensor as a Parameter in the same memory. Code that is compiled for Parameters does not run for tensors."""
    return torch.nn.Parameter(tensor, requires_grad=False)
