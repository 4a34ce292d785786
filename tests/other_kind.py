"""A plug-in that makes one node of a test's cluster look like another kind of machine."""

import os
from typing import Any

import bench.stages
from methods import METHODS
from methods.mimmu import MimMu

real = bench.stages.describe
node = os.environ.get("SLURMD_NODENAME") or os.environ.get("LETHE_TEST_NODE", "")


def describe(*given: Any) -> dict[str, Any]:
    """As a worker on that node would."""
    return {**real(*given), **({"device": "another card"} if node.endswith("2") else {})}


bench.stages.describe = describe
METHODS.register("mimmu-elsewhere")(type("Elsewhere", (MimMu,), {}))  # a plug-in registers something
