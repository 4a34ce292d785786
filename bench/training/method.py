"""What a method is: a frozen config, which parameters train, a loss for one batch, and optional hooks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from bench.core.contents import declared_files
from bench.training.harness import Batch, Harness
from bench.training.loop import TrainConfig, fit

PARAMETERS = {
    "attn2": lambda name: ".attn2." in name,
    "attn2-kv": lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name,
    # as in the code of ESD's authors: the embedding of the timestep and the output layers do not train either
    "not-attn2": lambda name: (
        ".attn2." not in name and not name.startswith(("time_embedding.", "conv_norm_out.", "conv_out."))
    ),
    "unet": lambda name: True,
}


MULTI = ("joint", "alternate", "closed_form")
FIDELITIES = ("published", "reconstruction", "control", "given")


def require_known(setting: str, value: str, known: Iterable[str]) -> None:
    """Check a setting that has a fixed set of values.

    Raises ValueError, naming the known values, unless `value` is one of them.

    Example:
        >>> require_known("target", "nul", ("null", "rest"))
        Traceback (most recent call last):
        ValueError: unknown target 'nul'; known: null, rest
    """
    if value not in known:
        raise ValueError(f"unknown {setting} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class MethodConfig(TrainConfig):
    """The settings of a method: those of the training loop, and which parameters train.

    A method with more settings subclasses it, as a frozen dataclass. Each field needs a default.

    Args:
        parameters: the parameters of the U-Net that train. "attn2" is all of cross-attention, "attn2-kv" its key and
            value matrices, "not-attn2" all but cross-attention and the layers for the timestep and the output, "unet"
            all parameters. Raises ValueError for any other name.

    Example:
        >>> @dataclass(frozen=True)
        ... class MyConfig(MethodConfig):
        ...     parameters: str = "attn2-kv"
        ...     strength: float = 2.0
        >>> MyConfig(strength=3.0).parameters
        'attn2-kv'
    """

    parameters: str = "attn2"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("parameters", self.parameters, PARAMETERS)


class Method:
    """An unlearning algorithm. Subclass it, set the class attributes, write `loss` (or `edit`), register the class.

    Args:
        config: an instance of the class's `Config`. Raises TypeError for anything else.

    Class attributes:
        about: one line for `ls methods`.
        source: where the method was published.
        fidelity: "published" if the authors' code or complete formulas exist and were followed, "reconstruction" if
            gaps were filled by derivation, "control" for rows that are not methods, "given" for finished models.
        Config: the frozen dataclass of its settings, a subclass of MethodConfig.
        multi: how it takes a request for several concepts. "joint": batches mix the images of all concepts.
            "alternate": each batch shows one concept, and the concepts take turns. "closed_form": one formula over all
            concepts. Boards show it.
        resumable: False for a method that changes attributes of its own between two steps. When a training resumes,
            `prepare` runs again and the harness restores weights, optimiser, moving average and random state, but not
            the attributes of the method.
        files: the files and folders that the method reads besides the backbone; see the method `files`, which a class
            attribute may replace: `files = ("words.txt",)`.
        version: of the algorithm, for Lethe's own methods. Raise it when the resulting weights change, so that cached
            weights are computed again. A plug-in needs no version: a cache key contains its source code.

    Example: pull the concept's prediction to the one for the null prompt.
        >>> class TowardsNull(Method):
        ...     about = "pulls the concept to the null prompt"
        ...     source = "an example"
        ...     fidelity = "reconstruction"
        ...     def loss(self, harness, batch):
        ...         z, _, t = harness.noised(batch.latents)
        ...         target = harness.teacher(z, t, harness.null_embeds(len(batch)))
        ...         return (harness.student(z, t, batch.prompt_embeds) - target).square().mean()
        >>> TowardsNull(MethodConfig(lr=1e-4)).trains("mid_block.attn2.to_k.weight")
        True
    """

    about: ClassVar[str]
    source: ClassVar[str]
    fidelity: ClassVar[Literal["published", "reconstruction", "control", "given"]]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    multi: ClassVar[Literal["joint", "alternate", "closed_form"]] = "joint"
    resumable: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, config: MethodConfig) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, not {config!r}")
        self.config = config

    def trains(self, parameter: str) -> bool:
        """Whether the parameter of the U-Net with this name may change. By default `config.parameters` decides."""
        return bool(PARAMETERS[self.config.parameters](parameter))

    def files(self) -> Iterable[str | Path]:
        """The files and folders that the method reads, such as word lists, weights and pictures.

        They may depend on `self.config`. A relative path starts at the current folder, as it does for `open`.
        The cache key of the weights contains their contents. Default: every path among the settings.
        """
        return paths_in(self.config)

    def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
        """The loss on one batch of the forget set: a float32 scalar with a gradient."""
        raise NotImplementedError(f"{type(self).__name__} defines neither loss nor edit")

    def prepare(self, harness: Harness) -> None:
        """Called once before the training."""

    def after_backward(self, harness: Harness) -> None:
        """Called before each optimiser step, and before clipping, when the accumulated gradients are in place."""

    def after_step(self, harness: Harness) -> None:
        """Called after each optimiser step."""

    def finish(self, harness: Harness) -> None:
        """Called once after the training."""

    def edit(self, harness: Harness) -> None:
        """Change the weights. By default this trains on `loss`.

        A closed-form method overrides it and changes the parameters in `harness.trained` in place.
        """
        fit(harness, self)


class Given(Method):
    """A row whose weights come from a file or folder (`--models`). `bench.plan.given_models` says which.

    Class attributes:
        compensation: what boards say that the model was given to learn from.
    """

    about = "a finished model from elsewhere"
    source = "the file that the run names"
    fidelity: ClassVar[Literal["published", "reconstruction", "control", "given"]] = "given"
    compensation: ClassVar[str] = "not known"

    def trains(self, parameter: str) -> bool:
        """False: no parameter of the U-Net trains."""
        return False

    def edit(self, harness: Harness) -> None:
        """Raises RuntimeError: the weights of a finished model are read from its file."""
        raise RuntimeError("a finished model is not trained by the harness: its weights come from a file")


def paths_in(config: MethodConfig) -> tuple[Path, ...]:
    """Every path among the settings of a method, also of those in tuples."""
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    each = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return tuple(one for one in each if isinstance(one, Path))


def files_of(name: str, method: type[Method], config: MethodConfig) -> tuple[Path, ...]:
    """The files and folders that the method called `name` declares for its settings.

    Raises FileNotFoundError for one that does not exist, and ValueError if `files` is of another type or can't be had.
    """
    owner, declared = f"method {name!r}", vars(Method)["files"]
    try:
        value: Any = getattr(method, "files", ())
        if value is declared:
            value = paths_in(config)
        elif callable(value) or isinstance(value, property):
            value = method(config).files
            if callable(value):
                value = value(config) if inspect.signature(value).parameters else value()
            if isinstance(value, Iterator):  # the next call gives another one
                value = tuple(value)
    except Exception as error:
        raise ValueError(f"{owner}: its files can't be had: {type(error).__name__}: {error}") from error
    return declared_files.listed(owner, value)
