"""From a folder's scheduler come its noise schedule and nothing else."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.backbones import noise_schedule, pipeline, sampling_paths, solvers
from bench.backbones.checks import settings_check
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import denoise, image_specs, initial_latents
from bench.core.config import SPACINGS, Protocol
from bench.training.harness import Harness

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
PROMPTS = ("a photo of a red rose", "one photo of a blue jay")
CLASSES = sorted(name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith("Flax"))
TASTES: dict[str, list[Any]] = {
    "algorithm_type": ["dpmsolver", "dpmsolver++", "sde-dpmsolver++", "deis", "unheard of"],
    "solver_order": [1, 2, 3, 40],
    "solver_type": ["midpoint", "heun", "bh2", "unheard of"],
    "lower_order_final": [True, False],
    "euler_at_final": [True, False],
    "final_sigmas_type": ["zero", "sigma_min", "unheard of"],
    "lambda_min_clipped": [-5.1, -math.inf],
    "timestep_spacing": ["linspace", "leading", "trailing", "unheard of"],
    "steps_offset": [0, 1, 7],
    "set_alpha_to_one": [True, False],
    "clip_sample": [True, False],
    "clip_sample_range": [0.1, 1.0],
    "thresholding": [True, False],
    "dynamic_thresholding_ratio": [0.5, 0.995],
    "sample_max_value": [0.1, 1.0],
    "use_karras_sigmas": [True, False],
    "use_exponential_sigmas": [True, False],
    "use_beta_sigmas": [True, False],
    "use_lu_lambdas": [True, False],
    "use_flow_sigmas": [True, False],
    "flow_shift": [1.0, 3.0],
    "use_dynamic_shifting": [True, False],
    "variance_type": [None, "fixed_small", "learned", "learned_range"],
    "eta": [0.0, 1.0],
    "skip_prk_steps": [True, False],
    "rescale_betas_zero_snr": [False, None],
    "interpolation_type": ["linear", "log_linear"],
    "original_inference_steps": [50],
    "trained_betas": [None],
    "prediction_type": ["epsilon"],
    "nobody knows": [[1, {"a": None}]],
}
WAYS = [("dpmsolver++", "linspace"), ("dpmsolver++", "leading"), ("ddim", "leading")]


def tastes() -> st.SearchStrategy[dict[str, Any]]:
    """What a scheduler's configuration may say besides its betas: its class and any settings of solvers."""
    some = {name: st.sampled_from(values) for name, values in TASTES.items()}
    return st.builds(
        lambda kind, more: {"_class_name": kind, **more},
        st.sampled_from([*CLASSES, "SomebodysOwnScheduler"]),
        st.fixed_dictionaries({}, optional=some),
    )


def sampled(model: Backbone, way: tuple[str, str]) -> torch.Tensor:
    """Final latents of two images."""
    protocol = Protocol(scheduler=way[0], timestep_spacing=way[1], num_inference_steps=2, guidance_scale=3.0)
    return denoise(model, PROMPTS, initial_latents(model.latent_shape, 1, image_specs(PROMPTS, 2)), protocol)


@given(config=tastes(), way=st.sampled_from(WAYS))
@settings(max_examples=25)
def test_nothing_but_the_noise_schedule_is_read(config: dict[str, Any], way: tuple[str, str]) -> None:
    plain, read = noise_schedule.read(BETAS, "plain"), noise_schedule.read({**config, **BETAS}, "odd")
    assert read == plain
    one, other = (solvers.make(*way, schedule, 7) for schedule in (plain, read))
    assert dict(one.config) == dict(other.config)
    assert torch.equal(one.timesteps, other.timesteps)


@pytest.fixture(scope="module")
def copied(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path_factory.mktemp("odd") / "pipeline"))


@pytest.fixture(scope="module")
def plain(pipeline_folder: Path) -> dict[tuple[str, str], torch.Tensor]:
    """The latents of the tiny pipeline, whose scheduler has the noise schedule BETAS."""
    model = pipeline.load(pipeline_folder, torch.device("cpu"), "fp32")
    return {way: sampled(model, way) for way in WAYS}


@given(config=tastes())
@settings(max_examples=3)
def test_latents_are_those_of_a_folder_with_a_plain_scheduler(
    copied: Path, plain: dict[tuple[str, str], torch.Tensor], config: dict[str, Any]
) -> None:
    (copied / noise_schedule.FILE).write_text(json.dumps({**config, **BETAS}))
    model = pipeline.load(copied, torch.device("cpu"), "fp32")
    for way in WAYS:
        assert torch.equal(sampled(model, way), plain[way])
    path, other = (sampling_paths.ddim(one, 5) for one in (model.noise_schedule, noise_schedule.read(BETAS, "plain")))
    assert dict(path.config) == dict(other.config)


