"""The judges of a world on the CPU and on the pretended device."""

from __future__ import annotations

import torch

from bench.cells.judges import Judges
from bench.worlds import World
from support.pretended import CPU, CUDA


def check_judges(world: World, side: int = 64) -> None:
    """Both devices judge the same images alike, and have the same digest. A block of `cuda` must be open.

    Args:
        world: a world that is ready for use.
        side: width and height of the images in pixels.
    """
    concepts = [names[0] for names in world.domains.values()] + [*world.styles[1:2]]
    images = torch.randint(256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    prompts = [world.prompts("evaluate", concepts[0])[0]] * 3
    here, there = (Judges(world, concepts, device) for device in (CPU, CUDA))
    assert here.digest == there.digest
    features = torch.from_numpy(there.features(images, ["an image"] * 3).numpy())
    judged = [judges.judge(images.split(2), prompts) for judges in (here, there)]
    assert judged[0].keys() == judged[1].keys()
    for name, tensor in judged[1].items():
        assert tensor.device == CPU, name
        assert torch.allclose(judged[0][name].double(), tensor.double(), rtol=1e-3, atol=1e-4), name
    for concept in concepts:
        assert here.count_predicted(concept, images) == there.count_predicted(concept, images)
    assert torch.allclose(features, judged[1]["features"], rtol=1e-3, atol=1e-4)
    there.offload()
    assert all(not parameter.is_cuda for judge in there.judges.values() for parameter in judge.module.parameters())
