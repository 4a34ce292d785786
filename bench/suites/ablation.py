"""The suite `noise-ablation`: mimmu with one setting changed at a time, on one near twin in each domain."""

from __future__ import annotations

from typing import Any

from bench.suites.base import Suite
from bench.suites.finegrained import near_twin_tasks, requested_tasks

NOISE: tuple[dict[str, Any], ...] = (
    {},  # the usual settings
    *({"t_max": t} for t in (300, 600)),
    *({"t_min": t} for t in (300, 600)),
    *({"weighting": name} for name in ("snr", "logistic")),
    *({"x_source": name} for name in ("student", "teacher")),
    *({"parameters": name} for name in ("attn2-kv", "not-attn2", "unet")),
)

NOISE_ABLATION = Suite(
    "noise-ablation",
    "mimmu with other timesteps, weighting, source of z_t or trained weights, on a near twin in each domain",
    near_twin_tasks,
    requested_tasks,
    variants={"mimmu": NOISE},
)
