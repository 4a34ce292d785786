from pathlib import Path

import pytest
import torch

from bench.backbones import sampler
from bench.backbones.pipeline import Backbone
from bench.core.store import Store
from bench.training import forget_set
from bench.worlds import World


def test_forget_set_is_sampled_once_for_each_concept(
    world: World, model: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (world.concepts[0], world.concepts[5])
    store = Store(tmp_path)
    prompts = {name: world.prompts("forget", name) for name in names}
    keys = {name: {"concept": name} for name in names}
    both = forget_set.build(store, model, world.protocol, prompts, keys, 6, batch=4)
    assert both.latents.shape == (12, *model.latent_shape)
    assert both.concepts == (names[0],) * 6 + (names[1],) * 6
    assert both.templates == tuple(i % len(world.prompts("forget", names[0])) for i in range(6)) * 2

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr(forget_set, "sample", refuse)
    second = forget_set.build(store, model, world.protocol, prompts, {names[1]: keys[names[1]]}, 6, batch=4)
    assert torch.equal(second.latents, both.latents[6:])


def test_forget_set_shares_no_prompt_and_no_noise_with_evaluation(world: World) -> None:
    for concept in world.concepts:
        training_prompts, evaluation_prompts = world.prompts("forget", concept), world.prompts("evaluate", concept)
        assert not set(training_prompts) & set(evaluation_prompts)
        noise = sampler.initial_latents((1, 2, 2), world.protocol.forget_seed, sampler.image_specs(training_prompts, 4))
        other = sampler.initial_latents(
            (1, 2, 2), world.protocol.evaluation_seed, sampler.image_specs(evaluation_prompts, 4)
        )
        assert not torch.isin(noise, other).any()


def test_latent_set_take_keeps_latents_and_labels_together() -> None:
    examples = forget_set.LatentSet(torch.arange(4.0).view(4, 1, 1, 1), ("a", "b", "c", "d"), (0, 1, 2, 3))
    taken = examples.take([2, 0])
    assert (taken.latents.flatten().tolist(), taken.concepts, taken.templates) == ([2.0, 0.0], ("c", "a"), (2, 0))
