import pytest
import torch
from towards import Make, Towards, method

from bench.backbone import Backbone
from bench.forget_set import LatentSet
from bench.harness import Batch, Harness
from bench.unlearning import unlearn


def test_retained_data_is_made_only_when_asked_for(make: Make) -> None:
    def refuse() -> LatentSet:
        raise AssertionError("nobody asked")

    unlearn(make(retain=refuse), method())


def test_noise_is_added_as_the_scheduler_says(make: Make, model: Backbone) -> None:
    harness = make()
    clean = torch.randn(64, *model.latent_shape)
    latents, noise, timesteps = harness.noised(clean, 50, 60)
    assert (timesteps.min().item(), timesteps.max().item()) == (50, 60)
    alpha = harness.noise_scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    assert torch.allclose(latents, alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, atol=1e-5)
    _, _, everywhere = harness.noised(clean)
    assert everywhere.max() > 900
    for low, high in ((-1, 10), (20, 10), (0, 1000)):
        with pytest.raises(ValueError, match="timesteps"):
            harness.noised(clean, low, high)


def test_every_pass_sees_every_example_once_in_another_order(make: Make) -> None:
    harness = make()
    passes = [torch.cat([b.latents for b in harness.forget_batches(3)]) for _ in range(2)]
    assert [p.shape[0] for p in passes] == [8, 8]
    assert not torch.equal(*passes)
    assert torch.equal(passes[0].flatten(1).sum(1).sort().values, passes[1].flatten(1).sum(1).sort().values)


def test_other_predictions_than_noise_are_refused(make: Make, model: Backbone) -> None:
    config = {**model.pipeline.scheduler.config, "prediction_type": "v_prediction"}
    model.pipeline.scheduler = type(model.pipeline.scheduler).from_config(config)
    with pytest.raises(ValueError, match="noise prediction"):
        make()


def test_images_are_used_once_they_are_read(make: Make) -> None:
    class Prompts(Towards):
        def loss(self, harness: Harness, batch: Batch) -> torch.Tensor:
            latents, timesteps = harness.sampled(batch.prompt_embeds, steps=2)
            return harness.student(latents, timesteps, batch.prompt_embeds).square().mean()

    harness = make()
    facts = unlearn(harness, Prompts(method().config)).ledger.facts()
    assert set(facts.values()) == {0}
    kept = harness.retain_batch(3)
    assert len(harness.ledger.retain_images) == 3  # its prompts are there to be used at once
    assert kept.latents is kept.latents
