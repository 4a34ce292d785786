"""What a method is: a frozen config, which parameters train, a loss for one batch, and a few optional hooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from bench.core.guidance import require_scale as require_scale  # for the settings of methods
from bench.training.harness import Batch, Harness
from bench.training.loop import TrainConfig, fit

PARAMETERS = {
    "attn2": lambda name: ".attn2." in name,
    "attn2-kv": lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name,
    # as ESD's authors draw the line: what embeds the timestep and what forms the output stays as well
    "not-attn2": lambda name: (
        ".attn2." not in name and not name.startswith(("time_embedding.", "conv_norm_out.", "conv_out."))
    ),
    "unet": lambda name: True,
}


MULTI = ("joint", "alternate", "closed_form")
FIDELITIES = ("published", "reconstruction", "control")


def require_known(setting: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError, with the known values, unless `value` is one of them."""
    if value not in known:
        raise ValueError(f"unknown {setting} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class MethodConfig(TrainConfig):
    """Common settings; `parameters` names what trains, one of PARAMETERS: "attn2" is all of cross-attention."""

    parameters: str = "attn2"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("parameters", self.parameters, PARAMETERS)


class Method:
    """An unlearning algorithm. Subclass it, set the class attributes, write `loss` (or `edit`), register the class.

    Class attributes:
        about: one line for `--list methods`.
        source: where the method was published.
        fidelity: "published" where authors' code or complete formulas exist and were followed, "reconstruction"
            where gaps were filled by derivation, "control" for rows that are no method.
        Config: frozen dataclass of its settings, a subclass of MethodConfig.
        multi: how it takes a request for several concepts, one of MULTI: "joint", batches of the images of all;
            "alternate", a batch of each in its turn; "closed_form", one formula over all. Boards show it.
        resumable: False for a method that changes attributes of its own between two steps: after an interruption the
            harness runs `prepare` again and restores weights, optimiser and the like, but not these.
        version: of the algorithm, for Lethe's own methods: raised when the weights that it makes change, and then they
            are made again. A plug-in needs none: it is known by its source code.
    """

    about: ClassVar[str]
    source: ClassVar[str]
    fidelity: ClassVar[Literal["published", "reconstruction", "control"]]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    multi: ClassVar[Literal["joint", "alternate", "closed_form"]] = "joint"
    resumable: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, config: MethodConfig) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, not {config!r}")
        self.config = config

    def trains(self, parameter: str) -> bool:
        """Whether the U-Net's parameter of this name may change. Nothing else ever does."""
        return bool(PARAMETERS[self.config.parameters](parameter))

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss on one batch of the forget set: a scalar with a gradient."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor edit")

    def prepare(self, harness: Harness) -> None:
        """Called once before training."""

    def after_backward(self, harness: Harness) -> None:
        """Called with the accumulated gradients in place, before clipping and the optimiser's step."""

    def after_step(self, harness: Harness) -> None:
        """Called after each optimiser step."""

    def finish(self, harness: Harness) -> None:
        """Called once after training."""

    def edit(self, harness: Harness) -> None:
        """Change the weights: by training, or in a subclass by formula, in place on `harness.trained`."""
        fit(harness, self)
