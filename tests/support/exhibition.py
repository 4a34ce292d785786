"""A small run of the tiny world with everything that a report can show: two tasks, curves, two methods, controls."""

from __future__ import annotations

from pathlib import Path

from bench.commands import main
from support.boards import only

RUN = (
    "--methods", "mimmu", "salun", "--suite", "finegrained", "--world", "tiny", "--quick", "--curve", "2",
    "--metrics", "ua", "nra", "ora", "twin", "drift", "--workers", "1",
    "--set", "protocol.forget_images=4", "protocol.retain_images=1", "protocol.num_inference_steps=2",
    "mimmu.epochs=2", "salun.epochs=2",
)  # fmt: skip


def hold(out: Path, *more: str, command: str = "run", code: int = main.OK) -> Path:
    """Run it, or another `command` of it, in `out`; returns the report."""
    assert main.main([command, *RUN, "--out", str(out), *more]) == code
    return only(out, ".html")
