"""A plug-in that makes nodes of a test's cluster look like another kind of machine."""

import os
from typing import Any

import bench.cells.artifacts
from methods import METHODS
from methods.mimmu import MimMu

real = bench.cells.artifacts.describe
node = os.environ.get("SLURMD_NODENAME") or os.environ.get("LETHE_TEST_NODE", "")
others = os.environ.get("LETHE_TEST_OTHERS", "2")  # by the last letter of their names


def describe(*given: Any) -> dict[str, Any]:
    """As a worker on such a node would."""
    return {**real(*given), **({"device": "another card"} if node[-1:] in [*others] else {})}


bench.cells.artifacts.describe = describe
METHODS.register("mimmu-elsewhere")(type("Elsewhere", (MimMu,), {}))  # a plug-in registers something
