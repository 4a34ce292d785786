"""Checks settings that depend on the number of timesteps that a backbone was trained with."""

from __future__ import annotations

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
