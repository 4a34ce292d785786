"""Engines run the cells of a plan: on this machine, on a SLURM cluster or on a Ray cluster.

Other packages can add engines through the entry-point group `lethe.engines`.
"""

from bench.core.registry import Registry
from bench.engines.base import Engine, Settings, Status

ENGINES: Registry[type[Engine]] = Registry(
    "executor",
    {"local": "bench.engines.local:Local", "slurm": "bench.engines.slurm:Slurm", "ray": "bench.engines.ray:Ray"},
    group="lethe.engines",
)

__all__ = ["ENGINES", "Engine", "Settings", "Status"]
