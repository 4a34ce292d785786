"""Every default of the benchmark itself. Each method keeps its defaults in its config, each world in its presets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.core.digest import added
from bench.core.filenames import without_folders
from bench.core.flag_values import (
    MAX_SEED,
    absolute,
    model_elsewhere,
    models_elsewhere,
    number_or_name,
    parse_seeds,
    shared_model,
    write_seeds,
)
from bench.core.flags import Flag, defaults_of, flag, flags_of, words_of
from bench.core.guidance import require_scale
from bench.core.overrides import (
    Overrides,
    Sweep,
    parse,
    parse_sweep,
    require_at_least,
    require_finite,
    write,
    write_sweep,
)
from bench.core.text.shell import joined

# solver -> how its timesteps can be spread over the training timesteps; the first is the usual one
SPACINGS: Mapping[str, tuple[str, ...]] = {"dpmsolver++": ("linspace", "leading"), "ddim": ("leading",)}
SCHEDULERS = tuple(SPACINGS)
PRECISIONS = ("auto", "fp32", "bf16")
MAX_COUNT = 1_000_000  # of images or steps: a typing error does not fill the memory with names of images
OWN = "own"  # name of the world of --concepts
MAX_CURVE = 1000  # checkpoints along a training


@dataclass(frozen=True)
class Protocol:
    """How models are sampled and measured. The fingerprint of a board contains all these settings.

    A world sets its own values, and a suite may lower them. `--set protocol.FIELD=VALUE` overrides both. Exactly one
    field of each pair `..._per_concept` and `..._per_prompt` is set; the other is None. Raises ValueError for a value
    out of its range.
    """

    images_per_concept: int | None = 10  # evaluation images of every concept, spread over its evaluation prompts
    images_per_prompt: int | None = None  # evaluation images of each evaluation prompt
    curve_images: int = 6  # how many of these are sampled at each checkpoint of a curve
    forget_images: int = 64  # images of each forgotten concept that methods train on
    retain_images: int = 8  # images of each retained concept, for methods that use them
    scheduler: str = "dpmsolver++"  # one of SCHEDULERS
    num_inference_steps: int = 20
    guidance_scale: float = 7.5  # scale of classifier-free guidance, at least 0; see `bench.core.guidance`
    precision: str = "auto"  # precision of forward passes, one of PRECISIONS; auto is bf16 if the hardware supports it
    evaluation_seed: int = 1  # seed of the noise of evaluation images; must differ from forget_seed
    forget_seed: int = 2  # seed of the noise of images that methods train on
    noise_seeds: tuple[int, ...] = ()  # one seed for each evaluation image of a prompt, if a protocol prescribes seeds
    reference_per_concept: int | None = 60  # reference images of each concept, for FID
    reference_per_prompt: int | None = None  # reference images for each evaluation prompt of a concept
    finetune_steps: int = 200  # optimiser steps when an unlearned model is trained further
    finetune_batch: int = 8  # batch size of this training
    finetune_pictures: int = 64  # neutral pictures to train further on; of concepts, as many images as methods train on
    finetune_lr: float = 1e-5  # learning rate when the whole U-Net is trained further
    lora_lr: float = 1e-4  # learning rate when low-rank adapters are trained
    lora_rank: int = 4  # rank of these adapters
    probe_timesteps: int = 20  # number of timesteps at which residual mutual information compares predictions
    timestep_spacing: str | None = added(None)  # one of SPACINGS[scheduler]; None: the first of these

    COUNTS: ClassVar = (
        *("curve_images", "forget_images", "retain_images", "num_inference_steps", "lora_rank"),
        *("finetune_steps", "finetune_batch", "finetune_pictures"),
    )
    ALTERNATIVES: ClassVar = (
        ("images_per_concept", "images_per_prompt"),
        ("reference_per_concept", "reference_per_prompt"),
    )

    def __post_init__(self) -> None:
        require_finite(self)
        for names in self.ALTERNATIVES:
            given = [getattr(self, name) for name in names if getattr(self, name) is not None]
            if len(given) != 1 or given[0] < 1:
                found = ", ".join(f"{name}={getattr(self, name)}" for name in names)
                raise ValueError(f"exactly one of {' and '.join(names)} must be set, to at least 1; found {found}")
        if self.images_per_prompt and self.noise_seeds and self.images_per_prompt > len(self.noise_seeds):
            raise ValueError(
                f"images_per_prompt is {self.images_per_prompt}, but noise_seeds has only {len(self.noise_seeds)} seeds"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"unknown scheduler {self.scheduler!r}; known: {', '.join(SCHEDULERS)}")
        if self.spacing not in SPACINGS[self.scheduler]:
            known = ", ".join(SPACINGS[self.scheduler])
            raise ValueError(
                f"unknown timestep_spacing {self.timestep_spacing!r} of scheduler {self.scheduler!r}; known: {known}"
            )
        require_at_least(self, 1, *self.COUNTS)
        require_at_least(self, 0, "finetune_lr", "lora_lr")
        for name in (*self.COUNTS, *itertools.chain(*self.ALTERNATIVES), "probe_timesteps"):
            if (getattr(self, name) or 0) > MAX_COUNT:
                raise ValueError(f"{name} must be at most {MAX_COUNT}, not {getattr(self, name)}")
        if wrong := [seed for seed in self.noise_seeds if not 0 <= seed <= MAX_SEED]:
            raise ValueError(f"noise_seeds must be within 0..{MAX_SEED}; found {wrong[0]}")
        if len(set(self.noise_seeds)) < len(self.noise_seeds):
            raise ValueError(f"noise_seeds must be different: equal seeds give equal images; found {self.noise_seeds}")
        require_scale("guidance_scale", self.guidance_scale)
        if self.reference_per_concept == 1:
            raise ValueError("reference_per_concept must be at least 2, not 1: FID needs a covariance")
        if self.probe_timesteps < 2:
            raise ValueError(f"probe_timesteps must be at least 2, not {self.probe_timesteps}: MI needs an integral")
        if self.evaluation_seed == self.forget_seed:
            raise ValueError(f"evaluation_seed and forget_seed must differ; both are {self.forget_seed}")

    @property
    def spacing(self) -> str:
        """How the solver's timesteps are spread over the training timesteps."""
        return self.timestep_spacing or SPACINGS[self.scheduler][0]


