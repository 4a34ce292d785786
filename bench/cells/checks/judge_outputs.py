"""Whether the judges give outputs of the right kind. Their labels are checked when they are loaded."""

from __future__ import annotations

import torch

from bench.backbones import folder
from bench.cells.judges import Judges
from bench.core import device
from bench.plan.plan import Plan
from bench.plan.plugin_checks import InvalidEntry
from bench.plan.task_checks import answer
from bench.worlds import Judge
from bench.worlds.base import classify

SAME = 1e-3  # largest difference of two logits that are meant to be equal, relative to the largest logit


def require_outputs(plan: Plan, judges: Judges) -> None:
    """Give each judge, the feature extractor and CLIP two pictures of noise of the pipeline's size.

    Raises InvalidEntry unless a judge has as many outputs as labels and gives them again for the same pictures, the
    input of its `head` is (B, D), and all outputs are finite.
    """
    height, width = folder.picture_size(plan.folder)
    noise = torch.randint(256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = f"two pictures of {width} x {height} pixels"
    for name, judge in judges.judges.items():
        said = f"judge {name!r} on {size}"
        logits, features = answer(plan.world, said, lambda j=judge: _classified(j, noise, judges.device), TAKES)  # type: ignore[misc]
        again, _ = _classified(judge, noise, judges.device)
        _require(f"world {plan.world.name!r}: judge {name!r}", judge, logits, features, again)
    prompts = [plan.world.prompts("evaluate", plan.concepts[0])[0]] * len(noise)
    said = f"judges, features and CLIP on {size}"
    outputs = answer(plan.world, said, lambda: judges.judge([noise], prompts), TAKES)
    for output, values in outputs.items():
        if not torch.isfinite(values).all():
            raise InvalidEntry(f"world {plan.world.name!r}: {output!r} of {size} is not finite; it must be finite")


TAKES = "the networks of a world must take float pictures in [0, 1], (B, 3, H, W)"


@torch.inference_mode()
@device.exact()
def _classified(judge: Judge, pictures: torch.Tensor, where: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    judge.module.to(where)
    return classify(judge, pictures.to(where))


def _require(said: str, judge: Judge, logits: torch.Tensor, features: torch.Tensor, again: torch.Tensor) -> None:
    if logits.ndim != 2 or len(logits) != 2:
        raise InvalidEntry(f"{said} gives logits {tuple(logits.shape)} for two pictures; they must be (2, labels)")
    if logits.shape[1] != len(judge.labels):
        raise InvalidEntry(
            f"{said} has {logits.shape[1]} outputs, {len(judge.labels)} labels; it must have one label for each output"
        )
    if not torch.isfinite(logits).all():
        raise InvalidEntry(f"{said} gives logits that are not finite for pictures of noise; they must be finite")
    if not torch.is_tensor(features) or features.ndim != 2 or len(features) != 2:
        shape = tuple(features.shape) if torch.is_tensor(features) else type(features).__name__
        raise InvalidEntry(f"{said}: the input of its head is {shape} for two pictures; it must be (2, D)")
    if not torch.isfinite(features).all():
        raise InvalidEntry(f"{said}: the input of its head is not finite for pictures of noise; it must be finite")
    if judge.module.training or (logits - again).abs().max() > SAME * logits.abs().max():
        raise InvalidEntry(f"{said} gives other logits when it sees the same pictures again; it must be in eval mode")
