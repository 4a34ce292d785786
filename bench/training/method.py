"""What a method is: a frozen config, which parameters train, a loss for one batch, and optional hooks.

A method may also act while images are sampled: see `Method.attach`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from bench.backbones.pipeline import Backbone
from bench.core import guidance
from bench.core.contents import declared_files
from bench.training.forget_set import Batch
from bench.training.harness import Harness
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
CLOSED_FORM = "closed-form"
TAGS = (CLOSED_FORM, "adapters", "text-encoder", "compensation", "inference")
FIDELITIES = ("published", "reconstruction", "control", "given")
LEARNING = ("loss", "edit", "prepare", "finish", "tensors_to_attach")  # a method that overrides one of them learns


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

    A method that acts while images are sampled writes `attach`, and need not write anything else.

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
        tags: what a user may look for, each one of TAGS: "closed-form" for a solution without training, "adapters" for
            adapters that stay in the network, "text-encoder" for a changed text encoder, "compensation" for the use of
            images or prompts of other concepts, "inference" for acting while images are sampled. `--methods tag:TAG`
            names all methods with a tag.
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
    tags: ClassVar[tuple[str, ...]] = ()
    resumable: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, config: MethodConfig) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} takes a {self.Config.__name__}, not {config!r}")
        self.config = config

    def trains(self, parameter: str) -> bool:
        """Whether the parameter of the U-Net with this name may change.

        By default `config.parameters` decides. A method that only acts while sampling changes no parameter.
        """
        return self.learns() and bool(PARAMETERS[self.config.parameters](parameter))

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
        """Change the weights. By default this trains on `loss`, unless the method only acts while sampling.

        A closed-form method overrides it and changes the parameters in `harness.trained` in place.
        """
        if self.learns():
            fit(harness, self)

    @classmethod
    def attaches(cls) -> bool:
        """Whether the method acts while images are sampled: whether the class overrides `attach`."""
        return cls.attach is not Method.attach

    @classmethod
    def learns(cls) -> bool:
        """Whether the method works before images are sampled. If not, it gets no training data and costs no time."""
        return not cls.attaches() or any(getattr(cls, name) is not getattr(Method, name) for name in LEARNING)

    @classmethod
    def takes_steps(cls) -> bool:
        """Whether the method trains in steps, so that the settings of the training have an effect."""
        return cls.learns() and CLOSED_FORM not in cls.tags

    def attach(
        self, backbone: Backbone, concepts: Sequence[str], tensors: Mapping[str, torch.Tensor]
    ) -> AbstractContextManager[object]:
        """A context in which the method acts on the pipeline: `with method.attach(...)`, and images are sampled.

        The context may put another guidance in place (`backbone.guided_by`), register hooks on `backbone.unet` or
        `backbone.pipeline.text_encoder`, add adapters, and so on. At its end everything must be as before, or the cell
        fails. A hook that depends on the prompt reads it from the argument `encoder_hidden_states` of the U-Net. The
        decoding of latents by the VAE takes place outside of the context.

        Args:
            backbone: the networks, with the weights that the method left.
            concepts: the words for all concepts that the task forgets, as prompts write them (`World.bare_name`).
            tensors: what `tensors_to_attach` returned, on the CPU.
        """
        return nullcontext()

    def tensors_to_attach(self, harness: Harness) -> Mapping[str, torch.Tensor]:
        """Called after `finish`: tensors that `attach` needs besides the weights of the networks; {} by default.

        They are stored with the weights. With `--curve` it is also called during the training. A training that resumes
        does not restore them, so a method that trains such tensors sets `resumable = False`.
        """
        return {}

    def export(self, concepts: Sequence[str]) -> tuple[dict[str, Any], str]:
        """How a user of diffusers has the effect of `attach`, for the command `export`.

        Args:
            concepts: as in `attach`.

        Returns the name of the pipeline class, "pipeline", with its further attributes and the arguments of a call,
        "call", in types that JSON has; {} if diffusers has nothing like the method. And what diffusers lacks: a text
        without a full stop; "" if it lacks nothing.
        """
        return {}, "everything that the method does while images are sampled"

    def passes(self, scale: float) -> int:
        """Forward passes for one image in each sampling step, at the guidance scale `scale`, for estimates of time.

        A method whose `attach` replaces the guidance overrides it if the number is another one.
        """
        return guidance.passes(scale)


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