@dataclass(frozen=True)
class Quick:
    """The sizes that --quick uses. Methods train as without it; fewer images are sampled and measured afterwards."""

    tasks: int = 2  # the first and the last task of a suite, which differ in domain and band if it has several
    images_per_concept: int = 2
    reference_per_concept: int = 20


QUICK = Quick()


WHAT, PHOTOGRAPHS, MEASURE = "what to run", "worlds of photographs and paintings", "how to measure"
MEMORY, WHERE, HOW = "on a small card (docs/memory.md)", "where", "how to run it"


@dataclass(frozen=True)
class RunConfig:
    """One run of the benchmark, as the command line describes it.

    Each field declares its flag. The parser, the command that resumes a run, the identity of a run and the name of its
    board (`bench.plan.board_name`) follow from that.
    """

    methods: tuple[str, ...] = flag(
        ("mimmu", "salun"), 'methods to compare: names, patterns as "esd*", tags as "tag:closed-form", or "all" '
        "(default: {default})", WHAT,
        metavar="NAME", many=True,
    )  # fmt: skip
    suite: str = flag("finegrained", "what to forget (default: {default})", WHAT, board=1)
    world: str = flag("pocket", "what can be drawn and judged (default: {default})", WHAT, board=2)
    concepts: Path | None = flag(
        None, "a YAML file of concepts of yours in place of a world (docs/your-own-concepts.md)", WHAT,
        metavar="FILE", parse=absolute, board=2,
    )  # fmt: skip
    backbone: str | None = flag(
        None, "pocket, {backbones}, a hub id, a diffusers folder or a .safetensors file (default: the world's)", WHAT,
        metavar="MODEL", elsewhere=model_elsewhere, shared=shared_model, board=3,
    )  # fmt: skip
    backbone_config: str | None = flag(
        None, "name, hub id or folder of the configuration and tokenizer for a single .safetensors file", WHAT,
        metavar="MODEL", elsewhere=model_elsewhere, shared=shared_model,
    )  # fmt: skip
    backbone_weights: str | None = flag(
        None, "which weights of the U-Net to take from a --backbone that has several: ema or non_ema (default: the "
        "usual ones; docs/backbones.md)", WHAT, metavar="KIND",
    )  # fmt: skip
    data: Path | None = flag(
        None, "folder of the world's data sets; see the command prepare", PHOTOGRAPHS,
        metavar="DIR", parse=absolute, shared=lambda folder: folder and Path("DIR"),
    )  # fmt: skip
    neighbours: str | None = flag(
        None, 'how many near concepts must stay, by judge features; or "all" of the domain', PHOTOGRAPHS,
        metavar="K", parse=number_or_name, board=7,
    )  # fmt: skip
    clip: str | None = flag(
        None, 'open_clip model behind CLIP score, or "none"', PHOTOGRAPHS,
        metavar="MODEL/WEIGHTS", shared=lambda name: name and without_folders(name, model=True), board=9,
    )  # fmt: skip
    judges: tuple[str, ...] = flag(
        (), "who judges: a timm ImageNet classifier (dogs), open_clip:MODEL/WEIGHTS, or a trained judge's file",
        PHOTOGRAPHS, name="judge", metavar="[DOMAIN=]NAME", many=True, board=8,
    )  # fmt: skip
    models: tuple[str, ...] = flag(
        (), "finished models to measure as rows: a path or a hub id (OWNER/NAME:FILE) in which concept, task, seed or "
        "step stand in braces, or a .yaml file of names and paths (docs/evaluate-your-model.md)", WHAT,
        metavar="NAME=PATTERN", many=True, elsewhere=models_elsewhere,
    )  # fmt: skip
    seeds: tuple[int, ...] = flag(  # of training; evaluation noise is the protocol's
        (0,), "number of training seeds (default: 1), or a list of seeds: 4,5", WHAT,
        metavar="N", parse=parse_seeds, write=write_seeds, joined=lambda words: ",".join([*words, ""]),
    )  # fmt: skip
    metrics: tuple[str, ...] = flag(
        ("all",), 'metrics to compute: names, patterns as "pid_*", or "all" (default: {default}); '
        "what a cell costs is always measured", MEASURE, metavar="NAME", many=True,
    )  # fmt: skip
    # checkpoints along each training that are measured, the last included; 0: none; None: as many as the suite says
    curve: int | None = flag(
        None, "measure K checkpoints along each training too (at least 2, the last included), on fewer images: "
        "retention at matched forgetting; 0 for none (default: {curves}, else 0)", MEASURE, metavar="K", parse=int,
    )  # fmt: skip
    sample_batch: int | None = flag(  # for memory; in fp32 an image does not depend on it. None: by picture size
        None, "images drawn at a time; in bf16 images depend on it by rounding (default: {batches})", MEASURE,
        metavar="N", parse=int,
    )  # fmt: skip
    overrides: Overrides = flag(
        {}, "change a method's setting (mimmu.lr=1e-5) or the protocol's (protocol.guidance_scale=3)", WHAT,
        name="set", metavar="SECTION.FIELD=VALUE", many=True, gather=parse, write=write, board=11,
    )  # fmt: skip
    forget: tuple[str, ...] = flag(
        (), "concepts to forget in place of the suite's own choice: each alone (finegrained, resurgence, "
        "noise-ablation), all at once (multi), one after another (sequential)", WHAT,
        metavar="CONCEPT", many=True, board=5,
    )  # fmt: skip
    several: tuple[int, ...] = flag(
        (), "how many concepts to forget at once, for the suite multi (2 4 8)", WHAT,
        name="k", metavar="N", many=True, parse=int, board=4,
    )  # fmt: skip
    sweep: Sweep = flag(  # every combination is a row of its own
        {}, "a row for each value of a method's setting, or for each combination of several "
        "(mimmu.t_max=300,600,950)", WHAT,
        metavar="METHOD.FIELD=V1,V2", many=True, gather=parse_sweep, write=write_sweep, ranges=True, board=6,
    )  # fmt: skip
    plugins: tuple[Path, ...] = flag(  # loaded before any name is looked up
        (), "python files that register methods, metrics, worlds or suites", WHAT,
        name="plugin", metavar="FILE", many=True, parse=absolute,
    )  # fmt: skip
    quick: bool = flag(
        False, f"{QUICK.tasks} tasks, {QUICK.images_per_concept} images a concept; the board says so in its name",
        MEASURE, switch=True, board=12,
    )  # fmt: skip
    compile: bool = flag(  # compiled code rounds differently, so keys and the fingerprint contain this flag
        False, "compile the U-Net (torch.compile): pays on CUDA in long runs; the first cell of a process waits for it",
        MEASURE, switch=True, board=10,
    )  # fmt: skip
    gradient_checkpointing: bool = flag(
        False, "keep few activations in training and compute the rest again: the same weights, in a third more time",
        MEMORY, switch=True,
    )  # fmt: skip
    force: bool = flag(
        False, "compute the named methods again, whatever the store has", HOW, switch=True, identity=False
    )
    overwrite: bool = flag(
        False, "replace a board of the same name that was made with other settings", HOW, switch=True, identity=False
    )
    out: Path = flag(
        Path("leaderboards"), "folder of the tables and of the store, DIR/.store (default: {default})", WHERE,
        metavar="DIR", parse=Path, elsewhere=Path.absolute, shared=None,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.sample_batch is not None and self.sample_batch < 1:
            raise ValueError(f"sample_batch must be at least 1, not {self.sample_batch}")
        if self.curve is not None and (self.curve < 0 or self.curve == 1):
            raise ValueError(
                f"--curve must be at least 2, or 0 for no curve, not {self.curve}: a curve has a checkpoint along the "
                "training besides the one at its end"
            )
        if self.curve is not None and self.curve > MAX_CURVE:
            raise ValueError(f"--curve must be at most {MAX_CURVE}, not {self.curve}")

    @property
    def world_name(self) -> str:
        """The name of the run's world: "own" for a file of concepts."""
        return self.world if self.concepts is None else OWN

    @property
    def command(self) -> str:
        """The shortest command line that describes this run.

        >>> RunConfig(methods=("esd-x",), seeds=(0, 1)).command
        'python run_bench.py --methods esd-x --seeds 2'
        """
        return f"python run_bench.py {joined(words_of(self, always=('methods',)))}"

    @property
    def identity(self) -> str:
        """A text that tells two runs apart: runs with the same text compute the same cells into the same folder."""
        return self.elsewhere().command

    def elsewhere(self) -> RunConfig:
        """The same run for a process on another host or in another folder.

        Paths are absolute. Flags that do not change the results have their default.
        """
        return self._with(lambda one: one.elsewhere if one.identity else None)

    @property
    def shared_command(self) -> str:
        """The command that makes this run's board, with file names instead of paths, and without --out and --force."""
        return self._with(lambda one: one.shared if one.identity else None).command

    def _with(self, change: Callable[[Flag], Callable[[Any], Any] | None]) -> RunConfig:
        """A copy in which `change(flag)` gives the function for each field; a field without one has its default."""
        values = defaults_of(type(self))
        for name, one in flags_of(type(self)).items():
            if (function := change(one)) is not None:
                values[name] = function(getattr(self, name))
        return dataclasses.replace(self, **values)
