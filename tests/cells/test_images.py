"""Images that methods learn from are drawn once for each concept, whoever asks for them."""

from pathlib import Path

import pytest
import torch

from bench.cells import images
from bench.cells.artifacts import Artifacts, Context
from bench.core.config import RunConfig
from bench.plan.plan import resolve
from bench.worlds import World


def test_concept_latents_are_sampled_once_for_each_concept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", out=tmp_path))
    latents, names = Artifacts(Context(plan)).latents, (world.concepts[0], world.concepts[5])
    both = latents.of_concepts(names, 6)
    assert both.concepts == (names[0],) * 6 + (names[1],) * 6
    assert both.templates == tuple(i % len(world.prompts("forget", names[0])) for i in range(6)) * 2
    monkeypatch.setattr(images, "sample", lambda *args, **kwargs: pytest.fail("drawn twice"))
    assert torch.equal(Artifacts(Context(plan)).latents.of_concepts(names[1:], 6).latents, both.latents[6:])


def test_a_backbone_that_is_loaded_to_judge_stored_latents_can_train(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "KEPT_SIDE", 32)
    monkeypatch.setattr(images, "PREVIEWS", 1)
    plan = resolve(RunConfig(("mimmu",), "smoke", "tiny", out=tmp_path))
    drawn = Artifacts(Context(plan)).images(None)
    later = Context(plan)  # of another process
    Artifacts(later).judgements(drawn)
    assert not any(parameter.is_inference() for parameter in later.backbone.unet.parameters())
