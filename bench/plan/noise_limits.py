"""Checks settings of the noise: numbers of timesteps that the backbone has, and seeds for every image."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.backbones import sampling_paths, solvers
from bench.backbones.noise_schedule import NoiseSchedule
from bench.core.config import Protocol
from methods.base import MethodConfig

PATH_STEPS = "path_steps"  # name of the setting of every method that calls `Harness.sampled`
LAST_TIMESTEP = "t_max"  # name of the setting of every method that draws timesteps within a range


def require_fitting(noise: NoiseSchedule, protocol: Protocol, configs: Mapping[str, MethodConfig]) -> None:
    """Raise ValueError for a number of sampling steps or a timestep that the backbone does not have.

    Args:
        noise: the backbone's noise schedule.
        protocol: the run's protocol.
        configs: row of the board -> the settings of its method.
    """
    timesteps, sampler = noise.num_train_timesteps, (protocol.scheduler, protocol.spacing)
    solvers.require_steps("protocol: num_inference_steps", protocol.num_inference_steps, *sampler, timesteps)
    path = sampling_paths.SOLVER, sampling_paths.SPACING
    for name, config in configs.items():
        if (steps := getattr(config, PATH_STEPS, None)) is not None:
            solvers.require_steps(f"{name}: {PATH_STEPS}", steps, *path, timesteps)
        last = getattr(config, LAST_TIMESTEP, None)
        if last is not None and last >= timesteps:
            raise ValueError(
                f"{name}: {LAST_TIMESTEP} must be at most {timesteps - 1}, not {last}: this backbone was trained with "
                f"the timesteps 0..{timesteps - 1}"
            )


def require_seeds(concept: str, images: int, prompts: int, seeds: int) -> None:
    """Raise ValueError if a prompt of a concept has more images than the protocol has noise seeds.

    Args:
        concept: the concept.
        images: number of its evaluation images, which are spread over its prompts.
        prompts: number of its evaluation prompts.
        seeds: number of the protocol's noise seeds.
    """
    if (each := math.ceil(images / prompts)) > seeds:
        raise ValueError(
            f"protocol: noise_seeds has {seeds}, but {images} images of {concept!r} with {prompts} prompts need "
            f"{each} noise seeds: name more of them, or sample fewer images"
        )
