"""How a diffusion model was trained to see noise: the only settings of a folder's scheduler that Lethe uses.

The file `scheduler/scheduler_config.json` of a pipeline also names a solver and its settings. Lethe
ignores them: the protocol decides how a model is sampled (`bench.backbones.solvers`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

FILE = "scheduler/scheduler_config.json"
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")  # that every scheduler of diffusers computes alike
COSINE = "squaredcos_cap_v2"  # it has no end points
TIMESTEPS = 1000  # `num_train_timesteps` of a file that does not name it, as every class of diffusers has it
FEWEST, MOST = 3, 100_000  # accepted values of `num_train_timesteps`
SMALLEST_BETA = 1e-7  # in float32, 1 minus a smaller beta would be 1
LEAST_LOG_SIGNAL = -80.0  # least log of alpha_bar at the last timestep; float32 has no smaller normal numbers below -87


@dataclass(frozen=True)
class NoiseSchedule:
    """The betas of a diffusion model. The model predicts the noise ("epsilon").

    Args:
        num_train_timesteps: number of timesteps T.
        beta_schedule: one of SCHEDULES.
        beta_start, beta_end: the first and the last beta, in (0, 1); without effect if `beta_schedule` is COSINE.
        trained_betas: all T betas, each in (0, 1), in place of those that follow from the other fields.

    Raises ValueError for a value out of its range, and for betas that leave no signal at the last timestep.
    """

    num_train_timesteps: int
    beta_schedule: str
    beta_start: float
    beta_end: float
    trained_betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        steps = self.num_train_timesteps
        if isinstance(steps, bool) or not isinstance(steps, int) or not FEWEST <= steps <= MOST:
            raise ValueError(f"num_train_timesteps must be a whole number within {FEWEST}..{MOST}, not {steps!r}")
        if self.trained_betas is not None and len(self.trained_betas) != steps:
            raise ValueError(
                f"num_train_timesteps is {steps}, but trained_betas has {len(self.trained_betas)} values; "
                "there must be one for each timestep"
            )
        if self.beta_schedule not in SCHEDULES:
            raise ValueError(f"unknown beta_schedule {self.beta_schedule!r}; known: {', '.join(SCHEDULES)}")
        given = {"beta_start": self.beta_start, "beta_end": self.beta_end}
        if self.trained_betas is not None:
            given = {f"trained_betas[{i}]": beta for i, beta in enumerate(self.trained_betas)}
        for name, beta in given.items():
            number = isinstance(beta, (int, float)) and not isinstance(beta, bool)
            if not (number and SMALLEST_BETA <= beta <= 1 - SMALLEST_BETA):
                raise ValueError(f"{name} must be a number between 0 and 1, at least {SMALLEST_BETA:g}, not {beta!r}")
        if (log_signal := self._log_signal()) < LEAST_LOG_SIGNAL:
            raise ValueError(
                f"its betas are too large: after {steps} timesteps the signal's share is e^{log_signal:.0f}, which "
                f"float32 rounds to 0; it must be at least e^{LEAST_LOG_SIGNAL:.0f}"
            )

    def _log_signal(self) -> float:
        """Logarithm of alpha_bar, the product of all 1 - beta, at the last timestep."""
        if self.trained_betas is not None:
            return sum(math.log1p(-beta) for beta in self.trained_betas)
        if self.beta_schedule == COSINE:
            return 0.0  # diffusers limits these betas
        power = 0.5 if self.beta_schedule == "scaled_linear" else 1.0
        low, high, last = self.beta_start**power, self.beta_end**power, self.num_train_timesteps - 1
        return sum(
            math.log1p(-((low + (high - low) * i / last) ** (1 / power))) for i in range(self.num_train_timesteps)
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments for the constructor of any scheduler of diffusers."""
        return {
            "num_train_timesteps": self.num_train_timesteps,
            "beta_schedule": self.beta_schedule,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "trained_betas": None if self.trained_betas is None else list(self.trained_betas),
            "prediction_type": "epsilon",
        }


def read(config: Mapping[str, Any], source: str) -> NoiseSchedule:
    """The noise schedule in the configuration of a scheduler of diffusers, which may be of any class.

    Args:
        config: the settings of the scheduler. All settings but those of the noise are ignored.
        source: name of the file, for messages.

    Raises ValueError if the model predicts anything but noise, if its betas are rescaled to zero terminal SNR, if the
    configuration does not name its betas, and for a value out of its range.
    """
    predicts = config.get("prediction_type", "epsilon")
    if predicts != "epsilon":
        raise ValueError(
            f"{source}: it predicts {predicts!r}, as Stable Diffusion 2.x at 768 pixels does; methods are written for "
            "noise prediction ('epsilon'), as the base models of 512 pixels have it (sd21-base)"
        )
    if config.get("rescale_betas_zero_snr"):
        raise ValueError(
            f"{source}: rescale_betas_zero_snr is set, but the model predicts noise ('epsilon'). At a terminal SNR of "
            "zero the latents contain no signal, and predicted noise does not determine an image"
        )
    trained = config.get("trained_betas")
    if trained is not None and (isinstance(trained, str) or not isinstance(trained, Sequence)):
        raise ValueError(f"{source}: trained_betas must be a list of numbers, not {trained!r}")
    schedule = config.get("beta_schedule", None if trained is None else "linear")
    # trained betas replace the end points, which the cosine schedule does not have either
    unused = {"beta_start": 1e-4, "beta_end": 0.02} if trained is not None or schedule == COSINE else {}
    named = {"beta_schedule": schedule, "beta_start": config.get("beta_start"), "beta_end": config.get("beta_end")}
    named |= unused
    if missing := [name for name, value in named.items() if value is None]:
        kind = config.get("_class_name", "scheduler")
        raise ValueError(
            f"{source}: the {kind} does not name its {' and '.join(missing)}; Lethe needs the betas that the model was "
            "trained with, and schedulers of diffusers have different defaults"
        )
    try:
        return NoiseSchedule(
            num_train_timesteps=config.get("num_train_timesteps", TIMESTEPS),
            trained_betas=None if trained is None else tuple(trained),
            **named,
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def noising(schedule: NoiseSchedule) -> DDPMScheduler:
    """A scheduler of diffusers that adds the schedule's noise to latents. It does not decide how a model is sampled."""
    from diffusers import DDPMScheduler  # slow to import, and commands that only list names do not need it

    # pipelines of diffusers warn about other values of these two settings, which adding noise does not use
    return DDPMScheduler(**schedule.settings, steps_offset=1, clip_sample=False)
