"""Every default of the benchmark itself. Methods keep theirs in their own config, worlds in their presets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.core.guidance import require_scale
from bench.core.overrides import Overrides, Sweep, require_finite

SCHEDULERS = ("dpmsolver++", "ddim")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Protocol:
    """How models are sampled and measured; whatever changes a figure is in the fingerprint through this class.

    A world sets its own values, a suite may scale them down, `--set protocol.FIELD=VALUE` has the last word. Of
    `..._per_concept` and `..._per_prompt` one is set and the other none.
    """

    images_per_concept: int | None = 10  # evaluation images of every concept, spread over its evaluation prompts
    images_per_prompt: int | None = None  # evaluation images of each evaluation prompt
    curve_images: int = 6  # of these, how many are drawn at each checkpoint of a curve
    forget_images: int = 64  # images of each forgotten concept that methods train on
    retain_images: int = 8  # images of each retained concept, for methods that ask for any
    scheduler: str = "dpmsolver++"  # one of SCHEDULERS
    num_inference_steps: int = 20
    guidance_scale: float = 7.5  # of classifier-free guidance, at least 0, as `bench.core.guidance` says
    precision: str = "auto"  # of forward passes, one of PRECISIONS; auto is bf16 where the hardware has it
    evaluation_seed: int = 1  # noise of evaluation images; never that of the forget set
    forget_seed: int = 2
    noise_seeds: tuple[int, ...] = ()  # of a prompt's evaluation images, in order, where a protocol prescribes them
    reference_per_concept: int | None = 60  # real pictures of each concept that FID compares with
    reference_per_prompt: int | None = None  # the same, in proportion to its evaluation prompts
    finetune_steps: int = 200  # of training an unlearned model further
    finetune_batch: int = 8
    finetune_pictures: int = 64  # of those that show no concept; of others as many as methods learn from
    finetune_lr: float = 1e-5  # of the whole U-Net
    lora_lr: float = 1e-4  # of low-rank adapters
    lora_rank: int = 4
    probe_timesteps: int = 20  # noise levels at which residual mutual information looks at the model

    ALTERNATIVES: ClassVar = (
        ("images_per_concept", "images_per_prompt"),
        ("reference_per_concept", "reference_per_prompt"),
    )

    def __post_init__(self) -> None:
        require_finite(self)
        for names in self.ALTERNATIVES:
            given = [getattr(self, name) for name in names if getattr(self, name) is not None]
            if len(given) != 1 or given[0] < 1:
                raise ValueError(f"one of {' and '.join(names)} must be given, and at least 1")
        if self.images_per_prompt and self.noise_seeds and self.images_per_prompt > len(self.noise_seeds):
            raise ValueError(f"{self.images_per_prompt} images a prompt, but noise_seeds has {len(self.noise_seeds)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"unknown scheduler {self.scheduler!r}; known: {', '.join(SCHEDULERS)}")
        whole = ("curve_images", "forget_images", "retain_images", "num_inference_steps", "lora_rank")
        for name in (*whole, "finetune_steps", "finetune_batch", "finetune_pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        require_scale("guidance_scale", self.guidance_scale)
        if self.reference_per_concept == 1:
            raise ValueError("reference_per_concept must be at least 2 for a covariance")
        if self.probe_timesteps < 2:
            raise ValueError("probe_timesteps must be at least 2 for an integral")
        if self.evaluation_seed == self.forget_seed:
            raise ValueError("evaluation_seed and forget_seed must differ")


@dataclass(frozen=True)
class Quick:
    """What --quick makes smaller. Methods train as ever; only what is drawn and measured after that shrinks."""

    tasks: int = 2  # the first and the last of a suite, which differ in domain and band where it has several
    images_per_concept: int = 2
    reference_per_concept: int = 20


QUICK = Quick()


@dataclass(frozen=True)
class RunConfig:
    """One run of the benchmark, as the command line describes it."""

    methods: tuple[str, ...] = ("mimmu", "salun")
    suite: str = "finegrained"
    world: str = "pocket"
    backbone: str | None = None  # None: the world's own
    backbone_config: str | None = None  # of a backbone in a single file
    data: Path | None = None  # the next four as in bench.worlds.base.Options
    judges: tuple[str, ...] = ()
    neighbours: str | None = None
    clip: str | None = None
    seeds: tuple[int, ...] = (0,)  # of training; evaluation noise is the protocol's
    metrics: tuple[str, ...] = ("all",)
    overrides: Overrides = field(default_factory=dict)
    sweep: Sweep = field(default_factory=dict)  # method -> field -> values, every combination a row of its own
    forget: tuple[str, ...] = ()  # what to forget in place of the suite's own choice
    several: tuple[int, ...] = ()  # how many at once, of suites that ask for that
    plugins: tuple[Path, ...] = ()  # files to load before any name is looked up, absolute
    quick: bool = False
    compile: bool = False  # the U-Net, by torch.compile: other rounding, so other stages and another fingerprint
    gradient_checkpointing: bool = False  # activations are computed again for the gradient, not kept: the same weights
    force: bool = False
    # checkpoints along each training that are measured, the last included; 0: none; None: as many as the suite says
    curve: int | None = None
    out: Path = Path("leaderboards")
    sample_batch: int | None = None  # for memory; in fp32 an image does not depend on it. None: by picture size

    def __post_init__(self) -> None:
        if self.sample_batch is not None and self.sample_batch < 1:
            raise ValueError(f"sample_batch must be at least 1, not {self.sample_batch}")
        if self.curve is not None and (self.curve < 0 or self.curve == 1):
            raise ValueError(
                f"--curve must be at least 2, or 0 for no curve, not {self.curve}: a curve has a checkpoint along the "
                "training besides the one at its end"
            )
