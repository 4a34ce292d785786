"""What the tiny pipeline gives, stage by stage, in numbers: the golden values that tell a refactor from a change.

`python tests/golden.py` writes them anew. Do that only where numbers were meant to change, and raise the version of
each stage whose numbers moved (`bench.cells.artifact`), or every result that users hold would pass for what it is not.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "golden.json"
sys.path[:0] = [str(HERE.parent), str(HERE)]  # this checkout's code, where the file is run as a script

import torch  # noqa: E402
from support import tiny  # noqa: E402

from bench.cells.executor import Executor  # noqa: E402
from bench.core.config import RunConfig  # noqa: E402
from bench.core.store import Entry  # noqa: E402
from bench.plan.plan import resolve  # noqa: E402
from bench.worlds import WORLDS  # noqa: E402
from methods import METHODS  # noqa: E402

Numbers = dict[str, Any]
SETTINGS = {
    "precision": "fp32",
    "num_inference_steps": "3",
    "images_per_concept": "2",
    "probe_timesteps": "4",
    "forget_images": "4",
}


def measure(out: Path) -> Numbers:
    """The numbers of a run of all methods on the tiny world, in fp32: `WORLDS` must have it."""
    torch.manual_seed(0)
    executor = Executor(
        resolve(RunConfig(METHODS.names(), "smoke", "tiny", out=out, overrides={"protocol": SETTINGS}, curve=2))
    )
    artifacts, plan = executor.artifacts, executor.plan
    concept = plan.tasks[0].forget[0]
    found: Numbers = {
        "latents": _described(artifacts.latents.of_concepts((concept,), plan.protocol.forget_images).latents),
        "unrelated": _described(artifacts.neutral_latents.captioned()[0].latents),
        "reference": _entry(artifacts.reference(concept)),
    }
    for cell in plan.cells:
        result = executor.run(cell)
        assert result.ok, result.reason
        weights = artifacts.weights(cell)
        images = artifacts.images(weights)
        found[f"training {cell.method}"] = _delta(weights)
        found[f"images {cell.method}"] = _described(images.tensors()["latents"])
        found[f"judgements {cell.method}"] = _entry(artifacts.judgements(images))
        found[f"words {cell.method}"] = _entry(artifacts.prompt_probes(weights, images, cell.task))
        found[f"probes {cell.method}"] = _entry(artifacts.probes(weights, images, cell.task))
        found[f"accuracy {cell.method}"] = {one.concept: one.accuracy for one in result.concepts}
        found[f"curve {cell.method}"] = [dataclasses.asdict(point) for point in result.curve or ()]
        for name, score in result.scores.items():
            found[f"metric {name} {cell.method}"] = score and dataclasses.asdict(score)
    return found


def _entry(entry: Entry) -> Numbers:
    return {name: _described(tensor) for name, tensor in sorted(entry.tensors().items())}


def _delta(entry: Entry) -> Numbers:
    tensors = entry.tensors()
    norms = [float(t.double().norm()) for _, t in sorted(tensors.items())]
    return {"tensors": len(norms), "norm": sum(n * n for n in norms) ** 0.5, "first": norms[:3]}


def _described(tensor: torch.Tensor) -> Any:
    """Whole numbers as they are; of others the mean, the mean square, and a few values."""
    if not tensor.is_floating_point():
        return tensor.flatten().tolist() if tensor.numel() < 100 else {"sum": int(tensor.sum())}
    flat = tensor.double().flatten()
    some = flat[:: max(1, len(flat) // 5)][:5] if len(flat) else flat
    return {"mean": float(flat.mean()), "rms": float(flat.square().mean().sqrt()), "some": some.tolist()}


def main() -> int:
    """Write the golden values."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = tiny.Tiny(tiny.build_pipeline(Path(folder) / "backbone"))
        WORLDS.add(world.name, world)
        FILE.write_text(json.dumps(measure(Path(folder) / "out"), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
