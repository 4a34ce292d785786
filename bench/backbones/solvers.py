"""The solvers that sample a model. All their settings stand here or in the protocol, and none comes from a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.core.config import SPACINGS

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    from bench.backbones.noise_schedule import NoiseSchedule

NEITHER = {"thresholding": False}  # latents are neither thresholded nor clipped, because they have no fixed range
SOLVERS: dict[str, dict[str, Any]] = {
    # DPM-Solver++(2M), Lu et al., 2022; the last steps of a path with fewer than 15 steps have a lower order
    "dpmsolver++": {
        **NEITHER,
        "algorithm_type": "dpmsolver++",
        "solver_order": 2,
        "solver_type": "midpoint",
        "lower_order_final": True,
        "euler_at_final": False,
        "final_sigmas_type": "zero",
        "lambda_min_clipped": -math.inf,
        "variance_type": None,
        "use_karras_sigmas": False,
        "use_exponential_sigmas": False,
        "use_beta_sigmas": False,
        "use_lu_lambdas": False,
        "use_flow_sigmas": False,
    },
    # DDIM, Song et al., 2021, as Stable Diffusion was released: after the last step alpha_bar is that of timestep 0
    "ddim": {**NEITHER, "clip_sample": False, "set_alpha_to_one": False},
}
ABOUT = {  # solver -> its settings for people
    "dpmsolver++": "2M: order 2, midpoint, last sigma 0, no thresholding",
    "ddim": "η 0, alpha of timestep 0 at the end, no clipping",
}
OFFSET = 1  # of "leading" timesteps, as Stable Diffusion was released


def settings(solver: str, spacing: str) -> dict[str, Any]:
    """All settings of a solver besides the noise schedule, by their names in diffusers.

    Args:
        solver: one of `bench.core.config.SCHEDULERS`.
        spacing: one of its `bench.core.config.SPACINGS`.
    """
    return {**SOLVERS[solver], "timestep_spacing": spacing, "steps_offset": OFFSET if spacing == "leading" else 0}


def make(solver: str, spacing: str, schedule: NoiseSchedule, steps: int) -> DDIMScheduler | DPMSolverMultistepScheduler:
    """A solver with `steps` steps, for a model with this noise schedule. Its coefficients are on the CPU.

    Raises ValueError like `require_steps`.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler  # seconds to import; lists need none of it

    require_steps("the number of sampling steps", steps, solver, spacing, schedule.num_train_timesteps)
    kinds = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
    scheduler = kinds[solver](**schedule.settings, **settings(solver, spacing))
    scheduler.set_timesteps(steps, device="cpu")
    return scheduler


def require_steps(name: str, steps: int, solver: str, spacing: str, timesteps: int) -> None:
    """Raise ValueError unless a solver can take `steps` different steps within `timesteps` training timesteps.

    >>> require_steps("num_inference_steps", 1000, "ddim", "leading", 1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: num_inference_steps must be within 1..999, not 1000: ...
    """
    most = timesteps - (2 if (solver, spacing) == ("dpmsolver++", "leading") else 1)
    if not 1 <= steps <= most:
        raise ValueError(
            f"{name} must be within 1..{most}, not {steps}: this backbone was trained with {timesteps} timesteps, and "
            f"{solver} with {spacing} timesteps takes at most {most} different ones"
        )


SAME = {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint", "deis": "dpmsolver++"}  # other solvers' settings
LEARNED = ("learned", "learned_range")  # values of variance_type that change what DPM-Solver++ computes


def formerly(config: Mapping[str, Any], solver: str, spacing: str | None = None) -> dict[str, Any]:
    """The settings that release 0.1 gave a solver, which took them from the configuration of the folder's scheduler.

    Cache keys compare them with `settings`. `spacing` is the spacing that release 0.1 prescribed; None: it took that
    from the folder too.
    """
    defaults = {**SOLVERS[solver], "timestep_spacing": SPACINGS[solver][0], "steps_offset": 0}
    if solver == "ddim":
        defaults["set_alpha_to_one"] = True  # the default of diffusers, where the folder had no such setting
    taken = {name: config.get(name, value) for name, value in defaults.items()}
    taken = {name: SAME.get(value, value) if isinstance(value, str) else value for name, value in taken.items()}
    taken["timestep_spacing"] = spacing or taken["timestep_spacing"]
    # the pipeline of diffusers replaced every offset that the folder named by this one
    taken["steps_offset"] = OFFSET if "steps_offset" in config and taken["timestep_spacing"] == "leading" else 0
    if "clip_sample" in taken:
        taken["clip_sample"] = False  # release 0.1 prescribed this one
    if "variance_type" in taken and taken["variance_type"] not in LEARNED:
        taken["variance_type"] = None  # every other value leaves the model's prediction as it is
    return taken