@pytest.mark.parametrize(
    "change",
    [
        {"beta_start": 0.001},
        {"beta_end": 0.02},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"num_train_timesteps": 500},
        {"trained_betas": [0.001 + 1e-5 * i for i in range(1000)]},
    ],
    ids=str,
)
def test_another_noise_schedule_gives_other_latents(
    model: Backbone, plain: dict[tuple[str, str], torch.Tensor], change: dict[str, Any]
) -> None:
    schedule = noise_schedule.read({**BETAS, **change}, "other")
    model.pipeline.scheduler = noise_schedule.noising(schedule)
    for way in WAYS[::2]:
        latents = sampled(model, way)
        assert torch.isfinite(latents).all()
        assert not torch.allclose(latents, plain[way], atol=1e-3)
    alphas = noise_schedule.noising(noise_schedule.read(BETAS, "plain")).alphas_cumprod
    other = noise_schedule.noising(schedule).alphas_cumprod
    assert other.shape != alphas.shape or not torch.allclose(other, alphas)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prediction_type": "v_prediction"}, "predicts 'v_prediction'"),
    ({"prediction_type": "sample"}, "predicts 'sample'"),
    ({"prediction_type": "flow_prediction"}, "predicts 'flow_prediction'"),
    ({"prediction_type": None}, "predicts None"),
    ({"prediction_type": ["epsilon"]}, "predicts \\['epsilon'\\]"),
    ({"rescale_betas_zero_snr": True}, "terminal SNR of zero"),
    ({"beta_start": None}, "does not name its beta_start"),
    ({"beta_schedule": None}, "does not name its beta_schedule"),
    ({"beta_schedule": "laplace"}, "unknown beta_schedule 'laplace'; known: linear"),
    ({"beta_start": 0}, "beta_start must be a number between 0 and 1"),
    ({"beta_start": -0.1}, "beta_start"),
    ({"beta_start": True}, "beta_start"),
    ({"beta_start": "0.1"}, "beta_start"),
    ({"beta_end": 1.0}, "beta_end must be a number between 0 and 1"),
    ({"beta_end": math.nan}, "beta_end.*nan"),
    ({"beta_end": math.inf}, "beta_end.*inf"),
    ({"beta_end": 0.9}, "betas are too large"),
    ({"num_train_timesteps": 1000.0}, "num_train_timesteps must be a whole number"),
    ({"num_train_timesteps": 0}, "num_train_timesteps must be a whole number"),
    ({"num_train_timesteps": 10**9}, "num_train_timesteps must be a whole number"),
    ({"trained_betas": [0.1] * 10}, "num_train_timesteps is 1000, but trained_betas has 10 values"),
    ({"trained_betas": [0.001] * 999 + [1.0]}, r"trained_betas\[999\]"),
    ({"trained_betas": [0.001] * 999 + [math.nan]}, r"trained_betas\[999\]"),
    ({"trained_betas": [0.001] * 999 + ["0.1"]}, r"trained_betas\[999\]"),
    ({"trained_betas": "linear"}, "trained_betas must be a list of numbers"),
    ({"trained_betas": [0.2] * 1000}, "betas are too large"),
]


@pytest.mark.parametrize(
    ("change", "said"), WRONG, ids=lambda value: None if isinstance(value, str) else str(value)[:60]
)
def test_wrong_noise_schedules_are_refused_with_the_folder(copied: Path, change: dict[str, Any], said: str) -> None:
    (copied / noise_schedule.FILE).write_text(json.dumps({**BETAS, **change}))
    with pytest.raises(ValueError, match=f"{copied}: .*{said}"):
        settings_check.require_usable(copied)


def test_betas_must_be_named_because_classes_have_different_defaults() -> None:
    with pytest.raises(
        ValueError, match="the EulerDiscreteScheduler does not name its beta_schedule and beta_start and"
    ):
        noise_schedule.read({"_class_name": "EulerDiscreteScheduler"}, "x")
    assert noise_schedule.read({"beta_schedule": "squaredcos_cap_v2"}, "x").num_train_timesteps == 1000


@pytest.mark.parametrize("solver", SPACINGS)
@pytest.mark.parametrize("timesteps", [3, 10, 37, 1000])
def test_the_number_of_steps_is_refused_exactly_where_timesteps_repeat_or_end(solver: str, timesteps: int) -> None:
    schedule = noise_schedule.NoiseSchedule(timesteps, "linear", 0.001, 0.02)
    for spacing in SPACINGS[solver]:
        near = [*range(1, 12), *range(timesteps - 5, timesteps + 3), timesteps // 2, timesteps // 2 + 1, 499, 501]
        for steps in {n for n in near if n > 0}:
            scheduler = {"ddim": diffusers.DDIMScheduler, "dpmsolver++": diffusers.DPMSolverMultistepScheduler}[solver]
            made = scheduler(**schedule.settings, **solvers.settings(solver, spacing))
            try:
                made.set_timesteps(steps)
                taken = made.timesteps.tolist()
            except (ValueError, ZeroDivisionError):
                taken = []
            fine = len({*taken}) == steps and all(0 <= t < timesteps for t in taken)
            try:
                solvers.require_steps("steps", steps, solver, spacing, timesteps)
            except ValueError:
                assert not fine, (solver, spacing, timesteps, steps)
            else:
                assert fine, (solver, spacing, timesteps, steps)


def test_every_setting_of_the_diffusers_solvers_is_prescribed() -> None:
    """A new version of diffusers may have new settings: decide on them, and write them down."""
    without_effect = {
        "dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range", "flow_shift", "time_shift_type",
        "use_dynamic_shifting", "rescale_betas_zero_snr",
    }  # fmt: skip
    for solver, kind in (("ddim", diffusers.DDIMScheduler), ("dpmsolver++", diffusers.DPMSolverMultistepScheduler)):
        known = {*solvers.settings(solver, "leading"), *noise_schedule.read(BETAS, "x").settings} | without_effect
        assert {*kind().config} - {"_use_default_values"} - known == set()


def test_training_noise_is_that_of_the_schedule(harness: Any, model: Backbone) -> None:
    place: Harness = harness(0)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    assert torch.equal(place.noise_scheduler.alphas_cumprod, torch.cumprod(1 - betas, 0))
    assert dataclasses.asdict(model.noise_schedule) == {**BETAS, "trained_betas": None}
