"""The student, the teacher and the moving average of the student, in the memory of one U-Net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from bench.backbones import lora, sampling_paths
from bench.backbones.frozen import Frozen
from bench.backbones.pipeline import Backbone
from bench.core import device as devices
from bench.training.accounting import CostMeter

TEACHERS = ("original", "previous")
NOTHING: Mapping[str, torch.Tensor] = {}


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
        self._kept: dict[str, torch.nn.Parameter] | None = None  # cast weights that do not train; see `Frozen`
        self._roles: dict[str, tuple[Mapping[str, torch.Tensor], Frozen]] = {}  # network -> its weights, and itself
        self._still: set[str] = set()  # networks whose weights do not change at present

    def student(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the student predicts, with a gradient.

        Args:
            latents: z_t, float32 (B, C, h, w).
            timesteps: t, int64 (B,), in 0..T-1.
            prompt_embeds: float32 (B, tokens, width).

        Returns float32 (B, C, h, w).
        """
        self.meter.student_forwards += 1
        if not torch.is_grad_enabled():
            return self._passes("student")(latents, timesteps, prompt_embeds)
        with self._backbone.autocast():
            return self.unet(latents, timesteps, encoder_hidden_states=prompt_embeds, return_dict=False)[0].float()

    @torch.no_grad()
    def teacher(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the frozen teacher predicts, without a gradient. Arguments and result as in `student`."""
        self.meter.teacher_forwards += 1
        return self._passes("teacher")(latents, timesteps, prompt_embeds)

    @torch.no_grad()
    def average(self, latents: torch.Tensor, timesteps: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """The noise that the moving average of the student predicts, without a gradient.

        Arguments and result as in `student`. The meter counts the call as one of the student. Raises ValueError if the
        method's config has no `ema_decay`.
        """
        if not self.average_weights:
            raise ValueError("there is no moving average: set ema_decay in the method's config")
        self.meter.student_forwards += 1
        return self._passes("average")(latents, timesteps, prompt_embeds)

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

    def sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the CPU on the run's device. On CUDA the process does not wait for the copy.

        Example:
            >>> harness.sent(torch.zeros(2)).device == harness.device
            True
        """
        return devices.sent(tensor, self.device)

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
            # Networks are kept from step to step. With weights of bfloat16 that is a copy of the U-Net, which a small
            # card has no memory for: there each of them is made when it is needed.
            keeps = not (self._backbone.casts_weights and self.unet.is_gradient_checkpointing)
            self._kept, self._roles = ({} if keeps else None), {}
            yield parameters
        finally:
            self._kept, self._roles = None, {}
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

    @contextmanager
    def _unchanged(self, network: str) -> Iterator[None]:
        """Within the block, the weights of the network called `network` do not change, so they are cast only once."""
        self._roles[network] = self._weights_of(network), self._passes(network)
        self._still.add(network)
        try:
            yield
        finally:
            self._still.discard(network)
            if self._kept is None:  # casts again next time, and frees the memory
                self._roles.pop(network, None)

    def _passes(self, network: str) -> Frozen:
        """The network called `network` in passes without a gradient, with the weights that it has now."""
        weights, (made_for, made) = self._weights_of(network), self._roles.get(network, (None, None))
        if made is None or made_for is not weights:
            made = self._backbone.frozen(self.unet, weights, self._kept)
            if self._kept is not None:
                self._roles[network] = weights, made
        elif network != "teacher" and network not in self._still:
            made.refresh()
        return made

    def _weights_of(self, network: str) -> Mapping[str, torch.Tensor]:
        """The weights of the network called `network` that may differ from the U-Net's, or from their cast values."""
        if network == "student":
            return self.trained if self._backbone.casts_weights else NOTHING
        return {"teacher": self.teacher_weights, "average": self.average_weights}[network]


def _frozen(parameter: torch.Tensor) -> torch.nn.Parameter:
    """A copy that does not train."""
    return torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
