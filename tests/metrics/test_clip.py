import dataclasses
from pathlib import Path

import pytest
import torch
from support.exhibits import ALL, evidence
from support.tiny import clip, variant
from transformers import CLIPTokenizer

from bench.cells.judges import Judges
from bench.worlds import World
from metrics import METRICS
from metrics.base import Score

CLIP = METRICS.get("clip")


def test_clip_equals_mean_computed_by_hand() -> None:
    base = evidence({c: c * 2 for c in ALL})
    cosines = torch.tensor([1.0, 1.0, 0.5, -0.25, 0.25, 0.5, 0.0, 0.5])
    assert CLIP.compute(dataclasses.replace(base, alignment=cosines)) == Score(1.5 / 6, 6)


def test_clip_is_none_in_world_without_clip_model() -> None:
    assert CLIP.compute(evidence({c: c * 2 for c in ALL})) is None


def test_judges_compare_each_image_with_its_own_prompt(
    world: World, pipeline_folder: Path, device: torch.device
) -> None:
    judges = Judges(world, world.concepts[:2], device)
    concepts = (world.concepts[0], world.concepts[0], world.concepts[7])
    images = torch.cat([world.reference(c, i + 1)[-1:] for i, c in enumerate(concepts)])
    prompts = [world.prompts("evaluate", c)[0] for c in concepts]
    found = judges.judge([images], prompts)["clip"]
    model = clip(CLIPTokenizer.from_pretrained(pipeline_folder / "tokenizer"), device)
    for i in range(3):
        image = model.model.encode_image(images[i : i + 1].float() / 127.5 - 1)
        text = model.model.encode_text(model.tokenizer([prompts[i]]))
        assert found[i].item() == pytest.approx(torch.cosine_similarity(image, text).item(), abs=1e-5)
    swapped = judges.judge([images], prompts[::-1])["clip"]
    assert not torch.allclose(found[[0, 2]], swapped[[0, 2]], atol=1e-4)


def test_judges_digest_depends_on_clip_model(world: World, device: torch.device) -> None:
    with_model = Judges(world, world.concepts[:2], device)
    without = Judges(variant(world, clip=lambda device: None), world.concepts[:2], device)
    assert without.digest != with_model.digest
    assert "clip" not in without.judge([world.reference(world.concepts[0], 1)], ["a photo"])
