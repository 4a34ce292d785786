"""Suites by name: which concepts to forget and which to keep. Other packages add theirs through `lethe.suites`.

`lethe.suites` is an entry-point group. A suite turns a world into tasks; `Suite` shows how to write one.
"""

from bench.core.registry import Registry
from bench.core.task import Finetune, Task
from bench.suites.base import Suite
from bench.suites.request import Request

SUITES: Registry[Suite] = Registry(
    "suite",
    {
        "finegrained": "bench.suites.finegrained:FINEGRAINED",
        "style": "bench.suites.styles:STYLE",
        "object": "bench.suites.styles:OBJECT",
        "multi": "bench.suites.several:MULTI",
        "sequential": "bench.suites.several:SEQUENTIAL",
        "resurgence": "bench.suites.resurgence:RESURGENCE",
        "noise-ablation": "bench.suites.ablation:NOISE_ABLATION",
        "search": "bench.suites.search:SEARCH",
        "smoke": "bench.suites.smoke:SMOKE",
    },
    group="lethe.suites",
)

__all__ = ["SUITES", "Finetune", "Request", "Suite", "Task"]
